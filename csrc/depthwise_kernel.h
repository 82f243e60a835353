// A convolution of every channel by itself, in integers. See `depthwise` in
// carsam/runtime/reference.py.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t DEPTHWISE_CHANNELS = 64;  // whose sums stay in registers

// What is beyond the image is the zero point, and adds nothing.
static CARSAM_INLINE void add_taps(const carsam::Depthwise& op, std::size_t row, std::size_t column,
                                   std::size_t channel, std::size_t count, std::int32_t* sums) {
    const std::size_t margin = op.side / 2;
    for (std::size_t tap = 0; tap < op.side * op.side; ++tap) {
        // Below the first row or column these wrap around, and are beyond the last.
        const std::size_t y = row + tap / op.side - margin, x = column + tap % op.side - margin;
        if (y >= op.height || x >= op.width) continue;
        const std::uint8_t* codes = op.codes + (y * op.width + x) * op.channels + channel;
        const std::int32_t* weights = op.weights + tap * op.channels + channel;
        for (std::size_t i = 0; i < count; ++i) sums[i] += (codes[i] - op.zero_point) * weights[i];
    }
}

static void depthwise(const carsam::Depthwise& op, std::size_t first_row, std::size_t last_row) {
    for (std::size_t place = first_row * op.width; place < last_row * op.width; ++place) {
        const std::size_t row = place / op.width, column = place % op.width;
        for (std::size_t channel = 0; channel < op.channels; channel += DEPTHWISE_CHANNELS) {
            const std::size_t left = op.channels - channel;
            const std::size_t count = left < DEPTHWISE_CHANNELS ? left : DEPTHWISE_CHANNELS;
            std::int32_t sums[DEPTHWISE_CHANNELS] = {};
            if (count == DEPTHWISE_CHANNELS) {
                add_taps(op, row, column, channel, DEPTHWISE_CHANNELS, sums);
            } else {
                add_taps(op, row, column, channel, count, sums);
            }
            float* result = op.result + place * op.channels + channel;
            for (std::size_t i = 0; i < count; ++i) {
                const float product = static_cast<float>(sums[i]) * op.scale[channel + i];
                result[i] = op.bias ? product + op.bias[channel + i] : product;
            }
        }
    }
}

}  // namespace CARSAM_NAMESPACE
