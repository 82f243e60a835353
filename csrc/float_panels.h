// Products of floats with weight panels, for mask upscaling; amx_float_panels.h has others.
#pragma once

#include "lanes.h"
#include "product.h"

namespace CARSAM_NAMESPACE {

using carsam::FloatPanels;

#if !defined(CARSAM_FLOATS_IN_PARTS)
constexpr std::size_t FLOAT_ROWS = TILE_ROWS;  // of a tile

static constexpr void (*SPLIT_PANELS)(const float*, std::size_t, std::size_t, std::uint16_t*) = nullptr;

// ROWS rows of `depth` numbers times PANELS panels [depth][16], plus bias.
template <int ROWS, int PANELS>
static inline void float_tile(const float* values, std::size_t depth, const float* panels,
                              const float* bias, float* result, std::size_t stride) {
    Floats sums[ROWS][PANELS];
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) sums[row][panel] = load(bias + panel * PANEL);
    }
    for (std::size_t k = 0; k < depth; ++k) {
        Floats weights[PANELS];
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) {
            weights[panel] = load(panels + (panel * depth + k) * PANEL);
        }
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row) {
            const Floats value = broadcast(values[row * depth + k]);
#pragma GCC unroll 2
            for (int panel = 0; panel < PANELS; ++panel) {
                sums[row][panel] = multiply_add(value, weights[panel], sums[row][panel]);
            }
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) {
            store(result + row * stride + panel * PANEL, sums[row][panel]);
        }
    }
}

// (rows, depth) times (columns, depth) laid out as panels, plus bias: (rows, columns).
static void panel_product(const float* values, std::size_t rows, std::size_t depth,
                          const FloatPanels& weight, std::size_t columns, const float* bias,
                          float* result) {
    constexpr int ROWS = TILE_ROWS, PANELS = TILE_PANELS;
    const float* panels = weight.floats;
    for (std::size_t column = 0; column < columns; column += PANELS * PANEL) {
        std::size_t row = 0;
        for (; row + ROWS <= rows; row += ROWS) {
            float_tile<ROWS, PANELS>(values + row * depth, depth, panels + column * depth,
                                     bias + column, result + row * columns + column, columns);
        }
        for (; row < rows; ++row) {
            float_tile<1, PANELS>(values + row * depth, depth, panels + column * depth,
                                  bias + column, result + row * columns + column, columns);
        }
    }
}
#endif

}  // namespace CARSAM_NAMESPACE
