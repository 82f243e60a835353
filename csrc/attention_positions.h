// Decomposed relative positions: products of a query with the tables of key rows and key columns.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::Attention;

// BLOCKS * 16 neighbouring entries of both tables at a time, channel after channel. A code has 8 bits
// and an entry, a float16, has 11: their product is exact, so a fused multiply-add rounds as the
// reference's two operations do.
template <int BLOCKS>
static CARSAM_INLINE void relative_blocks(const Attention& op, const float* numbers,
                                          const float* rows, const float* columns, float* by_line,
                                          float* by_column) {
    Floats line_sums[BLOCKS], column_sums[BLOCKS];
#pragma GCC unroll 2
    for (int block = 0; block < BLOCKS; ++block) {
        line_sums[block] = column_sums[block] = broadcast(0.0f);
    }
    for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
        const Floats number = broadcast(numbers[channel]);
        const std::size_t first = channel * op.relative_stride;
#pragma GCC unroll 2
        for (int block = 0; block < BLOCKS; ++block) {
            const std::size_t entry = first + block * LANES;
            line_sums[block] = multiply_add(number, load(rows + entry), line_sums[block]);
            column_sums[block] = multiply_add(number, load(columns + entry), column_sums[block]);
        }
    }
    const Floats scale = broadcast(op.relative_scale);
#pragma GCC unroll 2
    for (int block = 0; block < BLOCKS; ++block) {
        store(by_line + block * LANES, line_sums[block] * scale);
        store(by_column + block * LANES, column_sums[block] * scale);
    }
}

// Products of a query (its codes minus their zero point) with the entries of the reversed tables for
// every line and every column of keys; `rows` and `columns` point to the query's first entries.
static void relative_scores(const Attention& op, const float* numbers, const float* rows,
                            const float* columns, float* by_line, float* by_column) {
    constexpr std::size_t TWO = 2 * LANES;  // as many sums as fill the registers of AVX2
    std::size_t first = 0;
    for (; first + TWO <= op.padded_line(); first += TWO) {
        relative_blocks<2>(op, numbers, rows + first, columns + first, by_line + first,
                           by_column + first);
    }
    if (first < op.padded_line()) {
        relative_blocks<1>(op, numbers, rows + first, columns + first, by_line + first,
                           by_column + first);
    }
}

}  // namespace CARSAM_NAMESPACE
