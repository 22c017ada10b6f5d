"""Hypergraph partitioning with Mt-KaHyPar: one net a source neuron, {its unit and its targets}, weighted with its rate: exact km1.

Mt-KaHyPar (MIT; Gottesbueren, Heuer, Maas, Sanders, Schlag). Each class of neurons that cannot share a part is partitioned alone, which is
exact (see units.py). Small problems take the preset DETERMINISTIC, large ones LARGE_K, which is several times faster, but gives another
answer each time, even with one thread and a fixed seed, unless it has a fresh process (see _large_k.py). Neither has much use for a seed:
the vertices are numbered at random instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.mapping.partition import _large_k
from neurocompile.mapping.partition._kernels import with_home
from neurocompile.mapping.partition.units import Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

_NET_SCALE = 64  # weight of a net whose source spikes at the mean rate
_PART_SCALE = 1 << 16  # weight of a full part; 32-bit sums
_LARGE_FROM = 100_000  # pins from which LARGE_K is taken


@cache
def _engine() -> Any:
    import mtkahypar

    return mtkahypar.initialize(1, False)


def assign(units: Units, parts: Int64Array, *, share: FloatArray, seed: int = 1) -> Int32Array:
    """Return the part of each unit, -1 for external ones; ``parts``: how many each class gets, ``share``:
    of a part, by unit. Limits may be passed: repair follows.

    Raises
    ------
    ImportError
        Mt-KaHyPar has no wheel for this platform.
    """
    import mtkahypar  # noqa: F401 - here, so that a missing library shows before any work

    net = units.net
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
            start, pins = with_home(net.out_start, net.out_units, net.unit_of, vertex_of)
            several = np.diff(start) > 1
            pins = pins[np.repeat(several, np.diff(start))]
            start = np.concatenate([[0], np.cumsum(np.diff(start)[several])])
            own = np.maximum(np.rint(share[inside] * _PART_SCALE), 1).astype(np.int64)
            eps = max(_PART_SCALE * k / max(int(own.sum()), 1) - 1.0, 0.001)
            part[inside] = first + _partition(k, eps, start, pins, weight[several], own)
        first += k
    return part


def _partition(k: int, epsilon: float, start: Int64Array, pins: Int32Array, weights: Int64Array, own: Int64Array) -> Int32Array:
    if len(pins) < _LARGE_FROM:
        import mtkahypar

        engine = _engine()
        context = engine.context_from_preset(mtkahypar.PresetType.DETERMINISTIC)
        context.logging = False
        context.set_partitioning_parameters(k, epsilon, mtkahypar.Objective.KM1)
        listed, starts = pins.tolist(), start.tolist()
        nets = [listed[a:b] for a, b in pairwise(starts)]
        graph = engine.create_hypergraph(context, len(own), len(nets), nets, own.tolist(), weights.tolist())
        return np.array(graph.partition(context).get_partition(), np.int32)
    with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
        problem, result = Path(folder) / "problem.npz", Path(folder) / "result.npy"
        np.savez(problem, k=k, epsilon=epsilon, start=start, pins=pins, weights=weights, own=own)
        done = subprocess.run(
            [sys.executable, str(_large_k.__file__), str(problem), str(result)], capture_output=True, check=False, text=True
        )
        if done.returncode != 0:
            raise ImportError(f"Mt-KaHyPar ended with {done.returncode}: {done.stderr.strip()[-300:]}", name="mtkahypar")
        found: Int32Array = np.load(result, allow_pickle=False)
    return found


__all__ = ["assign"]
