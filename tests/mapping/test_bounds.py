"""Lower bounds on cores: never above the optimum that brute force finds, and as high as they should be where the answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.mapping.partition.bounds import bounds_of, lower_bounds, separate
from neurocompile.mapping.partition.shared import with_shared_sources
from neurocompile.mapping.partition.units import prepare
from neurocompile.mapping.problem import MappingProblem

Factory = Callable[..., Any]


def set_partitions(n: int) -> Iterator[list[int]]:
    """All partitions of n things, as restricted growth strings."""

    def grow(prefix: list[int], top: int) -> Iterator[list[int]]:
        if len(prefix) == n:
            yield prefix
            return
        for p in range(top + 2):
            yield from grow([*prefix, p], max(top, p))

    yield from grow([], -1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    neurons=st.sampled_from([2, 3, 100]),
    axons_in=st.sampled_from([4, 6, 100]),
    axons_out=st.sampled_from([5, 100]),
    memory=st.sampled_from([60, 90, 1e6]),
    profiles=st.sampled_from([None, 2]),
    widths=st.sampled_from([None, (1, 1, 2)]),
)
def test_no_partition_beats_the_bound(problem: Factory, oracle: Any, seed: int, **limits: Any) -> None:
    """All partitions of six neurons are tried; the bound is at most the fewest legal parts."""
    network = problem(seed=seed, sizes=(2, 4, 2), density=0.4, **limits)
    try:
        bounds = lower_bounds(network)
    except DoesNotFitError:
        return
    assert bounds.cores <= fewest_cores(network, oracle)
    assert bounds.cores >= max(bounds.by_limit.values())


def fewest_cores(network: MappingProblem, oracle: Any) -> int:
    """Of all partitions of the last six of eight neurons, the first two being external; 7 if none is legal."""
    fewest = 7
    for inside in set_partitions(6):
        part = [6, 6, *inside]
        n_parts = max(inside) + 1
        if n_parts >= fewest:
            continue
        widths = {(p, int(network.core_width[network.population[n]])) for n, p in enumerate(part) if n >= 2}
        if len(widths) > n_parts:
            continue
        used = oracle.usage(network, part)
        limited = {r.name: r.limit for r in (*network.resources, *network.set_resources)}
        if all(max(used[name].values()) <= limit for name, limit in limited.items()):
            fewest = n_parts
    return fewest


def with_dense(network: MappingProblem, size: int) -> MappingProblem:
    """The ``size`` neurons after the two external ones get the same sources: all that any of them had."""
    n = network.n_neurons
    edges = np.zeros((n, n), bool)
    edges[np.repeat(np.arange(n), np.diff(network.indptr)), network.indices] = True
    edges[:, 2 : 2 + size] = edges[:, 2 : 2 + size].any(axis=1)[:, None]
    memory = replace(network.resources[3], per_neuron=8.0 * edges.sum(axis=0))
    return replace(
        network,
        indptr=np.concatenate([[0], np.cumsum(edges.sum(axis=1))]).astype(np.int64),
        indices=np.nonzero(edges)[1].astype(np.int32),
        resources=(*network.resources[:3], memory),
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([2, 3, 4]),
    axons_in=st.sampled_from([5, 6, 100]),
    axons_out=st.sampled_from([4, 100]),
    memory=st.sampled_from([100, 120, 150, 200]),
)
def test_no_partition_beats_the_bound_of_dense_layers(problem: Factory, oracle: Any, seed: int, size: int, **limits: Any) -> None:
    """Like sources make blocks, high in-degrees take room from what else is on their core: both must stay below the optimum."""
    network = with_dense(problem(seed=seed, sizes=(2, 4, 2), density=0.3, neurons=100, **limits), size)
    try:
        bounds = lower_bounds(network)
    except DoesNotFitError:
        return
    assert bounds.cores <= fewest_cores(network, oracle)


def test_a_dense_layer_has_cores_of_its_own(problem: Factory) -> None:
    """40 sources, 12 neurons with all of them, 30 with one: of 600 bits, 400 are for sources, so a core has room for 200 // 60 = 3 of the
    12; 40 axons-in are all it has, so none of the 30 joins even one of them (they are their own
    sources). The others take 30 x (10 + 10) bits."""
    n = 82
    rows = [[*range(40, 52)]] * 40 + [[]] * 12 + [[s] for s in range(52, 82)]
    network = problem(sizes=(40, 12, 30), external=(True, False, False), density=0.0, neurons=1e9, axons_in=40, memory=600)
    memory = replace(network.resources[3], per_neuron=np.repeat([0.0, 60.0, 10.0], [40, 12, 30]))
    network = replace(
        network,
        indptr=np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
        indices=np.concatenate(rows).astype(np.int32),
        resources=(*network.resources[:3], memory),
    )
    assert network.n_neurons == n
    found = separate(prepare(network))
    assert found is not None
    block, class_of = found
    assert (len(set(block[40:52].tolist())), len(set(block[52:].tolist())), class_of.tolist()) == (1, 1, [0, 0])
    bounds = lower_bounds(network)
    assert bounds.cores == bounds.by_limit["memory"] == 4 + 1
    assert lower_bounds(replace(network, resources=network.resources[:3])).cores == 2  # 70 axons-in of 40 a core


def test_few_neurons_of_high_in_degree_spread_their_sources(problem: Factory) -> None:
    """Two of 10 neurons with 30 external sources each, of 500 bits with 10 an axon-in and 150 a neuron: they fit onto no common core, which
    one axon a source would not show: 2 x 150 + 30 x 10 = 600 bits of 1,000, and 60 axons."""
    rows = [[30, 31]] * 30 + [[]] * 10
    network = problem(sizes=(30, 10), external=(True, False), density=0.0, neurons=1e9, memory=500)
    memory = replace(network.resources[3], per_neuron=np.repeat([0.0, 150.0, 0.0], [30, 2, 8]))
    network = replace(
        network,
        indptr=np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
        indices=np.concatenate([np.array(r, np.int32) for r in rows]).astype(np.int32),
        resources=(*network.resources[:3], memory),
    )
    assert lower_bounds(network).cores == 2
    assert lower_bounds(replace(network, resources=(replace(network.resources[1], limit=59.0), memory))).by_limit["axons_in"] == 2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.2, 0.4, 0.7]),
    neurons=st.sampled_from([2, 3, 100]),
    axons_in=st.sampled_from([3, 4, 5, 6, 100]),
    axons_out=st.sampled_from([5, 100]),
    memory=st.sampled_from([60, 90, 120, 1e6]),
    widths=st.sampled_from([None, (1, 1, 2)]),
)
def test_no_partition_beats_the_bound_of_shared_sources(problem: Factory, oracle: Any, seed: int, density: float, **limits: Any) -> None:
    network = problem(seed=seed, sizes=(2, 4, 2), density=density, **limits)
    try:
        units = prepare(network)
    except DoesNotFitError:
        return
    bounds = bounds_of(units)
    raised = with_shared_sources(units, bounds)
    assert bounds.cores <= raised.cores <= fewest_cores(network, oracle)
    assert raised.cores >= max(raised.by_limit.values())


def plane(problem: Factory, axons_in: float) -> MappingProblem:
    """13 external sources and 13 neurons: points and lines of the projective plane of order 3. A line has 4 points, two lines have one."""
    lines = [[(p + shift) % 13 for p in (0, 1, 3, 9)] for shift in range(13)]
    network = problem(sizes=(13, 13), external=(True, False), density=0.0, neurons=1e9, axons_in=axons_in)
    rows = [[13 + line for line in range(13) if point in lines[line]] for point in range(13)] + [[]] * 13
    return replace(
        network,
        indptr=np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
        indices=np.concatenate([np.array(r, np.int32) for r in rows]).astype(np.int32),
        resources=(network.resources[1],),
    )


def test_lines_of_a_plane_share_one_point_only(problem: Factory) -> None:
    """Seven axons-in hold two lines (4 + 4 - 1) and no third, so 13 lines need 7 cores; a source alone needs one core, which shows 2. Every
    core holds one line at least, so with 13 axons-in, all there are, one is enough."""
    units = prepare(plane(problem, 7.0))
    assert bounds_of(units).cores == 2
    raised = with_shared_sources(units, bounds_of(units))
    assert (raised.cores, raised.by_limit["axons_in"], raised.name) == (7, 7, "axons_in")
    assert with_shared_sources(units, bounds_of(units), most_work=100).cores == 2
    everything = prepare(plane(problem, 13.0))
    assert with_shared_sources(everything, bounds_of(everything)).cores == 1
