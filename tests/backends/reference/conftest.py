"""Networks that several tests of the reference engine share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    LeakyReadout,
    Network,
    Population,
    Projection,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes

Single = npt.NDArray[np.float32]


def edges(matrix: npt.NDArray[Any]) -> Explicit:
    """All pairs of a (pre, post) matrix except its zeros' diagonal."""
    pre, post = np.nonzero(np.ones_like(matrix))
    return Explicit(pre=pre, post=post, weight=matrix[pre, post].astype(np.float64))


def explicit_connections(network: Network) -> dict[str, Connections]:
    """Connections of a network whose projections are all Explicit with weights."""
    result = {}
    for p in network.synaptic_projections:
        c = p.connect
        assert isinstance(c, Explicit)
        assert c.weight is not None
        delay = np.ones(len(c.pre), np.uint8) if c.delay is None else c.delay.astype(np.uint8)
        result[p.name] = Connections(pre=c.pre, post=c.post, weight=c.weight, delay=delay)
    return result


@dataclass
class Case:
    network: Network
    spikes: dict[str, Spikes]
    signals: dict[str, Signal]
    n_steps: int
    loss: npt.NDArray[np.float64]


N_IN, N_REC, N_OUT = 100, 100, 1


def draw_regression(steps: int) -> tuple[Single, Single, Single, Single, npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Draw what NEST's regression tests do: weights (post, pre) in -> rec, rec -> rec, rec -> out and feedback (rec, out) in single
    precision; the input noise (step, neuron), repeated in every iteration; the target, a sum of four sines."""
    rng = np.random.RandomState(1)
    w_in = np.array(rng.randn(N_IN, N_REC).T / np.sqrt(N_IN), np.float32)
    w_rec = np.array(rng.randn(N_REC, N_REC).T / np.sqrt(N_REC), np.float32)
    np.fill_diagonal(w_rec, 0.0)
    w_out = np.array(rng.randn(N_REC, N_OUT).T / np.sqrt(N_REC), np.float32)
    b = np.array(rng.randn(N_REC, N_OUT) / np.sqrt(N_REC), np.float32)
    noise = rng.rand(steps, N_IN) < 0.05
    amplitudes, phases = rng.uniform(0.5, 2, 4), rng.uniform(0, 2 * np.pi, 4)
    target = np.zeros(steps)
    for a, phi, period in zip(amplitudes, phases, (1000, 500, 333, 200), strict=True):
        target += a * np.sin(np.linspace(phi, phi + 2 * np.pi * (steps // period), steps))
    target -= target[0]
    return w_in, w_rec, w_out, b, noise, target / max(np.abs(target).max(), 1e-6)  # 100 steps hold no whole period: the target is 0


@pytest.fixture(scope="session")
def published(shared: Path) -> dict[str, Any]:
    """NEST's published regression losses with the configuration that generates them."""
    return json.loads((shared / "reference" / "nest_losses" / "eprop_regression_losses.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def regression(published: dict[str, Any]) -> Callable[[int], Case]:
    """NEST's test_eprop_regression, case by case (sine wave generation, frozen noise, five iterations of 100 steps)."""

    def build(index: int) -> Case:
        case = published["cases"][index]
        model, n_in, n_rec, n_out, steps, n_iter = case["neuron_model"], N_IN, N_REC, N_OUT, 100, 5
        w_in, w_rec, w_out, b, noise, target = draw_regression(steps)
        scale = np.float32(1 - 0.97)
        hard = "psc_delta" in model
        w_out = w_out * scale
        if hard:
            b = b / scale
        else:
            w_in, w_rec, b = (x * scale for x in (w_in, w_rec, b))
        common: dict[str, Any] = {"tau_mem": 0.03, "v_threshold": 0.5 if hard else 0.03, "v_reset": -0.5 if hard else 0.0}
        common["reset"] = Reset.TO_VALUE if hard else Reset.SUBTRACT
        if model == "eprop_iaf_adapt":
            hidden: LIF = ALIF(**common, adapt_beta=0.0174, adapt_tau=2.0)
        elif model == "eprop_iaf_psc_delta_adapt":
            hidden = ALIF(**common, adapt_beta=1.0, adapt_tau=0.01)
        else:
            hidden = LIF(**common)
        eta = 1e-4 * (1 - 0.97) ** 2
        adam = case["optimizer"] == "adam"
        rule = EProp(
            surrogate=Surrogate(height=10.0, width=0.03),
            regularization=Regularization(strength=2.0 / 100 / (1 - 0.97) ** 2 if hard else 3.0, rate=10.0),
            feedback=ExplicitFeedback(connections=edges(b.T)),
            optimizer=Adam(learning_rate=eta, each_step=True) if adam else GradientDescent(learning_rate=eta, each_step=True),
            trace_cutoff_steps=100,
        )
        pre, post = np.nonzero(~np.eye(n_rec, dtype=bool))
        recurrent = Explicit(pre=pre, post=post, weight=w_rec.T[pre, post])
        network = Network(
            name="regression",
            dt=1e-3,
            populations=(
                Population(name="in", size=n_in, model=SpikeSource()),
                Population(name="hidden", size=n_rec, model=hidden),
                Population(name="out", size=n_out, model=LeakyReadout(tau_mem=0.03)),
            ),
            projections=(
                Projection(pre="in", post="hidden", connect=edges(w_in.T), learning="eprop"),
                Projection(pre="hidden", post="hidden", connect=recurrent, learning="eprop"),
                Projection(pre="hidden", post="out", connect=edges(w_out.T), learning="eprop"),
            ),
            rules=(rule,),
            task=Task(readout="out"),
        )
        step, neuron = np.nonzero(noise)
        # generator time g = step + 1 (whole iterations later), parrot one step later, target one more: the parrot emits in update step g
        spikes = Spikes(neuron=np.tile(neuron, n_iter).astype(np.int32), step=np.concatenate([step + 1 + steps * i for i in range(n_iter)]))
        n_steps = n_iter * steps + 5
        rows = np.zeros(n_steps)
        rows[2 : 2 + n_iter * steps] = np.tile(target, n_iter)
        window = np.zeros(n_steps, bool)
        window[2:] = True
        signal = Signal(target=rows[:, None], window=window)
        return Case(network, {"in": spikes}, {"out": signal}, n_steps, np.array(case["loss"]))

    return build
