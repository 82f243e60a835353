// NEON with matrix products: usmmla multiplies 2 rows of 8 codes by 8 x 2 weights, so two steps and
// two columns at a time.

#define CARSAM_NAMESPACE carsam_i8mm
#define CARSAM_NAME "i8mm"

#include <arm_neon.h>

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 6;
constexpr std::size_t TILE_PANELS = 1;

static constexpr bool fits_tile(int, int) { return true; }

// One row's codes of two steps; the second step's are 0 where there is only one.
template <bool ADJACENT, bool ONE>
static CARSAM_INLINE uint8x8_t two_steps(const std::uint8_t* codes, std::size_t step,
                                         std::size_t second_step) {
    if constexpr (ADJACENT) return vld1_u8(codes + 4 * step);
    std::uint32_t first, second = 0;
    std::memcpy(&first, codes + 4 * step, sizeof first);
    if constexpr (!ONE) std::memcpy(&second, codes + 4 * second_step, sizeof second);
    return vreinterpret_u8_u32(vset_lane_u32(second, vdup_n_u32(first), 1));
}

// sums[pair][i]: rows 2 pair and 2 pair + 1 times columns 2 i and 2 i + 1.
template <int ROWS, bool ADJACENT, bool ONE>
static CARSAM_INLINE void add_two_steps(const std::uint8_t* codes, std::size_t stride,
                                        const std::int8_t* panel, std::size_t step,
                                        std::size_t second_step,
                                        int32x4_t (&sums)[(ROWS + 1) / 2][8]) {
    uint8x16_t pairs[(ROWS + 1) / 2];
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row += 2) {
        const std::uint8_t* source = codes + row * stride;
        const uint8x8_t upper = two_steps<ADJACENT, ONE>(source, step, second_step);
        // An odd last row is its own neighbour, whose sums nobody reads.
        const uint8x8_t lower =
            row + 1 < ROWS ? two_steps<ADJACENT, ONE>(source + stride, step, second_step) : upper;
        pairs[row / 2] = vcombine_u8(upper, lower);
    }
#pragma GCC unroll 8
    for (int quarter = 0; quarter < 4; ++quarter) {
        const int32x4_t first =
            vreinterpretq_s32_s8(vld1q_s8(panel + 64 * step + 16 * quarter));
        const int32x4_t second =
            vreinterpretq_s32_s8(vld1q_s8(panel + 64 * second_step + 16 * quarter));
        const int8x16_t left = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        const int8x16_t right = vreinterpretq_s8_s32(vzip2q_s32(first, second));
#pragma GCC unroll 8
        for (int pair = 0; pair < (ROWS + 1) / 2; ++pair) {
            int32x4_t* sum = sums[pair] + 2 * quarter;
            sum[0] = vusmmlaq_s32(sum[0], pairs[pair], left);
            sum[1] = vusmmlaq_s32(sum[1], pairs[pair], right);
        }
        // Compilers would load all quarters first, and spill the sums.
        __asm__ volatile("" : : : "memory");
    }
}

template <int ROWS, bool LISTED>
static void multiply_rows(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panel,
                          const Steps& steps, int, int, std::int32_t* result) {
    int32x4_t sums[(ROWS + 1) / 2][8];
#pragma GCC unroll 8
    for (auto& pair : sums) {
#pragma GCC unroll 8
        for (int32x4_t& sum : pair) sum = vdupq_n_s32(0);
    }
    std::size_t index = 0;
    for (; index + 2 <= steps.count; index += 2) {
        add_two_steps<ROWS, !LISTED, false>(codes, stride, panel, step_at<LISTED>(steps, index),
                                            step_at<LISTED>(steps, index + 1), sums);
    }
    if (index < steps.count) {
        const std::size_t last = step_at<LISTED>(steps, index);
        add_two_steps<ROWS, false, true>(codes, stride, panel, last, last, sums);
    }
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 8
        for (int quarter = 0; quarter < 4; ++quarter) {
            const int64x2_t left = vreinterpretq_s64_s32(sums[row / 2][2 * quarter]);
            const int64x2_t right = vreinterpretq_s64_s32(sums[row / 2][2 * quarter + 1]);
            const int64x2_t both = row % 2 ? vzip2q_s64(left, right) : vzip1q_s64(left, right);
            vst1q_s32(result + 16 * row + 4 * quarter, vreinterpretq_s32_s64(both));
        }
    }
}

}  // namespace CARSAM_NAMESPACE

#include "one_panel_tile.h"
#include "table.h"

namespace carsam {
extern const Kernels i8mm_kernels;
const Kernels i8mm_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
