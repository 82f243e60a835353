// Products of code rows with weight panels, of any bits, from an instruction set's tile.
//
// The including file defines, in CARSAM_NAMESPACE:
//   TILE_ROWS, TILE_PANELS   size of the tile
//   fits_tile(code_bits, weight_bits)   whether the tile multiplies such codes exactly
//   multiply_tile(codes, stride, rows, panels, panel_stride, panel_count, steps, code_bits,
//                 weight_bits, result)
// and includes steps.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace CARSAM_NAMESPACE {

using carsam::PANEL;
using carsam::STEP;
using carsam::rounded_up;

constexpr std::size_t TILE_COLUMNS = TILE_PANELS * PANEL;

// Code rows, padded to whole steps. Codes too large for the tile are split: low + 16 high.
struct CodeRows {
    const std::uint8_t* low;
    const std::uint8_t* high;  // null unless split
    std::size_t stride;
    int bits;  // of one part

    // The same rows from a step of K on.
    CARSAM_INLINE CodeRows from(std::size_t step) const {
        return {low + step * STEP, high ? high + step * STEP : nullptr, stride, bits};
    }
};

static inline bool is_split(int code_bits, int weight_bits) {
    return !fits_tile(code_bits, weight_bits);
}

// Bytes that `split_rows` needs.
static inline std::size_t split_bytes(std::size_t rows, std::size_t columns) {
    return 2 * rows * rounded_up(columns, STEP);
}

// Splits rows of codes, already padded to whole steps, into `buffer`.
static inline CodeRows split_rows(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                                  std::size_t columns, std::uint8_t* buffer) {
    const std::size_t width = rounded_up(columns, STEP);
    std::uint8_t* low = buffer;
    std::uint8_t* high = buffer + rows * width;
    for (std::size_t row = 0; row < rows; ++row) {
        const std::uint8_t* source = codes + row * stride;
        for (std::size_t k = 0; k < columns; ++k) {
            low[row * width + k] = source[k] & 15;
            high[row * width + k] = source[k] >> 4;
        }
        std::memset(low + row * width + columns, 0, width - columns);
        std::memset(high + row * width + columns, 0, width - columns);
    }
    return {low, high, width, 4};
}

// Exact products of `rows` <= TILE_ROWS rows, from `row` on, with `panel_count` <= TILE_PANELS
// panels: result (TILE_ROWS, TILE_COLUMNS).
static CARSAM_INLINE void product(const CodeRows& codes, std::size_t row, std::size_t rows,
                                  const std::int8_t* panels, std::size_t panel_stride,
                                  std::size_t panel_count, const Steps& steps, int weight_bits,
                                  std::int32_t* result) {
    if (steps.count == 0) {
        std::memset(result, 0, rows * TILE_COLUMNS * sizeof(std::int32_t));
        return;
    }
    const std::size_t offset = row * codes.stride;
    multiply_tile(codes.low + offset, codes.stride, rows, panels, panel_stride, panel_count, steps,
                  codes.bits, weight_bits, result);
    if (codes.high) {
        alignas(64) std::int32_t high[TILE_ROWS * TILE_COLUMNS] = {};
        multiply_tile(codes.high + offset, codes.stride, rows, panels, panel_stride, panel_count,
                      steps, codes.bits, weight_bits, high);
        for (std::size_t i = 0; i < rows * TILE_COLUMNS; ++i) result[i] += 16 * high[i];
    }
}

}  // namespace CARSAM_NAMESPACE
