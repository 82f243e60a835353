// Sixteen float or integer lanes, in as many native vectors as the instruction set needs.
//
// Every operation is one IEEE operation per lane, so that all instruction sets and the numpy
// reference give the same bits. Compile with -ffp-contract=off. The namespace differs per
// instruction set: the linker must never replace one set's inline code by another's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "inline.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace CARSAM_NAMESPACE {

constexpr int LANES = 16;

#if CARSAM_VECTORS
#if defined(__AVX512F__)
#define CARSAM_WIDTH 16
#elif defined(__AVX__)
#define CARSAM_WIDTH 8
#else
#define CARSAM_WIDTH 4
#endif
typedef float FloatVector __attribute__((vector_size(4 * CARSAM_WIDTH)));
typedef double DoubleVector __attribute__((vector_size(4 * CARSAM_WIDTH)));
typedef std::int32_t IntVector __attribute__((vector_size(4 * CARSAM_WIDTH)));
// The same in memory, of any alignment.
typedef FloatVector StoredFloats __attribute__((aligned(4), may_alias));
typedef IntVector StoredInts __attribute__((aligned(4), may_alias));
#define CARSAM_CONVERT(value, type) __builtin_convertvector(value, type)
#define CARSAM_BITS(value, type) ((type)(value))
#else
#define CARSAM_WIDTH 1
typedef float FloatVector, StoredFloats;
typedef double DoubleVector;
typedef std::int32_t IntVector, StoredInts;
#define CARSAM_CONVERT(value, type) static_cast<type>(value)
#define CARSAM_BITS(value, type) bit_copy<type>(value)
template <class To, class From> To bit_copy(From from) {
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
#endif

constexpr int PARTS = LANES / CARSAM_WIDTH;

// Does `statement` for every part. Written out instead of a loop: compilers keep parts in registers
// only where every index is a constant.
#define CARSAM_PART(index, statement) \
    {                                 \
        constexpr int i = index;      \
        statement;                    \
    }
#if CARSAM_WIDTH == 16
#define CARSAM_PARTS(statement) CARSAM_PART(0, statement)
#elif CARSAM_WIDTH == 8
#define CARSAM_PARTS(statement) CARSAM_PART(0, statement) CARSAM_PART(1, statement)
#elif CARSAM_WIDTH == 4
#define CARSAM_PARTS(statement)                           \
    CARSAM_PART(0, statement) CARSAM_PART(1, statement)   \
    CARSAM_PART(2, statement) CARSAM_PART(3, statement)
#else
#define CARSAM_PARTS(statement) \
    for (int i = 0; i < PARTS; ++i) statement;
#endif

struct Floats {
    FloatVector part[PARTS];
};

struct Ints {
    IntVector part[PARTS];
};

static CARSAM_INLINE Floats load(const float* source) {
    Floats result;
    const StoredFloats* stored = reinterpret_cast<const StoredFloats*>(source);
    CARSAM_PARTS(result.part[i] = stored[i])
    return result;
}

static CARSAM_INLINE Ints load(const std::int32_t* source) {
    Ints result;
    const StoredInts* stored = reinterpret_cast<const StoredInts*>(source);
    CARSAM_PARTS(result.part[i] = stored[i])
    return result;
}

// Steps of four codes as lanes.
static CARSAM_INLINE Ints load_steps(const std::uint8_t* codes) {
    return load(reinterpret_cast<const std::int32_t*>(codes));
}

static CARSAM_INLINE void store(float* target, const Floats& value) {
    StoredFloats* stored = reinterpret_cast<StoredFloats*>(target);
    CARSAM_PARTS(stored[i] = value.part[i])
}

static CARSAM_INLINE void store(std::int32_t* target, const Ints& value) {
    StoredInts* stored = reinterpret_cast<StoredInts*>(target);
    CARSAM_PARTS(stored[i] = value.part[i])
}

static CARSAM_INLINE Floats broadcast(float value) {
    Floats result;
    CARSAM_PARTS(result.part[i] = value - FloatVector{})
    return result;
}

static CARSAM_INLINE Ints broadcast(std::int32_t value) {
    Ints result;
    CARSAM_PARTS(result.part[i] = value - IntVector{})
    return result;
}

#define CARSAM_LANEWISE(Type, symbol)                                                      \
    static CARSAM_INLINE Type operator symbol(const Type& left, const Type& right) {       \
        Type result;                                                                       \
        CARSAM_PARTS(result.part[i] = left.part[i] symbol right.part[i]) \
        return result;                                                                     \
    }
CARSAM_LANEWISE(Floats, +)
CARSAM_LANEWISE(Floats, -)
CARSAM_LANEWISE(Floats, *)
CARSAM_LANEWISE(Floats, /)
CARSAM_LANEWISE(Ints, +)
CARSAM_LANEWISE(Ints, -)
CARSAM_LANEWISE(Ints, *)
CARSAM_LANEWISE(Ints, &)
CARSAM_LANEWISE(Ints, |)
#undef CARSAM_LANEWISE

// left > right ? left : right. Intrinsics because compilers do not always find the instruction.
static CARSAM_INLINE Floats maximum(const Floats& left, const Floats& right) {
    Floats result;
#if defined(__AVX512F__)
    result.part[0] = (FloatVector)_mm512_max_ps((__m512)left.part[0], (__m512)right.part[0]);
#elif defined(__AVX__)
    CARSAM_PARTS(result.part[i] = (FloatVector)_mm256_max_ps((__m256)left.part[i],
                                                             (__m256)right.part[i]))
#else
    CARSAM_PARTS(result.part[i] = left.part[i] > right.part[i] ? left.part[i] : right.part[i])
#endif
    return result;
}

static CARSAM_INLINE Floats minimum(const Floats& left, const Floats& right) {
    Floats result;
#if defined(__AVX512F__)
    result.part[0] = (FloatVector)_mm512_min_ps((__m512)left.part[0], (__m512)right.part[0]);
#elif defined(__AVX__)
    CARSAM_PARTS(result.part[i] = (FloatVector)_mm256_min_ps((__m256)left.part[i],
                                                             (__m256)right.part[i]))
#else
    CARSAM_PARTS(result.part[i] = left.part[i] < right.part[i] ? left.part[i] : right.part[i])
#endif
    return result;
}

// Bit i tells whether lane i is other than 0.
static CARSAM_INLINE std::uint32_t nonzero_lanes(const Ints& value) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)value.part[0], (__m512i)value.part[0]);
#elif defined(__AVX2__)
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_cmpeq_epi32((__m256i)value.part[0], zero);
    const __m256i high = _mm256_cmpeq_epi32((__m256i)value.part[1], zero);
    const int zeros = _mm256_movemask_ps(_mm256_castsi256_ps(low)) |
                      _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
    return ~zeros & 0xFFFF;
#else
    std::int32_t lanes[LANES];
    store(lanes, value);
    std::uint32_t result = 0;
    for (int i = 0; i < LANES; ++i) result |= static_cast<std::uint32_t>(lanes[i] != 0) << i;
    return result;
#endif
}

// left * right + addend, rounded once where the instruction set can. Only where the product is
// exact, or where the last bit may depend on the machine.
static CARSAM_INLINE FloatVector multiply_add(const FloatVector& left, const FloatVector& right,
                                              const FloatVector& addend) {
#if defined(__AVX512F__)
    return (FloatVector)_mm512_fmadd_ps((__m512)left, (__m512)right, (__m512)addend);
#elif defined(__FMA__)
    return (FloatVector)_mm256_fmadd_ps((__m256)left, (__m256)right, (__m256)addend);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return (FloatVector)vfmaq_f32((float32x4_t)addend, (float32x4_t)left, (float32x4_t)right);
#else
    return left * right + addend;
#endif
}

static CARSAM_INLINE DoubleVector multiply_add(const DoubleVector& left, const DoubleVector& right,
                                               const DoubleVector& addend) {
#if defined(__AVX512F__)
    return (DoubleVector)_mm512_fmadd_pd((__m512d)left, (__m512d)right, (__m512d)addend);
#elif defined(__FMA__)
    return (DoubleVector)_mm256_fmadd_pd((__m256d)left, (__m256d)right, (__m256d)addend);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return (DoubleVector)vfmaq_f64((float64x2_t)addend, (float64x2_t)left, (float64x2_t)right);
#else
    return left * right + addend;
#endif
}

static CARSAM_INLINE Floats multiply_add(const Floats& left, const Floats& right,
                                         const Floats& addend) {
    Floats result;
    CARSAM_PARTS(result.part[i] = multiply_add(left.part[i], right.part[i], addend.part[i]))
    return result;
}

// left / right, to its last bit or nearly so.
static CARSAM_INLINE Floats quotient(const Floats& left, const Floats& right) {
#if defined(__AVX512F__)  // the instruction takes as long as ten others
    const __m512 divisor = (__m512)right.part[0], about = _mm512_rcp14_ps(divisor);
    const __m512 error = _mm512_fnmadd_ps(divisor, about, _mm512_set1_ps(1.0f));
    const __m512 inverse = _mm512_fmadd_ps(about, error, about);
    return {{(FloatVector)_mm512_mul_ps((__m512)left.part[0], inverse)}};
#else
    return left / right;
#endif
}

static CARSAM_INLINE Floats to_floats(const Ints& value) {
    Floats result;
    CARSAM_PARTS(result.part[i] = CARSAM_CONVERT(value.part[i], FloatVector))
    return result;
}

// Lanes must hold integers.
static CARSAM_INLINE Ints to_ints(const Floats& value) {
    Ints result;
    CARSAM_PARTS(result.part[i] = CARSAM_CONVERT(value.part[i], IntVector))
    return result;
}

// Adding ROUNDING rounds magnitudes below 2^22 half to even and leaves the integer in the low bits
// of the sum.
constexpr float ROUNDING = 12582912.0f;              // 1.5 * 2^23
constexpr std::int32_t ROUNDING_BITS = 0x4B400000;  // ROUNDING as an integer

// The nearest integers, half to even, plus ROUNDING_BITS.
static CARSAM_INLINE Ints round_to_ints(const Floats& value) {
    const Floats sum = value + broadcast(ROUNDING);
    Ints result;
    CARSAM_PARTS(result.part[i] = CARSAM_BITS(sum.part[i], IntVector))
    return result;
}

// The nearest integers, half to even, of magnitudes below 2^22; and themselves plus ROUNDING.
struct Rounded {
    Floats whole, shifted;
};

static CARSAM_INLINE Rounded rounded(const Floats& value) {
    Rounded result;
#if defined(__AVX512F__)
    result.whole.part[0] = (FloatVector)_mm512_roundscale_ps((__m512)value.part[0], 0);
    result.shifted = result.whole;  // not used
#else
    result.shifted = value + broadcast(ROUNDING);
    result.whole = result.shifted - broadcast(ROUNDING);
#endif
    return result;
}

// value * 2^exponent; the result must be a normal number.
static CARSAM_INLINE Floats scale_by_power(const Floats& value, const Rounded& exponent) {
    Floats result;
#if defined(__AVX512F__)
    result.part[0] = (FloatVector)_mm512_scalef_ps((__m512)value.part[0],
                                                   (__m512)exponent.whole.part[0]);
#else
    CARSAM_PARTS(result.part[i] = CARSAM_BITS(
                     CARSAM_BITS(value.part[i], IntVector) +
                         (CARSAM_BITS(exponent.shifted.part[i], IntVector) << 23),
                     FloatVector))
#endif
    return result;
}

// Lanes must hold 0 to 255.
static CARSAM_INLINE void store_bytes(std::uint8_t* target, const Ints& value) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)value.part[0]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), bytes);
#elif defined(__AVX2__)
    const __m256i words =  // 0-3 8-11 4-7 12-15
        _mm256_packus_epi32((__m256i)value.part[0], (__m256i)value.part[1]);
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(ordered),
                                           _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), bytes);
#else
    std::int32_t lanes[LANES];
    std::memcpy(lanes, &value, sizeof lanes);
    for (int i = 0; i < LANES; ++i) target[i] = static_cast<std::uint8_t>(lanes[i]);
#endif
}

// The nearest integers, half to even, held to 16 bits. Magnitudes must be below 2^31.
static CARSAM_INLINE void store_shorts(std::int16_t* target, const Floats& value) {
#if defined(__AVX512F__)
    const __m256i shorts = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32((__m512)value.part[0]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), shorts);
#elif defined(__AVX2__)
    const __m256i shorts = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)value.part[0]),
                                              _mm256_cvtps_epi32((__m256)value.part[1]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target),
                        _mm256_permute4x64_epi64(shorts, 0xD8));  // 0-3 8-11 4-7 12-15 before
#else
    const Floats held = minimum(maximum(value, broadcast(-32768.0f)), broadcast(32767.0f));
    std::int32_t lanes[LANES];
    store(lanes, round_to_ints(held));
    for (int i = 0; i < LANES; ++i) {
        target[i] = static_cast<std::int16_t>(lanes[i] - ROUNDING_BITS);
    }
#endif
}

// The nearest numbers of 8 significant bits (bfloat16); halfway, those of larger magnitude.
static CARSAM_INLINE Floats nearest_bfloat(const Floats& value) {
    Floats result;
    CARSAM_PARTS(result.part[i] = CARSAM_BITS(
                     (CARSAM_BITS(value.part[i], IntVector) + 0x8000) & -0x10000, FloatVector))
    return result;
}

// Lanes must hold bfloat16 numbers.
static CARSAM_INLINE void store_bfloats(std::uint16_t* target, const Floats& value) {
#if defined(__AVX512F__)
    const __m512i upper = _mm512_srli_epi32((__m512i)value.part[0], 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm512_cvtepi32_epi16(upper));
#else
    float lanes[LANES];
    store(lanes, value);
    for (int i = 0; i < LANES; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, lanes + i, sizeof bits);
        target[i] = static_cast<std::uint16_t>(bits >> 16);
    }
#endif
}

// How far below `highest` 16 numbers lie, at most 255, as bytes.
static CARSAM_INLINE void store_depths(std::uint8_t* target, const std::int16_t* numbers,
                                       std::int16_t highest) {
#if defined(__AVX2__)
    const __m256i number = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers));
    const __m256i depth = _mm256_min_epu16(_mm256_sub_epi16(_mm256_set1_epi16(highest), number),
                                           _mm256_set1_epi16(255));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target),
                     _mm_packus_epi16(_mm256_castsi256_si128(depth),
                                      _mm256_extracti128_si256(depth, 1)));
#else
    for (int i = 0; i < LANES; ++i) {
        const auto depth = static_cast<std::uint16_t>(highest - numbers[i]);
        target[i] = static_cast<std::uint8_t>(depth < 255 ? depth : 255);
    }
#endif
}

static CARSAM_INLINE std::int32_t sum_bytes(const std::uint8_t* bytes, std::size_t count) {
    std::int32_t sum = 0;
    std::size_t place = 0;
#if defined(__AVX2__)
    __m256i sums = _mm256_setzero_si256();
    for (; place + 32 <= count; place += 32) {
        const auto* source = reinterpret_cast<const __m256i*>(bytes + place);
        const __m256i eights = _mm256_sad_epu8(_mm256_loadu_si256(source), _mm256_setzero_si256());
        sums = _mm256_add_epi64(sums, eights);
    }
    __m128i half =
        _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    if (place + 16 <= count) {
        const auto* source = reinterpret_cast<const __m128i*>(bytes + place);
        half = _mm_add_epi64(half, _mm_sad_epu8(_mm_loadu_si128(source), _mm_setzero_si128()));
        place += 16;
    }
    sum = _mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 2);
#endif
    for (; place < count; ++place) sum += bytes[place];
    return sum;
}

// Folds the lanes in halves: 16, 8, 4, 2, 1.
static CARSAM_INLINE float fold_sum(const Floats& value) {
#if defined(__AVX__)
#if defined(__AVX512F__)
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)value.part[0]),
                                       _mm512_extractf32x8_ps((__m512)value.part[0], 1));
#else
    const __m256 eight = _mm256_add_ps((__m256)value.part[0], (__m256)value.part[1]);
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float lanes[LANES];
    store(lanes, value);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
#endif
}

static CARSAM_INLINE float fold_maximum(const Floats& value) {
#if defined(__AVX__)
#if defined(__AVX512F__)
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256((__m512)value.part[0]),
                                       _mm512_extractf32x8_ps((__m512)value.part[0], 1));
#else
    const __m256 eight = _mm256_max_ps((__m256)value.part[0], (__m256)value.part[1]);
#endif
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
    float lanes[LANES];
    store(lanes, value);
    float result = lanes[0];
    for (int i = 1; i < LANES; ++i) result = lanes[i] > result ? lanes[i] : result;
    return result;
#endif
}

}  // namespace CARSAM_NAMESPACE
