"""One number a unit for partitioners that know only one: the share of a part that it takes. And how many parts each class gets."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.partition._state import State, new_state
from neurocompile.mapping.partition.bounds import Bounds
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

Axons = tuple[FloatArray, FloatArray]
"""Axons-in and axons-out that each unit adds to its part, float64 (n_units,) each."""


def shares(units: Units, parts: Int64Array, axons: Axons | None = None) -> FloatArray:
    """Share of a part that each unit takes, float64 (n_units,), 0 for external ones; ``axons`` None: their costs are not known.

    The largest of cost / limit over the additive limits: parts of total share 1 keep them all. Where that needs more than ``parts`` (of
    each class), because different units are bound by different limits, it is scaled down; what then passes a limit is repaired.
    """
    share, inside = _unscaled(units, axons), units.order
    total = np.bincount(units.net.unit_class[inside], share[inside], units.n_classes)
    count = np.bincount(units.net.unit_class[inside], minlength=units.n_classes)
    # Limits that count axons only: units of a class are alike.
    flat = total < 1e-9 * count
    room = np.maximum(parts, 1) * 0.999
    scale = np.where(total > room, room / np.maximum(total, 1e-300), 1.0)
    share[inside] = np.where(
        flat[units.net.unit_class[inside]],
        (room / np.maximum(count, 1))[units.net.unit_class[inside]],
        share[inside] * scale[units.net.unit_class[inside]],
    )
    return share


def parts_needed(units: Units, axons: Axons | None, fill: float) -> int:
    """How many parts all shares are if each part is filled to ``fill``."""
    share = _unscaled(units, axons)[units.order]
    total = np.bincount(units.net.unit_class[units.order], share, units.n_classes)
    return int(np.ceil(total / fill).sum())


def _unscaled(units: Units, axons: Axons | None) -> FloatArray:
    """The largest of cost / limit over the additive limits, float64 (n_units,), 0 for external units."""
    net, inside = units.net, units.order
    axons_in, axons_out = (np.zeros(units.n_units),) * 2 if axons is None else axons
    share = np.zeros(units.n_units)
    for r, limit in enumerate(net.limits.tolist()):
        if limit > 0:
            cost = net.cost[inside, r] + net.axon_in[r] * axons_in[inside] + net.axon_out[r] * axons_out[inside]
            share[inside] = np.maximum(share[inside], cost / limit)
    return share


def axons_like(units: Units, part: Int32Array) -> Axons | None:
    """Axons of an assignment (-1: external): each neuron's axons-out, and its share of the axons-in that it has in common with others of
    its part. None: there are no limits on them."""
    net = units.net
    if not (net.axon_in + net.axon_out > 0).any():
        return None
    state = new_state(net, part, int(part.max(initial=0)) + 1, 0)
    axons_in = np.zeros(units.n_units)
    _axons_of_units(net, state, axons_in)
    return axons_in, np.bincount(net.unit_of, state.slot_len, units.n_units).astype(np.float64)


@numba.njit(cache=True, nogil=True)
def _axons_of_units(net: Net, st: State, found: FloatArray) -> None:
    """Axons-in of each unit, each divided by the number of units of its part that share it."""
    for s in range(len(net.unit_of)):
        for e in range(net.out_start[s], net.out_start[s + 1]):
            u = net.out_units[e]
            p = st.part[u]
            if p >= 0:
                for i in range(st.slot_start[s], st.slot_start[s] + st.slot_len[s]):
                    if st.slot_part[i] == p:
                        found[u] += 1.0 / st.slot_count[i]
                        break


def parts_of_classes(bounds: Bounds, n_parts: int) -> Int64Array:
    """``n_parts`` parts shared out: each class gets its bound, the rest goes to where it is the smallest share (never below the bound)."""
    by_class = np.maximum(bounds.by_class, 1)
    spare = n_parts - int(by_class.sum())
    if spare <= 0:
        return by_class
    exact = by_class * (spare / by_class.sum())
    extra = np.floor(exact).astype(np.int64)
    left = spare - int(extra.sum())
    extra[np.argsort(extra - exact, kind="stable")[:left]] += 1
    found: Int64Array = by_class + extra
    return found


__all__ = ["Axons", "axons_like", "parts_needed", "parts_of_classes", "shares"]
