"""Numbers of a SpiNNaker core: s16.15 (``accum``) as integers, with the roundings of sPyNNaker 1!7.4.1.

Products and quotients are rounded down. Sources: sPyNNaker's host code for what is written into a program (``DataType.S1615``), and the
machine code of the binaries in its wheel for what a core computes (``IF_curr_delta.aplx``, ``IF_curr_exp.aplx``).
"""

from __future__ import annotations

from decimal import Decimal

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, IntArray

BITS = 15
"""Fractional bits of s16.15."""
ONE = 1 << BITS
WEIGHT_MAX = 0xFFFF
"""Largest weight of a synaptic row, and of a ring buffer's slot."""
_LEAST_EXPONENT, _GREATEST_EXPONENT = -340695, 363408
"""Arguments of expk, in units of 2^-15, beyond which it returns 0 and the largest number."""
Table = npt.NDArray[np.uint64]
_WHOLE = np.array([int((Decimal(k).exp() * 2**32).to_integral_value()) for k in range(-13, 13)], np.uint64)
"""2^32 exp(k) for k = -13 .. 12."""
_SIXTEENTHS = np.array([int(((1 - (Decimal(-k) / 16).exp()) * 2**32).to_integral_value()) for k in range(16)], np.uint64)
"""2^32 (1 - exp(-k/16))."""
_SERIES = np.array([5294, 4293434720, 2081624032], np.uint64)
"""2^32 times a parabola c0 + x (c1 - c2 x) for 1 - exp(-x), 0 <= x < 1/16, as spinn_common fitted it (stdfix-exp.c)."""


def encode(values: npt.ArrayLike) -> IntArray:
    """Return s16.15 integers as sPyNNaker writes them (``DataType.S1615.encode_as_int``): the decimal numbers that Python shows for
    float64, times 2^15, rounded half to even."""
    given = np.asarray(values, np.float64)
    distinct, place = np.unique(given, return_inverse=True)
    written = np.array([round(Decimal(str(float(value))) * ONE) for value in distinct], np.int64)
    return written[place].reshape(given.shape)


def decode(values: IntArray) -> FloatArray:
    """Return what s16.15 integers stand for."""
    return values / float(ONE)


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> IntArray:
    """Return quotients of non-negative s16.15 integers, rounded down (``kdivk``)."""
    top, bottom = np.asarray(numerator, np.int64), np.asarray(denominator, np.int64)
    quotient: IntArray = (top << BITS) // np.maximum(bottom, 1)
    return quotient


@numba.njit(cache=True, nogil=True)
def wrap(value: int) -> int:
    """Return what a register of 32 bits with a sign holds of an integer."""
    return int(np.int32(value & 0xFFFFFFFF))


@numba.njit(cache=True, nogil=True)
def multiply(a: int, b: int) -> int:
    """Return the product of two s16.15 integers, rounded down, in 32 bits."""
    return int(np.int32(((a * b) >> 15) & 0xFFFFFFFF))


@numba.njit(cache=True, nogil=True)
def _scaled(x: np.uint64, fraction: np.uint64) -> np.uint64:
    """Return x fraction / 2^32; the part from the lower half of x is rounded, up from 2^31 - 1."""
    low = (x & np.uint64(0xFFFFFFFF)) * fraction
    rounded = (low >> np.uint64(32)) + np.uint64((low & np.uint64(0xFFFFFFFF)) >= np.uint64(0x7FFFFFFF))
    return np.uint64(rounded + (x >> np.uint64(32)) * fraction)


@numba.njit(cache=True, nogil=True)
def _exponentials(exponents: IntArray, whole: Table, sixteenths: Table, series: Table, out: Table) -> None:
    """Set ``out`` to 2^32 exp(x / 2^15): exp of the next whole number, less its part exp(-k/16), less its part by the series."""
    for i in range(len(exponents)):
        above = exponents[i] >> 15
        rest = exponents[i] & 0x7FFF
        if rest == 0:
            out[i] = whole[13 + above]
            continue
        back = 0x8000 - rest
        value = whole[14 + above]
        value -= _scaled(value, sixteenths[back >> 11])
        x = np.uint64((back & 0x7FF) << 17)
        slope = series[1] - (series[2] * x >> np.uint64(32))
        value -= _scaled(value, series[0] + (slope * x >> np.uint64(32)))
        out[i] = value


def _exponential(exponents: npt.ArrayLike) -> Table:
    given = np.asarray(exponents, np.int64)
    out = np.zeros(given.size, np.uint64)
    inside = np.clip(given.ravel(), _LEAST_EXPONENT, _GREATEST_EXPONENT)
    _exponentials(inside, _WHOLE, _SIXTEENTHS, _SERIES, out)
    out[given.ravel() < _LEAST_EXPONENT] = 0
    return out.reshape(given.shape)


def exponential(exponents: npt.ArrayLike) -> IntArray:
    """Return exp(x) of s16.15 integers x <= 0 in s16.15, rounded down (``expk``)."""
    return (_exponential(exponents) >> np.uint64(17)).astype(np.int64)


def exponential_fraction(exponents: npt.ArrayLike) -> IntArray:
    """Return exp(x) of s16.15 integers x < 0 in units of 2^-32, rounded down (``expulr``)."""
    return _exponential(exponents).astype(np.int64)
