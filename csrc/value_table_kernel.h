// Rounding to grids of listed values; see TableGrid of carsam/runtime/tables.py.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::ValueTable;

// -1 where left > right, else 0.
static CARSAM_INLINE Ints negative_where_above(const Floats& left, const Floats& right) {
    Ints result;
#if CARSAM_VECTORS
    CARSAM_PARTS(result.part[i] = (IntVector)(left.part[i] > right.part[i]))
#else
    CARSAM_PARTS(result.part[i] = -static_cast<IntVector>(left.part[i] > right.part[i]))
#endif
    return result;
}

constexpr int FEW_BITS = 5;  // up to here comparing with every middle is faster than searching

// How many of the table's middles are below the numbers: the codes of the nearest values.
static CARSAM_INLINE Ints table_codes(const ValueTable& table, const Floats& numbers) {
    Ints codes = broadcast(0);
    for (std::size_t i = 0; i + 1 < std::size_t{1} << table.bits; ++i) {
        codes = codes - negative_where_above(numbers, broadcast(table.middles.numbers[i]));
    }
    return codes;
}

static void round_to_table(const carsam::RoundToTable& op, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
        op.result[i] = op.table.values[carsam::place_among(op.table.middles, op.numbers[i])];
    }
}

}  // namespace CARSAM_NAMESPACE
