// Probabilities relative to the largest of their row; see _relative_product of
// carsam/runtime/reference_attention.py.
#pragma once

#include "functions.h"

namespace CARSAM_NAMESPACE {

// The numerators of one query: 2^(logit - highest) times `factor`, rounded to a byte, then the
// numerator of that byte.
static void find_numerators(const float* logits, std::size_t keys, float highest, float factor,
                            const std::uint8_t* numerators, std::uint8_t* result) {
    const Floats factors = broadcast(factor), limit = broadcast(255.0f);
    for (std::size_t place = 0; place < keys; place += LANES) {
        const Floats power = exp2(load(logits + place) - broadcast(highest));
        const Ints bytes = round_to_ints(minimum(power * factors, limit));
        store_bytes(result + place, bytes - broadcast(ROUNDING_BITS));
    }
    for (std::size_t place = 0; place < keys; ++place) result[place] = numerators[result[place]];
}

}  // namespace CARSAM_NAMESPACE
