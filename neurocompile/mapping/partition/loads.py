"""One number a unit for partitioners that know only one: the share of a part that it takes. And how many parts each class gets."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.partition.metrics import Bounds
from neurocompile.mapping.partition.units import Units
from neurocompile.mapping.problem import FloatArray
from neurocompile.mapping.types import Int64Array


def shares(units: Units, parts: Int64Array) -> FloatArray:
    """Share of a part that each unit takes, float64 (n_units,), 0 for external ones.

    The largest of cost / limit over the additive limits: parts of total share 1 keep them all. Where that needs more than ``parts`` (of
    each class), because different units are bound by different limits, it is scaled down; what then passes a limit is repaired.
    """
    net = units.net
    share = np.zeros(units.n_units)
    inside = units.order
    for r, limit in enumerate(net.limits.tolist()):
        if limit > 0:
            share[inside] = np.maximum(share[inside], net.cost[inside, r] / limit)
    total = np.bincount(net.unit_class[inside], share[inside], units.n_classes)
    count = np.bincount(net.unit_class[inside], minlength=units.n_classes)
    # Limits that count axons only: units of a class are alike.
    flat = total < 1e-9 * count
    room = np.maximum(parts, 1) * 0.999
    scale = np.where(total > room, room / np.maximum(total, 1e-300), 1.0)
    share[inside] = np.where(
        flat[net.unit_class[inside]],
        (room / np.maximum(count, 1))[net.unit_class[inside]],
        share[inside] * scale[net.unit_class[inside]],
    )
    return share


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


__all__ = ["parts_of_classes", "shares"]
