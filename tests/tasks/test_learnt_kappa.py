"""The example of a learnt kappa: kappas move to the readout's time scale, and the task is learnt better than with those of the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurocompile.backends.reference import Simulator
from neurocompile.ir import EProp, KappaPer, Network
from neurocompile.ir.read import read_network
from neurocompile.ir.signals import Signal, Spikes

SECONDS, STEPS = 25, 1000


def show(network: Network, root: Path) -> tuple[Simulator, npt.NDArray[np.float64]]:
    """Show the second of the pattern again and again; return the losses of its repetitions."""
    once = Spikes.load(root / "examples" / "pattern_spikes.npz", size=100)
    signal = Signal.load(root / "examples" / "pattern_signal.npz", size=1)
    simulator, losses = Simulator(network), []
    for second in range(SECONDS):
        spikes = Spikes(neuron=once.neuron, step=once.step + second * STEPS)
        outputs = simulator.run(STEPS, spikes={"in": spikes}, signals={"out": signal}).outputs["out"]
        losses.append(0.5 * np.sum((outputs - signal.target) ** 2))
    return simulator, np.array(losses)


@pytest.fixture(scope="module")
def fixed(root: Path) -> npt.NDArray[np.float64]:
    """Losses with the kappa of the start throughout."""
    network = read_network(root / "examples" / "learnt_kappa.yaml")
    (rule,) = network.rules
    assert isinstance(rule, EProp)
    return show(replace(network, rules=(replace(rule, kappa_learning=None),)), root)[1]


@pytest.mark.parametrize("per", KappaPer)
def test_kappa_goes_to_the_time_scale_of_the_readout(root: Path, fixed: npt.NDArray[np.float64], per: KappaPer) -> None:
    network = read_network(root / "examples" / "learnt_kappa.yaml")
    (rule,) = network.rules
    assert isinstance(rule, EProp)
    assert rule.kappa_learning is not None
    learning = replace(rule.kappa_learning, per=per, learning_rate=0.1 if per is KappaPer.NEURON else rule.kappa_learning.learning_rate)
    simulator, losses = show(replace(network, rules=(replace(rule, kappa_learning=learning),)), root)
    kappa = simulator.kappa("in->hidden")
    decay = np.exp(-1.0 / 30.0)
    assert losses[0] == pytest.approx(fixed[0])  # before the first change
    assert np.median(kappa) > 0.9  # from 0.5
    assert np.mean(np.abs(np.log((1 - kappa) / (1 - decay)))) < 0.5 * np.log(0.5 / (1 - decay))  # time constants: less than half as far
    fallen, without = losses[0] - losses[-3:].mean(), fixed[0] - fixed[-3:].mean()
    assert fallen > 3.0 * without > 0.0
