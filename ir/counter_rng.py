"""Counter-based random numbers: Philox4x64-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

Random connectivity must be buildable in parts, by any worker, in any order, always the same. A counter-based generator gives that:
it is a function (key, counter) -> four 64-bit words without state.

* **key** (two words): one per stream, from the network's seed, the purpose and the names: see :func:`stream_key`.
* **counter** (four words): ``(block, row, 0, 0)``; a row is a target neuron (a source neuron for ``fixed_outdegree``).
  Draw number k of a row is word ``k mod 4`` of block ``k div 4``.

The words equal those of ``numpy.random.Philox`` (the tests compare them); it is written here because a numpy generator object per
neuron costs microseconds, and compiled loops need the numbers one by one.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
from numba import njit

from neurocompile.ir._types import FloatArray, IntArray

UInt64Array = npt.NDArray[np.uint64]

STREAM_VERSION = 1
"""Part of every key: raise it when the meaning of a stream changes, so that nobody takes new numbers for old ones."""

# Multipliers and Weyl constants of Philox4x64 (Salmon et al. 2011, table 2 and section 3.3).
_M0 = np.uint64(0xD2E7470EE14C6C93)
_M1 = np.uint64(0xCA5A826395121157)
_W0 = np.uint64(0x9E3779B97F4A7C15)
_W1 = np.uint64(0xBB67AE8584CAA73B)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_12 = np.uint64(12)
_11 = np.uint64(11)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


def stream_key(seed: int, purpose: str, *names: str) -> UInt64Array:
    """Return the key of a stream, shape (2,).

    The key is the 16-byte BLAKE2b digest of the version, the seed, the purpose and the names, each with its length in front (so that
    no two lists of names give the same bytes), read as two little-endian words.

    Parameters
    ----------
    seed : int
        0 .. 2^63-1.
    purpose : str
        ``connectivity``, ``weight``, ``delay``, ``feedback``, ``synapse_feedback``, ``rewiring``, ``rewiring noise``.
    names : str
        What the stream belongs to, such as the projection's name.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"neurocompile")
    digest.update(STREAM_VERSION.to_bytes(4, "little"))
    digest.update(seed.to_bytes(8, "little"))
    for text in (purpose, *names):
        data = text.encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)


@njit(cache=True, nogil=True)
def high_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the upper 64 bits of the 128-bit product of two uint64."""
    a_low, a_high = a & _LOW, a >> _32
    b_low, b_high = b & _LOW, b >> _32
    cross = a_low * b_high
    middle = ((a_low * b_low) >> _32) + (cross & _LOW) + a_high * b_low
    return a_high * b_high + (middle >> _32) + (cross >> _32)


@njit(cache=True, nogil=True)
def philox(key: UInt64Array, block: np.uint64, row: np.uint64, out: UInt64Array) -> None:
    """Write the four words of counter (block, row, 0, 0) to ``out`` (uint64, shape (4,))."""
    k0, k1 = key[0], key[1]
    x0, x1, x2, x3 = block, row, _ZERO, _ZERO
    for _ in range(10):
        high0, low0 = high_product(_M0, x0), _M0 * x0
        high1, low1 = high_product(_M1, x2), _M1 * x2
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    out[0], out[1], out[2], out[3] = x0, x1, x2, x3


@njit(cache=True, nogil=True)
def philox_word(k0: np.uint64, k1: np.uint64, block: np.uint64, row: np.uint64) -> np.uint64:
    """Return the first of the four words of :func:`philox`, without an array: for inner loops that need one draw at a time."""
    x0, x1, x2, x3 = block, row, _ZERO, _ZERO
    for _ in range(10):
        high0, low0 = high_product(_M0, x0), _M0 * x0
        high1, low1 = high_product(_M1, x2), _M1 * x2
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    return x0


@njit(cache=True, nogil=True)
def unit_half_open(word: np.uint64) -> float:
    """Return a uniform number in [0, 1) with 53 bits."""
    return float(word >> _11) * 2.0**-53


@njit(cache=True, nogil=True)
def unit_low_open(word: np.uint64) -> float:
    """Return a uniform number in (0, 1] with 53 bits (its logarithm exists)."""
    return float((word >> _11) + _ONE) * 2.0**-53


@njit(cache=True, nogil=True)
def unit_open(word: np.uint64) -> float:
    """Return a uniform number in (0, 1), an odd multiple of 2^-53: 52 bits, because with 53 the largest would round to 1."""
    return (float(word >> _12) + 0.5) * 2.0**-52


_HALF_ROOT, _LN2 = 0.7071067811865476, 0.6931471805599453


@njit(cache=True, nogil=True)
def _log(x: float) -> float:
    """Return the natural logarithm of x > 0 by basic operations alone: 2 artanh((m-1)/(m+1)) + e ln 2, x = m 2^e, m near 1."""
    m, e = math.frexp(x)
    if m < _HALF_ROOT:
        m *= 2.0
        e -= 1
    s = (m - 1.0) / (m + 1.0)
    z, total = s * s, 0.0
    for k in range(23, 0, -2):
        total = total * z + 1.0 / k
    return e * _LN2 + 2.0 * s * total


@njit(cache=True, nogil=True)
def unit_normal(u: float) -> float:
    """Return the inverse of the standard normal distribution function at 0 < u < 1 (Wichura 1988, AS 241, PPND16: 1e-15 relative).

    Basic operations and square roots alone, which IEEE 754 rounds exactly: every platform and any other implementation of these lines
    gives the same bits (a library's logarithm does not).
    """
    q = u - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        upper = 2509.0809287301226727 * r + 33430.575583588128105
        upper = ((upper * r + 67265.770927008700853) * r + 45921.953931549871457) * r + 13731.693765509461125
        upper = ((upper * r + 1971.5909503065514427) * r + 133.14166789178437745) * r + 3.387132872796366608
        lower = 5226.495278852545925 * r + 28729.085735721942674
        lower = ((lower * r + 39307.89580009271061) * r + 21213.794301586595867) * r + 5394.1960214247511077
        lower = ((lower * r + 687.1870074920579083) * r + 42.313330701600911252) * r + 1.0
        return q * upper / lower
    r = math.sqrt(-_log(min(u, 1.0 - u)))
    if r <= 5.0:
        r -= 1.6
        upper = 7.7454501427834140764e-4 * r + 0.0227238449892691845833
        upper = ((upper * r + 0.24178072517745061177) * r + 1.27045825245236838258) * r + 3.64784832476320460504
        upper = ((upper * r + 5.7694972214606914055) * r + 4.6303378461565452959) * r + 1.42343711074968357734
        lower = 1.05075007164441684324e-9 * r + 5.475938084995344946e-4
        lower = ((lower * r + 0.0151986665636164571966) * r + 0.14810397642748007459) * r + 0.68976733498510000455
        lower = ((lower * r + 1.6763848301838038494) * r + 2.05319162663775882187) * r + 1.0
    else:
        r -= 5.0
        upper = 2.01033439929228813265e-7 * r + 2.71155556874348757815e-5
        upper = ((upper * r + 0.0012426609473880784386) * r + 0.026532189526576123093) * r + 0.29656057182850489123
        upper = ((upper * r + 1.7848265399172913358) * r + 5.4637849111641143699) * r + 6.6579046435011037772
        lower = 2.04426310338993978564e-15 * r + 1.4215117583164458887e-7
        lower = ((lower * r + 1.8463183175100546818e-5) * r + 7.868691311456132591e-4) * r + 0.0148753612908506148525
        lower = ((lower * r + 0.13692988092273580531) * r + 0.59983220655588793769) * r + 1.0
    return upper / lower if q > 0.0 else -(upper / lower)


@njit(cache=True, nogil=True)
def below(word: np.uint64, bound: int) -> int:
    """Return a uniform integer in 0 .. bound-1 (multiply and shift; bias below bound / 2^64, that is < 2^-32 here)."""
    return np.int64(high_product(word, np.uint64(bound)))  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def uniform_rows(key: UInt64Array, first_row: int, counts: IntArray) -> FloatArray:
    """Return ``counts[r]`` draws in (0, 1) of each row first_row + r, one row after the other; float64, shape (sum(counts),)."""
    out = np.empty(counts.sum(), np.float64)
    words = np.empty(4, np.uint64)
    position = 0
    for r in range(len(counts)):
        row = np.uint64(first_row + r)
        for k in range(counts[r]):
            if k & 3 == 0:
                philox(key, np.uint64(k >> 2), row, words)
            out[position] = unit_open(words[k & 3])
            position += 1
    return out


__all__ = [
    "STREAM_VERSION",
    "below",
    "high_product",
    "philox",
    "philox_word",
    "stream_key",
    "uniform_rows",
    "unit_half_open",
    "unit_low_open",
    "unit_normal",
    "unit_open",
]
