// Row by row: layer normalisation, activation functions and quantization.
#pragma once

#include <math.h>

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

// Sum of f(16 values) over a row; what is beyond the row adds 0.
template <class Function>
static CARSAM_INLINE float lane_sum(const float* row, std::size_t columns, Function function) {
    Floats sum = broadcast(0.0f);
    std::size_t column = 0;
    for (; column + LANES <= columns; column += LANES) sum = sum + function(load(row + column));
    if (column < columns) {
        float lanes[LANES] = {};
        store(lanes, function(load_some(row + column, columns - column)));
        sum = sum + load_some(lanes, columns - column);
    }
    return fold_sum(sum);
}

template <Activation ACTIVATION>
static void layer_norm_with(const carsam::LayerNorm& op, std::size_t first_row,
                            std::size_t last_row) {
    const std::size_t columns = op.columns;
    const float count = static_cast<float>(columns);
    const GridLanes grid = grid_lanes(op.grid);
    for (std::size_t row = first_row; row < last_row; ++row) {
        const float* values = op.values + row * columns;
        const float mean = lane_sum(values, columns, [](const Floats& x) { return x; }) / count;
        const Floats means = broadcast(mean);
        const float variance = lane_sum(values, columns, [&](const Floats& x) {
                                   const Floats centred = x - means;
                                   return centred * centred;
                               }) / count;
        const Floats inverse_deviation = broadcast(1.0f / sqrtf(variance + op.epsilon));
        for (std::size_t column = 0; column < columns; column += LANES) {
            const std::size_t left = columns - column, width = left < LANES ? left : LANES;
            const Floats centred = load_some(values + column, width) - means;
            const Floats result = activated<ACTIVATION>(
                (centred * inverse_deviation) * load_some(op.weight + column, width) +
                load_some(op.bias + column, width));
            const std::size_t position = row * columns + column;
            if (op.output) {
                const Ints codes = codes_on_grid(result, grid);
                store_bytes_some(op.output + position, codes, width);
            } else {
                store_some(op.result + position, result, width);
            }
        }
    }
}

static void layer_norm(const carsam::LayerNorm& op, std::size_t first_row, std::size_t last_row) {
    CARSAM_WITH_ACTIVATION(op.activation, layer_norm_with, op, first_row, last_row)
}

template <Activation ACTIVATION>
static void activate_with(const carsam::Activate& op, std::size_t first_row,
                          std::size_t last_row) {
    for (std::size_t row = first_row; row < last_row; ++row) {
        const float* residual =
            op.residual ? op.residual + row % op.residual_rows * op.columns : nullptr;
        for (std::size_t column = 0; column < op.columns; column += LANES) {
            const std::size_t left = op.columns - column, width = left < LANES ? left : LANES;
            const std::size_t position = row * op.columns + column;
            Floats value = load_some(op.values + position, width);
            if (op.bias) value = value + load_some(op.bias + column, width);
            value = activated<ACTIVATION>(value);
            if (residual) value = value + load_some(residual + column, width);
            store_some(op.result + position, value, width);
        }
    }
}

static void activate(const carsam::Activate& op, std::size_t first_row, std::size_t last_row) {
    CARSAM_WITH_ACTIVATION(op.activation, activate_with, op, first_row, last_row)
}

// Codes of whole lanes of a row on a single grid; returns the column of what is left. Everything is in
// locals: the compiler must assume that a store of bytes changes anything else.
template <bool ADDED, bool UNDONE>
static CARSAM_INLINE std::size_t quantize_lanes(const float* values, const float* addend,
                                                std::size_t columns, const GridLanes& grid,
                                                std::uint8_t* output) {
    std::size_t column = 0;
    for (; column + LANES <= columns; column += LANES) {
        Floats value = load(values + column);
        if (ADDED) {
            const Floats added = load(addend + column);
            value = value + added;
            if (UNDONE) value = value - added;
        }
        store_bytes(output + column, codes_on_grid(value, grid));
    }
    return column;
}

static void quantize(const carsam::Quantize& op, std::size_t first_row, std::size_t last_row) {
    const GridLanes grid = grid_lanes(op.grid);
    const std::size_t columns = op.columns;
    for (std::size_t row = first_row; row < last_row; ++row) {
        const float* values = op.values + row * columns;
        const float* addend = op.addend ? op.addend + row % op.addend_rows * columns : nullptr;
        std::uint8_t* output = op.output + row * columns;
        std::size_t column = 0;
        if (!op.inverse_scale) {
            column = !addend ? quantize_lanes<false, false>(values, addend, columns, grid, output)
                     : op.undone ? quantize_lanes<true, true>(values, addend, columns, grid, output)
                                 : quantize_lanes<true, false>(values, addend, columns, grid, output);
        }
        for (; column < columns; column += LANES) {
            const std::size_t left = columns - column, width = left < LANES ? left : LANES;
            Floats value = load_some(values + column, width);
            if (addend) {
                const Floats added = load_some(addend + column, width);
                value = value + added;
                if (op.undone) value = value - added;
            }
            const Ints codes =
                op.inverse_scale
                    ? codes_on_grid(value,
                                    grid_lanes(load_some(op.inverse_scale + column, width),
                                               load_some(op.zero + column, width),
                                               load_some(op.maximum + column, width)))
                    : codes_on_grid(value, grid);
            store_bytes_some(output + column, codes, width);
        }
    }
}

// The product of two floats is exact in double: but for one number in 2^29 every tap is rounded like a
// fused multiplication and addition, as a BLAS does it, and on all instruction sets alike.
static void weighted_rows(const carsam::WeightedRows& op, std::size_t first_row,
                          std::size_t last_row) {
    const std::size_t columns = op.columns;
    for (std::size_t row = first_row; row < last_row; ++row) {
        float* result = op.result + row * columns;
        std::memset(result, 0, columns * sizeof(float));
        for (std::size_t tap = row * op.taps; tap < (row + 1) * op.taps; ++tap) {
            const float* values = op.values + op.rows[tap] * columns;
            const double weight = op.weights[tap];
            for (std::size_t column = 0; column < columns; ++column) {
                result[column] =
                    static_cast<float>(weight * values[column] + double(result[column]));
            }
        }
    }
}

}  // namespace CARSAM_NAMESPACE
