// Probabilities relative to the largest of their row; see _relative_product of
// carsam/runtime/reference_attention.py.
#pragma once

#include "look_up_kernel.h"

namespace CARSAM_NAMESPACE {

// The highest logit of a query in steps, from the highest in every lane.
static CARSAM_INLINE std::int16_t highest_step(const Floats& lanes) {
    const float highest = fold_maximum(lanes);
    const float held = highest < -32768.0f ? -32768.0f : highest > 32767.0f ? 32767.0f : highest;
    const float shifted = held + ROUNDING;
    std::int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    return static_cast<std::int16_t>(bits - ROUNDING_BITS);
}

// Looks up the numerators of rows of depths.
static void find_numerators(const ByteTable& numerators, std::uint8_t* depths, std::size_t rows,
                            std::size_t stride, std::size_t keys) {
    if (stride == keys) return look_up_bytes(numerators, depths, rows * keys);
    for (std::size_t row = 0; row < rows; ++row) {
        look_up_bytes(numerators, depths + row * stride, keys);
    }
}

}  // namespace CARSAM_NAMESPACE
