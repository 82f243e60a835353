// Which steps of K, four numbers each, a product goes through.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inline.h"

namespace CARSAM_NAMESPACE {

// All steps below `count`, or the `count` steps in `list`, of `all`: others are known to add nothing.
struct Steps {
    std::size_t count;
    const std::uint32_t* list = nullptr;
    std::size_t all = 0;
};

template <bool LISTED>
static CARSAM_INLINE std::size_t step_at(const Steps& steps, std::size_t index) {
    return LISTED ? steps.list[index] : index;
}

}  // namespace CARSAM_NAMESPACE
