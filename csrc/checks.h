// Checks of what Python hands over: wrong shapes raise ValueError, they never reach a kernel.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "kernels.h"

namespace carsam {

constexpr std::size_t MOST_COLUMNS = 1 << 15;  // products of 8-bit codes that add up in 32 bits
constexpr std::size_t LARGEST_SUM = 0x7FFFFFFF;

inline void require(bool condition, const char* expected) {
    if (!condition) throw nanobind::value_error(expected);
}

// Sums of `count` products of codes, each less its zero point, stay within 32 bits, and so do the
// parts that the kernels make them of. The codes are at most `left` and `right`. See
// carsam/runtime/sums.py.
inline void require_sum(std::size_t count, int left, int right, const char* expected) {
    require(count <= LARGEST_SUM / (static_cast<std::size_t>(left) * right), expected);
}

// In builds with CARSAM_CHECK_CODES: no code is above the grid's highest. Other builds trust the
// caller; wrong codes then make wrong numbers, nothing worse.
template <class Codes>
void require_codes([[maybe_unused]] const Codes& codes, [[maybe_unused]] const Grid& grid) {
#if defined(CARSAM_CHECK_CODES)
    for (std::size_t row = 0; row < codes.shape(0); ++row) {
        const std::uint8_t* first = codes.data() + row * codes.stride(0);
        for (std::size_t column = 0; column < codes.shape(1); ++column) {
            require(first[column] <= grid.maximum, "codes up to the highest of their grid");
        }
    }
#endif
}

template <class Array> std::size_t count_of(const Array& array) { return array.shape(0); }

template <class Array>
void require_count(const std::optional<Array>& array, std::size_t count, const char* expected) {
    require(!array || count_of(*array) == count, expected);
}

template <class Array>
void require_shape(const Array& array, std::size_t rows, std::size_t columns,
                   const char* expected) {
    require(array.shape(0) == rows && array.shape(1) == columns, expected);
}

// Exactly one of the two is there, and it has this shape.
template <class Values, class Codes>
void require_result(const Values& values, const Codes& codes, std::size_t rows,
                    std::size_t columns) {
    require(values.has_value() != codes.has_value(), "either values or codes");
    if (values) require_shape(*values, rows, columns, "values of the result's shape");
    if (codes) require_shape(*codes, rows, columns, "codes of the result's shape");
}

// Rows that are added repeatedly: their number divides that of the result's rows.
template <class Array>
void require_repeated(const std::optional<Array>& array, std::size_t rows, std::size_t columns) {
    if (!array) return;
    const std::size_t period = array->shape(0);
    require(array->shape(1) == columns && (period ? rows % period == 0 : rows == 0),
            "rows to add whose number divides that of the result's rows");
}

inline Activation read_activation(int number) {
    require(number >= 0 && number <= static_cast<int>(Activation::gelu), "a known activation");
    return static_cast<Activation>(number);
}

// Every index is in [lowest, count).
template <class Indices>
void require_indices(const Indices& indices, std::int64_t lowest, std::size_t count) {
    const std::int32_t* index = indices.data();
    for (std::size_t i = 0; i < indices.size(); ++i) {
        require(index[i] >= lowest && index[i] < static_cast<std::int64_t>(count),
                "rows that are there");
    }
}

}  // namespace carsam
