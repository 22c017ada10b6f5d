"""E-prop cores as the target has them: beside the reference engine, their doors, their costs."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.eprop import costs, cycles
from neurocompile.backends.spinnaker.eprop.image import numbers_header
from neurocompile.backends.spinnaker.eprop.ranges import WINDOW
from neurocompile.backends.spinnaker.eprop.rows import BLOCKS, SWEEP
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import Adam, EProp, Loss, Network, SurrogateKind
from neurocompile.ir.errors import InputError, NeurocompileError, UnsupportedError
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.spinnaker.eprop.networks import both, inputs, learner, lowered, targets
from tests.backends.spinnaker.eprop.programs import CoreNetwork, compile_program


def test_weight_changes_are_those_of_the_engine() -> None:
    """20 networks, scales chosen by the compiler, states of 16 bits: cosines of weight changes of at least 0.999, lengths within 2 %; in
    most networks 99 % of the spikes are at the engine's steps (a recurrent network that has moved one spike moves more).

    The learning rate is so small that changed weights do not change the spikes: what is compared is the change itself. What is left is one
    step's share of each spike of a source (docs/spinnaker-eprop.md) and rounding."""
    rng = np.random.default_rng(0)
    worst, faithful = 1.0, 0
    for seed in range(20):
        network = learner(
            seed,
            n_in=60,
            n=40,
            density=0.3,
            model="to_value" if seed % 3 == 2 else "lif",
            kind=list(SurrogateKind)[seed % 4],
            strength=0.1 * (seed % 2),
            tau=float(rng.uniform(0.015, 0.04)),
            kappa=float(np.exp(-1.0 / rng.uniform(20.0, 50.0))),
            tau_out=float(rng.uniform(0.015, 0.04)),
            learning_rate=1e-8,
        )
        n_spikes, moved, changes = both(network, seed)
        assert n_spikes > 300
        faithful += moved <= 0.01 * n_spikes
        for name, (cosine, length) in changes.items():
            assert cosine >= 0.999, (seed, name, cosine)
            assert 0.98 <= length <= 1.02, (seed, name, length)
            worst = min(worst, cosine)
    assert faithful >= 15
    assert worst < 1.0  # integers, after all


def test_cross_entropy_and_delays() -> None:
    """Softmax on the core, spikes held back by up to four steps."""
    network = learner(7, n_in=60, n=40, density=0.3, loss=Loss.CROSS_ENTROPY, delay=4, learning_rate=1e-7)
    n_spikes, moved, changes = both(network, 7, loss=Loss.CROSS_ENTROPY, state_bits=32)
    assert n_spikes > 300
    assert moved <= 0.01 * n_spikes
    assert min(cosine for cosine, _ in changes.values()) >= 0.999


@pytest.mark.parametrize("model", ["lif", "alif"])
def test_numbers_in_the_program_change_nothing(tmp_path: Path, model: str) -> None:
    """A program that knows its population's numbers when it is compiled computes what one does that reads them."""
    rng = np.random.default_rng(4)
    network = learner(4, model=model, learning_rate=1e-3)
    plan = lowered(network, state_bits=16).eprop
    assert plan is not None
    given, _ = inputs(rng, 12, 200, 0.1)
    signal = targets(rng, 3, 200)
    own, generic = {}, {}
    for name, population in plan.populations.items():
        (tmp_path / name).mkdir()
        adaptive = population.scales is not None and population.scales.adaptive
        assert adaptive == (model == "alif" and name == "hidden")
        generic[name] = compile_program(tmp_path, adaptive=adaptive)
        own[name] = compile_program(tmp_path / name, adaptive=adaptive, numbers=numbers_header(population, softmax=False))
    found = []
    for program in (generic, own):
        with CoreNetwork(program, network, plan, {"out": signal}, per_core=64) as cores:
            spikes = cores.run({"in": given}, 200)["hidden"]
            states = [(s.neurons, s.coefficients, *(content for _, content in s.rows)) for _, _, s in cores.states()]
            found.append((np.concatenate(spikes), states))
    assert len(found[0][0]) > 50
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for theirs, ours in zip(found[0][1], found[1][1], strict=True):
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(a, b)


def test_pauses_states_and_weights() -> None:
    """Without learning weights stay and spikes are those of frozen weights; a state goes on bit for bit; weights come back unchanged."""
    rng = np.random.default_rng(5)
    made = lowered(learner(5, learning_rate=1e-3, delay=3))
    _, spikes = inputs(rng, 12, 300, 0.1)
    signal = targets(rng, 3, 300)

    def part(first: int, last: int) -> dict[str, Signal]:
        return {"out": Signal(target=signal.target[first:last], window=signal.window[first:last])}

    twin, other = TARGET.twin(made, learning=True), TARGET.twin(made, learning=True)
    twin.run(100, spikes={"in": spikes}, signals=part(0, 100))
    before = twin.weights()
    assert any((before[name] != other.weights()[name]).any() for name in before)
    twin.run(50, spikes={"in": spikes}, signals=part(100, 150), learn=False)
    assert all((twin.weights()[name] == before[name]).all() for name in before)
    other.restore(twin.state())
    a, b = (t.run(150, spikes={"in": spikes}, signals=part(150, 300)) for t in (twin, other))
    np.testing.assert_array_equal(a.spikes["hidden"].step, b.spikes["hidden"].step)
    np.testing.assert_array_equal(a.outputs["out"], b.outputs["out"])
    after = twin.weights()
    twin.set_weights(after)
    assert all((twin.weights()[name] == after[name]).all() for name in after)
    assert any((after[name] != before[name]).any() for name in after)
    twin.reset()
    fresh = TARGET.twin(made, learning=True)
    fresh.set_weights(twin.weights())
    assert all((fresh.weights()[name] == twin.weights()[name]).all() for name in after)
    again = Spikes(neuron=spikes.neuron, step=spikes.step + twin.step)
    c, d = (
        twin.run(100, spikes={"in": again}, signals=part(0, 100), learn=False),
        fresh.run(100, spikes={"in": spikes}, signals={}, learn=False),
    )
    np.testing.assert_array_equal(c.outputs["out"], d.outputs["out"])
    broken = twin.state()
    broken["hidden:counts"] = broken["hidden:counts"] - 10_000
    with pytest.raises(ValueError, match="beyond step"):
        twin.restore(broken)


def test_weights_keep_their_signs() -> None:
    """sign_constraint: a source with weights of both signs has two rows, and no weight crosses 0, however large the steps."""
    rng = np.random.default_rng(6)
    made = lowered(learner(6, signs=True, learning_rate=0.01))
    twin = TARGET.twin(made, learning=True)
    before = twin.weights()
    _, spikes = inputs(rng, 12, 400, 0.1)
    twin.run(400, spikes={"in": spikes}, signals={"out": targets(rng, 3, 400)})
    after = twin.weights()
    for name, weight in before.items():
        assert (after[name][weight > 0] >= 0).all()
        assert (after[name][weight < 0] <= 0).all()
    assert sum(int((w == 0).sum()) for w in after.values()) > 10


@pytest.mark.parametrize(
    ("extra", "code"),
    [({"state_bits": "24"}, "NC320"), ({"error_limit": "-1"}, "NC320"), ({"eprop": "core"}, "NC325"), ({"bits": "16"}, "NC320")],
)
def test_wrong_options(extra: dict[str, str], code: str) -> None:
    network = learner(0)
    with pytest.raises(NeurocompileError) as caught:
        TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=True, extra={"eprop": "cores"} | extra))
    assert code in {d.code for d in caught.value.diagnostics}


def refused(network: Network, *, allow: bool = True) -> set[str]:
    with pytest.raises(UnsupportedError) as caught:
        TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=allow, extra={"eprop": "cores"}))
    return {d.code for d in caught.value.diagnostics}


def test_what_cores_do_not_have() -> None:
    """Many decays in a population; steps too large for the weights; Adam only as an approximation."""
    network = learner(0)
    hidden = network.population("hidden")
    mixed = dataclasses.replace(hidden, model=dataclasses.replace(hidden.model, tau_mem=np.linspace(0.01, 0.03, hidden.size)))
    others = tuple(mixed if p.name == "hidden" else p for p in network.populations)
    assert refused(dataclasses.replace(network, populations=others)) == {"NC327"}
    assert refused(learner(0, learning_rate=1e6)) == {"NC328"}
    assert refused(learner(0, rule=EProp(optimizer=Adam())), allow=False) == {"NC325"}


def test_sizes_are_those_of_the_structs(tmp_path: Path) -> None:
    """What the mapper counts in bytes is what the compiler makes of the extension's structs."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    source = tmp_path / "sizes.c"
    source.write_text(
        '#include <stdio.h>\n#include "eprop_core.h"\neprop_core_t eprop_core;\nstatic eprop_cells_t eprop_cells;\n'
        'int main(void) { (void) eprop_cells; printf("%zu %zu %zu %zu %zu", EPROP_RING * sizeof(eprop_block_t), sizeof(eprop_neuron_t),'
        " sizeof(eprop_cell_t), sizeof(eprop_state_of_neuron_t), sizeof(eprop_row_head_t)); return 0; }\n"
    )
    common = [costs.CELL_BYTES, costs.STATE_BYTES, costs.ROW_HEAD_BYTES]
    for adaptive, ours in (
        (0, [costs.RING_BYTES, costs.COEFFICIENT_BYTES, *common]),
        (1, [costs.ADAPTIVE_RING_BYTES, costs.ADAPTIVE_COEFFICIENT_BYTES, *common]),
    ):
        with resources.as_file(resources.files("neurocompile.backends.spinnaker") / "templates" / "extension") as include:
            words = [compiler, f"-DEPROP_ADAPTIVE={adaptive}", f"-I{include}", str(source), "-o", str(tmp_path / "sizes")]
            subprocess.run(words, check=True)
        printed = subprocess.run([str(tmp_path / "sizes")], check=True, capture_output=True, text=True).stdout.split()
        assert [int(x) for x in printed] == ours


@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0, 20.0, 100.0])
def test_stretches_are_those_of_random_spikes(rate: float) -> None:
    """Expected stretches beside a simulation of 2,000 seconds, within four standard deviations of a Poisson count."""
    ticks = 2_000_000
    rng = np.random.default_rng(0)
    spikes = np.flatnonzero(rng.random(ticks) < rate / 1000.0)
    when = np.unique(np.concatenate([spikes, np.arange(0, ticks, (BLOCKS - 1) * WINDOW)])) // WINDOW
    steps = 0
    for past, block in zip(when[:-1].tolist(), when[1:].tolist(), strict=True):
        while past < block:
            past += next(s for s in (4, 2, 1) if past % s == 0 and past + s <= block)  # noqa: PLW2901
            steps += 1
    expected = float(cycles.stretches_per_second(np.array([rate]), 1e-3)[0]) * ticks / 1000.0
    assert abs(steps - expected) <= 4.0 * np.sqrt(expected) + 2.0
    assert (BLOCKS - 1) * WINDOW == SWEEP


def test_eighty_neurons_share_a_core() -> None:
    """At 5 Hz, 250 inputs and regularisation, as many neurons share a core as cycles and memory allow; both beyond the 64 of the aim."""
    network = learner(0, n_in=250, n=400, n_out=10, density=1.0, strength=0.1)
    feedforward = dataclasses.replace(network, projections=(network.projections[0], network.projections[2]))
    made = lowered(feedforward, rate=5, source_rate=5)
    assert made.problem is not None
    hidden = made.problem.population == 1
    most = {r.name: r.limit / float(r.per_neuron[hidden].max()) for r in made.problem.resources if r.per_neuron[hidden].max() > 0}
    assert most["cycles of a step"] >= 80
    assert most["local memory (estimate)"] >= 80


def test_a_readout_stays_on_one_core() -> None:
    """Its targets are rows of all readouts in one core's memory, with either loss."""
    for loss in (Loss.MEAN_SQUARED_ERROR, Loss.CROSS_ENTROPY):
        problem = lowered(learner(0, n=30, n_out=3, loss=loss)).problem
        assert problem is not None
        assert problem.together is not None
        mine = problem.together[problem.population == 2]
        assert (mine >= 0).all()
        assert (mine == mine[0]).all()
        assert (problem.together[problem.population != 2] == -1).all()


def test_weights_beyond_their_words_are_clipped() -> None:
    """A weight beyond 16 bits of its unit is clipped to them at once, and stays there."""
    network = learner(0, learning_rate=1e-4)
    twin = TARGET.twin(lowered(network), learning=True)
    held = twin.weights()
    twin.set_weights({name: np.full_like(w, 1e6) for name, w in held.items()})
    units = {name: float(np.abs(w).max()) for name, w in twin.weights().items()}
    assert all(0.0 < most < 1e3 for most in units.values())
    with pytest.raises(InputError):
        TARGET.check_options({"state_bits": "x"})
