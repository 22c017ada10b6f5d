"""State, reset and weights of a twin; a population that is computed in another way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.twin import Packets, Twin
from neurocompile.ir import LIF, RSTDP, STDP, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Reset
from neurocompile.ir.npz import AnyArray
from tests.backends.spinnaker.twin.networks import lowered_of, spikes_of

RULES = {
    "static": None,
    "stdp": STDP(a_plus=0.05, a_minus=0.03, weight_bounds=(0.0, 0.4)),
    "r_stdp": RSTDP(reward="rew", reward_weight=40.0, a_plus=0.05, a_minus=0.02, tau_c=0.1, tau_d=0.05, weight_bounds=(0.0, 0.4)),
}


def made(name: str, size: int = 5) -> SpinnakerNetwork:
    rng, rule = np.random.default_rng(1), RULES[name]
    pre, post = np.nonzero(rng.random((8, size)) < 0.8)
    into = Explicit(pre=pre, post=post, weight=rng.normal(0.12, 0.06, len(pre)), delay=rng.integers(1, 5, len(pre)))
    out = Explicit(pre=np.arange(size), post=np.zeros(size, int), weight=np.full(size, 0.2), delay=np.full(size, 2))
    return lowered_of(
        Network(
            name="doors",
            dt=1e-3,
            populations=(
                Population(name="in", size=8, model=SpikeSource()),
                Population(name="rew", size=1, model=SpikeSource(rate=30.0)),
                Population(name="a", size=size, model=LIF(tau_mem=0.01, v_threshold=0.3, reset=Reset.TO_VALUE)),
                Population(name="out", size=1, model=LeakyReadout(tau_mem=0.02, v_leak=0.1)),
            ),
            projections=(
                Projection(pre="in", post="a", connect=into, learning=None if rule is None else rule.name),
                Projection(pre="a", post="out", connect=out),
            ),
            rules=() if rule is None else (rule,),
        )
    )


def equal(a: Any, b: Any) -> None:
    for name in a.spikes:
        np.testing.assert_array_equal(a.spikes[name].step, b.spikes[name].step)
        np.testing.assert_array_equal(a.spikes[name].neuron, b.spikes[name].neuron)
    for name in a.outputs:
        np.testing.assert_array_equal(a.outputs[name], b.outputs[name])


@pytest.mark.parametrize("name", RULES)
def test_a_restored_state_goes_on_bit_identically(name: str) -> None:
    lowered, given = made(name), {"in": spikes_of(4, 8, 400, 0.1)}
    whole, first, second = (Twin(lowered, learning=True) for _ in range(3))
    expected = whole.run(400, spikes=given, signals={})
    first.run(150, spikes=given, signals={})
    saved = first.state()
    later = first.run(250, spikes=given, signals={})
    assert len(expected.spikes["a"].step) > 100
    second.run(17, spikes={}, signals={})
    second.restore(saved)
    assert second.step == 150
    equal(second.run(250, spikes=given, signals={}), later)
    for key, values in second.state().items():
        np.testing.assert_array_equal(values, whole.state()[key])
    np.testing.assert_array_equal(later.outputs["out"], expected.outputs["out"][150:])


@pytest.mark.parametrize("name", RULES)
def test_reset_leaves_weights_alone_and_nothing_else(name: str) -> None:
    """After a reset the run is that of a fresh program with the learnt weights, spikes of sources shifted by the steps done."""
    lowered = made(name)
    twin = Twin(lowered, learning=True)
    before = twin.run(300, spikes={"in": spikes_of(4, 8, 300, 0.1), "rew": spikes_of(5, 1, 300, 0.1)}, signals={})
    learnt = twin.weights()
    twin.reset()
    for key, values in twin.weights().items():
        np.testing.assert_array_equal(values, learnt[key])
    again = spikes_of(6, 8, 200, 0.1)
    rewards = spikes_of(7, 1, 200, 0.1)
    fresh = Twin(lowered, learning=True)
    fresh.set_weights(learnt)
    expected = fresh.run(200, spikes={"in": again, "rew": rewards}, signals={})
    shifted = {k: type(s)(neuron=s.neuron, step=s.step + 300) for k, s in (("in", again), ("rew", rewards))}
    got = twin.run(200, spikes=shifted, signals={})
    np.testing.assert_array_equal(got.spikes["a"].step - 300, expected.spikes["a"].step)
    np.testing.assert_array_equal(got.outputs["out"], expected.outputs["out"])
    for key, values in fresh.weights().items():
        np.testing.assert_array_equal(values, twin.weights()[key])
    changed = bool((learnt["in->a"] != Twin(lowered, learning=True).weights()["in->a"]).any())
    assert changed == (name != "static")
    assert len(before.spikes["a"].step) > 50


@pytest.mark.parametrize("name", ["stdp", "r_stdp"])
def test_without_learning_nothing_learns(name: str) -> None:
    """``learn=False`` and a twin without learning give the same run, and weights stay."""
    lowered, given = made(name), {"in": spikes_of(4, 8, 200, 0.1)}
    learning, static = Twin(lowered, learning=True), Twin(lowered, learning=False)
    equal(learning.run(200, spikes=given, signals={}, learn=False), static.run(200, spikes=given, signals={}))
    for key, values in learning.weights().items():
        np.testing.assert_array_equal(values, static.weights()[key])


def test_weights_are_set_as_they_are_held() -> None:
    """What weights() returned is taken unchanged; others are rounded; a synapse keeps its sign; static projections are passed over."""
    lowered = made("stdp")
    twin = Twin(lowered, learning=True)
    held = twin.weights()
    twin.set_weights(held)
    for key, values in twin.weights().items():
        np.testing.assert_array_equal(values, held[key])
    twin.set_weights({"in->a": held["in->a"] * 1.3, "a->out": np.full(5, 9.0)})
    unit = lowered.buffers["a"].resolution[0] / float(lowered.cells[2].weight_scale)
    np.testing.assert_allclose(twin.weights()["in->a"], held["in->a"] * 1.3, atol=unit / 2)
    np.testing.assert_array_equal(twin.weights()["a->out"], held["a->out"])
    twin.set_weights({"in->a": -held["in->a"]})
    assert (twin.weights()["in->a"] == 0.0).all()


def test_states_of_other_programs_are_refused() -> None:
    twin = Twin(made("stdp"), learning=True)
    own = twin.state()
    for wrong in (
        Twin(made("static"), learning=True).state(),
        Twin(made("stdp", size=4), learning=True).state(),
        {k: v for k, v in own.items() if k != "clock"},
        own | {"clock": np.array([1, 2], np.int64)},
        own | {"a:events last": np.full(5, -1, np.int64)},
        own | {"a:neurons": own["a:neurons"].astype(np.float64)},
    ):
        with pytest.raises(ValueError, match=r"belongs|steps are done|history"):
            twin.restore(wrong)
    twin.restore(own)


def test_spikes_for_nobody_are_an_error() -> None:
    with pytest.raises(KeyError, match="nobody"):
        Twin(made("static"), learning=False).run(3, spikes={"nobody": spikes_of(0, 1, 1, 2.0)}, signals={})


class Echo:
    """A population that spikes one tick after neuron 0 of its source, sends what it counts as payloads and has no weights."""

    def __init__(self, lowered: SpinnakerNetwork, index: int) -> None:
        self.name, self.n = lowered.cells[index].name, lowered.cells[index].size
        self.seen, self.count = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.began: list[tuple[int, bool]] = []
        self.heard: list[Mapping[str, Any]] = []

    @property
    def payload(self) -> Any:
        return np.repeat(self.count, self.n)

    @property
    def membrane(self) -> Any:
        return np.repeat(self.count, self.n).astype(np.float64)

    def begin(self, n_steps: int, signal: Any, *, learn: bool) -> None:
        assert signal is None
        self.began.append((n_steps, learn))

    def step(self, tick: int) -> Any:
        self.count += self.seen
        return np.arange(self.n) if self.seen[0] else np.zeros(0, np.int64)

    def receive(self, tick: int, packets: Packets) -> None:
        self.seen[0] = 0 in packets.spiked["in"]
        self.heard.append(packets.payload)

    def reset(self) -> None:
        self.seen[:] = self.count[:] = 0

    def weights(self) -> Mapping[str, Any]:
        return {"in->a": np.zeros(3)}

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        pass

    def changing(self) -> Mapping[str, AnyArray]:
        return {"seen": self.seen, "count": self.count}

    def check(self, state: Mapping[str, AnyArray]) -> None:
        if state["count"][0] < 0:
            raise ValueError("a count belongs to no program below 0")


def test_a_population_can_be_computed_in_another_way() -> None:
    """The seam: the others see its spikes, it sees theirs and all payloads, and its state is part of the twin's."""
    lowered = made("static")
    twin = Twin(lowered, learning=True, replaced={"a": Echo})
    given = spikes_of(3, 8, 60, 0.2)
    run = twin.run(60, spikes={"in": given}, signals={}, learn=False)
    expected = np.unique(given.step[given.neuron == 0]) + 1
    np.testing.assert_array_equal(run.spikes["a"].step, np.repeat(expected[expected < 60], 5))
    assert run.outputs["out"][expected[0] + 2 :, 0].max() > 0.5  # five weights of 0.2, two steps later
    np.testing.assert_allclose(run.outputs["out"][: expected[0] + 2, 0], 0.1, atol=1e-3)
    echo: Any = twin.cores["a"]
    assert echo.began == [(60, False)]
    assert [int(h["a"][0]) for h in echo.heard] == [int((expected <= t).sum()) for t in range(60)]
    saved = twin.state()
    assert saved["a:count"][0] == (expected < 60).sum()
    twin.reset()
    twin.restore(saved)
    assert twin.state()["a:count"][0] == saved["a:count"][0]
    with pytest.raises(ValueError, match="belongs"):
        twin.restore(saved | {"a:count": np.array([-1])})
    assert list(twin.weights()) == ["in->a", "a->out"]
