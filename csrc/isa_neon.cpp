// NEON with dot product: sdot adds four products in 32 bits, 4 columns at a time.

#define CARSAM_NAMESPACE carsam_neon
#define CARSAM_NAME "neon"

#include <arm_neon.h>

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 6;
constexpr std::size_t TILE_PANELS = 1;

// sdot takes signed codes.
static constexpr bool fits_tile(int code_bits, int) { return code_bits < 8; }

template <int ROWS, bool LISTED>
static void multiply_rows(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panel,
                          const Steps& steps, int, int, std::int32_t* result) {
    int32x4_t sums[ROWS][4];
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 8
        for (int quarter = 0; quarter < 4; ++quarter) sums[row][quarter] = vdupq_n_s32(0);
    }
    for (std::size_t index = 0; index < steps.count; ++index) {
        const std::size_t step = step_at<LISTED>(steps, index);
        const int8x16x4_t weights = vld1q_s8_x4(panel + 64 * step);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            std::int32_t step_codes;
            std::memcpy(&step_codes, codes + row * stride + 4 * step, sizeof step_codes);
            const int8x16_t code = vreinterpretq_s8_s32(vdupq_n_s32(step_codes));
#pragma GCC unroll 8
            for (int quarter = 0; quarter < 4; ++quarter) {
                sums[row][quarter] = vdotq_s32(sums[row][quarter], weights.val[quarter], code);
            }
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 8
        for (int quarter = 0; quarter < 4; ++quarter) {
            vst1q_s32(result + 16 * row + 4 * quarter, sums[row][quarter]);
        }
    }
}

}  // namespace CARSAM_NAMESPACE

#include "one_panel_tile.h"
#include "table.h"

namespace carsam {
extern const Kernels neon_kernels;
const Kernels neon_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
