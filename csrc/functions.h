// Elementary functions, operation by operation as in carsam/runtime/functions.py.
#pragma once

#include "lanes.h"

namespace CARSAM_NAMESPACE {

template <int COUNT>
static CARSAM_INLINE Floats polynomial(const Floats& x, const float (&coefficients)[COUNT]) {
    Floats result = broadcast(coefficients[0]);
    for (int i = 1; i < COUNT; ++i) result = result * x + broadcast(coefficients[i]);
    return result;
}

// The same with fewer roundings, where the instruction set can.
template <int COUNT>
static CARSAM_INLINE Floats fused_polynomial(const Floats& x, const float (&coefficients)[COUNT]) {
    Floats result = broadcast(coefficients[0]);
    for (int i = 1; i < COUNT; ++i) result = multiply_add(result, x, broadcast(coefficients[i]));
    return result;
}

constexpr float ERF_NUMERATOR[] = {-2.72614225801306e-10f, 2.77068142495902e-08f,
                                   -2.10102402082508e-06f, -5.69250639462346e-05f,
                                   -7.34990630326855e-04f, -2.95459980854025e-03f,
                                   -1.60960333262415e-02f};
constexpr float ERF_DENOMINATOR[] = {-1.45660718464996e-05f, -2.13374055278905e-04f,
                                     -1.68282697438203e-03f, -7.37332916720468e-03f,
                                     -1.42647390514189e-02f};

static CARSAM_INLINE Floats erf(const Floats& value) {
    const Floats x = minimum(maximum(value, broadcast(-4.0f)), broadcast(4.0f));
    const Floats square = x * x;
    return x * polynomial(square, ERF_NUMERATOR) / polynomial(square, ERF_DENOMINATOR);
}

static CARSAM_INLINE Floats gelu(const Floats& x) {
    const Floats upper = broadcast(1.0f) + erf(x * broadcast(0.7071067811865476f));
    return (x * broadcast(0.5f)) * upper;
}

// GELU whose last bits may depend on the machine.
static CARSAM_INLINE Floats fused_gelu(const Floats& value) {
    const Floats scaled = value * broadcast(0.7071067811865476f);
    const Floats x = minimum(maximum(scaled, broadcast(-4.0f)), broadcast(4.0f));
    const Floats square = x * x, half = value * broadcast(0.5f);
    const Floats numerator = x * fused_polynomial(square, ERF_NUMERATOR);
    return multiply_add(half, quotient(numerator, fused_polynomial(square, ERF_DENOMINATOR)), half);
}

static CARSAM_INLINE Floats relu(const Floats& x) { return maximum(x, broadcast(0.0f)); }

// 2^value for value <= 0; exponents below -125 count as -125.
static CARSAM_INLINE Floats exp2(const Floats& value) {
    constexpr float COEFFICIENTS[] = {0.0013276472454890609f, 0.009675541892647743f,
                                      0.05550713092088699f,   0.24022120237350464f,
                                      0.6931469440460205f,    1.0000001192092896f};
    const Floats x = maximum(value, broadcast(-125.0f));
    const Rounded exponent = rounded(x);
    return scale_by_power(polynomial(x - exponent.whole, COEFFICIENTS), exponent);
}

}  // namespace CARSAM_NAMESPACE
