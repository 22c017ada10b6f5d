"""The original formulation of e-prop in NEST 3.10 (``*_bsshslm_2020``) and in the engine: spikes equal, every weight equal.

NEST's step is ours plus one (its generators cannot spike at time 0); its readouts compare the membrane of a step in the step after.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    Interval2020,
    LeakyReadout,
    Loss,
    Network,
    Population,
    Projection,
    Regularization,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    Task,
)
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.conftest import edges

Array = npt.NDArray[np.float64]
N_IN, N, N_OUT, INTERVALS = 20, 30, 2, 7
TAU_OUT, TAU_KAPPA, T_REF, THRESHOLD, RATE = 20.0, 12.0, 2.0, 0.4, 10.0
ENDS = ("in->hidden", "hidden->hidden", "hidden->out")


@dataclass(frozen=True)
class Setting:
    """What differs between the cases; Adam and a batch of two go together."""

    update: Interval2020
    adaptive: bool
    adam: bool
    loss: Loss

    @property
    def steps(self) -> int:
        return INTERVALS * self.update.interval_steps + 5


@dataclass(frozen=True)
class Drawn:
    """tau (N,) ms; w: (pre, post) by projection, and the feedback; raster (steps, N_IN); target (steps, N_OUT)."""

    tau: Array
    w: dict[str, Array]
    raster: npt.NDArray[np.bool_]
    target: Array


def draw(setting: Setting, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    scale = 1.0 if setting.update.regular_spike_arrival else 15.0  # the weights of hidden neurons count 1 - alpha
    shapes = {"in->hidden": (0.12, 0.1), "hidden->hidden": (0.0, 0.05), "hidden->out": (0.0, 0.2), "out->hidden": (0.0, 1.0)}
    sizes = {"in": N_IN, "hidden": N, "out": N_OUT}
    tau = rng.uniform(15, 30, N)
    w = {}
    for name, (mean, spread) in shapes.items():
        pre, post = name.split("->")
        w[name] = (scale if post == "hidden" and pre != "out" else 1.0) * rng.normal(mean, spread, (sizes[pre], sizes[post]))
    raster = rng.random((setting.steps, N_IN)) < 0.05
    raster[:, 0] = False  # a source that is silent for intervals
    raster[[5, 4 * setting.update.interval_steps + 5], 0] = True
    target = rng.uniform(0, 1, (setting.steps, N_OUT))
    return Drawn(tau, w, raster, target)


def ours(setting: Setting, drawn: Drawn) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
    common: dict[str, Any] = {"tau_mem": drawn.tau / 1e3, "v_threshold": THRESHOLD, "t_ref": T_REF / 1e3}
    rule = EProp(
        surrogate=Surrogate(kind=SurrogateKind.EXPONENTIAL, height=0.5, width=0.5),
        kappa=np.exp(-1 / TAU_KAPPA),
        regularization=Regularization(strength=1.0, rate=RATE),
        feedback=ExplicitFeedback(connections=edges(drawn.w["out->hidden"])),
        optimizer=Adam(learning_rate=1e-3) if setting.adam else GradientDescent(learning_rate=1e-4),
        update=setting.update,
    )
    projections = []
    for name in ENDS:
        pre, post = name.split("->")
        i, j = np.nonzero(np.ones_like(drawn.w[name]))
        projections.append(Projection(pre=pre, post=post, connect=Explicit(pre=i, post=j, weight=drawn.w[name][i, j]), learning="eprop"))
    network = Network(
        name="beside",
        dt=1e-3,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            Population(name="hidden", size=N, model=ALIF(**common, adapt_beta=0.05, adapt_tau=0.2) if setting.adaptive else LIF(**common)),
            Population(name="out", size=N_OUT, model=LeakyReadout(tau_mem=TAU_OUT / 1e3)),
        ),
        projections=tuple(projections),
        rules=(rule,),
        task=Task(readout="out", loss=setting.loss),
    )
    simulator = Simulator(network)
    step, neuron = np.nonzero(drawn.raster)
    signal = Signal(target=drawn.target, window=np.ones(setting.steps, bool))
    recording = simulator.run(setting.steps, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": signal})
    spiked = np.zeros((setting.steps, N), bool)
    spiked[recording.spikes["hidden"].step, recording.spikes["hidden"].neuron] = True
    return {name: simulator.weight(name).reshape(drawn.w[name].shape) for name in ENDS}, spiked


def nests(nest: Any, setting: Setting, drawn: Drawn) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
    update = setting.update
    nest.ResetKernel()
    nest.resolution = 1.0
    nest.eprop_update_interval = float(update.interval_steps)
    nest.eprop_learning_window = float(update.window_steps)
    nest.eprop_reset_neurons_on_update = update.reset_neurons
    still = {"C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "I_e": 0.0, "regular_spike_arrival": update.regular_spike_arrival}
    params: dict[str, Any] = {**still, "t_ref": T_REF, "V_th": THRESHOLD, "c_reg": 1.0, "f_target": RATE}
    params |= {"surrogate_gradient_function": "exponential", "surrogate_gradient_height": 0.5, "surrogate_gradient_width": 0.5}
    params |= {"adapt_beta": 0.05, "adapt_tau": 200.0} if setting.adaptive else {}
    generators, relays = nest.Create("spike_generator", N_IN), nest.Create("parrot_neuron", N_IN)
    hidden = nest.Create("eprop_iaf_adapt_bsshslm_2020" if setting.adaptive else "eprop_iaf_bsshslm_2020", N, params)
    out = nest.Create("eprop_readout_bsshslm_2020", N_OUT, {**still, "tau_m": TAU_OUT, "loss": setting.loss.value})
    for neuron, tau_m in zip(hidden, drawn.tau, strict=True):
        neuron.tau_m = tau_m
    for generator, spikes in zip(generators, drawn.raster.T, strict=True):
        generator.spike_times = np.flatnonzero(spikes) + 1.0
    optimizer = {"type": "adam", "eta": 1e-3} if setting.adam else {"type": "gradient_descent", "eta": 1e-4}
    optimizer |= {"batch_size": update.batch_size, "Wmin": -100.0, "Wmax": 100.0}
    nest.SetDefaults("eprop_synapse_bsshslm_2020", {"optimizer": optimizer, "average_gradient": update.average_gradient})
    nest.Connect(generators, relays, "one_to_one", {"delay": 1.0})
    ends = dict(zip(ENDS, ((relays, hidden), (hidden, hidden), (hidden, out)), strict=True))
    plastic = {"synapse_model": "eprop_synapse_bsshslm_2020", "delay": 1.0, "tau_m_readout": TAU_KAPPA}
    for name, (pre, post) in ends.items():
        nest.Connect(pre, post, "all_to_all", {**plastic, "weight": drawn.w[name].T.copy()})
    back = {"synapse_model": "eprop_learning_signal_connection_bsshslm_2020", "weight": drawn.w["out->hidden"].T.copy(), "delay": 1.0}
    nest.Connect(out, hidden, "all_to_all", back)
    rate = {"synapse_model": "rate_connection_delayed", "delay": 1.0}
    if setting.loss is Loss.CROSS_ENTROPY:
        nest.Connect(out, out, {"rule": "all_to_all", "allow_autapses": False}, {**rate, "receptor_type": 1})
    for column, neuron in zip(drawn.target.T, out, strict=True):
        times = np.arange(2.0, setting.steps + 2.0)
        signal = nest.Create("step_rate_generator", 1, {"amplitude_times": times, "amplitude_values": column})
        nest.Connect(signal, neuron, "one_to_one", {**rate, "receptor_type": 2})
    recorder = nest.Create("spike_recorder")
    nest.Connect(hidden, recorder)
    nest.Simulate(setting.steps + 1.0)
    weights = {}
    for name, (pre, post) in ends.items():
        found = nest.GetConnections(pre, post, synapse_model="eprop_synapse_bsshslm_2020").get(["source", "target", "weight"])
        weights[name] = np.zeros_like(drawn.w[name])
        weights[name][np.array(found["source"]) - min(pre.tolist()), np.array(found["target"]) - min(post.tolist())] = found["weight"]
    events = recorder.events
    spiked = np.zeros((setting.steps, N), bool)
    step = np.rint(events["times"]).astype(int) - 2  # stamped with the end of the step
    spiked[step[step >= 0], (events["senders"] - min(hidden.tolist()))[step >= 0]] = True
    return weights, spiked


@pytest.mark.parametrize("adaptive", [False, True], ids=["lif", "alif"])
@pytest.mark.parametrize(
    ("update", "adam", "loss"),
    [
        (Interval2020(interval_steps=60), False, Loss.MEAN_SQUARED_ERROR),
        (Interval2020(interval_steps=37, regular_spike_arrival=False), True, Loss.MEAN_SQUARED_ERROR),
        (Interval2020(interval_steps=60, learning_window_steps=25, average_gradient=True), False, Loss.CROSS_ENTROPY),
        (Interval2020(interval_steps=37, batch_size=2, reset_neurons=False), False, Loss.MEAN_SQUARED_ERROR),
        (Interval2020(interval_steps=50, batch_size=2, average_gradient=True), True, Loss.CROSS_ENTROPY),
        (
            Interval2020(interval_steps=41, learning_window_steps=40, reset_neurons=False, regular_spike_arrival=False),
            True,
            Loss.CROSS_ENTROPY,
        ),
    ],
    ids=["plain", "adam", "window-softmax", "batch", "adam-batch-softmax", "adam-no-reset"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside NEST's own package
def test_weights_equal_nests(update: Interval2020, adam: bool, loss: Loss, adaptive: bool) -> None:
    nest = sys.modules.get("nest") or pytest.importorskip("nest")
    setting = Setting(update, adaptive, adam, loss)
    drawn = draw(setting, update.interval_steps + adaptive)
    expected, expected_spikes = nests(nest, setting, drawn)
    got, got_spikes = ours(setting, drawn)
    np.testing.assert_array_equal(got_spikes, expected_spikes)
    assert got_spikes.sum() > 300
    for name, values in expected.items():
        assert np.abs(values - drawn.w[name]).max() > 1e-6, name
        # Adam multiplies the last bits of a gradient by 1/sqrt(v), which is large where gradients are small
        np.testing.assert_allclose(got[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
