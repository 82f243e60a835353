"""Elementary functions in float32, defined operation by operation.

The C++ kernels perform the same operations in the same order without fused multiply-add, so that
both give the same bits on every machine.
"""

import numpy as np

LANES = 16
"""Sums run in this many lanes; see `lane_sum`."""

LOG2_E = 1.4426950408889634

ERF_LIMIT = np.float32(4)
ERF_NUMERATOR = np.array(
    [
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ],
    np.float32,
)
ERF_DENOMINATOR = np.array(
    [
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    ],
    np.float32,
)
EXP2_COEFFICIENTS = np.array(
    [
        0.0013276472454890609,
        0.009675541892647743,
        0.05550713092088699,
        0.24022120237350464,
        0.6931469440460205,
        1.0000001192092896,
    ],
    np.float32,
)
LOWEST_EXPONENT = np.float32(-125)


def erf(x: np.ndarray) -> np.ndarray:
    """Error function by the rational approximation that Eigen and XLA use; error below 5e-7."""
    x = np.clip(x, -ERF_LIMIT, ERF_LIMIT)
    square = x * x
    return x * _polynomial(square, ERF_NUMERATOR) / _polynomial(square, ERF_DENOMINATOR)


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), the exact (erf) form, as transformers' `gelu`."""
    return (x * np.float32(0.5)) * (np.float32(1) + erf(x * np.float32(0.7071067811865476)))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0))


def exp2(x: np.ndarray) -> np.ndarray:
    """2**x for x <= 0, to 3e-7; exponents below -125 count as -125."""
    x = np.maximum(x, LOWEST_EXPONENT)
    whole = np.rint(x)
    power = ((whole.astype(np.int32) + 127) << 23).view(np.float32)
    return _polynomial(x - whole, EXP2_COEFFICIENTS) * power


def lane_sum(x: np.ndarray) -> np.ndarray:
    """Sum float32 `x` over its last axis in a fixed order that vector machines can follow.

    Element j joins lane j mod 16; the lanes are folded in halves: 16, 8, 4, 2, 1.
    """
    missing = -x.shape[-1] % LANES
    if missing:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], missing), x.dtype)], axis=-1)
    x = x.reshape(*x.shape[:-1], x.shape[-1] // LANES, LANES)
    lanes = x[..., 0, :].copy()
    for step in range(1, x.shape[-2]):
        lanes += x[..., step, :]
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


ACTIVATIONS = {"gelu": gelu, "relu": relu}
"""Activation functions by the name that transformers' configurations give them."""


def _polynomial(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Horner's rule, highest power first."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result
