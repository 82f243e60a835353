// Standard C++: correct everywhere, vectorised by the compiler where it can.

#define CARSAM_NAMESPACE carsam_portable
#define CARSAM_NAME "portable"

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 4;
constexpr std::size_t TILE_PANELS = 1;

static constexpr bool fits_tile(int, int) { return true; }

static void multiply_tile(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                          const std::int8_t* panel, std::size_t, std::size_t, const Steps& steps,
                          int, int, std::int32_t* result) {
    for (std::size_t row = 0; row < rows; ++row) {
        std::int32_t sums[16] = {};
        for (std::size_t index = 0; index < steps.count; ++index) {
            const std::size_t step = steps.list ? steps.list[index] : index;
            const std::uint8_t* code = codes + row * stride + 4 * step;
            const std::int8_t* weight = panel + 64 * step;
            for (int lane = 0; lane < 16; ++lane) {
                for (int k = 0; k < 4; ++k) sums[lane] += code[k] * weight[4 * lane + k];
            }
        }
        std::memcpy(result + row * 16, sums, sizeof sums);
    }
}

}  // namespace CARSAM_NAMESPACE

#include "table.h"

namespace carsam {
extern const Kernels portable_kernels;
const Kernels portable_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
