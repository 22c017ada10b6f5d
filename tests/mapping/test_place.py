"""Placement: legal cores, the curve, distances against breadth-first search, and exchanges that only gain."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.machine import Machine
from neurocompile.mapping.partition import partition
from neurocompile.mapping.place import place, walk
from neurocompile.mapping.problem import MappingProblem, Resource
from neurocompile.mapping.types import Partition, Placement

Factory = Callable[..., Any]


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["mesh", "hex", "hex_torus"]), width=st.integers(1, 9), height=st.integers(1, 9))
def test_distances_equal_breadth_first_search(machine: Factory, oracle: Any, kind: str, width: int, height: int) -> None:
    topology = machine(kind=kind, width=width, height=height).topology
    found = walk.distances(topology)
    for start in range(width * height):
        there = oracle.bfs(topology, start)
        assert found[start].tolist() == [there[chip] for chip in range(width * height)]


def test_distances_are_a_lower_bound_where_something_is_dead(machine: Factory, oracle: Any) -> None:
    topology = machine(width=6, height=6, dead_chips=[8, 14, 20], dead_links=[(15, 0), (21, 1)]).topology
    found = walk.distances(topology)
    for start in topology.chips.tolist():
        assert all(found[start, chip] <= far for chip, far in oracle.bfs(topology, start).items())


@pytest.mark.parametrize("io_chip", [0, 7, 56, 63])
def test_the_curve_visits_neighbours_from_the_input_chip_on(machine: Factory, io_chip: int) -> None:
    """On a square of a power of two, a Hilbert curve steps only between neighbours; it starts at the corner with the input chip."""
    topology = machine(kind="mesh", width=8, height=8, io_chip=io_chip).topology
    order = walk.chip_order(topology).tolist()
    assert order[0] == io_chip
    assert sorted(order) == list(range(64))
    steps = [np.abs(np.subtract(topology.position(a), topology.position(b))).sum() for a, b in pairwise(order)]
    assert set(steps) == {1}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_curve_visits_every_chip_that_works_once(random_machine: Factory, seed: int) -> None:
    topology = random_machine(np.random.default_rng(seed)).topology
    assert sorted(walk.chip_order(topology).tolist()) == topology.chips.tolist()


def test_wide_parts_take_usable_cores_one_after_the_other_over_dead_ones(problem: Factory, machine: Factory, oracle: Any) -> None:
    made = machine(kind="mesh", width=1, height=1, cores=9, reserved=2, dead_cores=[(0, 2), (0, 5)])
    network = problem(sizes=(8, 8), external=(False, False), neurons=8, widths=(2, 3))
    placement = place(network, partition(network), made)
    assert placement.core.tolist() == [3, 6]
    assert placement.width.tolist() == [2, 3]
    found = partition(network)
    assert made.topology.usable_cores(0) == (3, 4, 6, 7, 8)
    assert not found.external.any()


def _traffic_times_distance(problem: MappingProblem, parts: Partition, placement: Placement, machine: Machine, oracle: Any) -> int:
    """Hops of all (source neuron, part with a target) pairs: what exchanges lower, counted with sets and breadth-first search."""
    part = parts.part.tolist()
    total = 0
    for chip in machine.topology.chips.tolist():
        far = oracle.bfs(machine.topology, chip)
        for neuron in range(problem.n_neurons):
            if placement.chip[part[neuron]] == chip:
                total += sum(far[int(placement.chip[p])] for p in oracle.target_parts(problem, part, neuron))
    return total


@pytest.mark.parametrize("kind", ["mesh", "hex", "hex_torus"])
def test_exchanges_shorten_the_ways(problem: Factory, machine: Factory, oracle: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Random networks have little to gain; without exchanges (the plain fill) the ways must be longer all the same."""
    made = machine(kind=kind, width=5, height=5, cores=3)
    network = problem(sizes=(10, 200), external=(True, False), density=0.02, neurons=6)
    parts = partition(network)
    better = _traffic_times_distance(network, parts, place(network, parts, made), made, oracle)
    monkeypatch.setattr(walk, "_SWAPS_PER_PART", 0)
    plain = _traffic_times_distance(network, parts, place(network, parts, made), made, oracle)
    assert better < plain


def test_exchanges_nearly_recover_a_shuffled_chain(machine: Factory, oracle: Any) -> None:
    """Parts 0-1-2-...-15 talk in a chain whose order the numbers hide. The planted placement has 30 hops, random ones 80 on average."""
    rng = np.random.default_rng(1)
    place_of = rng.permutation(16)
    edges = sorted({(int(place_of[i]), int(place_of[j])) for i in range(16) for j in (i - 1, i + 1) if 0 <= j < 16})
    indptr = np.concatenate([[0], np.cumsum(np.bincount([a for a, _ in edges], minlength=16))])
    one = np.ones(16)
    network = MappingProblem(
        n_neurons=16,
        population=np.zeros(16, np.int32),
        population_names=("p",),
        external=np.zeros(16, bool),
        indptr=indptr.astype(np.int64),
        indices=np.array([b for _, b in edges], np.int32),
        resources=(Resource(name="neurons", unit="neuron", limit=1, per_neuron=one),),
        core_width=np.ones(1, np.int32),
    )
    made = machine(kind="mesh", width=4, height=4, cores=2)
    parts = partition(network)
    hops = [_traffic_times_distance(network, parts, place(network, parts, made, seed=s), made, oracle) for s in range(5)]
    assert min(hops) >= 30, "below the optimum: the count is wrong"
    assert max(hops) <= 50  # measured 32-48: local optima of pairwise exchanges, far from the 80 of a random placement


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([130.0, 200.0, 300.0]))
def test_exchanges_keep_chip_limits(problem: Factory, machine: Factory, oracle: Any, seed: int, limit: float) -> None:
    """Chip limits so tight that most exchanges are forbidden."""
    made = machine(width=5, height=5, cores=4)
    network = problem(seed=seed, sizes=(10, 60, 30), density=0.1, neurons=5, widths=(1, 1, 2), chip_memory=limit)
    parts = partition(network)
    placement = place(network, parts, made, seed=seed)
    used = oracle.usage(network, parts.part.tolist())["sdram"]
    on_chip = np.zeros(25)
    for p, amount in used.items():
        on_chip[placement.chip[p]] += amount
    assert on_chip.max() <= limit
    assert np.count_nonzero(on_chip) > 1
