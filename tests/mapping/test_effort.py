"""Effort: what fast, normal and high run, that all of them give correct mappings, and when a network has nothing to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.mapping import EFFORTS, MapOptions, map_network
from neurocompile.mapping.partition import partition, run
from neurocompile.mapping.partition.structure import is_structured
from neurocompile.mapping.partition.units import prepare
from neurocompile.mapping.place import place
from neurocompile.mapping.place.anneal import EFFORT, _to_gain
from neurocompile.mapping.problem import MappingProblem, Resource
from neurocompile.mapping.route import route
from neurocompile.mapping.traffic import link_loads

Factory = Callable[..., Any]


def network_of(pre: Any, post: Any, n: int, *, a_core: int, population: Any = None) -> MappingProblem:
    """Neurons of one core each ``a_core``; populations share no core."""
    pairs = np.unique(pre.astype(np.int64) * n + post)
    label = np.zeros(n, np.int32) if population is None else population.astype(np.int32)
    n_populations = int(label.max()) + 1
    return MappingProblem(
        n_neurons=n,
        population=label,
        population_names=tuple(f"p{i}" for i in range(n_populations)),
        external=np.zeros(n, bool),
        indptr=np.searchsorted(pairs // n, np.arange(n + 1)).astype(np.int64),
        indices=(pairs % n).astype(np.int32),
        resources=(Resource(name="neurons", unit="neuron", limit=float(a_core), per_neuron=np.ones(n)),),
        # Of different widths, so that populations do not share a core.
        core_width=np.arange(1, n_populations + 1, dtype=np.int32),
    )


def uniform(seed: int, n: int = 600, degree: int = 20) -> MappingProblem:
    rng = np.random.default_rng(seed)
    return network_of(np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree), n, a_core=20)


def communities(seed: int, n: int = 600, degree: int = 20, size: int = 20, inside: float = 0.8) -> MappingProblem:
    """Communities of 20 neurons, indices shuffled."""
    rng = np.random.default_rng(seed)
    pre = np.repeat(np.arange(n), degree)
    near = rng.random(n * degree) < inside
    post = np.where(near, pre // size * size + rng.integers(0, size, n * degree), rng.integers(0, n, n * degree))
    shuffled = rng.permutation(n)
    return network_of(shuffled[pre], shuffled[post], n, a_core=size)


def blocks(seed: int) -> MappingProblem:
    """Two populations of which one has most of the synapses, at random within each pair of populations: nothing to find inside them."""
    rng = np.random.default_rng(seed)
    population = np.arange(600) // 300
    probability = np.array([[0.2, 0.02], [0.02, 0.05]])
    pre, post = np.nonzero(rng.random((600, 600)) < probability[population][:, population])
    return network_of(pre, post, 600, a_core=20, population=population)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("make", "structured"), [(uniform, False), (blocks, False), (communities, True)])
def test_structure_is_found_where_it_was_planted(make: Callable[[int], MappingProblem], structured: bool, seed: int) -> None:
    assert is_structured(prepare(make(seed)), seed=seed) is structured


def test_nothing_has_no_structure() -> None:
    none = np.zeros(0, np.int64)
    assert not is_structured(prepare(network_of(none, none, 5, a_core=2)))


def ran(problem: MappingProblem, **options: Any) -> tuple[list[str], Any]:
    """Stages of a partition, and its quality."""
    said: list[str] = []
    found = partition(problem, progress=said.append, **options).quality
    assert found is not None
    return [stage.removeprefix("partition: ") for stage in said], found


def test_fast_takes_one_cheap_algorithm() -> None:
    stages, quality = ran(communities(1), effort="fast")
    assert stages == ["streaming"]
    assert quality.weighted_km1 < 0.5 * quality.sequential_weighted_km1
    stages, quality = ran(uniform(1), effort="fast")
    assert stages == []
    assert quality.algorithm == "sequential"


def test_normal_leaves_out_what_cannot_win_on_large_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ["graph", "hypergraph", "refined", "anneal"]
    assert ran(uniform(1))[0] == everything  # small: all are tried
    monkeypatch.setattr(run, "_TINY_PINS", 0)
    stages, quality = ran(uniform(1))
    assert stages == ["refined", "anneal"]
    assert quality.weighted_km1 < quality.sequential_weighted_km1
    assert ran(uniform(1), effort="high")[0] == everything
    assert ran(communities(1))[0] == ["graph", "anneal"]


def test_more_effort_lowers_the_traffic() -> None:
    for make in (uniform, communities):
        fast, normal, high = (ran(make(2), effort=effort)[1].weighted_km1 for effort in EFFORTS)
        assert high <= normal <= fast


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), effort=st.sampled_from(EFFORTS), axons_out=st.sampled_from([1e9, 60.0]))
def test_all_efforts_map_correctly(problem: Factory, machine: Factory, oracle: Any, seed: int, effort: str, axons_out: float) -> None:
    """Axons-out of 60 are out of reach of sequential fill in some cases: fast must then find another way."""
    network = problem(seed=seed, sizes=(10, 60, 20), density=0.08, neurons=7, axons_out=axons_out)
    made = machine(width=5, cores=7)
    oracle.check(network, map_network(network, made, MapOptions(effort=effort, seed=seed % 7)), made)


def test_what_placing_can_gain() -> None:
    """Nothing where all pairs talk alike (the least effort remains), all where few pairs do."""
    assert _to_gain(np.ones(20 * 19), 20) == 0.05
    assert _to_gain(np.ones(20), 20) == 1.0
    assert 0.05 < _to_gain(np.ones(20 * 19 * 2 // 3), 20) < 1.0


def test_placing_fast_is_worse_than_normal_and_better_than_almost_nothing(machine: Factory) -> None:
    """Without its share, fast makes the least number of proposals, 1,000."""
    network, made = communities(3, n=2000), machine(width=8, height=8, cores=3)
    parts = partition(network, effort="fast")
    hops = []
    for share in (0.0, EFFORT["fast"], EFFORT["normal"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(EFFORT, "fast", share)
            placement = place(network, parts, made, effort="fast")
        hops.append(float(link_loads(network, placement, route(network, parts, placement, made), made).sum()))
    assert hops[2] < hops[1] < hops[0]
