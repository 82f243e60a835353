// Products of floats by AMX, which multiplies bfloat16: values are cut into three of them, which hold all
// bits of a float, weights into two, which hold all bits of the float16 numbers that checkpoints have.
// Of the six products of parts only the smallest is left out, so that what is lost is below what adding up
// floats loses.
//
//     parts of values     [row][3][depth, padded to 32]       the highest first
//     parts of a panel    [2][padded depth / 2][16][2]
#pragma once

#include "linear_kernel.h"

#define CARSAM_FLOATS_IN_PARTS

namespace CARSAM_NAMESPACE {

using carsam::FloatPanels;

constexpr std::size_t FLOAT_ROWS = TILE_ROWS;
constexpr std::size_t CHUNK = 2 * REGISTER_ROWS;  // numbers of K in a register

constexpr std::size_t VALUE_PARTS = 3, WEIGHT_PARTS = 2;

// Stores the first parts of numbers, `distance` apart.
template <std::size_t COUNT>
static CARSAM_INLINE void store_parts(std::uint16_t* target, std::size_t distance, Floats rest) {
#pragma GCC unroll 3
    for (std::size_t i = 0; i < COUNT; ++i) {
        const Floats part = nearest_bfloat(rest);
        store_bfloats(target + i * distance, part);
        rest = rest - part;
    }
}

// Rows of values into their parts; rows up to a whole tile are zeros.
static void split_values(const float* values, std::size_t rows, std::size_t depth,
                         std::uint16_t* parts) {
    const std::size_t padded = rounded_up(depth, CHUNK), row_parts = VALUE_PARTS * padded;
    for (std::size_t row = 0; row < rows; ++row, values += depth, parts += row_parts) {
        std::size_t k = 0;
        for (; k + LANES <= depth; k += LANES) {
            store_parts<VALUE_PARTS>(parts + k, padded, load(values + k));
        }
        for (; k < padded; k += LANES) {
            const std::size_t left = k < depth ? depth - k : 0;
            store_parts<VALUE_PARTS>(parts + k, padded, load_some(values + depth - left, left));
        }
    }
    std::memset(parts, 0, (rounded_up(rows, TILE_ROWS) - rows) * row_parts * sizeof *parts);
}

// Panels [columns / 16][depth][16] into their parts.
static void split_panels(const float* panels, std::size_t columns, std::size_t depth,
                         std::uint16_t* parts) {
    const std::size_t padded = rounded_up(depth, CHUNK), panel_parts = WEIGHT_PARTS * padded * PANEL;
    for (std::size_t column = 0; column < columns; column += PANEL, parts += panel_parts) {
        std::memset(parts, 0, panel_parts * sizeof *parts);
        for (std::size_t k = 0; k < depth; ++k) {
            alignas(64) std::uint16_t row[WEIGHT_PARTS][PANEL];
            store_parts<WEIGHT_PARTS>(row[0], PANEL, load(panels + column * depth + k * PANEL));
            std::uint16_t* target = parts + k / 2 * 2 * PANEL + k % 2;
            for (std::size_t lane = 0; lane < PANEL; ++lane) {
                target[2 * lane] = row[0][lane];
                target[padded * PANEL + 2 * lane] = row[1][lane];
            }
        }
    }
}

static constexpr void (*SPLIT_PANELS)(const float*, std::size_t, std::size_t, std::uint16_t*) =
    split_panels;

// A tile of values' parts times two panels, plus bias.
static void parts_tile(const std::uint16_t* values, std::size_t padded, const std::uint16_t* panels,
                       const float* bias, float* result, std::size_t stride) {
    const std::size_t row_parts = VALUE_PARTS * padded, row_bytes = row_parts * sizeof *values;
    const std::size_t panel_parts = WEIGHT_PARTS * padded * PANEL;
    LOAD_REGISTER(0, bias, 0);
    LOAD_REGISTER(1, bias + PANEL, 0);
    LOAD_REGISTER(2, bias, 0);
    LOAD_REGISTER(3, bias + PANEL, 0);
#define LOAD_VALUES(part)                                                                      \
    LOAD_REGISTER(4, values + (part) * padded + k, row_bytes);                                 \
    LOAD_REGISTER(5, values + REGISTER_ROWS * row_parts + (part) * padded + k, row_bytes)
#define LOAD_WEIGHTS(part)                                                                     \
    LOAD_REGISTER(6, panels + ((part) * padded + k) * PANEL, 64);                              \
    LOAD_REGISTER(7, panels + panel_parts + ((part) * padded + k) * PANEL, 64)
#define ADD_ALL_PRODUCTS()         \
    ADD_FLOAT_PRODUCTS(0, 4, 6);   \
    ADD_FLOAT_PRODUCTS(1, 4, 7);   \
    ADD_FLOAT_PRODUCTS(2, 5, 6);   \
    ADD_FLOAT_PRODUCTS(3, 5, 7)
    for (std::size_t k = 0; k < padded; k += CHUNK) {
        LOAD_WEIGHTS(0);
        LOAD_VALUES(2);
        ADD_ALL_PRODUCTS();
        LOAD_VALUES(1);
        ADD_ALL_PRODUCTS();
        LOAD_VALUES(0);
        ADD_ALL_PRODUCTS();
        LOAD_WEIGHTS(1);
        ADD_ALL_PRODUCTS();
        LOAD_VALUES(1);
        ADD_ALL_PRODUCTS();
    }
#undef LOAD_VALUES
#undef LOAD_WEIGHTS
#undef ADD_ALL_PRODUCTS
    float* lower = result + REGISTER_ROWS * stride;
    STORE_REGISTER(0, result, stride * sizeof(float));
    STORE_REGISTER(1, result + PANEL, stride * sizeof(float));
    STORE_REGISTER(2, lower, stride * sizeof(float));
    STORE_REGISTER(3, lower + PANEL, stride * sizeof(float));
}

// (rows, depth) times (columns, depth), plus bias: (rows up to whole tiles, columns).
static void panel_product(const float* values, std::size_t rows, std::size_t depth,
                          const FloatPanels& weight, std::size_t columns, const float* bias,
                          float* result) {
    const std::size_t padded = rounded_up(depth, CHUNK);
    const std::size_t row_parts = VALUE_PARTS * padded;
    auto* parts = carsam::scratch_of<std::uint16_t>(carsam::Scratch::rows,
                                                    rounded_up(rows, TILE_ROWS) * row_parts);
    split_values(values, rows, depth, parts);
    shape_for(TILE_ROWS, REGISTER_ROWS);
    for (std::size_t column = 0; column < columns; column += TILE_PANELS * PANEL) {
        for (std::size_t row = 0; row < rows; row += TILE_ROWS) {
            parts_tile(parts + row * row_parts, padded, weight.parts + WEIGHT_PARTS * column * padded,
                       bias + column, result + row * columns + column, columns);
        }
    }
}

}  // namespace CARSAM_NAMESPACE
