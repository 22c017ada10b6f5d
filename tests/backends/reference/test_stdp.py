"""Event-driven STDP and reward-modulated STDP beside a step-by-step form that sums over all spike pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.ir import LIF, RSTDP, STDP, Explicit, Network, Population, Projection, SpikeSource
from neurocompile.ir.signals import Spikes

STEPS = 120


def build(rule: STDP, seed: int) -> tuple[Network, dict[str, Spikes]]:
    rng = np.random.default_rng(seed)
    m = 14
    plastic = Explicit(
        pre=rng.integers(0, 4, m), post=rng.integers(0, 3, m), weight=rng.uniform(0.1, 0.5, m), delay=rng.choice([1, 1, 2, 7], m)
    )
    recurrent = Explicit(pre=np.array([0, 1, 2]), post=np.array([1, 2, 0]), weight=np.full(3, 0.2), delay=np.array([1, 3, 5]))
    network = Network(
        name="stdp",
        dt=1e-3,
        populations=(
            Population(name="in", size=4, model=SpikeSource()),
            Population(name="post", size=3, model=LIF(tau_mem=0.02, v_threshold=0.8)),
            Population(name="reward", size=2, model=SpikeSource()),
        ),
        projections=(
            Projection(pre="in", post="post", connect=plastic, learning=rule.name),
            Projection(pre="post", post="post", connect=recurrent, learning=rule.name),
        ),
        rules=(rule,),
    )
    spikes = {}
    for name, n, p in (("in", 4, 0.2), ("reward", 2, 0.04)):
        step, neuron = np.nonzero(rng.random((STEPS, n)) < p)
        spikes[name] = Spikes(neuron=neuron, step=step)
    return network, spikes


def brute_force(network: Network, given: dict[str, Spikes]) -> tuple[dict[str, np.ndarray], list[tuple[int, int]]]:
    rule, dt = network.rules[0], network.dt
    assert isinstance(rule, STDP)
    low, high = rule.weight_bounds
    fired: dict[str, dict[int, list[int]]] = {"in": {}, "post": {}, "reward": {}}
    for name, spikes in given.items():
        for n, s in zip(spikes.neuron, spikes.step, strict=True):
            fired[name].setdefault(int(n), []).append(int(s))
    weights, c = {}, {}
    for p in network.projections:
        assert isinstance(p.connect, Explicit)
        assert p.connect.weight is not None
        weights[p.name], c[p.name] = p.connect.weight.copy(), np.zeros(len(p.connect.pre))
    v, d, raster = np.zeros(3), 0.0, []
    for t in range(STEPS):
        if isinstance(rule, RSTDP):
            speed = 1 / rule.tau_c + 1 / rule.tau_d
            for name in tuple(c):  # from t-1 to t
                gain = c[name] * d * (1 - np.exp(-dt * speed)) / speed
                weights[name] = np.clip(weights[name] + gain, low, high)
                c[name] *= np.exp(-dt / rule.tau_c)
            d *= np.exp(-dt / rule.tau_d)
            d += rule.reward_weight * sum(t - 1 in s for s in fired["reward"].values())
        drive = np.zeros(3)

        def change(name: str, i: int, amount: float, up: bool) -> None:
            w = weights[name][i]
            amount *= (high - w if up else w - low) if rule.multiplicative else high
            amount = amount if up else -amount
            if isinstance(rule, RSTDP):
                c[name][i] += amount
            else:
                weights[name][i] = np.clip(w + amount, low, high)

        for p in network.projections:
            e = p.connect
            assert isinstance(e, Explicit)
            assert e.delay is not None
            for i in range(len(e.pre)):
                if t - e.delay[i] in fired[p.pre].get(int(e.pre[i]), []):
                    y = sum(np.exp(-(t - s) * dt / rule.tau_minus) for s in fired["post"].get(int(e.post[i]), []) if s < t)
                    change(p.name, i, rule.a_minus * y, False)
                    drive[e.post[i]] += weights[p.name][i]
        v = np.exp(-dt / 0.02) * v + drive
        spiking = np.flatnonzero(v >= 0.8)
        v[spiking] -= 0.8
        for p in network.projections:
            e = p.connect
            assert isinstance(e, Explicit)
            assert e.delay is not None
            for i in range(len(e.pre)):
                if e.post[i] in spiking:
                    arrivals = (s + int(e.delay[i]) for s in fired[p.pre].get(int(e.pre[i]), []))
                    x = sum(np.exp(-(t - a) * dt / rule.tau_plus) for a in arrivals if a < t)
                    change(p.name, i, rule.a_plus * x, True)
        for n in spiking:
            fired["post"].setdefault(int(n), []).append(t)
            raster.append((t, int(n)))
    if isinstance(rule, RSTDP):  # up to the next step, as flush does
        for name in tuple(c):
            gain = c[name] * d * (1 - np.exp(-dt * speed)) / speed
            weights[name] = np.clip(weights[name] + gain, low, high)
    return weights, raster


common = {
    "tau_plus": st.floats(0.003, 0.05),
    "tau_minus": st.floats(0.003, 0.05),
    "a_plus": st.floats(0.0, 0.1),
    "a_minus": st.floats(0.0, 0.1),
    "weight_bounds": st.sampled_from([(0.0, 1.0), (0.05, 0.55)]),
    "multiplicative": st.booleans(),
}
reward = {
    "reward": st.just("reward"),
    "tau_c": st.floats(0.005, 1.0),
    "tau_d": st.floats(0.005, 1.0),
    "reward_weight": st.sampled_from([5.0, 50.0, -20.0]),
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rule=st.one_of(st.builds(STDP, **common), st.builds(RSTDP, **common, **reward)), seed=st.integers(0, 10**6))
def test_stdp_equals_brute_force(rule: STDP, seed: int) -> None:
    network, spikes = build(rule, seed)
    simulator = Simulator(network)
    recording = simulator.run(STEPS, spikes=spikes)
    simulator.flush()
    weights, raster = brute_force(network, spikes)
    got = recording.spikes["post"]
    assert list(zip(got.step.tolist(), got.neuron.tolist(), strict=True)) == raster
    for name, values in weights.items():
        np.testing.assert_allclose(simulator.weights()[name], values, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", [STDP(a_plus=0.05, a_minus=0.04), RSTDP(a_plus=0.05, a_minus=0.04, reward="reward", reward_weight=20.0)])
def test_stdp_chunks_checkpoints_and_pauses(rule: STDP) -> None:
    network, spikes = build(rule, 4)
    whole, parts = Simulator(network), Simulator(network)
    before = whole.weights()["in->post"]
    whole.run(STEPS, spikes=spikes)
    parts.run(50, spikes=spikes)
    resumed = Simulator(network)
    resumed.restore(parts.state())
    resumed.run(STEPS - 50, spikes=spikes)
    assert np.abs(whole.weights()["in->post"] - before).max() > 1e-3
    for name, values in whole.state().items():
        np.testing.assert_array_equal(values, resumed.state()[name], err_msg=name)
    fixed = resumed.weights()
    resumed.run(100, learn=False, spikes={"in": Spikes(neuron=np.arange(4), step=np.arange(STEPS, STEPS + 4))})
    for name, values in fixed.items():
        np.testing.assert_array_equal(values, resumed.weights()[name])


def test_no_reward_no_change() -> None:
    network, spikes = build(RSTDP(reward="reward"), 4)
    simulator = Simulator(network)
    before: dict[str, Any] = simulator.weights()
    simulator.run(STEPS, spikes={"in": spikes["in"]})
    simulator.flush()
    assert np.abs(simulator.state()["stdp_c"]).max() > 0
    for name, values in before.items():
        np.testing.assert_array_equal(values, simulator.weights()[name])
