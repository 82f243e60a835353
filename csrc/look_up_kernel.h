// Bytes replaced by what a table holds for them: a codebook's entry for each code of the fine grid, the
// numerator of a probability.
#pragma once

#include "kernels.h"
#include "lanes.h"
#include "processor.h"

namespace CARSAM_NAMESPACE {

using carsam::ByteTable;
using carsam::LookUp;

#if CARSAM_VECTORS
// Whole vectors of WIDTH bytes, from `place` on; returns the place of what is left. With few steps,
// comparing takes less time than reading the table byte by byte.
template <int WIDTH>
static CARSAM_INLINE std::size_t compare_bytes(const ByteTable& table, std::uint8_t* bytes,
                                               std::size_t place, std::size_t count) {
    typedef std::uint8_t Bytes __attribute__((vector_size(WIDTH)));
    Bytes after[ByteTable::FEW_STEPS], entry[ByteTable::FEW_STEPS];
    const Bytes first = table.entries[0] - Bytes{};
    for (int step = 0; step < table.steps; ++step) {
        after[step] = table.after[step] - Bytes{};
        entry[step] = table.entry[step] - Bytes{};
    }
    for (; place + WIDTH <= count; place += WIDTH) {
        Bytes byte, found = first;
        std::memcpy(&byte, bytes + place, WIDTH);
        for (int step = 0; step < table.steps; ++step) {
            found = byte > after[step] ? entry[step] : found;
        }
        std::memcpy(bytes + place, &found, WIDTH);
    }
    return place;
}
#endif

[[maybe_unused]] static void look_up_portably(const ByteTable& table, std::uint8_t* bytes,
                                              std::size_t count) {
    std::size_t place = 0;
#if CARSAM_VECTORS
    if (table.steps <= ByteTable::FEW_STEPS) {
        place = compare_bytes<4 * CARSAM_WIDTH>(table, bytes, place, count);
        if (CARSAM_WIDTH > 4) place = compare_bytes<16>(table, bytes, place, count);
    }
#endif
    for (; place < count; ++place) bytes[place] = table.entries[bytes[place]];
}

#if defined(__AVX512BW__)
// Not every processor with AVX-512 VNNI has VBMI.
#define CARSAM_VBMI __attribute__((target("avx512vbmi")))

// The table in four registers: two choices among 128 bytes each, by seven bits of the byte, then one
// between these two by the eighth.
CARSAM_VBMI static void look_up_by_permutation(const std::uint8_t* entries, std::uint8_t* bytes,
                                               std::size_t count) {
    const __m512i first = _mm512_loadu_si512(entries), second = _mm512_loadu_si512(entries + 64);
    const __m512i third = _mm512_loadu_si512(entries + 128);
    const __m512i fourth = _mm512_loadu_si512(entries + 192);
    for (std::size_t place = 0; place < count; place += 64) {
        const std::size_t left = count - place;
        const __mmask64 used = left < 64 ? (__mmask64(1) << left) - 1 : ~__mmask64(0);
        const __m512i byte = _mm512_maskz_loadu_epi8(used, bytes + place);
        const __m512i low = _mm512_permutex2var_epi8(first, byte, second);
        const __m512i high = _mm512_permutex2var_epi8(third, byte, fourth);
        const __m512i found = _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(byte), high);
        _mm512_mask_storeu_epi8(bytes + place, used, found);
    }
}

static void look_up_bytes(const ByteTable& table, std::uint8_t* bytes, std::size_t count) {
    if (carsam::has_avx512_vbmi()) {
        return look_up_by_permutation(table.entries, bytes, count);
    }
    look_up_portably(table, bytes, count);
}
#elif defined(__ARM_NEON) && defined(__aarch64__)
static void look_up_bytes(const ByteTable& table, std::uint8_t* bytes, std::size_t count) {
    uint8x16x4_t quarters[4];
    for (int i = 0; i < 4; ++i) quarters[i] = vld1q_u8_x4(table.entries + 64 * i);
    std::size_t place = 0;
    for (; place + 16 <= count; place += 16) {
        uint8x16_t byte = vld1q_u8(bytes + place), found = vqtbl4q_u8(quarters[0], byte);
        for (int i = 1; i < 4; ++i) {  // indices beyond a quarter leave what was found
            byte = vsubq_u8(byte, vdupq_n_u8(64));
            found = vqtbx4q_u8(found, quarters[i], byte);
        }
        vst1q_u8(bytes + place, found);
    }
    for (; place < count; ++place) bytes[place] = table.entries[bytes[place]];
}
#elif defined(__AVX2__)
// Counts the steps below each byte, which is half the work of choosing an entry at every step; a shuffle
// finds the entry of the count.
static void look_up_by_shuffle(const ByteTable& table, std::uint8_t* bytes, std::size_t count) {
    const __m256i sign = _mm256_set1_epi8(-128);  // there are comparisons of signed bytes only
    alignas(16) std::uint8_t found[16] = {table.entries[0]};
    std::memcpy(found + 1, table.entry, table.steps);
    const __m256i entries =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(found)));
    __m256i after[15];
    for (int step = 0; step < table.steps; ++step) {
        after[step] = _mm256_set1_epi8(static_cast<char>(table.after[step] ^ 128));
    }
    std::size_t place = 0;
    for (; place + 32 <= count; place += 32) {
        auto* target = reinterpret_cast<__m256i*>(bytes + place);
        const __m256i byte = _mm256_xor_si256(_mm256_loadu_si256(target), sign);
        __m256i steps = _mm256_setzero_si256();
        for (int step = 0; step < table.steps; ++step) {
            steps = _mm256_sub_epi8(steps, _mm256_cmpgt_epi8(byte, after[step]));
        }
        _mm256_storeu_si256(target, _mm256_shuffle_epi8(entries, steps));
    }
    look_up_portably(table, bytes + place, count - place);
}

static void look_up_bytes(const ByteTable& table, std::uint8_t* bytes, std::size_t count) {
    if (table.steps <= 15) return look_up_by_shuffle(table, bytes, count);
    look_up_portably(table, bytes, count);
}
#else
static void look_up_bytes(const ByteTable& table, std::uint8_t* bytes, std::size_t count) {
    look_up_portably(table, bytes, count);
}
#endif

static void look_up(const LookUp& op, std::size_t first_row, std::size_t last_row) {
    std::uint8_t* codes = op.codes + first_row * op.stride;
    const std::size_t rows = last_row - first_row;
    if (op.stride == op.columns) return look_up_bytes(op.table, codes, rows * op.columns);
    for (std::size_t row = 0; row < rows; ++row, codes += op.stride) {
        look_up_bytes(op.table, codes, op.columns);
    }
}

}  // namespace CARSAM_NAMESPACE
