// AVX-VNNI: vpdpbusd adds four products in 32 bits, 8 columns at a time.

#define CARSAM_NAMESPACE carsam_avxvnni
#define CARSAM_NAME "avxvnni"

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 6;
constexpr std::size_t TILE_PANELS = 1;

static constexpr bool fits_tile(int, int) { return true; }

template <int ROWS, bool LISTED>
static void multiply_rows(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panel,
                          const Steps& steps, int, int, std::int32_t* result) {
    __m256i sums[ROWS][2];
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
        sums[row][0] = _mm256_setzero_si256();
        sums[row][1] = _mm256_setzero_si256();
    }
    for (std::size_t index = 0; index < steps.count; ++index) {
        const std::size_t step = step_at<LISTED>(steps, index);
        const auto* weights = reinterpret_cast<const __m256i*>(panel + 64 * step);
        const __m256i left = _mm256_loadu_si256(weights);
        const __m256i right = _mm256_loadu_si256(weights + 1);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            std::int32_t step_codes;
            std::memcpy(&step_codes, codes + row * stride + 4 * step, sizeof step_codes);
            const __m256i code = _mm256_set1_epi32(step_codes);
            sums[row][0] = _mm256_dpbusd_avx_epi32(sums[row][0], code, left);
            sums[row][1] = _mm256_dpbusd_avx_epi32(sums[row][1], code, right);
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
        auto* target = reinterpret_cast<__m256i*>(result + 16 * row);
        _mm256_storeu_si256(target, sums[row][0]);
        _mm256_storeu_si256(target + 1, sums[row][1]);
    }
}

}  // namespace CARSAM_NAMESPACE

#include "one_panel_tile.h"
#include "table.h"

namespace carsam {
extern const Kernels avxvnni_kernels;
const Kernels avxvnni_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
