"""Values of many synapses at once: a constant, a distribution, or an array. Used for weights (membrane units) and delays (steps)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.ir._types import FloatArray, frozen_array
from neurocompile.ir.errors import InputError


def _finite(kind: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not np.isfinite(number):
            raise InputError.of("NC203", f"{kind}: {name} is not finite", field=(name,))


def _positive(kind: str, **numbers: float) -> None:
    _finite(kind, **numbers)
    for name, number in numbers.items():
        if number < 0:
            raise InputError.of("NC201", f"{kind}: {name} is {number:g}, must be >= 0", field=(name,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same number everywhere."""

    value: float

    def __post_init__(self) -> None:
        _finite("constant", value=self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """Normal distribution; ``std`` >= 0."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        _finite("normal", mean=self.mean)
        _positive("normal", std=self.std)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Log-normal distribution: exp of a normal with mean ``mu`` and standard deviation ``sigma`` >= 0."""

    mu: float
    sigma: float

    def __post_init__(self) -> None:
        _finite("lognormal", mu=self.mu)
        _positive("lognormal", sigma=self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Uniform distribution on [low, high); for delays the integers low .. high, both included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _finite("uniform", low=self.low, high=self.high)
        if self.high < self.low:
            raise InputError.of("NC201", f"uniform: high {self.high:g} is below low {self.low:g}", field=("high",))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Values:
    """One number per synapse, in the order of the realised connections; shape (n_synapses,)."""

    values: FloatArray

    def __post_init__(self) -> None:
        array = frozen_array(self.values, np.float64)
        if array.ndim != 1:
            raise InputError.of("NC202", f"values have shape {array.shape}, expected (n_synapses,)")
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array))[0])
            raise InputError.of("NC203", f"value {bad} is not finite")
        object.__setattr__(self, "values", array)


ValueSpec = Constant | Normal | LogNormal | Uniform | Values
