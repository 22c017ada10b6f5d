"""What a partition costs: km1, axons, exact use of every limit."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.types import Int64Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Use:
    """What the parts of a partition take.

    km1 : (source neuron, other part with a target of it) pairs: packets between parts when every neuron spikes once; weighted_km1 : the
    same, weighted with the rates: packets per step; axons_in, axons_out : int64 (n_parts,), distinct sources with a target on the part, and
    (source of the part, part with a target) pairs; used : float64 (n_resources, n_parts), of the resources of a core, then of a chip.
    """

    km1: int
    weighted_km1: float
    axons_in: Int64Array
    axons_out: Int64Array
    used: FloatArray


def measure(problem: MappingProblem, part: Int32Array, n_parts: int) -> Use:
    """Count everything exactly. External neurons have parts of their own, whose packets count: they enter the machine."""
    start, found = target_parts(problem.indptr, problem.indices, part, n_parts)
    remote = _remote(start, found, part)
    axons_in = np.bincount(found, minlength=n_parts).astype(np.int64)
    axons_out = np.bincount(part, np.diff(start), n_parts).astype(np.int64)
    used = [
        np.bincount(part, r.per_neuron, n_parts) + r.per_axon_in * axons_in + r.per_axon_out * axons_out
        for r in (*problem.resources, *problem.chip_resources)
    ]
    return Use(
        km1=int(remote.sum()),
        weighted_km1=float(remote @ problem.rates),
        axons_in=axons_in,
        axons_out=axons_out,
        used=np.array(used, np.float64).reshape(len(used), n_parts),
    )


@numba.njit(cache=True)
def _remote(start: Int64Array, found: Int32Array, part: Int32Array) -> Int64Array:
    remote = np.zeros(len(part), np.int64)
    for s in range(len(part)):
        for e in range(start[s], start[s + 1]):
            if found[e] != part[s]:
                remote[s] += 1
    return remote


__all__ = ["Use", "measure"]
