"""Elementary functions as formulas over vectors, or over the numbers of a loop that the compiler makes vectors of.

exp(x) = 2^n exp(r) with an integer n and |r| <= ln(2) / 2, where a few terms of the power series do (Cody & Waite 1980,
chapter 6). NaN stays NaN, what overflows is infinite, and what underflows has fewer digits, or is 0.
"""

import math

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.polynomial.chebyshev import cheb2poly

from minidl.kernels.cpu.vectors import I32, I64, Emitter, Vector, where

__all__ = ["absolute", "erf", "exp", "expm1", "log1p", "normal", "of_numbers", "sigmoid", "softplus", "tanh"]

LOG2_E = 1 / math.log(2)
# By the bytes of a number: a sum with this has no digits after the point, ln(2) in two parts of which the first has few
# digits, the ends of where exp is neither 0 nor infinite, and the terms that are needed of two series.
MAGIC = {4: 1.5 * 2.0**23, 8: 1.5 * 2.0**52}
LN_2 = {4: (0.693359375, -2.1219444005469057e-4), 8: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
ENDS = {4: (-104.0, 89.0), 8: (-746.0, 710.0)}
TERMS_OF_EXP, TERMS_OF_LOG = {4: 7, 8: 13}, {4: 8, 8: 17}
MANTISSA, BIAS = {4: 23, 8: 52}, {4: 127, 8: 1023}


def scaled_erfc(z):
    """exp(z²) erfc(z) for z >= 0; where erfc underflows, by a continued fraction (Abramowitz & Stegun 1964, 7.1.14)."""
    if z < 3:
        return math.exp(z * z) * math.erfc(z)
    rest = z
    for k in range(60, 0, -1):
        rest = z + 0.5 * k / rest
    return 1 / (math.sqrt(math.pi) * rest)


def powers_of_erfc(degree):
    """The coefficients of P in erfc(z) = t P(2 t - 1) exp(-z²), t = 2 / (2 + z), z >= 0, from its Chebyshev series."""
    angles, k = np.pi * (np.arange(64) + 0.5) / 64, np.arange(degree + 1)
    t = 0.5 + 0.5 * np.cos(angles)
    values = [scaled_erfc(z) for z in 2 / t - 2] / t
    chebyshev = np.cos(np.outer(k, angles)) @ values / 32 * np.where(k == 0, 0.5, 1)
    return cheb2poly(chebyshev).tolist()


ERFC_POWERS = {4: powers_of_erfc(10), 8: powers_of_erfc(23)}


def series(x, coefficients):
    """c_0 + c_1 x + c_2 x² + ... by Horner's scheme."""
    *others, total = coefficients
    for c in reversed(others):
        total = total * x + c
    return total


def absolute(x):
    """|x|"""
    return where(x < 0, -x, x)


def parts_of_exp(x):
    """(q, s, t) with exp(x) = (1 + q) s t, |q| < 1/2, s and t powers of 2."""
    emitter, size = x.emitter, x.emitter.itemsize
    builder, integers = emitter.builder, {4: I32, 8: I64}[size]
    kind = integers if emitter.lanes == 1 else ir.VectorType(integers, emitter.lanes)

    def constant(number):
        return ir.Constant(kind, number if emitter.lanes == 1 else [number] * emitter.lanes)

    def power_of_2(n):
        bits = builder.shl(builder.add(n, constant(BIAS[size])), constant(MANTISSA[size]))
        return Vector(emitter, builder.bitcast(bits, emitter.type))

    low, high = ENDS[size]
    x = where(x < low, low, where(x > high, high, x))
    shifted = x * LOG2_E + MAGIC[size]
    n = shifted - MAGIC[size]
    first, second = LN_2[size]
    r = x - n * first - n * second
    q = r * series(r, [1 / math.factorial(k) for k in range(1, TERMS_OF_EXP[size] + 1)])
    zero = builder.bitcast(emitter.constant(MAGIC[size]).value, kind)
    n = builder.sub(builder.bitcast(shifted.value, kind), zero)  # the last digits of the sum
    half = builder.ashr(n, constant(1))  # 2^n may be out of range where exp(x) is not
    return q, power_of_2(half), power_of_2(builder.sub(n, half))


def exp(x):
    """exp(x)"""
    q, s, t = parts_of_exp(x)
    return (q * s + s) * t


def expm1(x):
    """exp(x) - 1 for x <= 0, exact also near 0."""
    q, s, t = parts_of_exp(x)
    return q * (s * t) + (s * t - 1)


def log1p(z):
    """ln(1 + z) for 0 <= z <= 1: 2 artanh(w) = 2 (w + w³/3 + w⁵/5 + ...), w = z / (2 + z) <= 1/3."""
    w = z / (2 + z)
    return 2 * w * series(w * w, [1 / (2 * k + 1) for k in range(TERMS_OF_LOG[z.emitter.itemsize])])


def tanh(x):
    """tanh|x| = -e / (2 + e), e = exp(-2|x|) - 1"""
    e = expm1(-2 * absolute(x))
    y = e / (2 + e)
    return where(x < 0, y, -y)


def sigmoid(x):
    """σ(x) = 1 / (1 + exp(-x)); exp sees only numbers <= 0."""
    z = exp(-absolute(x))
    return where(x < 0, z, 1) / (1 + z)


def softplus(x):
    """ln(1 + exp(x))"""
    return where(x < 0, 0, x) + log1p(exp(-absolute(x)))


def erfc(z, gauss):
    """1 - erf(z) for z >= 0, given exp(-z²)."""
    t = 2 / (2 + z)
    return t * series(2 * t - 1, ERFC_POWERS[z.emitter.itemsize]) * gauss


def erf(x):
    """erf(x) = ±(1 - erfc|x|)"""
    rest = erfc(absolute(x), exp(-x * x))
    return where(x < 0, rest - 1, 1 - rest)


def normal(x):
    """(Φ(x), φ(x)): the distribution function of N(0, 1) and its density."""
    gauss = exp(-0.5 * x * x)
    rest = 0.5 * erfc(math.sqrt(0.5) * absolute(x), gauss)
    return where(x < 0, rest, 1 - rest), 1 / math.sqrt(2 * math.pi) * gauss


def of_numbers(formula):
    """Make the function that kernels call with a number."""

    @intrinsic
    def function(typingctx, x):
        def codegen(context, builder, signature, args):
            emitter = Emitter(builder, context.get_value_type(x), 1)
            return formula(Vector(emitter, args[0])).value

        return x(x), codegen

    return function
