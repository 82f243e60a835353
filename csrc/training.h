// Rounding (and GELU) while a model is trained: forward and backward passes of what carsam/grids/fused.py
// describes. A backward pass reads the forward pass's input again and draws the same mask again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "middles.h"

namespace carsam {

// Which elements are rounded, as carsam/grids/draws.py decides it: those whose number is below.
struct Draw {
    bool all;  // then the others are not read
    std::uint32_t first_key, second_key;
    std::int32_t below;
};

// Rounding to one uniform grid, or to one per column: rint(value / scale) between two integers.
struct RoundUniform {
    const float* values;
    std::size_t columns;  // 0 with a single grid
    const float *scale, *inverse, *low, *high;
    Draw draw;
    float* result;               // of the forward pass; of the backward pass:
    const float* gradient;       // of the result
    float* values_gradient;
    double* scale_gradient;      // (parts, columns or 1)
};

// Rounding to the nearest of `count` listed values.
struct RoundListed {
    const float* values;
    const float* table;      // (count), ascending
    const Middles* middles;  // count - 1: the place of a number is how many of them are below it
    std::size_t count;
    float factor;     // where it is not 0: rint(value * factor) is compared with the middles
    float low, high;  // values between these pass their gradients on
    Draw draw;
    float* result;
    const float* gradient;
    float* values_gradient;
    double* table_gradient;  // (parts, count)
};

// Each element from the second array where it is drawn, else from the first.
struct Mix {
    const float *first, *second;
    Draw draw;
    float* result;
};

// x Phi(x).
struct Gelu {
    const float* values;
    float* result;
    const float* gradient;
    float* values_gradient;
};

// A weight's rows: (rint(code) between 0 and `levels`, less the zero point) * scale.
struct RoundRows {
    const float* codes;  // (rows, columns)
    std::size_t columns;
    const float *scale, *zero;  // (rows)
    float levels;
    float* result;
    const float* gradient;
    float* codes_gradient;
    double* scale_gradient;  // (rows)
};

// A weight's rows rounded softly: floor + share, share = 1.2 * sigmoid - 0.1 between 0 and 1.
struct SoftRows {
    const float *floor, *sigmoid;  // (rows, columns)
    std::size_t columns;
    const float *scale, *zero;  // (rows)
    float levels;
    float* result;
    const float* gradient;
    float* argument_gradient;  // of the sigmoid's argument
};

// Of numbers (groups, rows, keys): sums of the values (groups, keys, width) of the keys whose numbers
// have the same place, which is how many of `count` ascending middles are below it.
struct PlaceSums {
    const float* numbers;
    std::size_t rows, keys;
    const Middles* middles;
    std::size_t count;
    const float* values;
    std::size_t width;
    float* result;  // (groups, rows, count + 1, width)
};

// What one instruction set offers. [first, last) are elements, or rows of the weight; of a grid per
// column, whole rows of elements.
struct TrainingKernels {
    void (*round_uniform)(const RoundUniform&, std::size_t first, std::size_t last);
    void (*round_uniform_backward)(const RoundUniform&, std::size_t part, std::size_t first,
                                   std::size_t last);
    void (*round_listed)(const RoundListed&, std::size_t first, std::size_t last);
    void (*round_listed_backward)(const RoundListed&, std::size_t part, std::size_t first,
                                  std::size_t last);
    // Rows [first, last) of all groups.
    void (*place_sums)(const PlaceSums&, std::size_t first, std::size_t last);
    void (*mix)(const Mix&, std::size_t first, std::size_t last);
    void (*gelu)(const Gelu&, std::size_t first, std::size_t last);
    void (*gelu_backward)(const Gelu&, std::size_t first, std::size_t last);
    void (*round_rows)(const RoundRows&, std::size_t first, std::size_t last);
    void (*round_rows_backward)(const RoundRows&, std::size_t first, std::size_t last);
    void (*soft_rows)(const SoftRows&, std::size_t first, std::size_t last);
    void (*soft_rows_backward)(const SoftRows&, std::size_t first, std::size_t last);
};

}  // namespace carsam
