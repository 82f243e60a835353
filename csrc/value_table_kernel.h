// Rounding to grids of listed values; see TableGrid of carsam/runtime/tables.py.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::ValueTable;

// How many of the table's middles are below a number: the code of the nearest value.
static CARSAM_INLINE std::uint32_t table_code(const ValueTable& table, float number) {
    std::uint32_t code = 0;
    for (std::uint32_t half = 1u << table.bits >> 1; half > 0; half >>= 1) {
        code += half * (number > table.middles[code + half - 1]);  // no branch to mispredict
    }
    return code;
}

static void round_to_table(const carsam::RoundToTable& op, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
        op.result[i] = op.table.values[table_code(op.table, op.numbers[i])];
    }
}

}  // namespace CARSAM_NAMESPACE
