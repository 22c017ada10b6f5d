"""Networks that learn from reward, larger than the definition's, and what drives them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.ir import (
    ALIF,
    LIF,
    ActorCritic,
    Constant,
    EProp,
    FixedProbability,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.dense_reward import N_ACTIONS

RULE = EProp(
    surrogate=Surrogate(height=0.8, width=0.6),
    kappa=0.9,
    kappa_reg=0.9,
    regularization=Regularization(strength=0.05, rate=10.0),
    optimizer=GradientDescent(learning_rate=1e-4),
)
LOSS = ActorCritic(critic="critic", discount=0.9, critic_weight=0.5, reward_delay_steps=3)
HIDDEN: dict[str, Any] = {"v_threshold": 0.5}
ADAPTIVE = HIDDEN | {"adapt_beta": 0.1, "adapt_tau": 0.1}


def large(rule: EProp, *layers: LIF, seed: int = 1, loss: ActorCritic = LOSS, size: int = 30) -> Network:
    """in -> h0 -> h1 ..., each of them to policy and critic, which come first among the readouts, and to a readout of its own target."""
    names = [f"h{i}" for i in range(len(layers))]
    rule = replace(rule, feedback=RandomFeedback(weight=Normal(mean=0.0, std=0.3)), optimizer=GradientDescent(learning_rate=1e-6))
    ends = [*itertools.pairwise(["in", *names]), *((n, n) for n in names), *((n, o) for n in names for o in ("out", "critic", "other"))]
    return Network(
        name="large",
        dt=1e-3,
        seed=seed,
        populations=(
            Population(name="in", size=6, model=SpikeSource()),
            Population(name="other", size=2, model=LeakyReadout(tau_mem=0.01)),
            *(Population(name=n, size=size, model=m) for n, m in zip(names, layers, strict=True)),
            Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.02)),
            Population(name="out", size=N_ACTIONS, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=tuple(
            Projection(
                pre=a,
                post=b,
                connect=FixedProbability(probability=0.6),
                weight=Normal(mean=0.2 if a == "in" else 0.0, std=0.1),
                delay=Constant(value=1),
                learning="eprop",
            )
            for a, b in ends
        ),
        rules=(rule,),
        task=Task(readout="out", loss=loss),
    )


def drive(steps: int, first: int = 0) -> dict[str, Any]:
    """Input and signals of ``large`` from step ``first`` on."""
    rng = np.random.default_rng(8)
    step, neuron = np.nonzero(rng.random((1000, 6)) < 0.2)
    policy = Signal(target=rng.normal(size=(1000, N_ACTIONS)), window=rng.random(1000) < 0.7, reward=rng.normal(size=1000) * 0.1)
    other = Signal(target=rng.normal(size=(1000, 2)), window=np.ones(1000, bool))
    signals = {"out": policy.part(first, first + steps), "other": other.part(first, first + steps)}
    return {"spikes": {"in": Spikes(neuron=neuron.astype(np.int32), step=step)}, "signals": signals}


LAYERS = (LIF(tau_mem=0.02, v_threshold=0.4), ALIF(tau_mem=np.linspace(0.01, 0.03, 30), v_threshold=0.3, adapt_beta=0.1, adapt_tau=0.2))
