"""Axons of grown cores: by hand, and against what partitions of a planted network have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neurocompile.mapping.partition.growth import grown_axons
from neurocompile.mapping.partition.loads import axons_like, parts_needed, shares
from neurocompile.mapping.partition.units import Units, prepare
from neurocompile.mapping.problem import MappingProblem, Resource

BLOCKS, SIZE = 12, 10


def blocks(limit: float, *, external: bool = False) -> Units:
    """12 blocks of 10 neurons, each the target of all of its block, shuffled; a core holds ``limit`` sources."""
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
        resources=(Resource(name="axons_in", unit="axon", limit=limit, per_neuron=np.zeros(n), per_axon_in=1.0, confidence="given"),),
        core_width=np.ones(2, np.int32),
    )
    return prepare(problem)


@pytest.mark.parametrize(("limit", "per_unit"), [(SIZE, 1.0), (3 * SIZE, 1.0), (3 * SIZE + 9, 1.0)])
def test_cores_that_grow_are_whole_blocks(limit: float, per_unit: float) -> None:
    """A block adds 10 sources for its 10 neurons: one each, whatever fits."""
    units = blocks(limit)
    axons_in, axons_out = grown_axons(units, seed=1)
    assert axons_in == pytest.approx(np.full(units.n_units, per_unit))
    assert axons_out == pytest.approx(np.full(units.n_units, per_unit))
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
