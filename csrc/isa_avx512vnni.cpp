// AVX-512 VNNI: vpdpbusd adds four products in 32 bits, 16 columns at a time.

#define CARSAM_NAMESPACE carsam_avx512vnni
#define CARSAM_NAME "avx512vnni"

#include "lanes.h"
#include "steps.h"
#include "vnni_tile.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 12;
constexpr std::size_t TILE_PANELS = 2;

static constexpr bool fits_tile(int, int) { return true; }

static void multiply_tile(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                          const std::int8_t* panels, std::size_t panel_stride,
                          std::size_t panel_count, const Steps& steps, int, int,
                          std::int32_t* result) {
    multiply_few(codes, stride, rows, panels, panel_stride, panel_count, steps, result);
}

}  // namespace CARSAM_NAMESPACE

#include "table.h"

namespace carsam {
extern const Kernels avx512vnni_kernels;
const Kernels avx512vnni_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
