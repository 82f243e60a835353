// Decomposed relative positions: products of a query with the tables of key rows and key columns.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::Attention;

// A query's codes minus their zero point, its first entries of both reversed tables, and where its
// products with them go.
struct PlacedQuery {
    const float *numbers, *rows, *columns;
    float *by_line, *by_column;
};

// Queries whose products are made side by side: the processor works on one's sums while another's wait
// for an addition, and reads the entries of lines once for queries of one line. As many as the registers
// hold.
constexpr int QUERIES_OF_ONE_BLOCK = CARSAM_WIDTH == 16 ? 4 : 2;
constexpr int QUERIES_OF_TWO_BLOCKS = CARSAM_WIDTH == 16 ? 2 : 1;

// BLOCKS * 16 neighbouring entries of both tables at a time, channel after channel. A code has 8 bits
// and an entry, a float16, has 11: their product is exact, so a fused multiply-add rounds as the
// reference's two operations do.
template <int BLOCKS, int QUERIES, bool SAME_LINE>
static CARSAM_INLINE void relative_blocks(const Attention& op, const PlacedQuery* queries,
                                          std::size_t place) {
    Floats line_sums[QUERIES][BLOCKS], column_sums[QUERIES][BLOCKS];
#pragma GCC unroll 4
    for (int query = 0; query < QUERIES; ++query) {
#pragma GCC unroll 2
        for (int block = 0; block < BLOCKS; ++block) {
            line_sums[query][block] = column_sums[query][block] = broadcast(0.0f);
        }
    }
    for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
        const std::size_t first = channel * op.relative_stride + place;
#pragma GCC unroll 4
        for (int query = 0; query < QUERIES; ++query) {
            const Floats number = broadcast(queries[query].numbers[channel]);
            const float* rows = queries[SAME_LINE ? 0 : query].rows;
#pragma GCC unroll 2
            for (int block = 0; block < BLOCKS; ++block) {
                const std::size_t entry = first + block * LANES;
                line_sums[query][block] =
                    multiply_add(number, load(rows + entry), line_sums[query][block]);
                column_sums[query][block] =
                    multiply_add(number, load(queries[query].columns + entry),
                                 column_sums[query][block]);
            }
        }
    }
    const Floats scale = broadcast(op.relative_scale);
#pragma GCC unroll 4
    for (int query = 0; query < QUERIES; ++query) {
#pragma GCC unroll 2
        for (int block = 0; block < BLOCKS; ++block) {
            const std::size_t target = place + block * LANES;
            store(queries[query].by_line + target, line_sums[query][block] * scale);
            store(queries[query].by_column + target, column_sums[query][block] * scale);
        }
    }
}

template <int BLOCKS, int QUERIES>
static void relative_blocks_of(const Attention& op, const PlacedQuery* queries, std::size_t count,
                               std::size_t place) {
    std::size_t query = 0;
    for (; query + QUERIES <= count; query += QUERIES) {
        if (queries[query].rows == queries[query + QUERIES - 1].rows) {
            relative_blocks<BLOCKS, QUERIES, true>(op, queries + query, place);
        } else {
            relative_blocks<BLOCKS, QUERIES, false>(op, queries + query, place);
        }
    }
    for (; query < count; ++query) relative_blocks<BLOCKS, 1, true>(op, queries + query, place);
}

// Products of queries with the entries of the reversed tables for every line and every column of keys.
static void relative_scores(const Attention& op, const PlacedQuery* queries, std::size_t count) {
    constexpr std::size_t TWO = 2 * LANES;
    std::size_t place = 0;
    for (; place + TWO <= op.padded_line(); place += TWO) {
        relative_blocks_of<2, QUERIES_OF_TWO_BLOCKS>(op, queries, count, place);
    }
    if (place < op.padded_line()) {
        relative_blocks_of<1, QUERIES_OF_ONE_BLOCK>(op, queries, count, place);
    }
}

}  // namespace CARSAM_NAMESPACE
