"""Weights and delays of realised synapses: constants, distributions and arrays -> one value per synapse (docs/connectivity.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.connectivity import MAX_DELAY_STEPS
from neurocompile.ir.counter_rng import UInt64Array, uniform_rows
from neurocompile.ir.errors import InputError
from neurocompile.ir.values import Constant, LogNormal, Normal, Uniform, Values, ValueSpec

Weights = npt.NDArray[np.float64] | npt.NDArray[np.float32]
WeightType = type[np.float64] | type[np.float32]

_LARGEST_LOGARITHM = float(np.log(np.finfo(np.float64).max))


def rounded(values: FloatArray, dtype: WeightType) -> Weights:
    """Return weights with the dtype asked for."""
    return values.astype(np.float32) if np.dtype(dtype) == np.float32 else values


def draw_values(spec: ValueSpec, key: UInt64Array, start: int, counts: IntArray, first: int, total: int, what: str) -> FloatArray:
    """Return one value per synapse of the rows start .. (their synapses are number ``first`` onwards of ``total``)."""
    n = int(counts.sum())
    if isinstance(spec, Constant):
        return np.full(n, spec.value)
    if isinstance(spec, Values):
        if len(spec.values) != total:
            raise InputError.of(
                "NC202",
                f"{what}: {len(spec.values)} values for {total} synapses",
                help="give one value per synapse, by target, then by source",
            )
        return spec.values[first : first + n]
    uniform: FloatArray = uniform_rows(key, start, counts)
    if isinstance(spec, Uniform):
        values = spec.low + (spec.high - spec.low) * uniform
        return values if spec.low == spec.high else np.minimum(values, np.nextafter(spec.high, spec.low))
    normal: FloatArray = ndtri(uniform)
    if isinstance(spec, Normal):
        return spec.mean + spec.std * normal
    logarithm: FloatArray = spec.mu + spec.sigma * normal
    if logarithm.size and logarithm.max() > _LARGEST_LOGARITHM:
        raise InputError.of("NC203", f"{what}: lognormal with mu {spec.mu:g}, sigma {spec.sigma:g} exceeds the largest number")
    return np.exp(logarithm)


def whole_steps(spec: ValueSpec, values: FloatArray) -> npt.NDArray[np.uint8]:
    """Return delays in steps: uniform draws are rounded down (their range was widened by one), (log)normal ones to the nearest, clipped."""
    steps = np.floor(values) if isinstance(spec, Uniform) else np.rint(values)
    if isinstance(spec, Normal | LogNormal):
        steps = np.clip(steps, 1, MAX_DELAY_STEPS)
    return steps.astype(np.uint8)


__all__ = ["WeightType", "Weights", "draw_values", "rounded", "whole_steps"]
