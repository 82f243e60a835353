// AVX2: vpmaddubsw adds products in pairs, vpaddw adds these sums in 16 bits as long as they fit.

#define CARSAM_NAMESPACE carsam_avx2
#define CARSAM_NAME "avx2"

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t TILE_ROWS = 6;
constexpr std::size_t TILE_PANELS = 1;

// Largest magnitude of the sum of two products.
static constexpr int largest_pair(int code_bits, int weight_bits) {
    return 2 * ((1 << code_bits) - 1) * (1 << (weight_bits - 1));
}

static constexpr bool fits_tile(int code_bits, int weight_bits) {
    return largest_pair(code_bits, weight_bits) <= 32767;
}

static inline __m256i broadcast_step(const std::uint8_t* codes) {
    std::int32_t step;
    std::memcpy(&step, codes, sizeof step);
    return _mm256_set1_epi32(step);
}

// Four steps of a whole tile. In assembly, because compilers copy sums between registers; four at a
// time, because a loop's counter competes with the sums for the same execution ports.
template <int ROWS>
static CARSAM_INLINE void add_four_steps(const std::uint8_t* codes, std::size_t stride,
                                         const std::int8_t* weights, __m256i (&sums)[ROWS][2]) {
    static_assert(ROWS == 6);
#define CARSAM_ROW(address, left, right)                  \
    "vpbroadcastd 4*\\step" address ", %%ymm14\n"         \
    "vpmaddubsw %%ymm12, %%ymm14, %%ymm15\n"              \
    "vpaddw %%ymm15, %[" left "], %[" left "]\n"          \
    "vpmaddubsw %%ymm13, %%ymm14, %%ymm14\n"              \
    "vpaddw %%ymm14, %[" right "], %[" right "]\n"
    __asm__ volatile(
        ".irp step,0,1,2,3\n"
        "vmovdqu 64*\\step(%[weights]), %%ymm12\n"
        "vmovdqu 64*\\step+32(%[weights]), %%ymm13\n"
        CARSAM_ROW("(%[codes])", "l0", "r0")
        CARSAM_ROW("(%[codes],%[stride])", "l1", "r1")
        CARSAM_ROW("(%[codes],%[stride],2)", "l2", "r2")
        CARSAM_ROW("(%[codes],%[stride3])", "l3", "r3")
        CARSAM_ROW("(%[codes],%[stride],4)", "l4", "r4")
        CARSAM_ROW("(%[codes],%[stride5])", "l5", "r5")
        ".endr\n"
        : [l0] "+x"(sums[0][0]), [r0] "+x"(sums[0][1]), [l1] "+x"(sums[1][0]),
          [r1] "+x"(sums[1][1]), [l2] "+x"(sums[2][0]), [r2] "+x"(sums[2][1]),
          [l3] "+x"(sums[3][0]), [r3] "+x"(sums[3][1]), [l4] "+x"(sums[4][0]),
          [r4] "+x"(sums[4][1]), [l5] "+x"(sums[5][0]), [r5] "+x"(sums[5][1])
        : [codes] "r"(codes), [stride] "r"(stride), [stride3] "r"(3 * stride),
          [stride5] "r"(5 * stride), [weights] "r"(weights)
        : "xmm12", "xmm13", "xmm14", "xmm15", "memory");
#undef CARSAM_ROW
}

template <int ROWS, bool LISTED>
static void multiply_rows(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panel,
                          const Steps& steps, int code_bits, int weight_bits,
                          std::int32_t* result) {
    const std::size_t steps_at_once = 32767 / largest_pair(code_bits, weight_bits);
    const __m256i ones = _mm256_set1_epi16(1);
    for (std::size_t first = 0; first < steps.count; first += steps_at_once) {
        const std::size_t left = steps.count - first;
        const std::size_t last = first + (left < steps_at_once ? left : steps_at_once);
        __m256i sums[ROWS][2];
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            sums[row][0] = _mm256_setzero_si256();
            sums[row][1] = _mm256_setzero_si256();
        }
        std::size_t index = first;
        if constexpr (ROWS == TILE_ROWS && !LISTED) {
            for (; index + 4 <= last; index += 4) {
                add_four_steps(codes + 4 * index, stride, panel + 64 * index, sums);
            }
        }
        for (; index < last; ++index) {
            const std::size_t step = step_at<LISTED>(steps, index);
            const auto* weights = reinterpret_cast<const __m256i*>(panel + 64 * step);
            const __m256i left = _mm256_loadu_si256(weights);
            const __m256i right = _mm256_loadu_si256(weights + 1);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                const __m256i code = broadcast_step(codes + row * stride + 4 * step);
                sums[row][0] = _mm256_add_epi16(sums[row][0], _mm256_maddubs_epi16(code, left));
                sums[row][1] = _mm256_add_epi16(sums[row][1], _mm256_maddubs_epi16(code, right));
                // Keeps the rows in order: the compiler would make all products first, and spill
                // the sums.
                __asm__ volatile("" : "+x"(sums[row][0]), "+x"(sums[row][1]));
            }
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                auto* target = reinterpret_cast<__m256i*>(result + 16 * row + 8 * half);
                __m256i wide = _mm256_madd_epi16(sums[row][half], ones);
                if (first > 0) wide = _mm256_add_epi32(wide, _mm256_loadu_si256(target));
                _mm256_storeu_si256(target, wide);
            }
        }
    }
}

}  // namespace CARSAM_NAMESPACE

#include "one_panel_tile.h"
#include "table.h"

namespace carsam {
extern const Kernels avx2_kernels;
const Kernels avx2_kernels = CARSAM_NAMESPACE::TABLE;
}  // namespace carsam
