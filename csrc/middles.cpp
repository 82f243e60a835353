#include "middles.h"

#include <algorithm>
#include <cmath>

namespace carsam {

Middles::Middles(const float* all, std::size_t count) : numbers(all) {
    while (count && std::isinf(numbers[count - 1])) --count;  // no number is above these
    if (!count) return;
    // + 0 because the bits of -0 are below those of 0.
    first_bits = ascending_bits(numbers[0] + 0.0f);
    const std::uint32_t span = ascending_bits(numbers[count - 1] + 0.0f) - first_bits;
    while (span >> shift >= BUCKETS) ++shift;
    last_bucket = span >> shift;
    std::array<std::uint16_t, BUCKETS> sizes{};
    for (std::size_t i = 0; i < count; ++i) ++sizes[bucket_of(*this, numbers[i] + 0.0f)];
    window = *std::max_element(sizes.begin(), sizes.end());
    std::size_t below = 0;
    for (std::size_t bucket = 0; bucket <= last_bucket; ++bucket) {
        // The last windows begin earlier, where every number of the bucket is above.
        starts[bucket] = static_cast<std::uint16_t>(std::min(below, count - window));
        below += sizes[bucket];
    }
}

}  // namespace carsam
