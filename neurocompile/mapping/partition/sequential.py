"""Sequential fill: neurons in index order, population after population; the next core is opened when any limit would be passed.

Axons-out couple all parts (a neuron pays for each part that holds targets of it), so they are met afterwards: count them, split the parts
that are over (with the exact count of everything as the cost), and repeat. A split only refines the partition, so this ends, at the
latest with one unit a part; numbers grow, so a limit that one unit passes alone is reported as what does not fit.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from neurocompile.mapping.partition._kernels import count_source_axons, count_target_parts, fill
from neurocompile.mapping.partition.units import Units, does_not_fit
from neurocompile.mapping.problem import FloatArray, Int32Array


class _Fill(Protocol):
    def __call__(self, order: Int32Array, first: int, cost: FloatArray, *, n_parts: int | None = None) -> int: ...


def assign(units: Units) -> Int32Array:
    """Return the part of each unit, -1 for external ones. All limits hold.

    Raises
    ------
    DoesNotFitError
        NC401: splitting does not bring a unit below its limit of axons-out.
    """
    net = units.net
    part = np.full(units.n_units, -1, np.int32)
    source_stamp = np.full(len(net.unit_of), -1, np.int32)
    label_stamp = np.full(len(net.label_set), -1, np.int32)

    def run(order: Int32Array, first: int, cost: FloatArray, *, n_parts: int | None = None) -> int:
        following, culprit = fill(
            order,
            first,
            net.unit_class,
            net.in_start,
            net.in_sources,
            cost,
            net.axon_in,
            net.limits,
            net.label_start,
            net.labels,
            net.label_set,
            net.set_limits,
            source_stamp,
            label_stamp,
            part,
        )
        if culprit >= 0:
            n_in = int(net.in_start[culprit + 1] - net.in_start[culprit])
            raise does_not_fit(units, int(culprit), cost[culprit] + net.axon_in * n_in, n_parts)
        return int(following)

    used = run(units.order, 0, net.cost)
    if (net.axon_out > 0).any():
        _split(units, part, used, run)
    return part


def _split(units: Units, part: Int32Array, n_parts: int, run: _Fill) -> None:
    """Split parts over a limit, axons-out included, until none is."""
    net, inside = units.net, units.order
    stamped = n_parts
    while True:
        live, part[inside] = np.unique(part[inside], return_inverse=True)
        n_live = len(live)
        fan_out = count_target_parts(net.out_start, net.out_units, part, n_live + 1)
        cost = net.cost + np.bincount(net.unit_of, fan_out, units.n_units)[:, None] * net.axon_out
        order = inside[np.argsort(part[inside], kind="stable")]
        sources = count_source_axons(len(net.unit_of), order, net.in_start, net.in_sources, part, n_live)
        over = np.zeros(n_live, bool)
        for r in np.flatnonzero(net.axon_out > 0):
            used = np.bincount(part[inside], cost[inside, r], n_live) + net.axon_in[r] * sources
            over |= used > net.limits[r]
        if not over.any():
            return
        # Numbers from `stamped` on are new to the stamp arrays; unsplit parts are renumbered in the next round.
        stamped = max(stamped, n_live)
        for p in np.flatnonzero(over):
            members = order[part[order] == p]
            before = stamped
            stamped = run(members, stamped, cost, n_parts=n_live)
            if stamped == before + 1:
                # Float rounding put the whole part below a limit that its sum passes: halve it.
                part[members[len(members) // 2 :]] = stamped
                stamped += 1


__all__ = ["assign"]
