"""Work in pieces gives what it gives as a whole, in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from neurocompile.ir import (
    LIF,
    AllToAll,
    Constant,
    DistanceDependent,
    Explicit,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    LogNormal,
    Network,
    Normal,
    OneToOne,
    Population,
    Projection,
    Uniform,
    Values,
)
from neurocompile.ir import shards as shards_module
from neurocompile.ir.realise import realise, realise_all
from neurocompile.ir.shards import Shared, Threads

N = 400
PLACES = np.random.default_rng(2).random((N, 2))
RULES = {
    "all": (AllToAll(allow_autapses=False), Normal(mean=0.0, std=1.0)),
    "probability": (FixedProbability(probability=0.3), LogNormal(mu=0.0, sigma=1.0)),
    "indegree": (FixedInDegree(degree=50), Uniform(low=-1.0, high=1.0)),
    "outdegree": (FixedOutDegree(degree=50), Constant(value=1.0)),
    "one": (OneToOne(), Constant(value=1.0)),
    "distance": (DistanceDependent(probability=0.9, profile="gaussian", scale=0.1, periodic=(1.0, 1.0)), Constant(value=1.0)),
    "values": (FixedInDegree(degree=3), Values(values=np.arange(3.0 * N))),
    "list": (Explicit(pre=np.arange(N), post=np.arange(N)[::-1].copy()), Normal(mean=0.0, std=1.0)),
    "none": (FixedProbability(probability=0.0), Constant(value=1.0)),
}


@pytest.mark.parametrize("n_threads", [1, 4])
def test_pieces_are_the_synapses_of_the_whole(monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    """Every kind of rule, in one network, in pieces of about 1,000 synapses."""
    monkeypatch.setattr("neurocompile.ir.realise.SYNAPSES", 1_000)
    neurons = Population(name="n", size=N, model=LIF(tau_mem=0.02, v_threshold=1.0), positions=PLACES)
    projections = tuple(
        Projection(name=name, pre="n", post="n", connect=connect, weight=weight, delay=Uniform(low=1.0, high=9.0))
        for name, (connect, weight) in RULES.items()
    )
    network = Network(name="rules", dt=1e-3, seed=4, populations=(neurons,), projections=projections)
    found = realise_all(network, shards=Threads(n_threads))
    assert list(found) == list(RULES)
    for projection in projections:
        whole = realise(network, projection)
        for name in ("pre", "post", "weight", "delay"):
            np.testing.assert_array_equal(getattr(found[projection.name], name), getattr(whole, name), strict=True)


def test_results_come_in_order_and_arguments_are_drawn_as_needed() -> None:
    drawn: list[int] = []

    def arguments() -> Iterator[tuple[int, Shared[int]]]:
        for i in range(100):
            drawn.append(i)
            yield i, Shared(2)

    results = Threads(4).map(pow, arguments())
    assert next(results) == 0
    assert len(drawn) <= 6
    assert list(results) == [i**2 for i in range(1, 100)]


def test_the_first_error_in_order_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(Threads(2).map(divmod, [(4, 2), (1, 0), ("a", 1)]))


def test_ranges_hold_whole_targets_and_all_synapses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SYNAPSES", 10)
    generator = np.random.default_rng(1)
    for n in (0, 1, 9, 10, 11, 500):
        post = np.sort(generator.integers(0, 40, n)).astype(np.int32)
        cuts = shards_module.ranges_of_targets(post)
        assert [(c.start, c.stop) for c in cuts] == list(zip([0, *[c.stop for c in cuts[:-1]]], [c.stop for c in cuts], strict=True))
        assert cuts[-1].stop == n
        assert all(post[c.start - 1] != post[c.start] for c in cuts[1:])
        assert all(c.stop - c.start <= 10 + np.bincount(post).max() for c in cuts if n)
    falling = shards_module.ranges_of_targets(np.arange(25, dtype=np.int32)[::-1])
    assert falling == shards_module.pieces_of(25) == [slice(0, 10), slice(10, 20), slice(20, 25)]
    assert shards_module.pieces_of(0) == [slice(0, 0)]
