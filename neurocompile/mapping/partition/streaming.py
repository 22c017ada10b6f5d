"""Streaming: units come one by one (breadth first) and go where most of their traffic is, all limits kept; then again (restreaming).

Linear time and no memory beyond the counts: for networks beyond the multilevel partitioners. A part's attraction falls with its load, as in
linear deterministic greedy (Stanton and Kliot, KDD 2012); later passes see where everybody is (Nishimura and Ugander, KDD 2013).
"""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition._passes import insert, restream
from neurocompile.mapping.partition._state import new_scratch, new_state
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

_PASSES = 5


def assign(units: Units, parts: Int64Array, *, share: FloatArray, seed: int = 1) -> Int32Array:
    """Return the part of each unit, -1 for external ones and for those that found no room; ``parts``: how many each class gets,
    ``share``: of a part, by unit."""
    net = units.net
    n_parts = int(parts.sum())
    with_out = bool((net.axon_out > 0).any())
    order = _breadth_first(net, units.order[seed % max(len(units.order), 1) :])
    # One unit of each class opens each of its parts, spread over the order, so that parts grow everywhere.
    part = np.full(units.n_units, -1, np.int32)
    first = 0
    for c, k in enumerate(parts.tolist()):
        members = order[net.unit_class[order] == c]
        part[members[np.arange(k) * len(members) // k]] = np.arange(first, first + k, dtype=np.int32)
        first += k
    state, scratch = new_state(net, part, n_parts, -1), new_scratch(net, n_parts)
    load = np.bincount(part[part >= 0], share[part >= 0], n_parts).astype(np.float64)
    todo = order[part[order] < 0]
    while len(todo):
        stuck = insert(net, state, scratch, todo, share, load, 1.0, False, with_out)
        if stuck < 0:
            break
        todo = todo[int(np.flatnonzero(todo == stuck)[0]) + 1 :]
    for _ in range(_PASSES - 1):
        restream(net, state, scratch, order, share, load, 1.0, with_out)
    return state.part


@numba.njit(cache=True, nogil=True)
def _breadth_first(net: Net, units: Int32Array) -> Int32Array:
    """The units on cores as a breadth-first search along synapses, both ways, meets them, from the first of ``units``."""
    n = len(net.unit_class)
    seen = np.zeros(n, np.bool_)
    inside = 0
    for u in range(n):
        seen[u] = net.unit_class[u] < 0
        inside += not seen[u]
    order = np.empty(inside, np.int32)
    end = 0
    at = 0
    for round_ in range(2):
        for start in range(len(units) if round_ == 0 else n):
            first = units[start] if round_ == 0 else start
            if seen[first]:
                continue
            seen[first] = True
            order[end] = first
            end += 1
            while at < end:
                u = order[at]
                at += 1
                for m in range(net.member_start[u], net.member_start[u + 1]):
                    for e in range(net.out_start[net.members[m]], net.out_start[net.members[m] + 1]):
                        other = net.out_units[e]
                        if not seen[other]:
                            seen[other] = True
                            order[end] = other
                            end += 1
                for e in range(net.in_start[u], net.in_start[u + 1]):
                    other = net.unit_of[net.in_sources[e]]
                    if not seen[other]:
                        seen[other] = True
                        order[end] = other
                        end += 1
    return order


__all__ = ["assign"]
