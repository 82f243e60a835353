// carsam.runtime._kernels: numpy arrays in, numpy arrays out, no libtorch.

#include <cstddef>
#include <cstdint>
#include <memory>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nb = nanobind;

using InputBytes = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutputBytes = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<2>, nb::c_contig>;

// Rows of 4-bit codes, low nibble first -> one code per byte, (rows, columns).
static OutputBytes unpack_4bit(InputBytes packed, std::size_t columns) {
    const std::size_t rows = packed.shape(0);
    const std::size_t row_bytes = packed.shape(1);
    if (columns > 2 * row_bytes || columns + 1 < 2 * row_bytes) {
        throw nb::value_error("columns does not fit the packed row: expected 2 * bytes or one less");
    }
    auto codes = std::make_unique<std::uint8_t[]>(rows * columns);
    {
        nb::gil_scoped_release release;
        for (std::size_t row = 0; row < rows; ++row) {
            const std::uint8_t* source = packed.data() + row * row_bytes;
            std::uint8_t* target = codes.get() + row * columns;
            for (std::size_t pair = 0; pair < columns / 2; ++pair) {
                target[2 * pair] = source[pair] & 15;
                target[2 * pair + 1] = source[pair] >> 4;
            }
            if (columns % 2) {
                target[columns - 1] = source[columns / 2] & 15;
            }
        }
    }
    std::uint8_t* data = codes.release();
    nb::capsule owner(data, [](void* memory) noexcept { delete[] static_cast<std::uint8_t*>(memory); });
    return OutputBytes(data, {rows, columns}, owner);
}

NB_MODULE(_kernels, module) {
    module.def("unpack_4bit", &unpack_4bit, nb::arg("packed"), nb::arg("columns"),
               "Unpack 4-bit codes, low nibble first: (rows, bytes) uint8 -> (rows, columns) uint8.");
}
