"""Numbers at the ends of their ranges: what is built is held by the cores' words, all else is NC328 with numbers and a way out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import LIF, ActorCritic, EProp, Explicit, GradientDescent, LeakyReadout, Loss, Network, Population, Reset, Task
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.spinnaker.eprop.networks import inputs, learner, lowered, planned

MOST = 32767
"""Of a 16-bit weight of e-prop cores"""


def sized(network: Network, factor: float, learning: str | None = "eprop") -> Network:
    """Multiply all weights."""
    made = []
    for p in network.projections:
        assert isinstance(p.connect, Explicit)
        assert p.connect.weight is not None
        with np.errstate(under="ignore"):
            made.append(replace(p, connect=replace(p.connect, weight=p.connect.weight * factor), learning=learning))
    return replace(network, projections=tuple(made))


def found(network: Network, **options: Any) -> SpinnakerNetwork | UnsupportedError:
    """Lower a network without any warning of NumPy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return lowered(network, **options)
        except UnsupportedError as error:
            return error


@settings(max_examples=60, deadline=None, derandomize=True)
@given(exponent=st.integers(-20, 307), threshold=st.floats(-4.0, 6.0), mode=st.sampled_from(["cores", "static", "none"]))
def test_weights_of_every_size(exponent: int, threshold: float, mode: str) -> None:
    """Built: no sum that is planned for leaves 32 bits, and each weight is held to half a unit. Refused: NC328."""
    network = learner(1, n=6, learning_rate=1e-12, strength=0.0)
    hidden = LIF(tau_mem=0.02, v_threshold=10.0**threshold, reset=Reset.TO_VALUE)
    bounds = EProp(weight_bounds=(-1.7e308, 1.7e308), optimizer=GradientDescent(learning_rate=1e-12))
    network = replace(
        network, populations=tuple(replace(p, model=hidden) if p.name == "hidden" else p for p in network.populations), rules=(bounds,)
    )
    got = found(sized(network, 10.0**exponent, "eprop" if mode != "none" else None), eprop="static" if mode == "static" else "cores")
    if isinstance(got, UnsupportedError):
        assert {d.code for d in got.diagnostics} == {"NC328"}
        assert all(d.help for d in got.diagnostics)
        assert exponent < -2 or exponent > threshold
        return
    for buffer in got.buffers.values():
        assert max(buffer.expected) < 2.0**15
        assert max(buffer.resolution) <= 1.0
    if got.eprop is not None:
        for p in got.eprop.projections:
            unit = got.eprop.populations[p.post].weight_unit * (2.0**-14 if p.learns else 1.0)
            real = got.connections[p.name].weight[p.rows.order]
            assert np.abs(p.weight * unit - real).max(initial=0.0) <= 0.51 * unit


def test_a_weight_that_was_built_although_no_word_held_it() -> None:
    """1e6 at a threshold of 0.6: a shift by 24 of a ring buffer's 16 bits, which a core's 32 bits do not have."""
    error = found(sized(learner(1), 1e6))
    assert isinstance(error, UnsupportedError)
    assert {d.code for d in error.diagnostics} == {"NC328"}
    assert any("s16.15 ends at" in d.message for d in error.diagnostics)


def test_growth_is_how_far_weights_can_go() -> None:
    """--set growth: the report says where weights end, below the rule's bounds; nothing is said where they end beyond these."""
    network = learner(2)
    small, large = planned(network), planned(network, growth=50)
    for plan, growth in ((small, 2.0), (large, 50.0)):
        for p in plan.projections:
            if p.post == "hidden":
                assert MOST * plan.populations["hidden"].weight_unit >= growth * 0.5  # 3 sigma of 0.25 and more are among the weights
    assert large.populations["hidden"].weight_unit > small.populations["hidden"].weight_unit
    notes = [n for n in lowered(network).summary["notes"] if "weight_bounds" in n]
    assert len(notes) == 2
    end = MOST * small.populations["hidden"].weight_unit
    assert any("'hidden'" in n and f"end at {end:.3g}" in n and "--set growth=" in n for n in notes)
    (rule,) = network.rules
    assert isinstance(rule, EProp)
    narrow = replace(network, rules=(replace(rule, weight_bounds=(-0.1, 0.1)),))
    assert not [n for n in lowered(narrow).summary["notes"] if "weight_bounds" in n]
    for wrong in ("0", "-1", "inf", "x"):
        with pytest.raises(InputError, match="NC320"):
            TARGET.check_options({"growth": wrong})


def test_weights_that_begin_at_zero_can_make_a_neuron_spike() -> None:
    """Without a weight to go by, the distance to the threshold is planned for."""
    plan = planned(sized(learner(3), 0.0))
    assert MOST * plan.populations["hidden"].weight_unit >= 0.5
    assert MOST * plan.populations["out"].weight_unit >= 1.0


@pytest.mark.parametrize("loss", list(Loss))
def test_targets_beyond_all_words(loss: Loss) -> None:
    """Targets end where the core's words do (probabilities: at 1), in the twin as in the program; larger ones make no difference."""
    network, states = learner(4, loss=loss), []
    for size in (1e7, 1e300):
        twin = TARGET.twin(lowered(network), learning=True)
        _, spikes = inputs(np.random.default_rng(0), 12, 100, 0.1)
        twin.run(100, spikes={"in": spikes}, signals={"out": Signal(target=np.full((100, 3), size), window=np.ones(100, np.bool_))})
        states.append(twin.weights())
    for name, weight in states[0].items():
        np.testing.assert_array_equal(weight, states[1][name])
    low, high = planned(network).target_range("out")
    assert (low, high) == ((0, MOST) if loss is Loss.CROSS_ENTROPY else (-(2**31) + 1, 2**31 - 1))


def test_static_is_what_the_help_of_refusals_promises() -> None:
    """ "Train here and build the network with the weights": eprop=static builds what only the engine can learn."""
    network = learner(5)
    (rule,) = network.rules
    assert isinstance(rule, EProp)
    decaying = replace(network, rules=(replace(rule, weight_decay=1e-5),))
    for mode in ("cores", "r_stdp"):
        with pytest.raises(UnsupportedError, match="eprop=static") as error:
            lowered(decaying, eprop=mode)
        assert {d.code for d in error.value.diagnostics} == {"NC344"}
    made = lowered(decaying, eprop="static")
    assert made.learning.plastic == {}
    with pytest.raises(UnsupportedError, match="NC325"):
        TARGET.lower(decaying, realise_all(decaying), None, BuildOptions(extra={"eprop": "static"}))


def test_a_policy_is_built_but_not_measured() -> None:
    """eprop=static builds what has learnt from reward; evaluate would have no actions to measure, so it says so instead of a loss of 0."""
    network = learner(5)
    critic = Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.02))
    policy = replace(network, populations=(*network.populations, critic), task=Task(readout="out", loss=ActorCritic(critic="critic")))
    assert lowered(policy, eprop="static").learning.plastic == {}
    with pytest.raises(UnsupportedError, match="NC344"):
        TARGET.lower(policy, realise_all(policy), None, BuildOptions(extra={"eprop": "static"}, allow_approximation=True, learning=False))


def test_targets_as_simulate_takes_them(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """run.py --target: every file that `simulate --signal` reads is read alike, every other ends with a message and status 3."""
    target = np.arange(8.0).reshape(4, 2)
    for window in (None, np.array([True, False, True, True]), np.array([1, 0, 1, 1])):
        path = tmp_path / "signal.npz"
        np.savez(path, target=target, **({} if window is None else {"window": window}))
        theirs = Signal.load(path, size=2)
        ours = script.read_target(path, 2, "out")
        np.testing.assert_array_equal(ours[0], theirs.target)
        np.testing.assert_array_equal(ours[1], theirs.window)
        assert ours[1].dtype == np.bool_
    wrong: list[dict[str, Any]] = [
        {"window": np.ones(4, np.bool_)},
        {"target": target.astype(np.complex128)},
        {"target": target.astype("U4")},
        {"target": target[:, :1]},
        {"target": target[0]},
        {"target": np.where(target > 5, np.nan, target)},
        {"target": target, "window": np.ones(3, np.bool_)},
        {"target": target, "window": np.array(["yes"] * 4)},
    ]
    for arrays in wrong:
        np.savez(tmp_path / "signal.npz", **arrays)
        with pytest.raises(InputError):
            Signal.load(tmp_path / "signal.npz", size=2)
        with pytest.raises(SystemExit) as end:
            script.read_target(tmp_path / "signal.npz", 2, "out")
        assert end.value.code == 3
        assert "'target'" in (said := capsys.readouterr().err) or "'window'" in said


def test_an_interrupt_while_results_are_written_leaves_nothing(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(script.np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.save(folder / "results.npz", {"a": np.arange(3)})
    assert list(folder.iterdir()) == []


def test_silence() -> None:
    """No spike, no target, no change."""
    network = learner(6, strength=0.0)
    twin = TARGET.twin(lowered(network), learning=True)
    before = twin.weights()
    nothing = Spikes(neuron=np.zeros(0, np.int32), step=np.zeros(0, np.int64))
    twin.run(50, spikes={"in": nothing}, signals={})
    for name, weight in twin.weights().items():
        np.testing.assert_array_equal(weight, before[name])
