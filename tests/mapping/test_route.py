"""Trees: they reach exactly their chips, without loops, over live links, on shortest ways where nothing is dead."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Topology
from neurocompile.mapping.partition import partition
from neurocompile.mapping.place import place
from neurocompile.mapping.problem import Int32Array
from neurocompile.mapping.route import route
from neurocompile.mapping.traffic import link_loads, measure_traffic
from neurocompile.mapping.types import Routes, RoutingTables

trees = importlib.import_module("neurocompile.mapping.route.trees")
Factory = Callable[..., Any]
NONE = np.zeros(0, np.uint32)
KINDS = ("mesh", "hex", "hex_torus")


def tree(topology: Topology, source: int, chips: Int32Array, rounds: int = 0) -> Int32Array:
    """The hops of one tree."""
    sorted_chips = np.unique(chips).astype(np.int32)
    ends = np.array([0, len(sorted_chips)], np.int64)
    _, hops = trees._grow(topology, np.array([source], np.int32), ends, sorted_chips, np.ones(1), rounds)
    found: Int32Array = hops
    return found


def walk_tree(topology: Topology, hops: Int32Array, source: int, oracle: Any) -> dict[int, int]:
    """Depth of every chip of a tree; asserts that each hop is a live link from a chip that was entered to one that was not."""
    depth = {source: 0}
    for chip, link, following in hops.tolist():
        assert chip in depth, "a chip is left before it is entered"
        assert following not in depth, "a chip is entered twice"
        assert oracle.neighbour(topology, chip, link) == following
        depth[following] = depth[chip] + 1
    return depth


def leaves(hops: Int32Array) -> set[int]:
    return set(hops[:, 2].tolist()) - set(hops[:, 0].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_target_is_reached_on_a_shortest_way(machine: Factory, oracle: Any, kind: str) -> None:
    topology = machine(kind=kind, width=5, height=4).topology
    for source in range(20):
        far = oracle.bfs(topology, source)
        for target in range(20):
            hops = tree(topology, source, np.array([target], np.int32))
            assert len(hops) == far[target]
            assert walk_tree(topology, hops, source, oracle)[target] == far[target]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_targets=st.integers(1, 12), rounds=st.sampled_from([0, 2]))
def test_trees_on_damaged_machines(random_machine: Factory, oracle: Any, seed: int, n_targets: int, rounds: int) -> None:
    """Exactly the targets are leaves, unreachable ones are refused; ways are shortest ones (BFS), or, with rounds, the tree has fewer links
    than a tree of shortest ways."""
    rng = np.random.default_rng(seed)
    topology = random_machine(rng).topology
    source = int(rng.choice(topology.chips))
    targets = np.unique(rng.choice(topology.chips, n_targets)).astype(np.int32)
    far = oracle.bfs(topology, source)
    if not set(targets.tolist()) <= set(far):
        with pytest.raises(DoesNotFitError, match="NC405"):
            tree(topology, source, targets, rounds)
        return
    hops = tree(topology, source, targets, rounds)
    depth = walk_tree(topology, hops, source, oracle)
    assert set(targets.tolist()) <= set(depth)
    assert leaves(hops) <= set(targets.tolist())
    if any(depth[t] != far[t] for t in targets.tolist()):
        assert rounds
        assert len(hops) < len(tree(topology, source, targets, 0))
    assert len(set(targets.tolist()) - {source}) <= len(hops) <= sum(far[t] for t in targets.tolist())


def test_a_way_around_a_wall_is_the_shortest_one(machine: Factory, oracle: Any) -> None:
    """A wall of dead chips with one gap: the search must find the gap, and BFS says how far that is."""
    topology = machine(kind="mesh", width=5, height=5, dead_chips=[2, 7, 12, 17]).topology
    far = oracle.bfs(topology, 0)
    hops = tree(topology, 0, np.array([4], np.int32))
    assert len(hops) == far[4] == 12
    assert set(walk_tree(topology, hops, 0, oracle)) >= {4, 22}


def test_trees_on_a_mesh_go_along_x_first(machine: Factory) -> None:
    """Dimension order: what keeps a mesh free of deadlocks. Links: E 0, N 1."""
    topology = machine(kind="mesh", width=4, height=4).topology
    hops = tree(topology, 0, np.array([10, 15], np.int32))
    assert hops.tolist() == [[0, 0, 1], [1, 0, 2], [2, 1, 6], [6, 1, 10], [2, 0, 3], [3, 1, 7], [7, 1, 11], [11, 1, 15]]


@pytest.mark.parametrize("exact", [True, False])
def test_groups_of_neurons(problem: Factory, machine: Factory, oracle: Any, exact: bool) -> None:
    """Neurons share a route if and only if part and set of target parts (exact) or part alone (by core) are the same."""
    network = problem(sizes=(20, 60, 10), density=0.03)
    made = machine()
    parts = partition(network)
    placement = place(network, parts, made)
    part = parts.part.tolist()
    expected: dict[tuple[int, frozenset[int]], set[int]] = {}
    for neuron in range(network.n_neurons):
        wanted = frozenset(oracle.target_parts(network, part, neuron))
        if wanted:
            expected.setdefault((part[neuron], wanted if exact else frozenset()), set()).add(neuron)
    routes = route(network, parts, placement, made, mode="exact" if exact else "core")
    found = {(r.source_part, frozenset(r.target_parts.tolist()) if exact else frozenset()): set(r.neurons.tolist()) for r in routes}
    assert len(found) == len(routes)
    assert found == expected
    for r in routes:
        assert r.target_parts.tolist() == sorted(set().union(*(oracle.target_parts(network, part, n) for n in r.neurons.tolist())))
        depth = walk_tree(made.topology, r.hops, int(placement.chip[r.source_part]), oracle)
        assert set(placement.chip[r.target_parts].tolist()) <= set(depth)
        assert leaves(r.hops) <= set(placement.chip[r.target_parts].tolist())


def test_groups_with_the_same_chips_share_one_tree(problem: Factory, machine: Factory) -> None:
    network = problem(sizes=(40,), external=(False,), density=1.0, neurons=10)
    made = machine(cores=5, reserved=0)
    parts = partition(network)
    routes = route(network, parts, place(network, parts, made), made)
    assert len(routes) == 4
    assert set(routes.tree.tolist()) == {0}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), routing=st.sampled_from(["multicast_tcam", "destination"]))
def test_link_loads_are_those_of_packets_on_their_trees(
    problem: Factory, random_machine: Factory, oracle: Any, seed: int, routing: str
) -> None:
    """Every neuron's packets, hop by hop: one on each link of the tree, or one for each core behind the link."""
    rng = np.random.default_rng(seed)
    network = problem(seed=seed, sizes=(10, 50), external=(True, False), density=0.1, neurons=6)
    network = replace(network, rate=rng.random(network.n_neurons))
    made = random_machine(rng, width=4, height=4, cores=4, reserved=0, routing=routing, dead_links=[], dead_chips=[5])
    parts = partition(network)
    placement = place(network, parts, made)
    routes = route(network, parts, placement, made)
    expected: dict[tuple[int, int], float] = {}
    packets = 0.0
    for r in routes:
        chips = [int(c) for c in placement.chip[r.target_parts]]
        before = {following: (chip, link) for chip, link, following in r.hops.tolist()}
        for neuron in r.neurons.tolist():
            if routing == "multicast_tcam":
                ways = [(chip, link) for chip, link, _ in r.hops.tolist()]
                packets += network.rate[neuron]
            else:
                ways = []
                for chip in chips:
                    here = chip
                    while here in before:
                        ways.append(before[here])
                        here = before[here][0]
                packets += network.rate[neuron] * len(chips)
            for way in ways:
                expected[way] = expected.get(way, 0.0) + network.rate[neuron]
    found = link_loads(network, placement, routes, made)
    assert {(int(c), int(k)) for c, k in np.argwhere(found > 0)} == set(expected)
    assert all(found[way] == pytest.approx(load, rel=1e-9) for way, load in expected.items())  # sums of floats in another order
    numbers: Any = measure_traffic(network, placement, routes, RoutingTables(neuron_key=NONE, has_key=NONE > 0), made)
    assert numbers["packets_per_step"] == pytest.approx(packets, rel=1e-9)
    assert numbers["hops_per_step"] == pytest.approx(sum(expected.values()), rel=1e-9)
    live = sorted(found[made.topology.neighbours >= 0].tolist())
    assert (numbers["link_load"]["deciles"][0], numbers["link_load"]["deciles"][10]) == (live[0], live[-1])
    assert numbers["link_load"]["deciles"][5] == live[(len(live) + 1) // 2 - 1]
    upto, count = numbers["link_load"]["histogram"].values()
    assert upto == pytest.approx([live[-1] * i / 10 for i in range(11)] if live[-1] else [0.0], rel=1e-12)
    assert count == [sum(low < x <= high for x in live) for low, high in zip([-1.0, *upto], upto, strict=False)]
    assert sum(count) == len(live)
    assert numbers["link_load"]["mean"] == pytest.approx(sum(live) / len(live), rel=1e-9)


def test_rounds_take_load_from_the_busiest_link(machine: Factory) -> None:
    """The chips of the west edge of a mesh send to the north-east corner. Along x first, five of six come from the south; half is best."""
    topology = machine(kind="mesh", width=6, height=6).topology
    source = np.arange(0, 36, 6).astype(np.int32)

    def largest(rounds: int) -> float:
        start, hops = trees._grow(topology, source, np.arange(7), np.full(6, 35, np.int32), np.ones(6), rounds)
        assert np.diff(start).tolist() == [10, 9, 8, 7, 6, 5]
        load = np.zeros(topology.neighbours.shape)
        np.add.at(load, (hops[:, 0], hops[:, 1]), 1.0)
        return float(load.max())

    assert largest(0) == 5
    assert largest(trees.ROUNDS) == 3


def test_routes_made_of_views_are_the_same(problem: Factory, machine: Factory) -> None:
    network, made = problem(sizes=(20, 60), external=(True, False), density=0.05), machine()
    parts = partition(network)
    routes = route(network, parts, place(network, parts, made), made)
    again = Routes.of(routes, exact=True)
    assert len(again) == len(routes) > 20
    for one, other in zip(routes, again, strict=True):
        assert one.source_part == other.source_part
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("neurons", "target_parts", "hops"))
