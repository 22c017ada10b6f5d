"""Routes over one spanning tree a source chip: every packet takes the part of its chip's tree that leads to its targets.

Routes of one chip never part and meet again, and two routes with the same targets behind a chip leave it in the same way: few different
entries, long straight runs. Ways are as short as dead chips and links allow. On machines with tables (``multicast_tcam``) the trees are
chosen anew in rounds, source chip by source chip: among the shortest ways the less loaded ones (weights: packets per step), or, where that
costs fewer packets x links, a tree that grows from target chip to target chip. Where packets carry their targets, the hardware routes them
(dimension order on a mesh).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine, Topology
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.route._kernels import add_trees, grown_tree, price_of_trees, shortest_tree, tree_hops
from neurocompile.mapping.route.groups import Groups, group_neurons
from neurocompile.mapping.route.merge import ENTRY_PRICE, merge_groups
from neurocompile.mapping.rows import distinct_rows, take_rows, unite_rows
from neurocompile.mapping.types import Int64Array, Partition, Placement, Routes

MODES = ("auto", "exact", "core")
"""What may be asked for."""

ROUNDS = 4
"""Rounds of rerouting; the fourth changes the largest load by less than 2 % (256 tiles of `spatial` on 16 x 16 chips)."""

CROWDED = 1.0
"""Load, in mean loads of a link, at which a packet counts twice when a tree of few links is weighed against one of shortest ways. At twice
this the largest load of the planted 16 x 16 instance passes twice the mean (2.3; 1.9 here), for 2 % fewer links."""

_RANK = {kind: np.array(ranks, np.int64) for kind, ranks in {"mesh": (0, 1, 0, 1), "hex": (1, 0, 2, 1, 0, 2)}.items()}
_RANK["hex_torus"] = _RANK["hex"]
"""Of two ways alike, the one that ends on a link of higher rank: along x, then along y; on hexagons the diagonal first."""


def route(
    problem: MappingProblem,
    partition: Partition,
    placement: Placement,
    machine: Machine,
    *,
    mode: str = "exact",
    price: float = ENTRY_PRICE,
) -> Routes:
    """Return the ways of all packets.

    Parameters
    ----------
    mode
        ``exact``: neurons of a part share a route if their targets lie in the same parts. ``core``: all neurons of a part share one tree to
        the union of their parts. ``auto``: exact where packets carry their targets; else routes become one where few packets are then
        delivered in vain for the entries saved (:mod:`neurocompile.mapping.route.merge`).
    price
        Of ``auto``: packets delivered in vain, when every neuron spikes once, that an entry is worth.

    Raises
    ------
    DoesNotFitError
        NC405: no way around dead chips and links.
    ValueError
        There is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"no routes '{mode}'; there are {', '.join(MODES)}")
    with_tables = machine.routing == "multicast_tcam"
    groups = group_neurons(problem, partition, exact=mode != "core")
    if mode == "auto" and with_tables:
        groups = merge_groups(groups, placement.chip, problem.rates, price=price)
    tree, tree_source, chip_start, chips = _distinct_trees(placement.chip, groups)
    route_of = np.repeat(np.arange(len(tree)), np.diff(groups.neuron_start))
    weight: FloatArray = np.bincount(tree[route_of], problem.rates[groups.neurons], len(tree_source)).astype(np.float64)
    tree_start, hops = _grow(machine.topology, tree_source, chip_start, chips, weight, ROUNDS if with_tables else 0)
    routes = Routes(
        exact=groups.exact,
        source_part=groups.source_part,
        tree=tree,
        neuron_start=groups.neuron_start,
        neurons=groups.neurons,
        target_start=groups.target_start,
        targets=groups.targets,
        tree_start=tree_start,
        hops=hops,
    )
    for name in ("source_part", "tree", "neuron_start", "neurons", "target_start", "targets", "tree_start", "hops"):
        getattr(routes, name).setflags(write=False)
    return routes


def _distinct_trees(part_chip: Int32Array, groups: Groups) -> tuple[Int32Array, Int32Array, Int64Array, Int32Array]:
    """(tree of each group, source chip of each tree, CSR of the sorted chips that each tree must reach), trees by source chip."""
    n_chips = int(part_chip.max(initial=0)) + 1
    every = np.arange(len(groups) + 1)
    begin, chip = unite_rows(every, every[:-1], groups.target_start, part_chip[groups.targets], n_chips)
    source = part_chip[groups.source_part]
    number, first = distinct_rows(source, begin, chip)
    by_source = np.argsort(source[first], kind="stable")
    rank = np.argsort(by_source)
    chip_start, chips = take_rows(first[by_source], begin, chip)
    return rank[number].astype(np.int32), source[first][by_source], chip_start, chips


def _grow(
    topology: Topology, source: Int32Array, chip_start: Int64Array, chips: Int32Array, weight: FloatArray, rounds: int
) -> tuple[Int64Array, Int32Array]:
    """CSR of the hops of each tree. ``source`` is sorted: trees of a chip are adjacent."""
    neighbours = topology.neighbours
    load = np.zeros(neighbours.shape)
    n_live = int((neighbours >= 0).sum())
    sources, first = np.unique(source, return_index=True)
    last = np.append(first[1:], len(source))
    parent = np.full((len(sources), len(neighbours)), -1, np.int32)
    came = np.full((len(sources), len(neighbours)), -1, np.int8)
    mark, stamp = np.zeros(len(neighbours), np.int64), 0
    own, wanted = np.zeros(neighbours.shape), np.zeros(len(neighbours), np.bool_)
    short, grown = ((np.empty(len(neighbours), np.int32), np.empty(len(neighbours), np.int8)) for _ in range(2))
    for number in range(rounds + 1):
        for i, here in enumerate(sources.tolist()):
            part = (first[i], last[i], chip_start, chips, weight)
            if number:
                stamp = add_trees(here, *part, parent[i], came[i], -1.0, load, mark, stamp)
            mean = max(float(load.sum()), 0.0) / max(n_live, 1)
            scale = 1.0 / mean if mean > 0 else 0.0
            shortest_tree(here, neighbours, _RANK[topology.kind], load if number else 0.0 * load, scale, *short)
            best = short
            if not number:
                _reached(topology, here, short[0], chips[chip_start[first[i]] : chip_start[last[i]]])
            else:
                wanted[:] = False
                wanted[chips[chip_start[first[i]] : chip_start[last[i]]]] = True
                grown_tree(here, neighbours, wanted, *grown)
                dear = scale / CROWDED
                price, stamp = price_of_trees(here, *part, *short, load, dear, own, mark, stamp)
                other, stamp = price_of_trees(here, *part, *grown, load, dear, own, mark, stamp)
                best = grown if other < price else short
            parent[i], came[i] = best
            stamp = add_trees(here, *part, parent[i], came[i], 1.0, load, mark, stamp)
    return tree_hops(source, np.searchsorted(sources, source), chip_start, chips, parent, came)


def _reached(topology: Topology, source: int, parent: Int32Array, chips: Int32Array) -> None:
    lost: npt.NDArray[np.bool_] = (parent[chips] < 0) & (chips != source)
    if lost.any():
        target = int(chips[np.argmax(lost)])
        raise DoesNotFitError.of(
            "NC405",
            f"there is no way from chip {topology.position(source)} to chip {topology.position(target)} around the dead chips and links",
            help="take another machine, or declare the chips behind the cut dead, so that nothing is placed there",
        )


__all__ = ["MODES", "route"]
