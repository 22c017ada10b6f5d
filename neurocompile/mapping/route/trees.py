"""One tree for each group of neurons that have targets in the same parts."""

from __future__ import annotations

import numpy as np

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine, Topology
from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.problem import Int32Array, MappingProblem
from neurocompile.mapping.route._kernels import build_tree
from neurocompile.mapping.types import Partition, Placement, Route, Routes


def route(problem: MappingProblem, partition: Partition, placement: Placement, machine: Machine, *, exact: bool = True) -> Routes:
    """Return the ways of all packets.

    Parameters
    ----------
    exact
        True: neurons of a part share a route if their targets lie in the same parts. False: all neurons of a part share one tree to the
        union of their parts; fewer table entries, and packets that a core has to drop.

    Raises
    ------
    DoesNotFitError
        NC405: no way around dead chips and links.
    """
    trees = _Trees(machine.topology)
    routes = []
    for neurons, source_part, parts in _groups(problem, partition, exact):
        chips = np.unique(placement.chip[parts])
        hops = trees.tree(int(placement.chip[source_part]), chips)
        for array in (neurons, parts):
            array.setflags(write=False)
        routes.append(Route(neurons=neurons, source_part=source_part, target_parts=parts, hops=hops))
    return Routes(routes=tuple(routes), exact=exact)


def _groups(problem: MappingProblem, partition: Partition, exact: bool) -> list[tuple[Int32Array, int, Int32Array]]:
    """(neurons, their part, parts with targets), ordered by part, then by first neuron."""
    start, found = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    order = np.argsort(partition.part, kind="stable")
    order = order[np.diff(start)[order] > 0]
    groups: dict[tuple[int, bytes], list[int]] = {}
    for neuron in order.tolist():
        key = found[start[neuron] : start[neuron + 1]].tobytes() if exact else b""
        groups.setdefault((int(partition.part[neuron]), key), []).append(neuron)
    result = []
    for (source_part, key), neurons in groups.items():
        parts = np.frombuffer(key, np.int32) if exact else np.unique(np.concatenate([found[start[n] : start[n + 1]] for n in neurons]))
        result.append((np.array(neurons, np.int32), source_part, parts.astype(np.int32)))
    return result


class _Trees:
    """Trees by (source chip, target chips): many groups share one, and shared trees make tables small."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.known: dict[tuple[int, bytes], Int32Array] = {}
        self.in_tree = np.zeros(topology.width * topology.height, np.int64)
        self.hops = np.empty((topology.width * topology.height, 3), np.int32)
        self.mark = 0

    def tree(self, source: int, chips: Int32Array) -> Int32Array:
        key = (source, chips.tobytes())
        if key not in self.known:
            hops = self._build(source, chips)
            hops.setflags(write=False)
            self.known[key] = hops
        return self.known[key]

    def _build(self, source: int, chips: Int32Array) -> Int32Array:
        t = self.topology
        near = np.argsort(self._distance(source, chips), kind="stable")
        self.mark += 1
        n = build_tree(
            source,
            chips[near].astype(np.int32),
            t.neighbours,
            t.width,
            t.height,
            t.kind != "mesh",
            t.kind == "hex_torus",
            self.in_tree,
            self.mark,
            self.hops,
        )
        if n < 0:
            raise DoesNotFitError.of(
                "NC405",
                f"there is no way from chip {t.position(source)} to chip {t.position(-1 - n)} around the dead chips and links",
                help="take another machine, or declare the chips behind the cut dead, so that nothing is placed there",
            )
        return self.hops[:n].copy()

    def _distance(self, source: int, chips: Int32Array) -> Int32Array:
        t = self.topology
        x, y = t.position(source)
        dx, dy = np.abs(chips % t.width - x), np.abs(chips // t.width - y)
        if t.kind == "hex_torus":
            dx, dy = np.minimum(dx, t.width - dx), np.minimum(dy, t.height - dy)
        distance: Int32Array = (dx + dy).astype(np.int32)
        return distance
