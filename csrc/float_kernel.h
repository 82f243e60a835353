// Products of floats, summed in float or in double. See float_product in
// carsam/runtime/reference.py; the order of the sums, and so their last bit, depends on the set.
#pragma once

#include <cstring>

#include "kernels.h"
#include "lanes.h"
#include "scratch.h"

namespace CARSAM_NAMESPACE {

// Accumulators of a tile fill most of the registers.
constexpr int DOT_ROWS = CARSAM_WIDTH == 16 ? 6 : 4, DOT_COLUMNS = CARSAM_WIDTH == 16 ? 4 : 3;

template <class Number> struct VectorOf;
template <> struct VectorOf<float> { using Type = FloatVector; };
template <> struct VectorOf<double> { using Type = DoubleVector; };

// ROWS rows of `left` times COLUMNS rows of `right`, all of `depth` numbers.
template <int ROWS, int COLUMNS, class Number>
static inline void dot_tile(const Number* left, const Number* right, std::size_t depth,
                            float* result, std::size_t stride) {
    using Vector = typename VectorOf<Number>::Type;
    constexpr std::size_t COUNT = sizeof(Vector) / sizeof(Number);
    Vector sums[ROWS][COLUMNS] = {};
    std::size_t k = 0;
    for (; k + COUNT <= depth; k += COUNT) {
        Vector columns[COLUMNS];
#pragma GCC unroll 4
        for (int column = 0; column < COLUMNS; ++column) {
            std::memcpy(&columns[column], right + column * depth + k, sizeof(Vector));
        }
#pragma GCC unroll 6
        for (int row = 0; row < ROWS; ++row) {
            Vector values;
            std::memcpy(&values, left + row * depth + k, sizeof(Vector));
#pragma GCC unroll 4
            for (int column = 0; column < COLUMNS; ++column) {
                sums[row][column] = multiply_add(values, columns[column], sums[row][column]);
            }
        }
    }
    for (int row = 0; row < ROWS; ++row) {
        for (int column = 0; column < COLUMNS; ++column) {
            Number lanes[COUNT], sum = 0;
            std::memcpy(lanes, &sums[row][column], sizeof(Vector));
            for (const Number lane : lanes) sum += lane;
            for (std::size_t rest = k; rest < depth; ++rest) {
                sum += left[row * depth + rest] * right[column * depth + rest];
            }
            result[row * stride + column] = static_cast<float>(sum);
        }
    }
}

template <int COLUMNS, class Number>
static void dot_rows(const Number* left, std::size_t rows, const Number* right, std::size_t depth,
                     float* result, std::size_t stride) {
    std::size_t row = 0;
    for (; row + DOT_ROWS <= rows; row += DOT_ROWS) {
        dot_tile<DOT_ROWS, COLUMNS>(left + row * depth, right, depth, result + row * stride, stride);
    }
    for (; row < rows; ++row) {
        dot_tile<1, COLUMNS>(left + row * depth, right, depth, result + row * stride, stride);
    }
}

static inline const float* as_numbers(const float* values, std::size_t, float) { return values; }

static inline const double* as_numbers(const float* values, std::size_t count, double) {
    auto* wide = carsam::scratch_of<double>(carsam::Scratch::rows, count);
    for (std::size_t i = 0; i < count; ++i) wide[i] = values[i];
    return wide;
}

template <class Number>
static void dot(const carsam::FloatProduct& op, const Number* weight, std::size_t first_row,
                std::size_t last_row, std::size_t first, std::size_t last) {
    const std::size_t depth = op.depth, rows = last_row - first_row;
    const Number* left = as_numbers(op.values + first_row * depth, rows * depth, Number{});
    float* result = op.result + first_row * op.columns;
    std::size_t column = first;
    for (; column + DOT_COLUMNS <= last; column += DOT_COLUMNS) {
        dot_rows<DOT_COLUMNS>(left, rows, weight + column * depth, depth, result + column,
                              op.columns);
    }
    for (; column < last; ++column) {
        dot_rows<1>(left, rows, weight + column * depth, depth, result + column, op.columns);
    }
}

static void float_product(const carsam::FloatProduct& op, std::size_t first_row,
                          std::size_t last_row, std::size_t first, std::size_t last) {
    if (op.weight_in_double) {
        dot(op, op.weight_in_double, first_row, last_row, first, last);
    } else {
        dot(op, op.weight, first_row, last_row, first, last);
    }
}

}  // namespace CARSAM_NAMESPACE
