"""Random small networks that lower to sPyNNaker's cells, and spikes for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir import ALIF, LIF, RSTDP, STDP, CubaLIF, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.neurons import Integration, Reset
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes


@st.composite
def models(draw: Any, size: int) -> Any:
    """A model of spiking neurons, with numbers of a population or of each neuron."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def number(low: float, high: float) -> Any:
        return float(rng.uniform(low, high)) if rng.random() < 0.6 else rng.uniform(low, high, size)

    common: dict[str, Any] = {
        "tau_mem": number(2e-3, 0.2),
        "v_threshold": number(0.3, 1.0),
        "v_leak": number(-0.1, 0.1),
        "v_reset": number(-0.3, 0.1),
        "bias": number(-0.01, 0.03),
        "t_ref": number(0.0, 6e-3),
        "reset": Reset.TO_VALUE,
        "integration": draw(st.sampled_from(list(Integration))),
    }
    kind = draw(st.sampled_from(["lif", "cuba_lif", "alif"]))
    if kind == "cuba_lif":
        return CubaLIF(**common, tau_syn=number(1e-3, 0.02), i_init=number(-0.05, 0.05))
    if kind == "alif":
        return ALIF(**common, adapt_beta=number(0.0, 0.3), adapt_tau=number(0.01, 0.5))
    return LIF(**common)


def connected(rng: np.random.Generator, n_pre: int, n_post: int, longest: int, *, mean: float = 0.1, spread: float = 0.3) -> Explicit:
    """Some of all pairs, one of them twice, weights of both signs, delays 1 .. longest."""
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < 0.5)
    pre, post = np.append(pre, rng.integers(n_pre)), np.append(post, rng.integers(n_post))
    return Explicit(pre=pre, post=post, weight=rng.normal(mean, spread, len(pre)), delay=rng.integers(1, longest + 1, len(pre)))


@st.composite
def static_networks(draw: Any) -> Network:
    """in -> a -> b -> out, with recurrence, different cells, delays up to 64."""
    sizes = {"in": draw(st.integers(1, 6)), "a": draw(st.integers(1, 6)), "b": draw(st.integers(1, 4)), "out": 2}
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    longest = draw(st.sampled_from([1, 3, 16, 64]))
    made = {
        "in": SpikeSource(),
        "a": draw(models(sizes["a"])),
        "b": draw(models(sizes["b"])),
        "out": LeakyReadout(tau_mem=0.03, tau_syn=draw(st.sampled_from([0.0, 0.01])), v_leak=0.05, bias=-0.002),
    }
    ways = [("in", "a"), ("a", "a"), ("a", "b"), ("b", "a"), ("a", "out"), ("in", "out")]
    return Network(
        name="random",
        dt=draw(st.sampled_from([1e-3, 5e-4, 1e-4])),
        populations=tuple(Population(name=name, size=sizes[name], model=model) for name, model in made.items()),
        projections=tuple(Projection(pre=a, post=b, connect=connected(rng, sizes[a], sizes[b], longest)) for a, b in ways),
    )


def spikes_of(seed: int, size: int, n_steps: int, rate: float) -> Spikes:
    step, neuron = np.nonzero(np.random.default_rng(seed).random((n_steps, size)) < rate)
    return Spikes(neuron=neuron, step=step)


def lowered_of(network: Network, **extra: str) -> SpinnakerNetwork:
    lowered = TARGET.lower(network, realise_all(network), None, BuildOptions(allow_approximation=True, extra=extra))
    assert isinstance(lowered, SpinnakerNetwork)
    return lowered


@st.composite
def learning_networks(draw: Any, rule: Any) -> Network:
    """in -> a with plastic synapses (some negative ones stay), a -> a plastic, in -> a static too, and rewards from ``rew``."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_in, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    longest = draw(st.sampled_from([1, 3, 16]))
    tau_syn = draw(st.sampled_from([0.0, 0.005]))
    common = {"tau_mem": 0.01, "v_threshold": 0.4, "reset": Reset.TO_VALUE, "bias": draw(st.sampled_from([0.0, 0.03]))}
    cells = CubaLIF(**common, tau_syn=tau_syn) if tau_syn else LIF(**common)
    return Network(
        name="learning",
        dt=draw(st.sampled_from([1e-3, 5e-4])),
        populations=(
            Population(name="in", size=n_in, model=SpikeSource()),
            Population(name="a", size=n, model=cells),
            Population(name="rew", size=2, model=SpikeSource()),
        ),
        projections=(
            Projection(pre="in", post="a", connect=connected(rng, n_in, n, longest, mean=0.1, spread=0.1), learning=rule.name),
            Projection(pre="a", post="a", connect=connected(rng, n, n, longest, mean=0.05, spread=0.1), learning=rule.name),
            Projection(pre="in", post="a", name="beside", connect=connected(rng, n_in, n, longest)),
        ),
        rules=(rule,),
    )


pair_rules = st.builds(
    STDP,
    tau_plus=st.floats(2e-3, 0.1),
    tau_minus=st.floats(2e-3, 0.1),
    a_plus=st.floats(0.0, 0.2),
    a_minus=st.floats(0.0, 0.2),
    weight_bounds=st.sampled_from([(0.0, 0.3), (0.05, 0.15), (0.0, 1.0)]),
    multiplicative=st.booleans(),
)
reward_rules = st.builds(
    RSTDP,
    reward=st.just("rew"),
    reward_weight=st.sampled_from([-20.0, 1.0, 30.0, 120.0]),
    tau_plus=st.floats(2e-3, 0.1),
    tau_minus=st.floats(2e-3, 0.1),
    tau_c=st.floats(5e-3, 1.0),
    tau_d=st.floats(5e-3, 0.3),
    a_plus=st.floats(0.0, 0.2),
    a_minus=st.floats(0.0, 0.2),
    weight_bounds=st.sampled_from([(0.0, 0.3), (0.05, 0.15), (0.0, 1.0)]),
)
