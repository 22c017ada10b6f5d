"""Tasks in a target's integers: frozen weights are those of a build, evaluation and learning equal other ways to the same numbers."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.ir import Adam, Network, Population, SpikeSource
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.npz import load_npz
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.pipeline import CompileOptions, compile_network
from neurocompile.simulation.twin import TwinSimulator, find_twin
from neurocompile.tasks import Numerics, compare, evaluate, load_data, sweep, train
from neurocompile.tasks.checkpoint import network_digest
from neurocompile.tasks.data import Purpose, stream
from neurocompile.tasks.losses import one_hot
from neurocompile.tasks.sweep import choices, described, parse_varied

FEW = {"limit_test": 12, "baseline": False}
MODULE = importlib.import_module("neurocompile.tasks.sweep")  # neurocompile.tasks.sweep itself is the function
Make = Callable[..., Network]


def integers(**extra: str) -> Numerics:
    """Scales of the worst case, which take no time to find."""
    return Numerics(target=find_twin("loihi2"), options=BuildOptions(extra={"tune": "0", **extra}))


@pytest.fixture(scope="module")
def trained(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """weights.npz of a short training in float64."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny(), out=folder, epochs=1, limit_train=200, limit_test=1, baseline=False)
    return folder / "weights.npz"


@pytest.mark.parametrize("extra", [{}, {"weight_bits": "5"}, {"weight_room": "1"}])
def test_frozen_weights_are_those_of_the_build(tiny: Make, extra: dict[str, str]) -> None:
    """network.npz of the build, times its units, against what the simulation says that it holds; half a step at most from the floats."""
    network = tiny()
    synapses = realise_all(network)
    built = compile_network(network, CompileOptions(target="loihi2", extra=extra, allow_approximation=True), connections=synapses)
    spec = json.loads(built.artifacts["program/network.json"])
    with np.load(io.BytesIO(built.artifacts["program/network.npz"])) as emitted:
        simulator = TwinSimulator(network, synapses, find_twin("loihi2"), options=BuildOptions(extra=extra), learning=False)
        for projection in spec["projections"]:
            held = simulator.weights()[projection["name"]]
            values = emitted[f"{projection['key']}.weight.fixed"].astype(np.int64)
            np.testing.assert_array_equal(held, values * projection["unit"])
            step = 2 ** (9 - int(extra.get("weight_bits", 8)))
            assert not (values % step).any()
            assert np.abs(held - synapses[projection["name"]].weight).max() <= 0.5 * step * projection["unit"] * (1 + 1e-12)


def test_both_evaluations_are_runs_of_all_samples_in_a_row(tiny: Make, trained: Path) -> None:
    """Decisions from one long run of `simulate --numerics`, its input put together here."""
    network = tiny()
    arrays = load_npz(trained)
    synapses = {n: replace(c, weight=arrays[f"weight:{n}"]) for n, c in realise_all(network).items()}
    both = compare(network, integers(), connections=synapses, **FEW)
    data, n = load_data(network), 12
    samples = [data.test.sample(i) for i in range(n)]
    spikes = Spikes(
        neuron=np.concatenate([s.neuron for s in samples]), step=np.concatenate([s.step + 30 * i for i, s in enumerate(samples)])
    )
    run = TwinSimulator(network, synapses, find_twin("loihi2"), learning=False).run(30 * n, spikes={"in": spikes})
    output = run.outputs["out"].reshape(n, 30, 10)
    assert both.integers.decisions == tuple(output.mean(axis=1).argmax(axis=1))
    target = np.eye(10)[[s.label for s in samples]][:, None]
    assert both.integers.loss == pytest.approx(0.5 * ((output - target) ** 2).sum() / (n * 30), rel=1e-12)  # the order of the sum differs
    assert both.integers.synaptic_events_per_sample == pytest.approx(run.n_synaptic_events / n)
    assert both.float64 == evaluate(network, trained, **FEW)
    assert both.integers == evaluate(network, trained, numerics=integers(), **FEW)
    assert both.integers.loss != both.float64.loss
    differ = np.sum(np.array(both.integers.decisions) != np.array(both.float64.decisions))
    assert both.as_json()["n_decisions_differ"] == differ
    coarse = compare(network, integers(weight_bits="2"), connections=synapses, **FEW)
    assert coarse.n_decisions_differ > differ
    assert coarse.float64 == both.float64


def test_the_training_part_can_be_measured(tiny: Make, trained: Path) -> None:
    """Samples of the training part as of epoch 0, one by one through a simulator of its own."""
    network = tiny(options={"reset_between_samples": True})
    found = evaluate(network, trained, part="train", limit_train=5, numerics=integers())
    assert (found.n_test, found.part, found.baseline_accuracy) == (5, "train", None)
    arrays, data = load_npz(trained), load_data(network)
    synapses = {n: replace(c, weight=arrays[f"weight:{n}"]) for n, c in realise_all(network).items()}
    for i in range(5):
        sample = data.train.sample(i)
        simulator = TwinSimulator(network, synapses, find_twin("loihi2"), learning=False)
        run = simulator.run(30, spikes={"in": Spikes(neuron=sample.neuron, step=sample.step)})
        assert found.decisions[i] == run.outputs["out"].mean(axis=0).argmax()


def test_learnt_weights_are_whole_and_low_bits_are_not_lost_between_samples(tiny: Make, tmp_path: Path) -> None:
    """A training is one continuous run of the twin over its samples: the same weights as from all steps at once."""
    network = tiny()
    result = train(network, out=tmp_path, epochs=1, limit_train=20, limit_test=2, baseline=False, numerics=integers())
    data = load_data(network)
    samples = [data.train.sample(int(i), 0) for i in stream(network.seed, Purpose.ORDER, 0).permutation(np.arange(20))]
    spikes = Spikes(
        neuron=np.concatenate([s.neuron for s in samples]), step=np.concatenate([s.step + 30 * i for i, s in enumerate(samples)])
    )
    parts = [one_hot(s.label, 10, 30, 30) for s in samples]
    signal = Signal(target=np.concatenate([p.target for p in parts]), window=np.concatenate([p.window for p in parts]))
    simulator = TwinSimulator(network, None, find_twin("loihi2"), options=integers().options)
    saved, start = load_npz(tmp_path / "weights.npz"), simulator.weights()
    simulator.run(600, spikes={"in": spikes}, signals={"out": signal})
    for projection in simulator.lowered.projections:  # type: ignore[attr-defined]
        name, unit = projection.name, projection.quantised.unit
        np.testing.assert_array_equal(saved[f"weight:{name}"], simulator.weights()[name])
        assert not np.array_equal(saved[f"weight:{name}"], start[name])
        np.testing.assert_array_equal(saved[f"weight:{name}"], np.rint(saved[f"weight:{name}"] / unit) * unit)
    assert result.lowering is not None
    assert result.as_json()["numerics"] == "loihi2"
    assert any("saturate" in note for note in result.as_json()["notes"])


def test_training_goes_on_from_given_weights(tiny: Make, trained: Path, tmp_path: Path) -> None:
    """Fine-tuning: after one sample the weights are still near those given, far from those described."""
    network = tiny()
    arrays = load_npz(trained)
    synapses = {n: replace(c, weight=arrays[f"weight:{n}"]) for n, c in realise_all(network).items()}
    train(network, out=tmp_path, epochs=1, limit_train=1, limit_test=1, baseline=False, numerics=integers(), connections=synapses)
    tuned = load_npz(tmp_path / "weights.npz")
    for name, described_synapses in realise_all(network).items():
        near = np.abs(tuned[f"weight:{name}"] - arrays[f"weight:{name}"]).mean()
        assert near < 0.5 * np.abs(tuned[f"weight:{name}"] - described_synapses.weight).mean()


def test_a_training_in_other_integers_is_another_training(tiny: Make, tmp_path: Path) -> None:
    few = {"limit_train": 5, "limit_test": 2, "baseline": False}
    train(tiny(), out=tmp_path, epochs=1, numerics=integers(), **few)
    for other in (None, integers(low_bits="none")):
        with pytest.raises(InputError, match="NC711"):
            train(tiny(), out=tmp_path, epochs=2, resume=True, numerics=other, **few)


def test_what_is_only_approximated_is_refused_where_it_learns(tiny: Make, tmp_path: Path) -> None:
    network = tiny()
    adam = replace(network, rules=(replace(network.rules[0], optimizer=Adam(learning_rate=1e-4)),))  # type: ignore[type-var]
    with pytest.raises(UnsupportedError, match="NC313"):
        train(adam, out=tmp_path, epochs=1, numerics=integers(), limit_train=1, limit_test=1, baseline=False)
    assert evaluate(adam, numerics=integers(), **FEW) == evaluate(network, numerics=integers(), **FEW)


def test_states_of_another_program_are_refused(tiny: Make) -> None:
    simulator = TwinSimulator(tiny(), None, find_twin("loihi2"), options=integers().options)
    other = replace(tiny(), populations=tuple(replace(p, size=21) if p.name == "hidden" else p for p in tiny().populations))
    for state in (TwinSimulator(other, None, find_twin("loihi2"), options=integers().options).state(), {}):
        with pytest.raises(InputError, match="NC235"):
            simulator.restore(state)


def test_weights_that_are_set_are_held_and_others_stay(tiny: Make) -> None:
    """An extra source whose projection does not learn keeps its weights; what a twin held is taken unchanged, all else is rounded."""
    network = tiny()
    still = replace(network.projections[0], name="more->hidden", pre="more", learning=None)
    network = replace(
        network,
        populations=(*network.populations, Population(name="more", size=4, model=SpikeSource())),
        projections=(*network.projections, still),
        task=replace(network.task, input="in"),  # type: ignore[type-var]
    )
    simulator = TwinSimulator(network, None, find_twin("loihi2"), options=integers().options)
    before = simulator.weights()
    wanted = {name: np.roll(values, 1) for name, values in before.items()}
    simulator.set_weights(wanted)
    after = simulator.weights()
    for name in ("in->hidden", "hidden->hidden", "hidden->out"):
        np.testing.assert_array_equal(after[name], wanted[name])
    np.testing.assert_array_equal(after["more->hidden"], before["more->hidden"])
    simulator.set_weights({"hidden->out": before["hidden->out"] * 100})
    held = simulator.weights()["hidden->out"]
    quantised = simulator.lowered.projections[2].quantised  # type: ignore[attr-defined]
    assert (held.min(), held.max()) == (quantised.low * quantised.unit, quantised.high * quantised.unit)


def test_values_that_vary_are_read() -> None:
    assert parse_varied(["weight_bits=2..4,8", "low_bits=d,none"]) == {"weight_bits": ["2", "3", "4", "8"], "low_bits": ["d", "none"]}
    assert parse_varied(["a=3..3,x,x, 4"]) == {"a": ["3", "x", "4"]}
    assert choices({"a": ["1", "2"], "b": ["x", "y"]}) == [
        {"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"},
    ]  # fmt: skip


def test_choices_of_the_description(tiny: Make) -> None:
    network = described(tiny(), {"kappa": "0.875", "learning_rate": "1e-6", "seed": "9", "weight_bits": "3"})
    (rule,) = network.rules
    assert (rule.kappa, rule.kappa_reg, rule.optimizer.learning_rate, network.seed) == (0.875, 0.99, 1e-6, 9)  # type: ignore[union-attr]
    assert network_digest(described(tiny(), {})) == network_digest(tiny())


def test_points_of_a_sweep_are_evaluations_and_are_done_once(tiny: Make, trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    network = tiny()
    arrays = load_npz(trained)
    synapses = {n: replace(c, weight=arrays[f"weight:{n}"]) for n, c in realise_all(network).items()}
    varied = {"weight_bits": ["3", "8"], "weight_room": ["1", "2"]}
    arguments = {"out": tmp_path / "s", "connections": synapses, "limit_test": 12}
    first = sweep(network, integers(), varied, **arguments)
    assert [p.choice for p in first.points] == choices(varied)
    for point in first.points:
        alone = evaluate(network, trained, numerics=integers(**point.choice), **FEW)
        assert (point.accuracy, point.loss, point.spikes_per_sample) == (alone.accuracy, alone.loss, alone.spikes_per_sample)
        assert first.lost(point) == first.float64["accuracy"] - alone.accuracy
    seen = sweep(network, integers(), {"weight_bits": ["8"]}, part="train", **{**arguments, "out": tmp_path / "t", "limit_test": 7})
    of_training = evaluate(network, trained, numerics=integers(weight_bits="8"), part="train", limit_train=7)
    assert (seen.n_test, seen.points[0].loss) == (7, of_training.loss)
    assert first.float64["loss"] == evaluate(network, trained, **FEW).loss
    table = (tmp_path / "s/sweep.csv").read_text().splitlines()
    assert table[0].startswith("weight_bits,weight_room,accuracy,loss")
    assert len(table) == 5
    assert (tmp_path / "s/sweep.png").read_bytes().startswith(b"\x89PNG")
    files = {f: (tmp_path / "s" / f).read_bytes() for f in ("sweep.json", "sweep.csv", "sweep.png")}

    one = next((tmp_path / "s/points").iterdir())
    for damaged in (None, b"{", b'{"base": 1}'):
        one.unlink() if damaged is None else one.write_bytes(damaged)
        again = sweep(network, integers(), varied, **arguments)
        assert again.points == first.points
        assert {f: (tmp_path / "s" / f).read_bytes() for f in files} == files
    monkeypatch.setattr(MODULE, "evaluate", None)
    done = sweep(network, integers(), varied, **arguments)
    assert (done.skipped, done.points) == (4, first.points)
    with pytest.raises(TypeError):  # other weights are another sweep
        sweep(network, integers(), varied, **{**arguments, "connections": None})


def test_an_interrupted_sweep_goes_on(tiny: Make, tmp_path: Path, monkeypatch: Any) -> None:
    @contextmanager
    def after_two() -> Iterator[Callable[[], bool]]:
        calls = iter(range(100))
        yield lambda: next(calls) >= 2

    monkeypatch.setattr(MODULE, "interruptible", after_two)
    varied = {"weight_bits": ["4", "6", "8"]}
    broken = sweep(tiny(), integers(), varied, out=tmp_path / "a", limit_test=4)
    assert (broken.interrupted, len(broken.points)) == (True, 2)
    monkeypatch.undo()
    rest = sweep(tiny(), integers(), varied, out=tmp_path / "a", limit_test=4)
    whole = sweep(tiny(), integers(), varied, out=tmp_path / "b", limit_test=4)
    assert (rest.skipped, rest.interrupted, rest.points) == (2, False, whole.points)
    assert (tmp_path / "a/sweep.csv").read_bytes() == (tmp_path / "b/sweep.csv").read_bytes()


def test_a_sweep_that_learns_is_a_training(tiny: Make, tmp_path: Path) -> None:
    """A whole epoch of samples against `train` for one epoch and `evaluate` of what it learnt, in integers and in float64."""
    network = tiny(sample_steps=10, options={"test_fraction": 0.6})
    n = len(load_data(network).train.labels)
    found = sweep(network, integers(), {"low_bits": ["none"]}, out=tmp_path / "s", learn=n, limit_test=12)
    (point,) = found.points
    train(network, out=tmp_path / "t", epochs=1, numerics=integers(low_bits="none"), **FEW)
    assert point.loss == evaluate(network, tmp_path / "t/weights.npz", numerics=integers(low_bits="none"), **FEW).loss
    result = train(network, out=tmp_path / "f", epochs=1, **FEW)
    assert found.float64["loss"] == result.history[-1].test_loss
    assert point.train_accuracy is not None


def test_points_that_the_target_refuses_are_said(tiny: Make, tmp_path: Path) -> None:
    plain = integers(low_bits="none", eprop_form="lagged")
    found = sweep(tiny(), plain, {"weight_bits": ["4"], "weight_room": ["2"]}, out=tmp_path, learn=2, limit_test=2)
    (point,) = found.points
    assert point.accuracy is None
    assert str(point.refused).startswith("NC318: ")
    allowed = replace(plain, options=replace(plain.options, allow_approximation=True))
    assert sweep(tiny(), allowed, {"weight_bits": ["4"]}, out=tmp_path / "a", learn=2, limit_test=2).points[0].accuracy is not None


@pytest.mark.parametrize("extra", [{}, {"eprop_form": "pre_trace"}, {"eprop_form": "two_traces"}])
def test_learnt_weights_of_few_bits_stay_few(tiny: Make, tmp_path: Path, extra: dict[str, str]) -> None:
    """In 4 bits mixed weights are multiples of 32 units: at the start, after learning, and when they are set."""
    how = integers(weight_bits="4", weight_room="1", **extra)
    train(tiny(), out=tmp_path, epochs=1, limit_train=60, limit_test=1, baseline=False, numerics=how)
    saved = load_npz(tmp_path / "weights.npz")
    simulator = TwinSimulator(tiny(), None, how.target, options=how.options)
    start = simulator.weights()
    for projection in simulator.lowered.projections:  # type: ignore[attr-defined]
        name, step = projection.name, 32 * projection.quantised.unit
        np.testing.assert_array_equal(saved[f"weight:{name}"], np.rint(saved[f"weight:{name}"] / step) * step)
    assert any(not np.array_equal(saved[f"weight:{name}"], values) for name, values in start.items())
    simulator.set_weights({"hidden->out": start["hidden->out"] * 0.9})
    held = simulator.weights()["hidden->out"]
    np.testing.assert_array_equal(held, np.rint(held / step) * step)


@pytest.mark.parametrize(("bits", "impulse"), [(7, 16), (5, 4), (3, 1)])
def test_coarse_traces(tiny: Make, tmp_path: Path, bits: int, impulse: int) -> None:
    """Fewer trace bits: the impulse of a spike and psi have them, gains make up for it, and it still learns (chance is 10 %)."""
    simulator = TwinSimulator(tiny(), None, find_twin("loihi2"), options=integers(trace_bits=str(bits), eprop_form="lagged").options)
    lowered: Any = simulator.lowered
    table = lowered.populations[1].learning_arrays["surrogate_table"]
    assert table.max() == 127 // 2 ** (7 - bits) * 2 ** (7 - bits)
    assert not (table % 2 ** (7 - bits)).any()
    assert len(np.unique(table)) > 2 ** (bits - 1)
    assert {p.rule["x1_impulse_fixed"] for p in lowered.projections} == {impulse}
