"""Hypergraph partitioning with Mt-KaHyPar: one net a source neuron, {its unit and its targets}, weighted with its rate: exact km1.

Mt-KaHyPar (MIT; Gottesbueren, Heuer, Maas, Sanders, Schlag). Each class of neurons that cannot share a part is partitioned alone, which is
exact (see units.py). Preset DETERMINISTIC: the others give another answer each time (version 1.7, one thread and a fixed seed), and
its km1 was no worse. It has no use for a seed: the vertices are numbered at random instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from neurocompile.mapping.partition.loads import shares
from neurocompile.mapping.partition.units import Units
from neurocompile.mapping.problem import Int32Array
from neurocompile.mapping.types import Int64Array

_NET_SCALE = 64  # weight of a net whose source spikes at the mean rate
_PART_SCALE = 1 << 16  # weight of a full part; 32-bit sums


@cache
def _engine() -> Any:
    import mtkahypar

    return mtkahypar.initialize(1, False)


def assign(units: Units, parts: Int64Array, *, seed: int = 1) -> Int32Array:
    """Return the part of each unit, -1 for external ones; ``parts``: how many each class gets. Limits may be passed: repair follows.

    Raises
    ------
    ImportError
        Mt-KaHyPar has no wheel for this platform.
    """
    import mtkahypar

    net = units.net
    share = shares(units, parts)
    part = np.full(units.n_units, -1, np.int32)
    sending = net.weight[np.diff(net.out_start) > 0]
    mean = float(sending.mean()) if len(sending) and sending.mean() > 0 else 1.0
    weight = np.clip(np.rint(net.weight / mean * _NET_SCALE), 1, 1 << 16).astype(np.int64)
    rng = np.random.default_rng(seed)
    first = 0
    for c, k in enumerate(parts.tolist()):
        inside = rng.permutation(np.flatnonzero(net.unit_class == c))
        if k == 1:
            part[inside] = first
        else:
            vertex_of = np.full(units.n_units, -1, np.int32)
            vertex_of[inside] = np.arange(len(inside), dtype=np.int32)
            nets, weights = _nets(units, vertex_of, weight)
            own = np.maximum(np.rint(share[inside] * _PART_SCALE), 1).astype(np.int64)
            engine = _engine()
            context = engine.context_from_preset(mtkahypar.PresetType.DETERMINISTIC)
            context.logging = False
            eps = max(_PART_SCALE * k / max(int(own.sum()), 1) - 1.0, 0.001)
            context.set_partitioning_parameters(k, eps, mtkahypar.Objective.KM1)
            graph = engine.create_hypergraph(context, len(inside), len(nets), nets, own.tolist(), weights)
            part[inside] = first + np.array(graph.partition(context).get_partition(), np.int32)
        first += k
    return part


def _nets(units: Units, vertex_of: Int32Array, weight: Int64Array) -> tuple[list[list[int]], list[int]]:
    """Pins of the nets with at least two, and their weights."""
    net = units.net
    pins = vertex_of[net.out_units]
    keep = pins >= 0
    start = np.concatenate([[0], np.cumsum(keep)])[net.out_start]
    pins = pins[keep].tolist()
    home = vertex_of[net.unit_of].tolist()
    nets: list[list[int]] = []
    weights: list[int] = []
    for s, (a, b) in enumerate(zip(start[:-1].tolist(), start[1:].tolist(), strict=True)):
        own = pins[a:b]
        if own and home[s] >= 0 and home[s] not in own:
            own.append(home[s])
        if len(own) > 1:
            nets.append(own)
            weights.append(int(weight[s]))
    return nets, weights


__all__ = ["assign"]
