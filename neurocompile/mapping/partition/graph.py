"""Graph partitioning with KaMinPar: units are vertices, synapses edges, weighted with the rate of their source; both directions added up.

KaMinPar (MIT; Gottesbueren et al., ESA 2021) is deep multilevel, made for many parts. Its Python module takes graphs as files only: it is
written in the binary ParHIP format. One thread, so that the result does not depend on how many there are. Each class of neurons that
cannot share a part is partitioned alone; sources outside are vertices of (almost) no weight that hold their targets together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from neurocompile.mapping.partition._kernels import symmetrise
from neurocompile.mapping.partition.units import Units
from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array

_EDGE_SCALE = 16  # weight of an edge whose source spikes at the mean rate
_PART_SCALE = 1 << 24  # weight of a full part; a vertex weighs 1 at least
_COMPRESS_FROM = 60_000_000  # arcs from which the graph is kept compressed (TeraPart): less memory, more time


def assign(units: Units, parts: Int64Array, *, share: FloatArray, seed: int = 1) -> Int32Array:
    """Return the part of each unit, -1 for external ones; ``parts``: how many each class gets, ``share``:
    of a part, by unit. Limits may be passed: repair follows.

    Raises
    ------
    ImportError
        KaMinPar has no wheel for this platform.
    """
    import kaminpar

    net = units.net
    part = np.full(units.n_units, -1, np.int32)
    sending = net.weight[np.diff(net.out_start) > 0]
    mean = float(sending.mean()) if len(sending) and sending.mean() > 0 else 1.0
    weight = np.clip(np.rint(net.weight / mean * _EDGE_SCALE), 1, 1 << 20).astype(np.int64)
    first = 0
    for c, k in enumerate(parts.tolist()):
        inside = np.flatnonzero(net.unit_class == c).astype(np.int32)
        if k == 1:
            part[inside] = first
        else:
            vertex_of = np.full(units.n_units, -1, np.int32)
            vertex_of[inside] = np.arange(len(inside), dtype=np.int32)
            outside = np.zeros(units.n_units, bool)
            outside[net.unit_of[_sources_of(units, inside)]] = True
            outside[inside] = False
            vertices = np.concatenate([inside, np.flatnonzero(outside).astype(np.int32)])
            vertex_of[vertices] = np.arange(len(vertices), dtype=np.int32)
            graph = symmetrise(
                vertices, len(inside), vertex_of, net.out_start, net.out_units, net.in_start, net.in_sources, net.unit_of,
                net.member_start, net.members, weight,
            )  # fmt: skip
            own = np.maximum(np.rint(share[vertices] * _PART_SCALE), 1).astype(np.int64)
            with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
                file = Path(folder) / "graph.parhip"
                n_arcs = _write(file, *graph, own)
                del graph
                read = kaminpar.load_graph(str(file), kaminpar.GraphFileFormat.PARHIP, n_arcs >= _COMPRESS_FROM)
            kaminpar.reseed(seed)
            engine = kaminpar.KaMinPar(1, kaminpar.context_by_name("terapart" if n_arcs >= _COMPRESS_FROM else "default"))
            # As an imbalance, not as largest weights: with those, blocks are filled up to the limit and others left small.
            epsilon = max(_PART_SCALE * k / float(own.sum()) - 1.0, 0.001)
            found = np.array(engine.compute_partition(read, k, epsilon), np.int32)
            part[inside] = first + found[: len(inside)]
        first += k
    return part


def _sources_of(units: Units, inside: Int32Array) -> Int32Array:
    """Distinct source neurons of some units."""
    net = units.net
    seen = np.zeros(len(net.unit_of), bool)
    if len(inside) == units.n_units:
        seen[:] = np.diff(net.out_start) > 0
    else:
        chosen = np.zeros(units.n_units, bool)
        chosen[inside] = True
        seen[net.in_sources[np.repeat(chosen, np.diff(net.in_start))]] = True
    return np.flatnonzero(seen).astype(np.int32)


def _write(file: Path, start: Int64Array, neighbours: Int32Array, weights: Int32Array, own: Int64Array) -> int:
    """Write a graph as ParHIP: header, byte offsets, neighbours, vertex weights, edge weights; returns its arcs.

    The first number says what is *not* 64 bits wide: node numbers (8) and edge weights (32) are 32-bit, the rest is 64-bit.
    """
    n, m = len(start) - 1, len(neighbours)
    with file.open("wb") as out:
        np.array([8 + 32, n, m], np.uint64).tofile(out)
        ((3 + n + 1) * 8 + start.astype(np.uint64) * np.uint64(4)).tofile(out)
        neighbours.tofile(out)
        own.tofile(out)
        weights.tofile(out)
    return m


__all__ = ["assign"]
