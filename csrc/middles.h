// Ascending middles between the values that a grid lists, with a table that says near which of them
// a number lies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "inline.h"

namespace carsam {

// Floats between the first and the last middle are cut into buckets by the leading bits of what
// ascending_bits() makes of them. `starts` has, for each bucket, a place from which no more than
// `window` middles must be compared with a number of the bucket: one or two in logarithmic grids.
struct Middles {
    static constexpr std::size_t BUCKETS = 2048, MOST = (1 << 16) - 1;

    const float* numbers = nullptr;
    std::uint32_t first_bits = 0, shift = 0, last_bucket = 0;
    std::size_t window = 0;
    std::array<std::uint16_t, BUCKETS> starts{};

    Middles() = default;
    // At most MOST of them, which must outlive this.
    Middles(const float* numbers, std::size_t count);
};

// Integers in the order of the floats.
static CARSAM_INLINE std::uint32_t ascending_bits(float number) {
    std::uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits ^ ((0u - (bits >> 31)) | 0x80000000u);
}

// The bucket of a number, without branches to mispredict.
static CARSAM_INLINE std::uint32_t bucket_of(const Middles& middles, float number) {
    const std::uint32_t bits = ascending_bits(number), last = middles.last_bucket;
    const std::uint32_t is_above = 0u - std::uint32_t{bits > middles.first_bits};  // all ones, or 0
    const std::uint32_t bucket = ((bits - middles.first_bits) & is_above) >> middles.shift;
    return last ^ ((bucket ^ last) & (0u - std::uint32_t{bucket < last}));
}

// How many of the middles are below a number.
static CARSAM_INLINE std::size_t place_among(const Middles& middles, float number) {
    std::size_t place = middles.starts[bucket_of(middles, number)];
    for (std::size_t left = middles.window; left > 0;) {
        const std::size_t half = (left + 1) / 2;
        place += half * (number > middles.numbers[place + half - 1]);
        left -= half;
    }
    return place;
}

}  // namespace carsam
