"""Whole networks of core programs beside the twin: spikes, membranes, coefficients, weights and traces, every integer equal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import Twin
from neurocompile.backends.spinnaker.eprop.formats import ONE
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import Loss, Network, SurrogateKind
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.spinnaker.eprop.networks import Given, inputs, learner, lowered, targets
from tests.backends.spinnaker.eprop.programs import CoreNetwork, CoreState, compile_program, read_rows

EXAMPLES = int(os.environ.get("NEUROCOMPILE_RANDOM_CORES", "40"))
Program = Callable[[int, bool], Path]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Return the compiled program for a width of states, with or without adaptation."""
    made: dict[tuple[int, bool], Path] = {}

    def of(bits: int, adaptive: bool) -> Path:
        if (bits, adaptive) not in made:
            made[bits, adaptive] = compile_program(tmp_path_factory.mktemp("program"), state_bits=bits, adaptive=adaptive)
        return made[bits, adaptive]

    return of


def adaptive(population: PlannedPopulation) -> bool:
    """Whether the synapses of a population have a second eligibility state."""
    return population.scales is not None and population.scales.adaptive


def programs(program: Program, plan: EpropPlan, bits: int) -> dict[str, Path]:
    """Return the program of each population."""
    return {name: program(bits, adaptive(population)) for name, population in plan.populations.items()}


def assert_equal(plan: EpropPlan, twin: Twin, name: str, neurons: np.ndarray, state: CoreState, bits: int) -> None:
    """Compare a core with the twin; the filtered rate and what is held of it count only with regularisation."""
    population = plan.populations[name]
    regularised = population.scales is not None and population.scales.reg_max > 0
    ours = twin.state()
    columns = slice(0, 8 if regularised else 5)
    np.testing.assert_array_equal(state.neurons[:, columns], ours[f"{name}:state"][neurons][:, columns])
    if population.scales is not None:
        np.testing.assert_array_equal(state.coefficients, ours[f"{name}:neuron"][neurons])
    for row, content in state.rows:
        projection = plan.projections[row.projection]
        if not projection.learns:
            continue
        held_in_row = read_rows(row, content, state_bits=bits, regularised=regularised, adaptive=adaptive(population))
        assert ("q" in held_in_row) == adaptive(population)
        for key, value in held_in_row.items():
            held = ours[f"{name}:{projection.name}:{key}"]
            mine = held[np.searchsorted(projection.rows.begin, row.synapses[0], side="right") - 1] if key == "head" else held[row.synapses]
            np.testing.assert_array_equal(value, mine, err_msg=f"{projection.name}: {key}")


def compare(
    program: Program,
    network: Network,
    spikes: tuple[Given, Spikes],
    signal: Signal,
    *,
    per_core: int,
    bits: int,
    n_steps: int,
    pause: int | None = None,
) -> tuple[int, int]:
    """Run both and compare; return how many hidden spikes there were and how many synapses have changed. pause : the cores' run ends
    after so many steps and goes on."""
    made = lowered(network, state_bits=bits)
    plan, twin = made.eprop, TARGET.twin(made, learning=True)
    assert plan is not None
    before = twin.weights()
    run = twin.run(n_steps, spikes={"in": spikes[1]}, signals={"out": signal})
    with CoreNetwork(programs(program, plan, bits), network, plan, {"out": signal}, per_core=per_core, state_bits=bits) as cores:
        found = cores.run({"in": spikes[0]}, n_steps if pause is None else pause)
        if pause is not None:
            cores.go_on()
            more = cores.run({"in": spikes[0]}, n_steps - pause, begin=pause)
            found = {name: found[name] + more[name] for name in found}
        wait, expected = min(cores.delays["hidden"]) - 1, run.spikes["hidden"]
        late = expected.step < n_steps - wait  # whose packets have left their cores
        step = np.repeat(np.arange(n_steps), [len(who) for who in found["hidden"]])
        np.testing.assert_array_equal(step, expected.step[late] + wait)
        np.testing.assert_array_equal(np.concatenate(found["hidden"]), expected.neuron[late])
        sent = [int((run.spikes[name].step < n_steps - (d - 1)).sum()) for name in plan.populations for d in cores.delays[name]]
        assert cores.n_packets == sum(sent)  # one for each delay
        for core in cores.cores:
            if core.population.neurons.readout:  # recorded before the update: row t + 1 is step t
                held = np.array(core.recorded)[1:] / (core.population.scale * ONE)
                np.testing.assert_array_equal(held, run.outputs[core.population.name][: n_steps - 1, core.neurons])
        saturated = 0
        for population, neurons, state in cores.states():
            assert_equal(plan, twin, population.name, neurons, state, bits)
            saturated += state.saturated
        ours = twin.state()
        assert saturated == sum(int(ours[f"{name}:counts"][1]) for name in plan.populations)
    after = twin.weights()
    return len(run.spikes["hidden"].step), sum(int((after[name] != before[name]).sum()) for name in after)


@settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@given(
    seed=st.integers(0, 2**31 - 1),
    model=st.sampled_from(["lif", "to_value", "alif"]),
    delay=st.sampled_from([1, 4, 35]),
    least=st.sampled_from([1, 1, 2]),
    pause=st.floats(0.0, 1.0),
    static=st.booleans(),
    signs=st.booleans(),
    loss=st.sampled_from([Loss.MEAN_SQUARED_ERROR, Loss.CROSS_ENTROPY]),
    kind=st.sampled_from(list(SurrogateKind)),
    strength=st.sampled_from([0.0, 1.0]),
    learning_rate=st.sampled_from([1e-7, 1e-4, 3e-3]),
    bits=st.sampled_from([16, 32]),
    per_core=st.sampled_from([1, 7, 64]),
    rate=st.sampled_from([0.01, 0.1, 0.6]),
    n_steps=st.integers(1, 300),
)
def test_programs_and_twin_agree(
    program: Program,
    seed: int,
    model: str,
    delay: int,
    least: int,
    pause: float,
    static: bool,
    signs: bool,
    loss: Loss,
    kind: SurrogateKind,
    strength: float,
    learning_rate: float,
    bits: int,
    per_core: int,
    rate: float,
    n_steps: int,
) -> None:
    """Any network, cut into cores anyhow, in one run or two."""
    rng = np.random.default_rng(seed)
    delays = {"delay": max(delay, least), "least": least}
    network = learner(
        seed, model=model, static=static, signs=signs, loss=loss, kind=kind, strength=strength, learning_rate=learning_rate, **delays
    )
    signal, given = targets(rng, 3, n_steps, loss), inputs(rng, 12, n_steps, rate)
    compare(program, network, given, signal, per_core=per_core, bits=bits, n_steps=n_steps, pause=int(pause * n_steps))


def test_the_property_reaches_learning(program: Program) -> None:
    """A case of the above in which neurons spike and nearly all synapses change, so that equality says something."""
    rng = np.random.default_rng(1)
    network = learner(1, learning_rate=1e-3, delay=4, static=True)
    spikes, changed = compare(program, network, inputs(rng, 12, 300, 0.1), targets(rng, 3, 300), per_core=7, bits=16, n_steps=300)
    assert spikes > 100
    assert changed > 0.9 * sum(len(p.connect.pre) for p in network.projections[:3])  # type: ignore[union-attr]


def test_spikes_that_are_all_held_back(program: Program) -> None:
    """No synapse of a delay of one step: nothing is sent in the tick of a spike, and a key for each of the delays 2, 3, .. later."""
    rng = np.random.default_rng(4)
    network = learner(4, learning_rate=1e-3, delay=40, least=2, n=40)
    spikes, changed = compare(
        program, network, inputs(rng, 12, 300, 0.1), targets(rng, 3, 300), per_core=33, bits=16, n_steps=300, pause=123
    )
    assert spikes > 100
    assert changed > 300


def test_a_thousand_neurons(program: Program) -> None:
    """1,000 neurons on 16 cores of 64, 150,000 plastic synapses, 5,000 steps."""
    rng = np.random.default_rng(2)
    network = learner(2, n_in=200, n=1000, n_out=10, density=0.2, learning_rate=3e-6, strength=0.3)
    spikes, changed = compare(program, network, inputs(rng, 200, 5000, 0.005), targets(rng, 10, 5000), per_core=64, bits=16, n_steps=5000)
    assert spikes > 10_000
    assert changed > 100_000


@pytest.mark.parametrize(("model", "delay"), [("lif", 3), ("lif", 12), ("alif", 3)])
def test_samples_with_breaks(program: Program, model: str, delay: int) -> None:
    """Between samples all but the weights is forgotten: on cores in a break of 5 ticks, in the twin at once; so are spikes that are
    held back, however long."""
    rng = np.random.default_rng(3)
    network = learner(3, model=model, learning_rate=1e-3, delay=delay, static=True)
    made, sample, pause, n = lowered(network, state_bits=16), 70, 5, 4
    plan, twin = made.eprop, TARGET.twin(made, learning=True)
    assert plan is not None
    signal = targets(rng, 3, sample * n)
    given, _ = inputs(rng, 12, sample * n, 0.1)
    on_cores: Given = []
    expected = []
    for i in range(n):
        mine = given[i * sample : (i + 1) * sample]
        on_cores += [*mine, *([np.zeros(0, np.int64)] * pause)]
        spikes = Spikes(neuron=np.concatenate(mine).astype(np.int32), step=twin.step + np.repeat(np.arange(sample), [len(g) for g in mine]))
        window = slice(i * sample, (i + 1) * sample)
        run = twin.run(sample, spikes={"in": spikes}, signals={"out": Signal(target=signal.target[window], window=signal.window[window])})
        expected.append(len(run.spikes["hidden"].step))
        twin.reset()
    breaks = {"sample_ticks": sample, "break_ticks": pause}
    with CoreNetwork(programs(program, plan, 16), network, plan, {"out": signal}, per_core=7, **breaks) as cores:
        found = cores.run({"in": on_cores}, (sample + pause) * n)
        assert [sum(len(t) for t in found["hidden"][i * (sample + pause) : (i + 1) * (sample + pause)]) for i in range(n)] == expected
        for population, neurons, state in cores.states():
            ours = twin.state()
            for row, content in state.rows:
                projection = plan.projections[row.projection]
                if projection.learns:
                    regularised = population.scales.reg_max > 0  # type: ignore[union-attr]
                    held = read_rows(row, content, state_bits=16, regularised=regularised, adaptive=adaptive(population))
                    np.testing.assert_array_equal(held["weight"], ours[f"{population.name}:{projection.name}:weight"][row.synapses])
                    assert not held["e"].any()
                    assert not held["r"].any()
                    assert not held.get("q", np.zeros(0)).any()
                    assert held["head"][0] == 0
            assert len(neurons) > 0
    assert min(expected) > 10
