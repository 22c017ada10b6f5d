"""Axons of grown cores: by hand, and against what partitions of a planted network have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neurocompile.mapping.partition import graph, improve, partition, run
from neurocompile.mapping.partition._state import new_state, over_parts
from neurocompile.mapping.partition.growth import grown_axons
from neurocompile.mapping.partition.loads import axons_like, parts_needed, shares
from neurocompile.mapping.partition.units import Units, prepare
from neurocompile.mapping.problem import MappingProblem, Resource
from neurocompile.mapping.verify import verify_partition

BLOCKS, SIZE = 12, 10


def blocks(limit: float, *, neurons: float = 1e9, external: bool = False) -> Units:
    """12 blocks of 10 neurons, each the target of all of its block, shuffled; a core holds ``limit`` sources, and ``neurons``."""
    n = BLOCKS * SIZE
    place = np.random.default_rng(3).permutation(n)
    block = place // SIZE
    rows = [np.flatnonzero(block == block[i]).astype(np.int32) for i in range(n)]
    none = np.zeros(n, bool)
    if external:
        none[block == 0] = True
    problem = MappingProblem(
        n_neurons=n,
        population=none.astype(np.int32),
        population_names=("inside", "outside"),
        external=none,
        indptr=np.arange(n + 1, dtype=np.int64) * SIZE,
        indices=np.concatenate(rows),
        resources=(
            Resource(name="axons_in", unit="axon", limit=limit, per_neuron=np.zeros(n), per_axon_in=1.0, confidence="given"),
            Resource(name="neurons", unit="neuron", limit=neurons, per_neuron=np.ones(n), confidence="given"),
        ),
        core_width=np.ones(2, np.int32),
    )
    return prepare(problem)


@pytest.mark.parametrize("limit", [SIZE, 3 * SIZE, 3 * SIZE + 9])
def test_cores_that_grow_are_whole_blocks(limit: float) -> None:
    """A block adds 10 sources for its 10 neurons: one each, whatever fits."""
    units = blocks(limit)
    axons_in, axons_out = grown_axons(units, seed=1)
    assert axons_in == pytest.approx(np.ones(units.n_units))
    assert axons_out == pytest.approx(np.ones(units.n_units))
    assert parts_needed(units, (axons_in, axons_out), 1.0) == int(np.ceil(BLOCKS * SIZE / limit))


def test_external_units_have_no_axons() -> None:
    units = blocks(SIZE, external=True)
    outside: NDArray[np.bool_] = units.net.unit_class < 0
    assert outside.sum() == SIZE
    for axons in grown_axons(units, seed=1):
        assert not axons[outside].any()
        assert axons[~outside] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_axons() -> None:
    units = blocks(25)
    assert all(np.array_equal(a, b) for a, b in zip(grown_axons(units, seed=5), grown_axons(units, seed=5), strict=True))


def test_grown_cores_are_as_good_as_the_planted_ones() -> None:
    """Shares from grown cores and from the planted blocks are the same numbers here; of random parts they are not."""
    units = blocks(SIZE)
    parts = np.array([BLOCKS])
    planted = (np.random.default_rng(3).permutation(BLOCKS * SIZE) // SIZE).astype(np.int32)
    grown = shares(units, parts, grown_axons(units, seed=1))
    assert grown == pytest.approx(shares(units, parts, axons_like(units, planted)))
    scattered = np.arange(BLOCKS * SIZE, dtype=np.int32) % BLOCKS
    assert parts_needed(units, axons_like(units, scattered), 1.0) > 3 * BLOCKS


def test_large_networks_get_as_many_parts_as_grown_cores_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Axons alone: 12 blocks, two to a core at the most, and no core filled beyond 96 %. One try."""
    asked: list[int] = []
    assign = graph.assign

    def counted(units: Units, parts: NDArray[np.int64], **given: object) -> NDArray[np.int32]:
        asked.append(int(parts.sum()))
        return assign(units, parts, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(graph, "assign", counted)
    monkeypatch.setattr(run, "_RETRY_PINS", 0)
    units = blocks(2.0 * SIZE)
    found = partition(units.problem, algorithm="graph")
    assert asked == [int(np.ceil(BLOCKS / 2 / 0.96))]
    assert found.quality is not None
    assert found.quality.algorithm == "graph"
    verify_partition(units.problem, found)


def test_repair_goes_on_when_lists_of_nets_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """All lie on one core that has room for 3; the list of each source has room for that part and one more, but its targets need four."""
    monkeypatch.setattr(improve, "_LARGE_PINS", 0)
    monkeypatch.setattr(improve, "_ROOM", 1)
    units = blocks(2.0 * SIZE, neurons=3.0)
    part = np.zeros(units.n_units, np.int32)
    repaired = improve.repair(units, part, share=shares(units, np.array([BLOCKS * SIZE // 3])))
    assert repaired is not None
    assert (repaired >= 0).all()
    assert not over_parts(units.net, new_state(units.net, repaired, int(repaired.max()) + 1, -1)).any()
