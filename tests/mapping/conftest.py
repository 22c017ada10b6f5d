"""Random mapping problems and small machines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurocompile.mapping.problem import MappingProblem, Resource, SetResource


def make_problem(
    seed: int = 0,
    sizes: tuple[int, ...] = (20, 60, 10),
    external: tuple[bool, ...] = (True, False, False),
    density: float = 0.2,
    neurons: float = 16,
    axons_in: float = 1e9,
    axons_out: float = 1e9,
    memory: float = 1e9,
    profiles: int | None = None,
    widths: tuple[int, ...] | None = None,
    chip_memory: float | None = None,
) -> MappingProblem:
    """A random network: every neuron of a population that is not external is the target of any neuron with probability ``density``."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    population = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    outside = np.array(external)[population]
    edges = rng.random((n, n)) < density
    edges[:, outside] = False
    indptr = np.concatenate([[0], np.cumsum(edges.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(edges)[1].astype(np.int32)
    in_degree = edges.sum(axis=0).astype(np.float64)
    one = np.ones(n)
    chip_resources = (
        () if chip_memory is None else (Resource(name="sdram", unit="byte", limit=chip_memory, per_neuron=in_degree, per_axon_in=1.0),)
    )
    return MappingProblem(
        n_neurons=n,
        population=population,
        population_names=tuple(f"p{i}" for i in range(len(sizes))),
        external=outside,
        indptr=indptr,
        indices=indices,
        resources=(
            Resource(name="neurons", unit="neuron", limit=neurons, per_neuron=one),
            Resource(name="axons_in", unit="axon", limit=axons_in, per_neuron=0 * one, per_axon_in=1.0),
            Resource(name="axons_out", unit="axon", limit=axons_out, per_neuron=0 * one, per_axon_out=1.0),
            Resource(name="memory", unit="bit", limit=memory, per_neuron=8 * in_degree, per_axon_in=10.0),
        ),
        set_resources=()
        if profiles is None
        else (SetResource(name="profiles", limit=profiles, label=rng.integers(-1, 5, n).astype(np.int32)),),
        core_width=np.array(widths or (1,) * len(sizes), np.int32),
        chip_resources=chip_resources,
    )


@pytest.fixture(scope="session")
def problem() -> Callable[..., MappingProblem]:
    """Factory of random problems (see ``make_problem``)."""
    return make_problem
