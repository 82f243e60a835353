// The integer linear layer: unpacking of weights, product, epilogue.
#pragma once

#include "functions.h"
#include "product.h"
#include "scratch.h"

namespace CARSAM_NAMESPACE {

using carsam::Activation;
using carsam::Grid;
using carsam::Linear;
using carsam::PackedRows;

// Codes, one per byte, minus 2^(bits - 1).
template <class Bytes> static CARSAM_INLINE Bytes signed_codes(Bytes codes, int bits) {
    constexpr Bytes ones = static_cast<Bytes>(0x0101010101010101u), high = ones << 7;
    if (bits == 8) return codes ^ high;
    return ((codes | high) - (ones << (bits - 1))) ^ high;
}

// Four codes from bit `4 * step * bits` of a row, one per byte, minus 2^(bits - 1).
static CARSAM_INLINE std::uint32_t unpack_step(const std::uint8_t* row, std::size_t bytes,
                                               std::size_t step, int bits) {
    const std::size_t first_bit = step * STEP * bits, first = first_bit / 8;
    std::uint64_t window = 0;
    std::memcpy(&window, row + first, bytes - first < 8 ? bytes - first : 8);
    window >>= first_bit % 8;
    const std::uint32_t mask = (1u << bits) - 1;
    std::uint32_t codes = 0;
    for (std::size_t i = 0; i < STEP; ++i) {
        codes |= (static_cast<std::uint32_t>(window >> (i * bits)) & mask) << (8 * i);
    }
    return signed_codes(codes, bits);
}

// Two steps of 4-bit codes, the first one in the lower half.
static CARSAM_INLINE std::uint64_t unpack_two_steps(const std::uint8_t* row, std::size_t step) {
    std::uint32_t packed;
    std::memcpy(&packed, row + 2 * step, sizeof packed);
    std::uint64_t codes = packed;
    codes = (codes | codes << 16) & 0x0000FFFF0000FFFFu;
    codes = (codes | codes << 8) & 0x00FF00FF00FF00FFu;
    codes = (codes | codes << 4) & 0x0F0F0F0F0F0F0F0Fu;
    return signed_codes(codes, 4);
}

// One panel [k / 4][16][4]; numbers beyond the matrix are 0.
static void unpack_panel(const PackedRows& weight, std::size_t first_row, std::int8_t* panel) {
    const std::size_t steps = rounded_up(weight.columns, STEP) / STEP;
    const std::size_t whole = weight.columns / STEP;
    for (std::size_t lane = 0; lane < PANEL; ++lane) {
        std::int8_t* target = panel + lane * STEP;
        if (first_row + lane >= weight.rows) {
            for (std::size_t step = 0; step < steps; ++step) {
                std::memset(target + step * PANEL * STEP, 0, STEP);
            }
            continue;
        }
        const std::uint8_t* row = weight.data + (first_row + lane) * weight.stride;
        std::size_t step = 0;
        for (; weight.bits == 4 && step + 2 <= whole; step += 2) {
            const std::uint64_t codes = unpack_two_steps(row, step), second = codes >> 32;
            std::memcpy(target + step * PANEL * STEP, &codes, STEP);
            std::memcpy(target + (step + 1) * PANEL * STEP, &second, STEP);
        }
        for (; step < whole; ++step) {
            const std::uint32_t codes = unpack_step(row, weight.stride, step, weight.bits);
            std::memcpy(target + step * PANEL * STEP, &codes, STEP);
        }
        if (whole < steps) {
            const std::uint32_t codes = unpack_step(row, weight.stride, whole, weight.bits);
            std::memset(target + whole * PANEL * STEP, 0, STEP);
            std::memcpy(target + whole * PANEL * STEP, &codes, weight.columns % STEP);
        }
    }
}

static void prepare(const Linear& op, std::int8_t* panels, std::size_t first, std::size_t last) {
    const std::size_t width = rounded_up(op.weight.columns, STEP);
    std::uint8_t* ones = carsam::scratch_of<std::uint8_t>(carsam::Scratch::rows, width);
    std::memset(ones, 1, width);
    alignas(64) std::int32_t sums[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t panel = first; panel < last; ++panel) {
        std::int8_t* target = panels + panel * PANEL * width;
        unpack_panel(op.weight, panel * PANEL, target);
        multiply_tile(ones, width, 1, target, 0, 1, Steps{width / STEP}, 1, op.weight.bits, sums);
        for (std::size_t lane = 0; lane < PANEL; ++lane) {
            const std::size_t column = panel * PANEL + lane;
            const std::int32_t columns = static_cast<std::int32_t>(op.weight.columns);
            op.constant[column] =
                op.grid.zero_point * (columns * op.weight_zero[column] - sums[lane]);
        }
    }
}

// Grids of 16 columns.
struct GridLanes {
    Floats inverse_scale, low, high;  // low, high: the extreme codes minus the zero point
    Ints zero;                        // the zero point minus ROUNDING_BITS
};

static CARSAM_INLINE GridLanes grid_lanes(const Floats& inverse_scale, const Floats& zero,
                                          const Floats& highest) {
    return {inverse_scale, broadcast(0.0f) - zero, highest - zero,
            to_ints(zero) - broadcast(ROUNDING_BITS)};
}

static CARSAM_INLINE GridLanes grid_lanes(const Grid& grid) {
    return grid_lanes(broadcast(grid.inverse_scale),
                      broadcast(static_cast<float>(grid.zero_point)),
                      broadcast(static_cast<float>(grid.maximum)));
}

static CARSAM_INLINE Ints codes_on_grid(const Floats& value, const GridLanes& grid) {
    const Floats scaled = value * grid.inverse_scale;
    return round_to_ints(minimum(maximum(scaled, grid.low), grid.high)) + grid.zero;
}

static CARSAM_INLINE Floats load_some(const float* source, std::size_t count) {
    if (count == PANEL) return load(source);
    float lanes[PANEL] = {};
    std::memcpy(lanes, source, count * sizeof(float));
    return load(lanes);
}

static CARSAM_INLINE void store_some(float* target, const Floats& value, std::size_t count) {
    if (count == PANEL) return store(target, value);
    float lanes[PANEL];
    store(lanes, value);
    std::memcpy(target, lanes, count * sizeof(float));
}

static CARSAM_INLINE void store_bytes_some(std::uint8_t* target, const Ints& value,
                                           std::size_t count) {
    if (count == PANEL) return store_bytes(target, value);
    std::uint8_t lanes[PANEL];
    store_bytes(lanes, value);
    std::memcpy(target, lanes, count);
}

template <Activation ACTIVATION> static CARSAM_INLINE Floats activated(const Floats& value) {
    if (ACTIVATION == Activation::relu) return relu(value);
    if (ACTIVATION == Activation::gelu) return gelu(value);
    return value;
}

// Calls a function template with the activation as its argument.
#define CARSAM_WITH_ACTIVATION(activation, function, ...)                                   \
    switch (activation) {                                                                   \
        case Activation::none: return function<Activation::none>(__VA_ARGS__);              \
        case Activation::relu: return function<Activation::relu>(__VA_ARGS__);              \
        case Activation::gelu: return function<Activation::gelu>(__VA_ARGS__);              \
    }

// The epilogue of one panel of a tile: from integers to results. The order of its operations is
// that of the reference.
template <Activation ACTIVATION>
static inline void finish(const Linear& op, const std::int32_t* tile, std::size_t first_row,
                          std::size_t rows, const std::int32_t* row_sums, std::size_t panel) {
    const std::size_t columns = op.weight.rows, column = panel * PANEL;
    const std::size_t count = columns - column < PANEL ? columns - column : PANEL;
    const Ints constant = load(op.constant + column), weight_zero = load(op.weight_zero + column);
    const Floats scale = load(op.scale + column);
    const Floats bias = op.bias ? load(op.bias + column) : broadcast(0.0f);
    GridLanes grid{};
    if (op.output) {
        grid = grid_lanes(load(op.output_inverse_scale + column), load(op.output_zero + column),
                          load(op.output_maximum + column));
    }
    std::size_t residual_row = op.residual ? first_row % op.residual_rows : 0;
    for (std::size_t row = 0; row < rows; ++row) {
        const Ints correction = constant - weight_zero * broadcast(row_sums[row]);
        Floats value = to_floats(load(tile + row * TILE_COLUMNS) + correction) * scale + bias;
        value = activated<ACTIVATION>(value);
        if (op.residual) {
            value = value + load_some(op.residual + residual_row * columns + column, count);
            if (++residual_row == op.residual_rows) residual_row = 0;
        }
        const std::size_t position = (first_row + row) * columns + column;
        if (op.output) {
            const Ints codes = codes_on_grid(value, grid);
            store_bytes_some(op.output + position, codes, count);
        } else {
            store_some(op.values + position, value, count);
        }
    }
}

// Requests the cache lines that `finish` reads and writes. Every row has one, thousands of bytes
// from the next; the processor's own prefetching does not find them.
static CARSAM_INLINE void prefetch_floats(const Linear& op, std::size_t first_row, std::size_t rows,
                                          std::size_t panel) {
    const std::size_t columns = op.weight.rows, column = panel * PANEL;
    const float* residual =
        op.residual ? op.residual + first_row % op.residual_rows * columns + column : nullptr;
    const float* values = op.values ? op.values + first_row * columns + column : nullptr;
    for (std::size_t row = 0; row < rows; ++row) {
        if (residual) CARSAM_PREFETCH(residual + row * columns);
        if (values) CARSAM_PREFETCH(values + row * columns);
    }
}

static CARSAM_INLINE void add(std::int32_t* total, const std::int32_t* part, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) total[i] += part[i];
}

// K is multiplied in parts of so many steps: a panel's part then stays in the first-level cache
// while all rows pass.
constexpr std::size_t CACHED_STEPS = 192;

template <Activation ACTIVATION>
static void multiply_with(const Linear& op, const CodeRows& codes, std::size_t first_row,
                          std::size_t rows, const std::int32_t* row_sums, std::int32_t* sums,
                          std::size_t first, std::size_t last) {
    const std::size_t steps = rounded_up(op.weight.columns, STEP) / STEP;
    const std::size_t panel_stride = steps * STEP * PANEL;
    alignas(64) std::int32_t tile[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t panel = first; panel < last; panel += TILE_PANELS) {
        const std::size_t panels = last - panel < TILE_PANELS ? last - panel : TILE_PANELS;
        for (std::size_t step = 0; step < steps; step += CACHED_STEPS) {
            const Steps some{steps - step < CACHED_STEPS ? steps - step : CACHED_STEPS};
            const bool ends = step + CACHED_STEPS >= steps;
            for (std::size_t row = 0; row < rows; row += TILE_ROWS) {
                const std::size_t tile_rows = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
                std::int32_t* total = sums + row * TILE_COLUMNS;
                for (std::size_t i = 0; ends && i < panels; ++i) {
                    prefetch_floats(op, first_row + row, tile_rows, panel + i);
                }
                product(codes.from(step), row, tile_rows,
                        op.panels + panel * panel_stride + step * STEP * PANEL, panel_stride,
                        panels, some, op.weight.bits, step ? tile : total);
                for (std::size_t i = 0; step && i < tile_rows; ++i) {
                    add(total + i * TILE_COLUMNS, tile + i * TILE_COLUMNS, panels * PANEL);
                }
                for (std::size_t i = 0; ends && i < panels; ++i) {
                    finish<ACTIVATION>(op, total + i * PANEL, first_row + row, tile_rows,
                                       row_sums + row, panel + i);
                }
            }
        }
    }
}

static void multiply(const Linear& op, std::size_t first_row, std::size_t last_row,
                     std::size_t first, std::size_t last) {
    const std::size_t rows = last_row - first_row, columns = op.weight.columns;
    const std::uint8_t* source = op.codes + first_row * op.stride;
    std::int32_t* sums = carsam::scratch_of<std::int32_t>(carsam::Scratch::products,
                                                         rows * (TILE_COLUMNS + 1));
    std::int32_t* row_sums = sums + rows * TILE_COLUMNS;
    for (std::size_t row = 0; row < rows; ++row) {
        row_sums[row] = sum_bytes(source + row * op.stride, columns);
    }
    CodeRows codes{source, nullptr, op.stride, op.grid.bits()};
    if (is_split(codes.bits, op.weight.bits)) {
        codes = split_rows(source, op.stride, rows, columns,
                           carsam::scratch_of<std::uint8_t>(carsam::Scratch::rows,
                                                            split_bytes(rows, columns)));
    } else if (columns % STEP) {  // the tile reads whole steps
        const std::size_t width = rounded_up(columns, STEP);
        auto* padded = carsam::scratch_of<std::uint8_t>(carsam::Scratch::rows, rows * width);
        for (std::size_t row = 0; row < rows; ++row) {
            std::memcpy(padded + row * width, source + row * op.stride, columns);
            std::memset(padded + row * width + columns, 0, width - columns);
        }
        codes.low = padded;
        codes.stride = width;
    }
    CARSAM_WITH_ACTIVATION(op.activation, multiply_with, op, codes, first_row, rows, row_sums,
                           sums, first, last)
}

}  // namespace CARSAM_NAMESPACE
