"""A random generator for compiled loops: the same numbers whatever the versions of numba and numpy (splitmix64, Steele et al. 2014)."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.types import Int64Array

State = npt.NDArray[np.uint64]
"""One word; a generator with seed s starts from ``np.array([s], np.uint64)``."""


@numba.njit(cache=True, nogil=True)
def draw(state: State) -> np.uint64:
    """The next 64 random bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@numba.njit(cache=True, nogil=True)
def below(state: State, n: int) -> int:
    """A whole number 0 .. n-1 (n < 2^31; the bias of the multiplication is below n / 2^32)."""
    return int((draw(state) >> np.uint64(32)) * np.uint64(n) >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def uniform(state: State) -> float:
    """A number from [0, 1)."""
    return float(draw(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(cache=True, nogil=True)
def gumbel(state: State) -> float:
    """A number from the standard Gumbel distribution: the largest of gain / T + such a number is drawn with probability ~ exp(gain / T)."""
    return float(-np.log(-np.log(uniform(state) + 1e-17)))


@numba.njit(cache=True, nogil=True)
def shuffled(state: State, first: int, n: int) -> Int64Array:
    """The numbers first .. first+n-1 in random order."""
    found = np.arange(first, first + n)
    for i in range(n - 1, 0, -1):
        j = below(state, i + 1)
        found[i], found[j] = found[j], found[i]
    return found
