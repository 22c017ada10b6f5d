"""How many axons a full core will have, before there is any partition: a sample of cores is grown, each as if it were alone.

``greedy.py`` grows cores until all units are placed, from dense to sparse, and takes what is left for the last ones; that is a partition,
and takes as much longer.
"""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array

_CORES = 24  # grown; with three seeds, the cores that four benchmark networks would need differ by one in 300 at most


def grown_axons(units: Units, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return (axons-in, axons-out) that each unit adds to its part, float64 (n_units,) each, 0 for external ones.

    From units drawn at random cores grow, each time by the unit of which the largest share of the sources is on the core already, until a
    limit is reached. Distinct sources over synapses of all these cores is the share of its synapses, in and out, for which a unit pays.
    Free choice makes such cores a little better than those of a partition.
    """
    net = units.net
    rng = np.random.default_rng(seed)
    sources = synapses = 0
    for start in rng.choice(units.order, min(_CORES, len(units.order)), replace=False).tolist():
        members, n_sources = _grow(net, start)
        sources += n_sources
        synapses += int(np.diff(net.in_start)[members].sum())
    share = sources / max(synapses, 1)
    axons_in, axons_out = np.zeros(units.n_units), np.zeros(units.n_units)
    axons_in[units.order] = share * np.diff(net.in_start)[units.order]
    axons_out += share * np.bincount(net.unit_of, np.diff(net.out_start), units.n_units)
    axons_out[net.unit_class < 0] = 0.0
    return axons_in, axons_out


@numba.njit(cache=True, nogil=True)
def _grow(net: Net, start: int) -> tuple[Int32Array, int]:
    """Members of the core that grows from a unit, and its number of distinct sources; axons-out are taken to be as many as axons-in."""
    n_units, n_resources = len(net.unit_class), len(net.limits)
    here = np.zeros(len(net.unit_of), np.bool_)  # sources
    known = np.zeros(n_units, np.int32)  # sources of each unit that are on the core; -1: the unit is
    seen = np.empty(n_units, np.int32)
    members = np.empty(n_units, np.int32)
    own = np.zeros(n_resources)
    n_seen = n_members = n_sources = 0
    unit = start
    while unit >= 0:
        added = net.in_start[unit + 1] - net.in_start[unit] - known[unit]
        fits = True
        for r in range(n_resources):
            axons = (net.axon_in[r] + net.axon_out[r]) * (n_sources + added)
            fits &= own[r] + net.cost[unit, r] + axons <= net.limits[r]
        if not fits:
            break
        for r in range(n_resources):
            own[r] += net.cost[unit, r]
        members[n_members] = unit
        n_members += 1
        n_sources += added
        known[unit] = -1
        for e in range(net.in_start[unit], net.in_start[unit + 1]):
            source = net.in_sources[e]
            if here[source]:
                continue
            here[source] = True
            for f in range(net.out_start[source], net.out_start[source + 1]):
                other = net.out_units[f]
                if known[other] < 0 or net.unit_class[other] != net.unit_class[start]:
                    continue
                if known[other] == 0:
                    seen[n_seen] = other
                    n_seen += 1
                known[other] += 1
        unit, best = -1, -1.0
        for i in range(n_seen):
            other = seen[i]
            if known[other] > 0:
                share = known[other] / (net.in_start[other + 1] - net.in_start[other])
                if share > best:
                    unit, best = other, share
    return members[:n_members].copy(), n_sources


__all__ = ["grown_axons"]
