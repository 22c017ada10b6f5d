"""Spikes that are held back: what the program makes of sources, and what the mapper sees of keys."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker.eprop.costs import neuron_bytes
from neurocompile.backends.spinnaker.eprop.late import delays_sent
from neurocompile.backends.spinnaker.layout import layouts
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import Explicit, Network, SpikeSource
from neurocompile.ir.realise import realise_all
from neurocompile.mapping import MapOptions, check_problem, map_network
from tests.backends.spinnaker.eprop.networks import learner, lowered
from tests.backends.spinnaker.eprop.programs import PROGRAM

EXAMPLES = int(os.environ.get("NEUROCOMPILE_RANDOM_CORES", "40"))


def poisson(network: Network, rate: float) -> Network:
    """Return a network whose sources are Poisson; one of them is silent."""
    rates = np.full(network.population("in").size, rate)
    rates[0] = 0.0
    source = dataclasses.replace(network.population("in"), model=SpikeSource(rate=rates))
    return dataclasses.replace(network, populations=tuple(source if p.name == "in" else p for p in network.populations))


@pytest.mark.parametrize(("seed", "order"), [(0, 1), (7, -1)])
def test_poisson_sources_have_the_engines_spikes(seed: int, order: int) -> None:
    """The host's numbers are those of the reference engine and of the twin, wherever the population stands."""
    network = poisson(learner(seed), 80.0)
    network = dataclasses.replace(network, populations=network.populations[::order])
    neuron, step = PROGRAM.drawn(network.seed, network.offsets["in"], network.population("in").model.rate, network.dt * 1e3, 500)  # type: ignore[union-attr]
    engine = Simulator(network).run(500).spikes["in"]
    twin = TARGET.twin(lowered(network), learning=True).run(500, spikes={}, signals={}).spikes["in"]
    assert len(step) > 200
    for found in (engine, twin):
        np.testing.assert_array_equal(found.step, step)
        np.testing.assert_array_equal(found.neuron, neuron)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    spikes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 59)), max_size=40),
    pairs=st.sets(st.tuples(st.integers(0, 5), st.integers(1, 12)), max_size=10),
    n_steps=st.sampled_from([5, 20, 60]),
)
def test_copies_repeat_spikes_within_a_sample(spikes: list[tuple[int, int]], pairs: set[tuple[int, int]], n_steps: int) -> None:
    """Each copy spikes so many steps later, but not after the end of the spike's sample."""
    clock = PROGRAM.Clock(n_steps, 60 // n_steps, 1, 3)
    copies = sorted(pairs)
    of, wait = (np.array([c[i] for c in copies], np.int64) for i in (0, 1))
    neuron, step = (np.array([s[i] for s in spikes], np.int64) for i in (0, 1))
    found = sorted(zip(*(a.tolist() for a in PROGRAM.held_back(neuron, step, of, wait, clock)), strict=True))
    expected = [(c, t + w) for c, (i, w) in enumerate(copies) for j, t in spikes if i == j and (t + w) // n_steps == t // n_steps]
    assert found == sorted(expected)


def test_all_spikes_of_a_program() -> None:
    """Given spikes stay, rates are drawn, copies follow either; sources without spikes stay without."""
    arrays = {"neuron": np.array([0, 2]), "wait": np.array([3, 1])}
    copies = {"neuron": {"array": "neuron"}, "wait": {"array": "wait"}}
    source = {"cell": "source", "size": 3, "params": {"rate": 0.0}}
    network: dict[str, Any] = {
        "seed": 5,
        "dt_ms": 1.0,
        "populations": [
            {**source, "name": "a"},
            {**source, "name": "b", "params": {"rate": 200.0}},
            {**source, "name": "c"},
            *({**source, "name": f"{of}, held back", "size": 2, "copies": {"of": of, **copies}} for of in "abc"),
        ],
    }
    clock = PROGRAM.Clock(50, 2, 4)
    made = PROGRAM.all_spikes(network, arrays, {"a": (np.array([0, 2, 2]), np.array([1, 49, 60]))}, clock)
    assert set(made) == {"a", "b", "a, held back", "b, held back"}
    assert sorted(zip(*(x.tolist() for x in made["a, held back"]), strict=True)) == [(0, 4), (1, 61)]
    neuron, step = made["b"]
    np.testing.assert_array_equal(np.stack([neuron, step]), np.stack(PROGRAM.drawn(5, 3, np.full(3, 200.0), 1.0, 100)))
    assert 30 < len(step) < 90
    copy, late = made["b, held back"]
    assert set(zip(copy.tolist(), late.tolist(), strict=True)) <= {
        (c, t + w) for c, (i, w) in enumerate([(0, 3), (2, 1)]) for t in step[neuron == i].tolist()
    }


def senders(made: SpinnakerNetwork, name: str) -> dict[int, tuple[int, set[int]]]:
    """Return sender -> (neuron whose spikes it repeats, its targets) of a population of the mapper's."""
    problem = made.problem
    assert problem is not None
    assert problem.repeats is not None
    own = np.flatnonzero(problem.population == problem.population_names.index(name))
    return {int(i): (int(problem.repeats[i]), set(problem.indices[problem.indptr[i] : problem.indptr[i + 1]].tolist())) for i in own}


def test_the_mapper_sees_a_sender_for_each_key() -> None:
    """Neurons and sources have a sender for each delay above one; a neuron's lies on its core and costs memory alone: a bit a tick."""
    network = learner(3, n_in=30, n=60, delay=6, static=True)
    made, connections = lowered(network), realise_all(network)
    problem = made.problem
    assert problem is not None
    check_problem(problem)
    names = problem.population_names
    assert names == ("in", "hidden", "out", "relay", "in, held back", "hidden, held back", "relay, held back")
    assert [c.name for c in made.cells] == list(names[:5])
    offset = network.offsets
    for of in ("in", "hidden", "relay"):
        expected: dict[tuple[int, int], set[int]] = {}
        for p in network.projections:
            if p.learning is not None and p.pre == of:
                s = connections[p.name]
                for i, j, d in zip(s.pre.tolist(), s.post.tolist(), s.delay.tolist(), strict=True):
                    if d > 1:
                        expected.setdefault((i, d), set()).add(j + offset[p.post])
        found = senders(made, f"{of}, held back")
        assert [neuron - offset[of] for neuron, _ in found.values()] == [i for i, _ in sorted(expected)]
        assert [targets for _, targets in found.values()] == [expected[key] for key in sorted(expected)]
    hidden, sends = (problem.population == names.index(name) for name in ("hidden", "hidden, held back"))
    for resource in (*problem.resources, *problem.chip_resources):
        assert not resource.per_neuron[sends].any()
    memory = next(r for r in problem.resources if r.name.startswith("local memory"))
    plan = made.eprop
    assert plan is not None
    assert delays_sent(plan, "hidden") == (1, 2, 3, 4, 5, 6)
    ring = 8 * (8 - 2)  # static delays of up to 5 steps: 8 slots of two buffers, for up to twice as many neurons, two of which all have
    assert (memory.per_neuron[hidden] == neuron_bytes(plan.populations["hidden"]) + 5 / 8 + ring).all()
    slots = next(r for r in problem.resources if r.name == "delay slots")
    assert (slots.per_neuron[hidden] == 8 / 2**13).all()
    mapping = map_network(problem, made.machine, MapOptions(seed=0, effort="fast"))
    part, assert_together = mapping.partition.part, problem.repeats
    assert assert_together is not None
    np.testing.assert_array_equal(part[sends], part[assert_together[sends]])
    copied = problem.population == names.index("in, held back")
    assert not set(part[copied]) & set(part[problem.population == 0])  # sources of their own


def test_packets_of_a_step_count_every_key() -> None:
    """With packets=limit a core's sources are its senders: one for each key that reaches it, at the mean rate of all senders."""
    network = learner(3, n_in=30, n=60, delay=6)
    assert not [r for r in lowered(network).problem.resources if r.name == "incoming packets"]  # type: ignore[union-attr]
    made = lowered(network, packets="limit", rate=20, source_rate=100)
    assert made.problem is not None
    problem, names = made.problem, made.problem.population_names
    (limit,) = (r for r in problem.resources if r.name == "incoming packets")
    hz = np.array([{"in": 100.0, "hidden": 20.0, "out": 20.0}[name.split(",")[0]] for name in names])[problem.population]
    sends = np.diff(problem.indptr) > 0
    assert sends.sum() > 60 + 30 + 4 * 60
    assert limit.per_axon_in == pytest.approx(hz[sends].mean() * network.dt)


def test_a_network_without_delays_has_no_senders() -> None:
    made = lowered(learner(3, static=True))
    assert made.problem is not None
    assert made.problem.repeats is None
    assert made.copies == ()
    assert made.problem.population_names == ("in", "hidden", "out", "relay")


@pytest.mark.parametrize("longest", [7, 8, 40, 255])
def test_static_delays_fit_the_ring_buffers(longest: int) -> None:
    """Cores have more slots than the longest static delay into them, in the 2^14 of both receptors: no spike passes a delay core."""
    network = learner(3, n_in=30, n=300, delay=3, static=True)
    fixed = next(p for p in network.projections if p.name == "fixed")
    assert isinstance(fixed.connect, Explicit)
    delay = np.where(np.arange(len(fixed.connect.pre)) == 5, longest, 1)
    late = dataclasses.replace(fixed, connect=dataclasses.replace(fixed.connect, delay=delay))
    made = lowered(dataclasses.replace(network, projections=tuple(late if p is fixed else p for p in network.projections)))
    assert made.problem is not None
    mapping = map_network(made.problem, made.machine, MapOptions(seed=0, effort="fast"))
    for where in (None, mapping):
        found = layouts(made, where)
        assert not any(layout.delayed for layout in found)
        neurons = 1 << (found[1].per_core - 1).bit_length()
        slots = 1 << longest.bit_length()
        assert neurons * slots * 2 <= 2**14
        assert neurons * slots * 2 * 2 + found[1].per_core * 300 < 65536
