// Memory that a thread keeps from call to call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inline.h"

namespace carsam {

constexpr std::size_t ALIGNMENT = 64;

enum class Scratch : std::size_t { panels, columns, rows, products, scores, count };

// At least `bytes` bytes for one purpose, aligned to 64, contents undefined. The pointer is valid
// until the thread asks for the same purpose again. Throws std::bad_alloc.
void* scratch(Scratch purpose, std::size_t bytes);

template <class Number> CARSAM_INLINE Number* scratch_of(Scratch purpose, std::size_t numbers) {
    return static_cast<Number*>(scratch(purpose, numbers * sizeof(Number)));
}

}  // namespace carsam
