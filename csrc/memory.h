// Large blocks of memory that are kept for reuse: the first touch of fresh pages costs more than the
// arithmetic on them.
#pragma once

#include <cstddef>

namespace carsam {

// At least `bytes` bytes, aligned to 64, contents undefined. Throws std::bad_alloc.
void* take_block(std::size_t bytes);

// Gives a block back; up to KEPT_BYTES of free blocks stay allocated.
void give_block(void* block) noexcept;

constexpr std::size_t KEPT_BYTES = std::size_t(128) << 20;

}  // namespace carsam
