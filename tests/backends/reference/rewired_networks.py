"""Networks whose synapses move, what drives them, and how two wirings are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    LIF,
    EProp,
    Explicit,
    FixedProbability,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    Regularization,
    Rewiring,
    SpikeSource,
    Surrogate,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes

N_IN, N_HIDDEN, N_OUT = 5, 6, 2
NEURON = LIF(tau_mem=0.02, v_threshold=0.5)
RULE = EProp(
    surrogate=Surrogate(height=0.8, width=0.6),
    regularization=Regularization(strength=0.05, rate=10.0),
    feedback=SymmetricFeedback(),
    optimizer=GradientDescent(learning_rate=1e-4),
    sign_constraint=True,
    rewiring=Rewiring(every_steps=50, l1=1e-3, noise=4e-3),
)
ENDS = (("in", "hidden", 0.3), ("hidden", "hidden", 0.25), ("hidden", "out", 0.3))
SIZES = {"in": N_IN, "hidden": N_HIDDEN, "out": N_OUT}
BIG = {"in": 20, "hidden": 40, "out": N_OUT}


def lists(seed: int, density: float, longest: int) -> tuple[Projection, ...]:
    """Sparse lists in random order with both signs, some weights 0, and delays of their own."""
    rng = np.random.default_rng(seed)
    found = []
    for pre, post, std in ENDS:
        chosen = rng.permutation(SIZES[pre] * SIZES[post])[: max(1, int(density * SIZES[pre] * SIZES[post]))]
        weight = rng.normal(0.1, std, len(chosen)) * (rng.random(len(chosen)) < 0.9)
        ends = (chosen // SIZES[post]).astype(np.int32), (chosen % SIZES[post]).astype(np.int32)
        delay = rng.integers(1, longest + 1, len(chosen))
        found.append(
            Projection(pre=pre, post=post, connect=Explicit(pre=ends[0], post=ends[1], weight=weight, delay=delay), learning="eprop")
        )
    return tuple(found)


def drawn(density: float) -> tuple[Projection, ...]:
    connect = {post: FixedProbability(probability=density, allow_autapses=False) for _, post, _ in ENDS}
    return tuple(
        Projection(pre=pre, post=post, connect=connect[post], weight=Normal(mean=0.1, std=std), learning="eprop") for pre, post, std in ENDS
    )


def make(
    rule: EProp, hidden: LIF = NEURON, *, projections: tuple[Projection, ...] | None = None, seed: int = 1, sizes: Mapping[str, int] = SIZES
) -> Network:
    models = {"in": SpikeSource(), "hidden": hidden, "out": LeakyReadout(tau_mem=0.02)}
    return Network(
        name="rewired",
        dt=1e-3,
        seed=seed,
        populations=tuple(Population(name=name, size=sizes[name], model=model) for name, model in models.items()),
        projections=drawn(0.4) if projections is None else projections,
        rules=(rule,),
        task=Task(readout="out"),
    )


def fired(seed: int, steps: int, share: float = 0.1, n: int = N_IN) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(seed).random((steps, n)) < share


def as_spikes(on: npt.NDArray[np.bool_]) -> dict[str, Spikes]:
    step, neuron = np.nonzero(on)
    return {"in": Spikes(neuron=neuron.astype(np.int32), step=step)}


def errors_to(seed: int, steps: int, first: int = 0) -> dict[str, Signal]:
    rng = np.random.default_rng(seed)
    target, window = rng.uniform(-1, 1, (5000, N_OUT)), rng.random(5000) < 0.8
    return {"out": Signal(target=target[first : first + steps], window=window[first : first + steps])}


def assert_same(left: Connections, right: Connections, tolerance: float = 0.0, message: str = "") -> None:
    np.testing.assert_array_equal(left.pre, right.pre, err_msg=message)
    np.testing.assert_array_equal(left.post, right.post, err_msg=message)
    np.testing.assert_array_equal(left.delay, right.delay, err_msg=message)
    np.testing.assert_allclose(left.weight, right.weight, rtol=0, atol=tolerance, err_msg=message)


def wiring(simulator: Simulator) -> dict[str, Connections]:
    return {name: simulator.connections(name) for name in simulator.rewired}
