// `multiply_tile` of the instruction sets whose tile has 6 rows and one panel.
//
// The including file defines, in CARSAM_NAMESPACE,
//   multiply_rows<ROWS, LISTED>(codes, stride, panel, steps, code_bits, weight_bits, result).
#pragma once

#include "steps.h"

namespace CARSAM_NAMESPACE {

static void multiply_tile(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                          const std::int8_t* panel, std::size_t, std::size_t, const Steps& steps,
                          int code_bits, int weight_bits, std::int32_t* result) {
    using Multiply = decltype(&multiply_rows<1, false>);
    static constexpr Multiply MULTIPLY[][2] = {
        {multiply_rows<1, false>, multiply_rows<1, true>},
        {multiply_rows<2, false>, multiply_rows<2, true>},
        {multiply_rows<3, false>, multiply_rows<3, true>},
        {multiply_rows<4, false>, multiply_rows<4, true>},
        {multiply_rows<5, false>, multiply_rows<5, true>},
        {multiply_rows<6, false>, multiply_rows<6, true>}};
    MULTIPLY[rows - 1][steps.list != nullptr](codes, stride, panel, steps, code_bits,
                                              weight_bits, result);
}

}  // namespace CARSAM_NAMESPACE
