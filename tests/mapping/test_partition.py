"""Sequential fill: limits, order, and the answer of a plain second implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.mapping.partition import partition as partition_with
from neurocompile.mapping.partition._kernels import count_source_axons, count_target_parts, target_parts, transpose
from neurocompile.mapping.problem import MappingProblem, Resource

Factory = Callable[..., Any]
partition = partial(partition_with, algorithm="sequential")


def greedy(problem: MappingProblem) -> list[list[int]] | None:
    """What sequential fill must give without axons-out limits: next core as soon as any limit would be passed. None: does not fit."""
    sources: list[set[int]] = [set() for _ in range(problem.n_neurons)]
    for source in range(problem.n_neurons):
        for target in problem.indices[problem.indptr[source] : problem.indptr[source + 1]].tolist():
            sources[target].add(source)

    def fits(members: list[int]) -> bool:
        axons = set().union(*(sources[m] for m in members))
        for r in (*problem.resources, *problem.chip_resources):
            if sum(float(r.per_neuron[m]) for m in members) + r.per_axon_in * len(axons) > r.limit:
                return False
        if any(len({int(s.label[m]) for m in members} - {-1}) > s.limit for s in problem.set_resources):
            return False
        return len({int(problem.core_width[problem.population[m]]) for m in members}) == 1

    parts: list[list[int]] = []
    current: list[int] = []
    for neuron in range(problem.n_neurons):
        if problem.external[neuron]:
            continue
        if current and not fits([*current, neuron]):
            parts.append(current)
            current = []
        if not fits([*current, neuron]):
            return None
        current = [*current, neuron]
    return [*parts, current] if current else parts


def members(problem: MappingProblem) -> list[list[int]]:
    found = partition(problem)
    return [np.flatnonzero(found.part == p).tolist() for p in range(found.n_parts) if not found.external[p]]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    neurons=st.sampled_from([1, 5, 1000]),
    axons_in=st.sampled_from([15, 40, 1000]),
    memory=st.sampled_from([300, 700, 1e6]),
    profiles=st.sampled_from([None, 1, 2]),
    widths=st.sampled_from([None, (1, 2, 1), (1, 1, 3)]),
    chip_memory=st.sampled_from([None, 60.0]),
)
def test_equals_a_plain_greedy_loop(problem: Factory, seed: int, **limits: Any) -> None:
    """Costs are whole numbers, so sums are exact in any order and the comparison needs no tolerance."""
    network = problem(seed=seed, sizes=(15, 30, 12), density=0.15, **limits)
    expected = greedy(network)
    if expected is None:
        with pytest.raises(DoesNotFitError, match="NC401"):
            partition(network)
    else:
        assert members(network) == expected


def test_parts_are_numbered_by_their_first_neuron_and_external_populations_are_one_part_each(problem: Factory) -> None:
    network = problem(sizes=(10, 20, 7, 30), external=(True, False, True, False), neurons=8)
    found = partition(network)
    first = [int(np.argmax(found.part == p)) for p in range(found.n_parts)]
    assert first == sorted(first)
    assert found.external.tolist() == [network.external[n] for n in first]
    assert len(np.unique(found.part[:10])) == len(np.unique(found.part[30:37])) == 1
    assert found.part[0] != found.part[30]
    assert not found.part.flags.writeable


def test_one_neuron_exactly_at_the_limit_fits(problem: Factory, oracle: Any) -> None:
    """The limit itself is allowed, the next number is not."""
    network = problem(neurons=1)
    need = max(oracle.usage(network, partition(network).part.tolist())["memory"].values())
    assert len(members(problem(neurons=1, memory=need))) == 70
    with pytest.raises(DoesNotFitError, match=f"NC401.*needs {need:g} bit of memory; a core has {need - 1:g}"):
        partition(problem(neurons=1, memory=need - 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), axons_out=st.sampled_from([25, 40, 80]), per_neuron=st.sampled_from([0.0, 0.1]))
def test_axons_out_are_met_by_splitting(problem: Factory, oracle: Any, seed: int, axons_out: int, per_neuron: float) -> None:
    """Each neuron pays for each part with targets of it; parts are split until none is over, and only split: old borders stay."""
    network = problem(seed=seed, sizes=(60,), external=(False,), density=0.1, axons_out=axons_out, neurons=20)
    axons = replace(network.resources[2], per_neuron=np.full(60, per_neuron))
    network = replace(network, resources=(network.resources[0], axons))
    found = partition(network).part.tolist()
    used = oracle.usage(network, found)
    assert max(used["axons_out"].values()) <= axons_out * (1 + 1e-9)  # sums of 0.1 in another order
    assert max(used["neurons"].values()) <= 20
    unlimited = partition(replace(network, resources=network.resources[:1])).part.tolist()
    assert {len({unlimited[n] for n in range(60) if found[n] == p}) for p in set(found)} == {1}


def test_an_axons_out_limit_that_binds_makes_more_parts(problem: Factory) -> None:
    few, many = (
        partition(problem(sizes=(60,), external=(False,), density=0.1, neurons=20, axons_out=limit)).n_parts for limit in (1e9, 40)
    )
    assert few == 3
    assert many > few


def test_rounding_does_not_leave_a_part_over_its_limit_unsplit() -> None:
    """Costs whose running sum stays below the limit and whose sum in another order passes it: the split must still make progress."""
    n = 64
    rng = np.random.default_rng(3)
    cost = rng.random(n)
    running = float(np.cumsum(cost)[-1])
    indptr = np.arange(n + 1, dtype=np.int64)
    for limit in (running, np.nextafter(running, 0), float(np.sum(cost)), float(np.bincount(np.zeros(n, int), cost)[0])):
        network = MappingProblem(
            n_neurons=n,
            population=np.zeros(n, np.int32),
            population_names=("p",),
            external=np.zeros(n, bool),
            indptr=indptr,
            indices=np.arange(n, dtype=np.int32),
            resources=(Resource(name="share", unit="1", limit=limit, per_neuron=cost, per_axon_out=1e-18),),
            core_width=np.ones(1, np.int32),
        )
        assert partition(network).n_parts <= 2


def test_a_neuron_whose_fan_out_no_split_can_lower_is_refused(problem: Factory) -> None:
    network = problem(sizes=(40,), external=(False,), density=1.0, neurons=4, axons_out=9)
    with pytest.raises(DoesNotFitError, match=r"NC401.*needs 10 axon of axons_out, with its targets on 10 cores; a core has 9"):
        partition(network)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_parts=st.integers(1, 9), density=st.sampled_from([0.0, 0.1, 0.6]))
def test_counting_kernels_equal_sets(problem: Factory, oracle: Any, seed: int, n_parts: int, density: float) -> None:
    """Stamp arrays against Python sets, for parts at random (not only those a partitioner makes)."""
    network = problem(seed=seed, sizes=(30,), external=(False,), density=density)
    n, indptr, indices = network.n_neurons, network.indptr, network.indices
    part = np.random.default_rng(seed).integers(0, n_parts, n).astype(np.int32)
    edges = {(s, t) for s in range(n) for t in oracle.targets(network, s)}
    in_start, in_sources = transpose(n, indptr, indices)
    assert {(int(s), t) for t in range(n) for s in in_sources[in_start[t] : in_start[t + 1]]} == edges
    wanted = [sorted({int(part[t]) for t in oracle.targets(network, s)}) for s in range(n)]
    start, found = target_parts(indptr, indices, part, n_parts)
    assert [found[start[s] : start[s + 1]].tolist() for s in range(n)] == wanted
    assert count_target_parts(indptr, indices, part, n_parts).tolist() == [len(w) for w in wanted]
    order = np.argsort(part, kind="stable").astype(np.int32)
    sources = [len({s for s, t in edges if part[t] == p}) for p in range(n_parts)]
    assert count_source_axons(n, order, in_start, in_sources, part, n_parts).tolist() == sources
