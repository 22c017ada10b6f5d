"""What sources cost e-prop cores, counted spike by spike; and what the mapper sees of it."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.eprop.cycles import cycles_per_second, error_cycles_per_second
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir.realise import realise_all
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.verify import verify_mapping
from tests.backends.spinnaker.eprop.networks import learner, lowered

RUNS = int(os.environ.get("NEUROCOMPILE_RANDOM_PROGRAMS", "0")) or 8
TICKS = 2 * 224
"""Two sweeps"""
CONSTANTS = {
    "core.packet_cycles": 419.0,
    "core.row_cycles": 1075.0,
    "core.static_row_cycles": 819.0,
    "core.static_synapse_cycles": 32.0,
    "core.transfer_cycles": 68.0,
    "core.eprop_update_cycles": 199.0,
    "core.eprop_fold_cycles": 103.0,
    "core.eprop_error_cycles": 14.0,
    "core.eprop_error_packet_cycles": 97.0,
    "core.eprop_held_cycles": 3.0,
    "core.eprop_send_cycles": 55.0,
    "core.eprop_spike_cycles": 175.0,
    "core.eprop_row_cycles": 280.0,
    "core.eprop_sweep_cycles": 221.0,
    "core.eprop_catch_up_cycles": 0.0,
    "core.eprop_stretch_cycles": 0.0,
}


def with_constants(made: SpinnakerNetwork) -> SpinnakerNetwork:
    """No stretches: how many there are is a matter of chance, and tested by itself."""
    quantities = dict(made.machine.quantities)
    for key, value in CONSTANTS.items():
        quantities[key] = dataclasses.replace(quantities[key], value=value)
    return dataclasses.replace(made, machine=dataclasses.replace(made.machine, quantities=quantities))


def events(made: SpinnakerNetwork, spikes: dict[str, Any], part: list[int]) -> dict[int, float]:
    """Cycles of each part, walking every tick, spike and row. spikes : (ticks, size) of each population."""
    plan, offset, value = made.eprop, made.network.offsets, CONSTANTS
    assert plan is not None
    rows: dict[tuple[str, int, int], dict[tuple[Any, ...], int]] = {}
    for p in plan.projections:
        synapses = made.connections[p.name]
        low = np.zeros(len(synapses.pre), bool)
        if p.learns:
            for k in range(len(p.rows.delay)):
                low[p.rows.order[p.rows.begin[k] : p.rows.begin[k + 1]]] = p.rows.high[k] == 0
        for pre, post, delay, weight, sign in zip(
            *(getattr(synapses, k).tolist() for k in ("pre", "post", "delay", "weight")), low.tolist(), strict=True
        ):
            of_sender = rows.setdefault((p.pre, pre, delay if p.learns else 1), {})
            row = (part[post + offset[p.post]], p.name, p.learns, sign if p.learns else weight < 0)
            of_sender[row] = of_sender.get(row, 0) + 1
    found = dict.fromkeys(part, 0.0)
    for tick in range(TICKS):
        for name, own in plan.populations.items():
            waits = {d for (pre, _, d) in rows if pre == name}
            cores = {part[offset[name] + j] for j in range(own.size)}
            heard = 0 if own.feedback is None else len(own.feedback)
            for core in cores:
                found[core] += heard * value["core.eprop_error_packet_cycles"]
            for j in range(own.size):
                core = part[offset[name] + j]
                found[core] += value["core.transfer_cycles"] + value["core.eprop_update_cycles"] + heard * value["core.eprop_error_cycles"]
                found[core] += value["core.eprop_fold_cycles"] if own.scales is not None else 0.0
                found[core] += sum(d > 1 for d in waits) * value["core.eprop_held_cycles"]
                found[core] += len(waits) * value["core.eprop_send_cycles"] * spikes[name][tick, j]
        for (name, neuron, _), of_sender in rows.items():
            if spikes[name][tick, neuron]:
                for core in {row[0] for row in of_sender}:
                    found[core] += value["core.packet_cycles"]
                for (core, _, learns, _), n in of_sender.items():
                    if learns:
                        found[core] += value["core.row_cycles"] + value["core.eprop_row_cycles"] + n * value["core.eprop_spike_cycles"]
                    else:
                        found[core] += value["core.static_row_cycles"] + n * value["core.static_synapse_cycles"]
            if neuron % 224 == tick % 224:
                for core, _, learns, _ in of_sender:
                    found[core] += learns * (value["core.row_cycles"] + value["core.eprop_sweep_cycles"])
    return found


@settings(max_examples=RUNS, deadline=None, derandomize=True)
@given(st.data())
def test_a_core_takes_what_its_events_take(data: st.DataObject) -> None:
    """Any network, any placement, any spikes: the report's time of a step is the mean of a walk over all events."""
    seed = data.draw(st.integers(0, 2**20))
    delay, static, signs = data.draw(st.integers(1, 4)), data.draw(st.booleans()), data.draw(st.booleans())
    made = with_constants(lowered(learner(seed, strength=0.0, delay=delay, static=static, signs=signs)))
    assert made.problem is not None
    rng, n_parts = np.random.default_rng(seed), 4
    spikes = {p.name: rng.random((TICKS, p.size)) < rng.uniform(0.0, 0.1, p.size) for p in made.network.populations}
    problem = made.problem
    # a population's cores are its own; senders are where their neurons are
    part = rng.integers(0, n_parts, problem.n_neurons) + n_parts * problem.population
    if problem.repeats is not None:
        part[problem.repeats >= 0] = part[problem.repeats[problem.repeats >= 0]]
    mean = np.concatenate([spikes[p.name].mean(axis=0) for p in made.network.populations])
    rate = np.zeros(problem.n_neurons)
    rate[: len(mean)] = mean
    if problem.repeats is not None:
        rate[len(mean) :] = mean[problem.repeats[len(mean) :]]
    seconds = made.core_seconds(rate, part, int(part.max()) + 1)
    assert seconds is not None
    walked = events(made, spikes, part[: len(mean)].tolist())
    for core, cycles in walked.items():
        assert seconds[0][core] * made.machine.value("core.clock") == pytest.approx(cycles / TICKS, rel=1e-9), core


@pytest.mark.parametrize(("delay", "rate"), [(1, 5.0), (3, 20.0)])
def test_the_mapper_sees_the_same_cycles(delay: int, rate: float) -> None:
    """All rates equal, one row a sender: what the mapper and its independent verifier count of a mapping is what the report does."""
    made = lowered(learner(1, strength=0.0, n_in=60, n=300, delay=delay), rate=rate, source_rate=rate)
    assert made.problem is not None
    assert made.eprop is not None
    problem = made.problem
    mapping = map_network(problem, made.machine, MapOptions(seed=0, effort="fast"))
    verify_mapping(problem, mapping, made.machine)
    part, n_parts = mapping.partition.part, mapping.partition.n_parts
    seconds = made.core_seconds(np.full(problem.n_neurons, rate * made.network.dt), part, n_parts)
    assert seconds is not None
    (resource,) = (r for r in problem.resources if r.name == "cycles of a step")
    hidden = made.eprop.populations["hidden"]
    errors = error_cycles_per_second(hidden, made.network.dt, made.machine)
    budget = made.machine.value("core.clock") * made.machine.value("core.eprop_share") - errors
    source = np.repeat(np.arange(problem.n_neurons), np.diff(problem.indptr))
    outputs = problem.population_names.index("out")
    checked = 0
    for core in np.unique(part[problem.population == problem.population_names.index("hidden")]):
        here = part[problem.indices] == core
        heard = np.unique(source[here & (problem.population[source] != outputs)])
        used = resource.per_neuron[part == core].sum() + resource.per_axon_in * len(heard)
        taken = seconds[0][core] / made.network.dt * made.machine.value("core.clock") - errors
        # the mean is over the sources of the population with the most; those of the readout are fewer and as fast
        assert used * budget == pytest.approx(taken, rel=1e-6)
        assert taken < budget
        checked += 1
    assert checked > 1


def test_sources_count_where_synapses_are_few() -> None:
    """The same synapses from more sources: fewer neurons fit a core."""
    limits = []
    for n_in in (50, 2000):
        made = lowered(learner(2, strength=0.0, n_in=n_in, n=100), source_rate=20.0)
        assert made.problem is not None
        (resource,) = (r for r in made.problem.resources if r.name == "cycles of a step")
        heard = len(np.flatnonzero(np.diff(made.problem.indptr)[:n_in]))
        limits.append(heard * resource.per_axon_in)
        rates = {p.name: np.full(p.size, 5.0) for p in made.network.populations}
        assert made.eprop is not None
        assert cycles_per_second(made.eprop, made.connections, rates, made.network.dt, made.machine)["hidden"].min() > 0.0
    assert limits[1] > 30 * limits[0] > 0.0


def test_a_neuron_that_is_too_much_gets_a_core_of_its_own() -> None:
    """More sources and synapses than a core gets through in real time: it is mapped all the same, alone."""
    made = lowered(learner(3, strength=0.0, n_in=600, n=4), rate=900.0, source_rate=900.0)
    assert made.problem is not None
    problem = made.problem
    (resource,) = (r for r in problem.resources if r.name == "cycles of a step")
    sources = np.bincount(problem.indices, minlength=problem.n_neurons)
    alone = resource.per_neuron + resource.per_axon_in * sources
    assert (alone <= 1.0).all()
    assert alone.max() > 0.99
    verify_mapping(problem, map_network(problem, made.machine, MapOptions(seed=0, effort="fast")), made.machine)


def test_rows_are_a_word_shorter_than_the_longest() -> None:
    """sPyNNaker's buffers for rows hold 255 words beside the head: so many static synapses of one source, a word each, lie on a core."""
    network = learner(1, n_in=4, n=300, density=1.0)
    made = TARGET.lower(network, realise_all(network), None, BuildOptions(learning=False))
    assert made.problem is not None
    rows = next(r for r in made.problem.resources if r.name == "synaptic rows")
    assert 1.0 / rows.per_neuron[made.problem.population == 1].max() == pytest.approx(255.0)
