// Masks of sixteen lanes, all bits of a lane set where something holds; and random ones.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace CARSAM_NAMESPACE {

#if CARSAM_VECTORS
typedef std::uint32_t WordVector __attribute__((vector_size(4 * CARSAM_WIDTH)));
#define CARSAM_WHERE(condition) (IntVector)(condition)
#else
typedef std::uint32_t WordVector;
#define CARSAM_WHERE(condition) -static_cast<IntVector>(condition)
#endif

static CARSAM_INLINE Ints where_above(const Floats& left, const Floats& right) {
    Ints result;
    CARSAM_PARTS(result.part[i] = CARSAM_WHERE(left.part[i] > right.part[i]))
    return result;
}

static CARSAM_INLINE Ints where_equal(const Floats& left, const Floats& right) {
    Ints result;
    CARSAM_PARTS(result.part[i] = CARSAM_WHERE(left.part[i] == right.part[i]))
    return result;
}

// Where low <= value <= high.
static CARSAM_INLINE Ints where_within(const Floats& value, const Floats& low, const Floats& high) {
    Ints result;
    CARSAM_PARTS(result.part[i] = CARSAM_WHERE(value.part[i] >= low.part[i]) &
                                  CARSAM_WHERE(value.part[i] <= high.part[i]))
    return result;
}

// The value where the mask holds, else 0.
static CARSAM_INLINE Floats only(const Ints& mask, const Floats& value) {
    Floats result;
    CARSAM_PARTS(result.part[i] =
                     CARSAM_BITS(mask.part[i] & CARSAM_BITS(value.part[i], IntVector), FloatVector))
    return result;
}

static CARSAM_INLINE Floats choose(const Ints& mask, const Floats& there, const Floats& elsewhere) {
    Floats result;
    CARSAM_PARTS(result.part[i] = CARSAM_BITS(
                     (mask.part[i] & CARSAM_BITS(there.part[i], IntVector)) |
                         (~mask.part[i] & CARSAM_BITS(elsewhere.part[i], IntVector)),
                     FloatVector))
    return result;
}

static CARSAM_INLINE Ints inverted(const Ints& mask) {
    Ints result;
    CARSAM_PARTS(result.part[i] = ~mask.part[i])
    return result;
}

// Where a draw keeps the elements `first` to `first` + 15; see carsam/grids/draws.py.
static CARSAM_INLINE Ints where_kept(const carsam::Draw& draw, std::size_t first) {
    static constexpr std::uint32_t PLACES[LANES] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                    8, 9, 10, 11, 12, 13, 14, 15};
    Ints result;
    CARSAM_PARTS({
        WordVector word;
        std::memcpy(&word, PLACES + i * CARSAM_WIDTH, sizeof word);
        word = (word + static_cast<std::uint32_t>(first)) ^ draw.first_key;
        word = (word ^ word >> 16) * 0x21F0AAADu + draw.second_key;
        word = (word ^ word >> 15) * 0xD35A2D97u;
        word = word ^ word >> 15;
        result.part[i] = CARSAM_WHERE(CARSAM_BITS(word, IntVector) < draw.below);
    })
    return result;
}

}  // namespace CARSAM_NAMESPACE
