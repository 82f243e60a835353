// Codes replaced by what a table holds for them: a codebook's entry for each code of the fine grid.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace CARSAM_NAMESPACE {

using carsam::LookUp;

static CARSAM_INLINE void look_up_each(const LookUp& op, std::uint8_t* codes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) codes[i] = op.table[codes[i]];
}

// With few steps, comparing whole vectors takes less time than reading the table byte by byte.
static void look_up_steps(const LookUp& op, std::uint8_t* codes, std::size_t count) {
    std::size_t place = 0;
#if defined(__GNUC__)
    typedef std::uint8_t Bytes __attribute__((vector_size(4 * CARSAM_WIDTH)));
    Bytes after[LookUp::FEW_STEPS], entry[LookUp::FEW_STEPS];
    const Bytes first = op.table[0] - Bytes{};
    for (int step = 0; step < op.steps; ++step) {
        after[step] = op.after[step] - Bytes{};
        entry[step] = op.entry[step] - Bytes{};
    }
    for (; place + sizeof(Bytes) <= count; place += sizeof(Bytes)) {
        Bytes code, found = first;
        std::memcpy(&code, codes + place, sizeof code);
        for (int step = 0; step < op.steps; ++step) {
            found = code > after[step] ? entry[step] : found;
        }
        std::memcpy(codes + place, &found, sizeof found);
    }
#endif
    look_up_each(op, codes + place, count - place);
}

static void look_up(const LookUp& op, std::size_t first_row, std::size_t last_row) {
    const auto apply = op.steps <= LookUp::FEW_STEPS ? look_up_steps : look_up_each;
    std::uint8_t* codes = op.codes + first_row * op.stride;
    if (op.stride == op.columns) return apply(op, codes, (last_row - first_row) * op.columns);
    for (std::size_t row = first_row; row < last_row; ++row, codes += op.stride) {
        apply(op, codes, op.columns);
    }
}

}  // namespace CARSAM_NAMESPACE
