"""Logarithm, exponential and log-gamma from + - * / alone: the same bits on every x86, compiled or not.

The C library's versions change with the CPU's features. Shapes and coefficients of `log` and `exp` are those of
fdlibm's `e_log.c` and `e_exp.c` (Sun Microsystems 1993); error about 2e-16. `log_gamma` is Stirling's series
(Abramowitz and Stegun 6.1.41) after shifting the argument above 8; error below 1e-11.
"""

from __future__ import annotations

import math

import numpy as np

from detectors.kernel import Scalar, kernel

_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_INVERSE_LN2 = 1.44269504088896338700
_HALF_SQRT2 = 0.70710678118654752440
_HALF_LOG_2PI = 0.91893853320467274178


@kernel
def log(x: Scalar) -> Scalar:
    """Natural logarithm of `x`; the argument must be positive and finite."""
    mantissa, exponent = math.frexp(x)
    if mantissa < _HALF_SQRT2:
        mantissa = mantissa * 2.0
        exponent -= 1
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    even = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860510658591e-01))
    )
    half_square = 0.5 * f * f
    k = np.float64(exponent)
    return k * _LN2_HIGH - ((half_square - (s * (half_square + even + odd) + k * _LN2_LOW)) - f)


@kernel
def exp(x: Scalar) -> Scalar:
    """e to the power of `x`; clamped to `x` in [-700, 700]."""
    if x < -700.0:
        return 0.0
    if x > 700.0:
        x = 700.0
    k = math.floor(x * _INVERSE_LN2 + 0.5)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (
        1.66666666666666019037e-01
        + t
        * (
            -2.77777777770155933842e-03
            + t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))
        )
    )
    return math.ldexp(1.0 - ((low - (r * c) / (2.0 - c)) - high), int(k))


@kernel
def log_gamma(x: Scalar) -> Scalar:
    """Logarithm of the gamma function at `x`; the argument must be positive."""
    shift = 1.0
    while x < 8.0:
        shift = shift * x
        x = x + 1.0
    r = 1.0 / x
    r2 = r * r
    series = r * (1.0 / 12.0 - r2 * (1.0 / 360.0 - r2 * (1.0 / 1260.0 - r2 * (1.0 / 1680.0 - r2 / 1188.0))))
    return (x - 0.5) * log(x) - x + _HALF_LOG_2PI + series - log(shift)


@kernel
def log_add(a: Scalar, b: Scalar) -> Scalar:
    """log(exp(a) + exp(b)) without overflow."""
    if a < b:
        a, b = b, a
    return a + log(1.0 + exp(b - a))
