// Pairs of neighbouring channels turned by the angles of a cell (rotary positions). See `rotate` in
// carsam/runtime/reference.py.
#pragma once

#include <cstring>

#include "kernels.h"
#include "lanes.h"

namespace CARSAM_NAMESPACE {

static void rotate(const carsam::Rotate& op, std::size_t first_row, std::size_t last_row) {
    for (std::size_t row = first_row; row < last_row; ++row) {
        const float* values = op.values + row * op.columns;
        float* result = op.result + row * op.columns;
        if (op.cells[row] < 0) {
            std::memmove(result, values, op.columns * sizeof(float));
            continue;
        }
        const float* cosines = op.cosines + op.cells[row] * op.pairs;
        const float* sines = op.sines + op.cells[row] * op.pairs;
        for (std::size_t head = 0; head < op.columns; head += 2 * op.pairs) {
            for (std::size_t pair = 0; pair < op.pairs; ++pair) {
                const float x = values[head + 2 * pair], y = values[head + 2 * pair + 1];
                result[head + 2 * pair] = x * cosines[pair] - y * sines[pair];
                result[head + 2 * pair + 1] = y * cosines[pair] + x * sines[pair];
            }
        }
    }
}

}  // namespace CARSAM_NAMESPACE
