// Decomposed relative positions: products of a query with the tables of key rows and key columns.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::Attention;

// Adds up BLOCKS * 16 neighbouring entries at a time, channel after channel.
template <int BLOCKS>
static CARSAM_INLINE void relative_blocks(const Attention& op, const float* numbers,
                                          const float* table, float* result) {
    Floats sums[BLOCKS];
#pragma GCC unroll 4
    for (int block = 0; block < BLOCKS; ++block) sums[block] = broadcast(0.0f);
    for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
        const Floats number = broadcast(numbers[channel]);
        const float* row = table + channel * op.relative_stride;
#pragma GCC unroll 4
        for (int block = 0; block < BLOCKS; ++block) {
            sums[block] = sums[block] + number * load(row + block * LANES);
        }
    }
#pragma GCC unroll 4
    for (int block = 0; block < BLOCKS; ++block) {
        store(result + block * LANES, sums[block] * broadcast(op.relative_scale));
    }
}

// Products of a query, its codes less their zero point, with `length` entries of a reversed table
// from `table` on.
static void relative_scores(const Attention& op, const float* numbers, const float* table,
                            std::size_t length, float* result) {
    std::size_t blocks = rounded_up(length, PANEL) / PANEL;
    for (; blocks >= 4; blocks -= 4, table += 4 * LANES, result += 4 * LANES) {
        relative_blocks<4>(op, numbers, table, result);
    }
    for (; blocks > 0; --blocks, table += LANES, result += LANES) {
        relative_blocks<1>(op, numbers, table, result);
    }
}

}  // namespace CARSAM_NAMESPACE
