// Up to 12 rows by two panels with AVX-512 VNNI: the tile of `avx512vnni`, and of few rows in `amx`.
#pragma once

#include "lanes.h"
#include "steps.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t VNNI_ROWS = 12;

template <int ROWS, int PANELS, bool LISTED>
static void multiply_rows(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panels,
                          std::size_t panel_stride, const Steps& steps, std::int32_t* result) {
    __m512i sums[ROWS][PANELS];
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) sums[row][panel] = _mm512_setzero_si512();
    }
    for (std::size_t index = 0; index < steps.count; ++index) {
        const std::size_t step = step_at<LISTED>(steps, index);
        __m512i weights[PANELS];
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) {
            weights[panel] = _mm512_loadu_si512(panels + panel * panel_stride + 64 * step);
        }
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row) {
            std::int32_t step_codes;
            std::memcpy(&step_codes, codes + row * stride + 4 * step, sizeof step_codes);
            const __m512i code = _mm512_set1_epi32(step_codes);
#pragma GCC unroll 2
            for (int panel = 0; panel < PANELS; ++panel) {
                sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], code, weights[panel]);
            }
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; ++panel) {
            _mm512_storeu_si512(result + 32 * row + 16 * panel, sums[row][panel]);
        }
    }
}

template <int PANELS, bool LISTED>
static void multiply_panels(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                            const std::int8_t* panels, std::size_t panel_stride, const Steps& steps,
                            std::int32_t* result) {
    using Multiply = decltype(&multiply_rows<1, PANELS, LISTED>);
    static constexpr Multiply MULTIPLY[] = {
        multiply_rows<1, PANELS, LISTED>,  multiply_rows<2, PANELS, LISTED>,
        multiply_rows<3, PANELS, LISTED>,  multiply_rows<4, PANELS, LISTED>,
        multiply_rows<5, PANELS, LISTED>,  multiply_rows<6, PANELS, LISTED>,
        multiply_rows<7, PANELS, LISTED>,  multiply_rows<8, PANELS, LISTED>,
        multiply_rows<9, PANELS, LISTED>,  multiply_rows<10, PANELS, LISTED>,
        multiply_rows<11, PANELS, LISTED>, multiply_rows<12, PANELS, LISTED>};
    MULTIPLY[rows - 1](codes, stride, panels, panel_stride, steps, result);
}

// `rows` <= VNNI_ROWS, one or two panels; rows of the result are 32 sums apart.
static void multiply_few(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                         const std::int8_t* panels, std::size_t panel_stride,
                         std::size_t panel_count, const Steps& steps, std::int32_t* result) {
    using Multiply = decltype(&multiply_panels<1, false>);
    static constexpr Multiply MULTIPLY[2][2] = {
        {multiply_panels<1, false>, multiply_panels<1, true>},
        {multiply_panels<2, false>, multiply_panels<2, true>}};
    MULTIPLY[panel_count - 1][steps.list != nullptr](codes, stride, rows, panels, panel_stride,
                                                     steps, result);
}

}  // namespace CARSAM_NAMESPACE
