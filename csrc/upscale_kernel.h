// Mask upscaling in float: an image token becomes 4 x 4 pixels of every mask; the channels in
// between are never stored for the whole image. See upscaled_masks in carsam/runtime/reference.py.
#pragma once

#include "float_panels.h"
#include "rows_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::Upscale;

// Image tokens treated together: whole tiles of rows.
constexpr std::size_t UPSCALE_TOKENS = rounded_up(24, FLOAT_ROWS);

// Adds the pixels of a finer level to the rows of the first convolution, four for each of `count`
// tokens from `first`.
static void add_finer(const Upscale& op, float* doubled, std::size_t first, std::size_t count) {
    for (std::size_t row = 0; row < 4 * count; ++row, doubled += op.channels1) {
        const std::size_t token = first + row / 4, corner = row % 4;
        const std::size_t y = 2 * (token / op.size) + corner / 2;
        const std::size_t x = 2 * (token % op.size) + corner % 2;
        const float* finer = op.finer + (y * 2 * op.size + x) * op.channels1;
        for (std::size_t channel = 0; channel < op.channels1; channel += LANES) {
            store(doubled + channel, load(doubled + channel) + load(finer + channel));
        }
    }
}

// The four pixels (y2, x2) that one row of the second convolution makes, of every mask.
static void mask_pixels(const Upscale& op, float* row, const float* kernels, float* result,
                        std::size_t y, std::size_t x) {
    const std::size_t side = 4 * op.size;
    for (std::size_t pixel = 0; pixel < 4; ++pixel, row += op.channels2) {
        const std::size_t place = (y + pixel / 2) * side + x + pixel % 2;
        for (std::size_t channel = 0; channel < op.channels2; channel += LANES) {
            Floats value = load(row + channel);
            if (op.finest) value = value + load(op.finest + place * op.channels2 + channel);
            store(row + channel, fused_gelu(value));
        }
        for (std::size_t mask = 0; mask < op.masks; ++mask) {
            const float* kernel = kernels + mask * op.channels2;
            Floats sum = broadcast(0.0f);
            for (std::size_t channel = 0; channel < op.channels2; channel += LANES) {
                sum = multiply_add(load(row + channel), load(kernel + channel), sum);
            }
            result[mask * side * side + place] = fold_sum(sum);
        }
    }
}

static void upscale(const Upscale& op, std::size_t prompt, std::size_t first, std::size_t last) {
    const std::size_t columns1 = 4 * op.channels1, columns2 = 4 * op.channels2;
    float* doubled = carsam::scratch_of<float>(carsam::Scratch::scores,
                                               UPSCALE_TOKENS * (columns1 + 4 * columns2));
    float* pixels = doubled + UPSCALE_TOKENS * columns1;
    carsam::LayerNorm norm{};
    norm.values = norm.result = doubled;
    norm.columns = op.channels1;
    norm.weight = op.norm_weight;
    norm.bias = op.norm_bias;
    norm.epsilon = op.epsilon;
    const std::size_t tokens = op.size * op.size;
    const float* kernels = op.kernels + prompt * op.masks * op.channels2;
    float* result = op.result + prompt * op.masks * 16 * tokens;
    for (std::size_t token = first; token < last; token += UPSCALE_TOKENS) {
        const std::size_t count = last - token < UPSCALE_TOKENS ? last - token : UPSCALE_TOKENS;
        panel_product(op.image + (prompt * tokens + token) * op.channels, count, op.channels,
                      {op.panels1, op.parts1}, columns1, op.bias1, doubled);
        if (op.finer) add_finer(op, doubled, token, count);
        layer_norm_with<Activation::none>(norm, 0, 4 * count);
        for (std::size_t i = 0; i < count * columns1; i += LANES) {
            store(doubled + i, fused_gelu(load(doubled + i)));
        }
        panel_product(doubled, 4 * count, op.channels1, {op.panels2, op.parts2}, columns2, op.bias2, pixels);
        for (std::size_t row = 0; row < 4 * count; ++row) {
            const std::size_t place = token + row / 4, corner = row % 4;
            mask_pixels(op, pixels + row * columns2, kernels, result,
                        4 * (place / op.size) + 2 * (corner / 2),
                        4 * (place % op.size) + 2 * (corner % 2));
        }
    }
}

}  // namespace CARSAM_NAMESPACE
