// How many rows and bytes each tile register has: what `ldtilecfg` reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inline.h"

namespace CARSAM_NAMESPACE {

struct alignas(64) RegisterShapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};  // of a row
    std::uint8_t rows[16] = {};

    CARSAM_INLINE void set(int number, std::size_t row_count, std::size_t row_bytes) {
        rows[number] = static_cast<std::uint8_t>(row_count);
        bytes[number] = static_cast<std::uint16_t>(row_count ? row_bytes : 0);
    }
};
static_assert(sizeof(RegisterShapes) == 64);

}  // namespace CARSAM_NAMESPACE
