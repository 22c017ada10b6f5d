"""Trees: they reach exactly their chips, without loops, over live links, on shortest ways where nothing is dead."""

from __future__ import annotations

from collections.abc import Callable
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
from neurocompile.mapping.route._kernels import hex_length, hex_vector
from neurocompile.mapping.route.trees import _Trees

Factory = Callable[..., Any]
KINDS = ("mesh", "hex", "hex_torus")


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
    trees = _Trees(topology)
    for source in range(20):
        far = oracle.bfs(topology, source)
        for target in range(20):
            hops = trees.tree(source, np.array([target], np.int32))
            assert len(hops) == far[target]
            assert walk_tree(topology, hops, source, oracle)[target] == far[target]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_targets=st.integers(1, 12))
def test_trees_on_damaged_machines(random_machine: Factory, oracle: Any, seed: int, n_targets: int) -> None:
    """Exactly the targets are leaves, BFS bounds both the way to each target and the size of the tree; unreachable targets are refused."""
    rng = np.random.default_rng(seed)
    topology = random_machine(rng).topology
    source = int(rng.choice(topology.chips))
    targets = np.unique(rng.choice(topology.chips, n_targets)).astype(np.int32)
    far = oracle.bfs(topology, source)
    if not set(targets.tolist()) <= set(far):
        with pytest.raises(DoesNotFitError, match="NC405"):
            _Trees(topology).tree(source, targets)
        return
    hops = _Trees(topology).tree(source, targets)
    depth = walk_tree(topology, hops, source, oracle)
    assert set(targets.tolist()) <= set(depth)
    assert leaves(hops) <= set(targets.tolist())
    assert all(depth[t] >= far[t] for t in targets.tolist())
    # Each target adds at most the way from the source; all targets other than the source's chip are entered once.
    assert len(set(targets.tolist()) - {source}) <= len(hops)
    if not topology.dead_links and len(topology.chips) == topology.width * topology.height:
        assert len(hops) <= sum(far[t] for t in targets.tolist())


def test_a_way_around_a_wall_is_the_shortest_one(machine: Factory, oracle: Any) -> None:
    """A wall of dead chips with one gap: the search must find the gap, and BFS says how far that is."""
    topology = machine(kind="mesh", width=5, height=5, dead_chips=[2, 7, 12, 17]).topology
    far = oracle.bfs(topology, 0)
    hops = _Trees(topology).tree(0, np.array([4], np.int32))
    assert len(hops) == far[4] == 12
    assert set(walk_tree(topology, hops, 0, oracle)) >= {4, 22}


def test_trees_on_a_mesh_go_along_x_first(machine: Factory) -> None:
    """Dimension order: what keeps a mesh free of deadlocks. Links: E 0, N 1."""
    topology = machine(kind="mesh", width=4, height=4).topology
    hops = _Trees(topology).tree(0, np.array([10, 15], np.int32))
    assert hops.tolist() == [[0, 0, 1], [1, 0, 2], [2, 1, 6], [6, 1, 10], [2, 0, 3], [3, 1, 7], [7, 1, 11], [11, 1, 15]]


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 12), height=st.integers(1, 12), data=st.data())
def test_hex_vectors_against_breadth_first_search(machine: Factory, oracle: Any, width: int, height: int, data: st.DataObject) -> None:
    torus = data.draw(st.booleans())
    topology = machine(kind="hex_torus" if torus else "hex", width=width, height=height).topology
    a, b = data.draw(st.integers(0, width * height - 1)), data.draw(st.integers(0, width * height - 1))
    dx, dy = b % width - a % width, b // width - a // width
    vx, vy = hex_vector(dx, dy, width, height, torus)
    assert (vx - dx) % width == (vy - dy) % height == 0
    assert torus or (vx, vy) == (dx, dy)
    assert hex_length(vx, vy) == oracle.bfs(topology, a)[b]


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
    routes = route(network, parts, placement, made, exact=exact)
    found = {(r.source_part, frozenset(r.target_parts.tolist()) if exact else frozenset()): set(r.neurons.tolist()) for r in routes.routes}
    assert len(found) == len(routes.routes)
    assert found == expected
    for r in routes.routes:
        assert r.target_parts.tolist() == sorted(set().union(*(oracle.target_parts(network, part, n) for n in r.neurons.tolist())))
        depth = walk_tree(made.topology, r.hops, int(placement.chip[r.source_part]), oracle)
        assert set(placement.chip[r.target_parts].tolist()) <= set(depth)
        assert leaves(r.hops) <= set(placement.chip[r.target_parts].tolist())


def test_groups_with_the_same_chips_share_one_tree(problem: Factory, machine: Factory) -> None:
    network = problem(sizes=(40,), external=(False,), density=1.0, neurons=10)
    made = machine(cores=5, reserved=0)
    parts = partition(network)
    routes = route(network, parts, place(network, parts, made), made)
    assert len(routes.routes) == 4
    assert len({id(r.hops) for r in routes.routes}) == 1
