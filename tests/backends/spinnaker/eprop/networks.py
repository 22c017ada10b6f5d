"""Networks that learn by e-prop, with everything in them that the cores of the extension can do."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import (
    ALIF,
    LIF,
    CubaLIF,
    EProp,
    Explicit,
    GradientDescent,
    LeakyReadout,
    Loss,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Signal, Spikes

STEPS = 1500
Given = list[np.ndarray[Any, np.dtype[np.int64]]]


def edges(rng: np.random.Generator, n_pre: int, n_post: int, p: float, size: float, delay: int = 1, least: int = 1) -> Explicit:
    """Return random synapses, at most one a pair, with delays from ``least`` to ``delay`` steps."""
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < p)
    return Explicit(
        pre=pre.astype(np.int32),
        post=post.astype(np.int32),
        weight=rng.normal(0.0, size, len(pre)),
        delay=rng.integers(least, delay + 1, len(pre)),
    )


def learner(
    seed: int,
    *,
    model: str = "lif",
    n_in: int = 12,
    n: int = 20,
    n_out: int = 3,
    delay: int = 1,
    least: int = 1,
    static: bool = False,
    signs: bool = False,
    loss: Loss = Loss.MEAN_SQUARED_ERROR,
    kind: SurrogateKind = SurrogateKind.PIECEWISE_LINEAR,
    strength: float = 1.0,
    learning_rate: float = 1e-4,
    tau: float = 0.02,
    kappa: float = 0.95,
    tau_out: float = 0.02,
    density: float = 0.6,
    adapt_beta: float | np.ndarray[Any, np.dtype[np.float64]] = 0.1,
    adapt_tau: float | np.ndarray[Any, np.dtype[np.float64]] = 0.1,
    rule: EProp | None = None,
) -> Network:
    """Return a network of sources, a recurrent population and a readout. model : lif, to_value, alif; static : and a population with
    synaptic currents on the way, whose own synapses do not learn; plastic delays are least .. delay steps, into the readout ``least``."""
    rng = np.random.default_rng(seed)
    common: dict[str, Any] = {"tau_mem": tau, "v_threshold": 0.6, "v_leak": 0.1, "t_ref": 0.002, "bias": 0.004, "v_min": -1.0}
    hidden: LIF = {
        "lif": lambda: LIF(**common),
        "to_value": lambda: LIF(**common, reset=Reset.TO_VALUE, v_reset=-0.2),
        "alif": lambda: ALIF(**common, adapt_beta=adapt_beta, adapt_tau=adapt_tau),
    }[model]()
    given = rule or EProp(
        surrogate=Surrogate(kind=kind, height=0.5, width=0.6),
        kappa=kappa,
        kappa_reg=0.98,
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        optimizer=GradientDescent(learning_rate=learning_rate),
        regularization=Regularization(strength=strength, rate=20.0) if strength else None,
        sign_constraint=signs,
    )
    projections = [
        Projection(pre="in", post="hidden", connect=edges(rng, n_in, n, density, 0.25, delay, least), learning="eprop"),
        Projection(pre="hidden", post="hidden", connect=edges(rng, n, n, density / 2, 0.1, delay, least), learning="eprop"),
        Projection(pre="hidden", post="out", connect=edges(rng, n, n_out, 1.0, 0.1, least, least), learning="eprop"),
    ]
    if static:
        projections += [
            Projection(name="fixed", pre="in", post="hidden", connect=edges(rng, n_in, n, 0.2, 0.2, 5)),
            Projection(pre="in", post="relay", connect=edges(rng, n_in, 5, 0.5, 0.3, 3)),
            Projection(pre="relay", post="hidden", connect=edges(rng, 5, n, 0.5, 0.2, delay, least), learning="eprop"),
        ]
    return Network(
        name="learner",
        dt=1e-3,
        seed=seed % 2**31,
        populations=(
            Population(name="in", size=n_in, model=SpikeSource()),
            Population(name="hidden", size=n, model=hidden),
            Population(name="out", size=n_out, model=LeakyReadout(tau_mem=tau_out, v_leak=0.05)),
            *([Population(name="relay", size=5, model=CubaLIF(**common, tau_syn=0.005, i_init=0.01))] if static else []),
        ),
        projections=tuple(projections),
        rules=(given,),
        task=Task(readout="out", loss=loss),
    )


def lowered(network: Network, **options: Any) -> SpinnakerNetwork:
    """Return a network on e-prop cores, deviations accepted; options : of ``--set``."""
    given = BuildOptions(allow_approximation=True, extra={"eprop": "cores"} | {key: str(value) for key, value in options.items()})
    return TARGET.lower(network, realise_all(network), None, given)


def planned(network: Network, **options: Any) -> EpropPlan:
    """Return the integers of a network on e-prop cores."""
    plan = lowered(network, **options).eprop
    assert plan is not None
    return plan


def inputs(rng: np.random.Generator, n: int, n_steps: int, rate: float) -> tuple[Given, Spikes]:
    """Return random spikes, a list a step and as the engine wants them."""
    given = [np.flatnonzero(rng.random(n) < rate) for _ in range(n_steps)]
    neuron = np.concatenate(given) if given else np.zeros(0)
    return given, Spikes(neuron=neuron.astype(np.int32), step=np.repeat(np.arange(n_steps), [len(g) for g in given]))


def targets(rng: np.random.Generator, n_out: int, n_steps: int, loss: Loss = Loss.MEAN_SQUARED_ERROR) -> Signal:
    """Return targets that stay for 25 steps, and a window with holes."""
    rows = rng.random((n_steps // 25 + 1, n_out))
    if loss is Loss.CROSS_ENTROPY:
        rows /= rows.sum(axis=1, keepdims=True)
    return Signal(target=np.repeat(rows, 25, axis=0)[:n_steps], window=rng.random(n_steps) < 0.7)


def both(
    network: Network, seed: int, *, loss: Loss = Loss.MEAN_SQUARED_ERROR, **options: object
) -> tuple[int, int, dict[str, tuple[float, float]]]:
    """Return hidden spikes of the engine, those at other steps in the twin, and (cosine, length) of each projection's weight change beside
    the engine's."""
    rng = np.random.default_rng(seed)
    _, spikes = inputs(rng, network.population("in").size, STEPS, 0.02)
    signal = targets(rng, network.population("out").size, STEPS, loss)
    engine = Simulator(network)
    start = engine.weights()
    run = engine.run(STEPS, spikes={"in": spikes}, signals={"out": signal})
    engine.flush()
    twin = TARGET.twin(lowered(network, **options), learning=True)
    begin = twin.weights()
    found = twin.run(STEPS, spikes={"in": spikes}, signals={"out": signal})
    theirs, ours = (set(zip(r.spikes["hidden"].step.tolist(), r.spikes["hidden"].neuron.tolist(), strict=True)) for r in (run, found))
    end, last = engine.weights(), twin.weights()
    changes = {}
    for name in end:
        a, b = end[name] - start[name], last[name] - begin[name]
        changes[name] = (float(a @ b / np.sqrt((a @ a) * (b @ b))), float(np.linalg.norm(b) / np.linalg.norm(a)))
    return len(theirs), len(theirs ^ ours), changes
