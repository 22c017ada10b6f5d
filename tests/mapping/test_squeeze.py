"""Squeezing where axons-in and axons-out bind alike, and the order in which numbers of parts are tried."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from neurocompile.mapping.partition import greedy, squeeze
from neurocompile.mapping.partition._state import new_state, over_parts
from neurocompile.mapping.partition.improve import dissolve
from neurocompile.mapping.partition.loads import axons_like, shares
from neurocompile.mapping.partition.units import Units, prepare
from neurocompile.mapping.problem import MappingProblem, Resource
from neurocompile.mapping.types import Partition
from neurocompile.mapping.verify import verify_partition


def uniform(seed: int, n: int, degree: int, axons: float) -> Units:
    """``degree`` distinct targets at random; a core has ``axons`` axons-in and as many axons-out."""
    rng = np.random.default_rng(seed)
    none = np.zeros(n)
    problem = MappingProblem(
        n_neurons=n,
        population=np.zeros(n, np.int32),
        population_names=("p",),
        external=np.zeros(n, bool),
        indptr=np.arange(n + 1, dtype=np.int64) * degree,
        indices=np.concatenate([np.sort(rng.choice(n, degree, replace=False)) for _ in range(n)]).astype(np.int32),
        resources=(
            Resource(name="axons_in", unit="axon", limit=axons, per_neuron=none, per_axon_in=1.0),
            Resource(name="axons_out", unit="axon", limit=axons, per_neuron=none, per_axon_out=1.0),
        ),
        core_width=np.ones(1, np.int32),
    )
    return prepare(problem)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_ends_of_axons_are_balanced_with_one_part_more_than_greedy_growth(seed: int) -> None:
    """Greedy growth, which does not look at axons-out, has 60 parts and passes limits; 61 are enough for both. (Prices that rise until they
    are high everywhere need 62.)"""
    units = uniform(seed, 1500, 30, 500.0)
    grown = greedy.assign(units, seed=1)
    n = int(grown.max()) + 1
    assert n == 60
    assert over_parts(units.net, new_state(units.net, grown, n, -1)).any()
    made = squeeze._into(units, grown, n + 1, np.full(1500, (n + 1) / 1500), seed)
    assert made is not None
    assert made.max() == n
    verify_partition(units.problem, Partition(part=made, n_parts=n + 1, external=np.zeros(n + 1, bool)))


@pytest.mark.parametrize("fewest", range(3, 15))
def test_numbers_of_parts_are_halved_between_failure_and_success(monkeypatch: pytest.MonkeyPatch, fewest: int) -> None:
    """``_into`` is made to find every number from ``fewest`` on: none is tried twice, none below what failed, and ``fewest`` is found,
    unless three tries failed."""
    units = uniform(1, 60, 2, 1000.0)
    part = np.arange(60, dtype=np.int32) % 14
    tried: list[int] = []

    def into(units: Units, part: NDArray[np.int32], n_parts: int, share: object, seed: int, how: object) -> NDArray[np.int32] | None:
        tried.append(n_parts)
        return np.arange(60, dtype=np.int32) % n_parts if n_parts >= fewest else None

    monkeypatch.setattr(squeeze, "_into", into)
    monkeypatch.setattr(squeeze, "_full", lambda net, part: 3.0)
    monkeypatch.setattr(greedy, "assign", lambda units, seed: part)
    found = int(squeeze.squeeze(units, part, wanted=2, share=np.ones(60)).max()) + 1
    failed = [n for n in tried if n < fewest]
    assert len(tried) == len(set(tried))
    assert failed == sorted(failed)
    assert found == min([n for n in tried if n >= fewest], default=14)
    assert found == min(fewest, 14) or len(failed) == squeeze._FAILURES
    assert found - fewest <= 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_squeezing_finds_room_that_sharing_out_does_not(one_population: Callable[..., MappingProblem], seed: int) -> None:
    """Ten communities of 20 fill ten cores of 21 neurons and hardly more sources than the fullest needs. Parts made by exchanging
    15 pairs and taking 20 neurons out cannot be shared out as they are; squeezed, they are ten again."""
    rng = np.random.default_rng(seed)
    n = 200
    community = np.arange(n) // 20
    rows = [np.unique(np.append(rng.choice(20, 8, replace=False) + 20 * c, rng.integers(0, n))) for c in community.tolist()]
    planted_in = [len({s for s in range(n) if (community[rows[s]] == c).any()}) for c in range(10)]
    none = np.zeros(n)
    network = one_population(
        rows,
        Resource(name="neurons", unit="neuron", limit=21.0, per_neuron=none + 1),
        Resource(name="axons_in", unit="axon", limit=max(planted_in) + 2.0, per_neuron=none, per_axon_in=1.0),
    )
    units = prepare(network)
    part = community.astype(np.int32)
    mixed = rng.permutation(n)
    part[mixed[:30]] = part[mixed[:30]][::-1]
    part[mixed[30:50]] = 10
    share = shares(units, np.array([10]), axons_like(units, part))
    assert dissolve(units, part, share=share, wanted=10).max() == 10
    squeezed = squeeze._into(units, part, 10, share, seed)
    assert squeezed is not None
    assert squeezed.max() == 9
    verify_partition(network, Partition(part=squeezed, n_parts=10, external=np.zeros(10, bool)))
