"""The first-moment bound on cores of random networks against exact expected numbers of ways, counted on tiny networks."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType

import numpy as np
import pytest

Script = Callable[[str], ModuleType]


def expected_ways(n: int, k: int, axons: int, draws: Callable[[int], Iterable[tuple[tuple[int, ...], float]]]) -> float:
    """Expected number of unlabelled ways to put n neurons on exactly k cores of ``axons`` distinct sources each.

    ``draws``: (targets, probability) of a source. Sources are independent: numbers of sources of the cores add up source by source.
    """
    total = 0.0
    for way in itertools.product(range(k), repeat=n):
        if len(set(way)) < k:
            continue
        counts: Counter[tuple[int, ...]] = Counter({(0,) * k: 1.0})  # type: ignore[dict-item]
        for source in range(n):
            after: Counter[tuple[int, ...]] = Counter()
            for targets, probability in draws(source):
                hit = {way[t] for t in targets}
                for have, weight in counts.items():
                    after[tuple(h + (i in hit) for i, h in enumerate(have))] += weight * probability  # type: ignore[assignment]
            counts = after
        total += sum(weight for have, weight in counts.items() if max(have) <= axons)
    return total / math.factorial(k)


@pytest.mark.parametrize(("n", "degree"), [(5, 1), (5, 2), (6, 1)])
def test_uniform_counts_at_least_the_expected_ways(script: Script, n: int, degree: int) -> None:
    choices = list(itertools.combinations(range(n), degree))
    for k, axons in itertools.product((2, 3), (1, 2, 3, 4)):
        exact = expected_ways(n, k, axons, lambda _: ((c, 1 / len(choices)) for c in choices))
        bound = script("mapping_expected").uniform(n=n, degree=degree, axons=axons).log_expected(k)
        assert bound >= math.log(max(exact, 1e-300)) - 1e-9
        assert bound <= math.log(max(exact, 1e-300)) + 12 or exact < 1e-12  # it is a bound, but not any number


def test_modular_counts_at_least_the_expected_ways(script: Script) -> None:
    """Two communities of two neurons and two draws; a draw of oneself is dropped. What is left out, draws that are unlike their mean, has
    a probability below 1e-9."""
    n, size, degree, inside = 4, 2, 2, 0.8

    def draws(source: int) -> Iterable[tuple[tuple[int, ...], float]]:
        one = [(inside / size if t // size == source // size else 0.0) + (1 - inside) / n for t in range(n)]
        for pair in itertools.product(range(n), repeat=degree):
            yield tuple(t for t in pair if t != source), math.prod(one[t] for t in pair)

    for k, axons in itertools.product((2, 3), (1, 2, 3)):
        exact = expected_ways(n, k, axons, draws)
        ways = script("mapping_expected").modular(communities=2, size=size, degree=degree, inside=inside, axons=axons)
        assert ways.log_expected(k) >= math.log(max(exact, 1e-300)) - 1e-9


def test_fewer_axons_need_more_cores(script: Script) -> None:
    """With as many axons as neurons one core is enough; with fewer, more, but no more than if every synapse were an axon of its own."""
    uniform = script("mapping_expected").uniform
    assert uniform(n=120, degree=12, axons=120).cores() == 1
    found = [uniform(n=120, degree=12, axons=axons).cores() for axons in (105, 75, 45)]
    assert found == sorted(found)
    assert found[-1] > 120 / 45
    assert found[-1] <= 120 * 12 / 45 * 2


def test_the_benchmark_network_needs_at_least_156_cores(script: Script) -> None:
    """docs/mapping.md has the number; every assumption on sizes of parts, x and the circle is in it."""
    ways = script("mapping_expected").uniform()
    assert ways.cores() == 156
    assert ways.cap == 83


def test_sources_of_a_disc_are_those_of_the_generator(script: Script) -> None:
    """The mean over 20 x 20 places of a drawn network; their numbers differ by 2 % or so, and go together where discs overlap."""
    side, sigma, degree, n = 60, 4.0, 20, 80
    reference = script("mapping_networks").spatial(seed=3, side=side, sigma=sigma, degree=degree, tiles=4)
    source = np.repeat(np.arange(side * side), np.diff(reference.indptr))
    y, x = np.divmod(np.arange(side * side), side)
    found = []
    for cy, cx in itertools.product(range(0, side, 3), repeat=2):
        dy, dx = (np.minimum(d, side - d) for d in (abs(y - cy), abs(x - cx)))
        inside = np.zeros(side * side, bool)
        inside[np.argsort(dy**2 + dx**2, kind="stable")[:n]] = True
        found.append(len(np.unique(source[inside[reference.indices]])))
    assert script("mapping_expected").disc_sources(n, side, sigma, degree) == pytest.approx(np.mean(found), rel=0.01)


def test_the_largest_disc_on_a_core_is_the_one_of_the_docs(script: Script) -> None:
    """docs/mapping.md: 405 neurons, so 247 cores."""
    disc = script("mapping_expected").disc()
    assert disc == 405
    assert math.ceil(316**2 / disc) == 247
