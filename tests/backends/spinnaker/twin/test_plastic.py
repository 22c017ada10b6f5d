"""Programs that learn: the twin beside a second implementation, one event and one Python integer at a time, and sPyNNaker's own tables."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker.twin import Twin
from neurocompile.backends.spinnaker.twin.events import decay_table
from neurocompile.ir import STDP, CubaLIF, Explicit, Network, Population, Projection, SpikeSource
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.neurons import Reset
from neurocompile.ir.signals import Spikes
from tests.backends.spinnaker.twin.networks import learning_networks, lowered_of, pair_rules, reward_rules, spikes_of
from tests.backends.spinnaker.twin.slow_network import SlowNetwork

MANY = int(os.environ.get("NEUROCOMPILE_RANDOM_PROGRAMS", "0"))
STEPS = 250


def compare(network: Any, seed: int, rate: float) -> None:
    try:
        lowered = lowered_of(network)
    except UnsupportedError:
        assume(False)
    given_spikes = {
        "in": spikes_of(seed, network.populations[0].size, STEPS, rate),
        "rew": spikes_of(seed + 1, 2, STEPS, 0.05),
    }
    slow = SlowNetwork(lowered, learning=True)
    slow.run(STEPS, given_spikes)
    twin = Twin(lowered, learning=True)
    run = twin.run(STEPS, spikes=given_spikes, signals={})
    found = {(n, int(t), int(i)) for n, s in run.spikes.items() for t, i in zip(s.step, s.neuron, strict=True)}
    assert found == slow.spikes
    held = twin.weights()
    cell = next(c for c in lowered.cells if c.name == "a")
    (unit, _) = lowered.buffers["a"].resolution
    for name, synapses in slow.plastic.items():
        ids = np.array(sorted(synapses), int)
        post = lowered.connections[name].post[ids]
        scale = np.broadcast_to(cell.weight_scale, (cell.size,))[post]
        np.testing.assert_array_equal(held[name][ids], [synapses[k].weight for k in ids] * np.full(len(ids), unit) / scale)
    untouched = Twin(lowered, learning=True).weights()["beside"]
    np.testing.assert_array_equal(held["beside"], untouched)


COMMON = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=MANY or 40, **COMMON)
@given(st.data(), pair_rules, st.integers(0, 99), st.sampled_from([0.03, 0.2]))
def test_pairs_equal_plain_integers(data: Any, rule: Any, seed: int, rate: float) -> None:
    compare(data.draw(learning_networks(rule)), seed, rate)


@settings(max_examples=MANY or 40, **COMMON)
@given(st.data(), reward_rules, st.integers(0, 99), st.sampled_from([0.03, 0.2]))
def test_rewards_equal_plain_integers(data: Any, rule: Any, seed: int, rate: float) -> None:
    compare(data.draw(learning_networks(rule)), seed, rate)


def test_decay_tables_are_spynnakers() -> None:
    """Beside get_exp_lut_array itself, loaded alone: its package takes seconds to import."""
    package = importlib.util.find_spec("spynnaker")
    if package is None or package.origin is None:
        pytest.skip("sPyNNaker is not installed")
    path = Path(package.origin).parent / "pyNN/models/neuron/plasticity/stdp/common.py"
    spec = importlib.util.spec_from_file_location("stdp_common_of_twin", path)
    assert spec is not None
    assert spec.loader is not None
    stdp = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stdp)
    rng = np.random.default_rng(1)
    for tau, shift, dt in zip(rng.uniform(1.0, 500.0, 60), rng.choice([0, 2, 4], 60), rng.choice([0.1, 0.5, 1.0], 60), strict=True):
        words = stdp.get_exp_lut_array(float(dt), float(tau), int(shift)).view(np.uint16)
        ours = decay_table(float(dt), float(tau), int(shift))
        assert (words[0], words[1]) == (len(ours.values), ours.shift)
        np.testing.assert_array_equal(words[2:], ours.values)


def test_pairs_change_weights_as_the_engine_does() -> None:
    """20 sources onto four neurons that only their own drivers make fire, 5 s: the same spikes in both, so that changes can be compared.
    What is left is rounding, a unit at most at each spike of a source; pairs in the step of an arrival, which differ, are none here."""
    n, m, steps = 20, 4, 5000
    pre, post = (a.ravel() for a in np.indices((n, m)))
    rule = STDP(a_plus=0.02, a_minus=0.021, tau_plus=0.02, tau_minus=0.03, weight_bounds=(0.0, 0.04))
    plastic = Explicit(pre=pre, post=post, weight=np.full(n * m, 0.02), delay=np.ones(n * m, int))
    drive = Explicit(pre=np.arange(m), post=np.arange(m), weight=np.full(m, 0.3), delay=np.ones(m, int))
    network = Network(
        name="driven",
        dt=1e-3,
        populations=(
            Population(name="in", size=n, model=SpikeSource()),
            Population(name="drivers", size=m, model=SpikeSource()),
            Population(name="a", size=m, model=CubaLIF(tau_mem=1e-3, tau_syn=1e-3, v_threshold=0.15, t_ref=5e-3, reset=Reset.TO_VALUE)),
        ),
        projections=(
            Projection(pre="in", post="a", connect=plastic, learning=rule.name),
            Projection(pre="drivers", post="a", connect=drive),
        ),
        rules=(rule,),
    )
    even, odd = spikes_of(1, m, steps // 2, 0.04), spikes_of(2, n, steps // 2, 0.04)  # arrivals at even steps, neurons at odd ones
    spikes = {"drivers": Spikes(neuron=even.neuron, step=2 * even.step), "in": Spikes(neuron=odd.neuron, step=2 * odd.step + 1)}
    engine, twin = Simulator(network), Twin(lowered_of(network), learning=True)
    theirs = engine.run(steps, spikes=spikes).spikes["a"]
    engine.flush()
    ours = twin.run(steps, spikes=spikes, signals={}).spikes["a"]
    np.testing.assert_array_equal(theirs.step, ours.step)
    assert len(theirs.step) > 200
    expected, got = (s.weights()["in->a"] - 0.02 for s in (engine, twin))
    assert np.std(expected) > 2e-3
    unit = twin.lowered.buffers["a"].resolution[0] / float(np.max(twin.lowered.cells[2].weight_scale))
    sent = np.bincount(spikes["in"].neuron, minlength=n)[pre]
    inside = np.abs(expected) < 0.015
    assert inside.sum() > 20
    # Post spikes after the last spike of a source are not in its row yet: at most the last pairs are missing.
    assert (np.abs(got - expected)[inside] <= unit * sent[inside] + 0.04 * 0.05).mean() > 0.95
    assert np.corrcoef(expected, got)[0, 1] > 0.95
