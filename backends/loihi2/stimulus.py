"""Stimuli that need no data: the same random spikes and targets for a network every time, to measure and to compare with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir import Network
from neurocompile.ir.signals import Signal, Spikes

_RATE = 0.05
"""Probability of an input spike per neuron and step."""


def random_inputs(network: Network, *, steps: int) -> dict[str, Spikes]:
    """Return the same random spikes for a network every time: each source neuron with probability 0.05 a step."""
    inputs = {}
    for index, population in enumerate(network.spike_sources):
        drawn = np.random.default_rng([network.seed, index, 1]).random((steps, population.size)) < _RATE
        step, neuron = np.nonzero(drawn)
        inputs[population.name] = Spikes(neuron=neuron.astype(np.int32), step=step.astype(np.int64))
    return inputs


def random_signals(network: Network, *, steps: int) -> dict[str, Signal]:
    """Return the same targets for a network every time: a sum of slow sines of amplitude 1 for each readout neuron."""
    if network.task is None:
        return {}
    size = network.population(network.task.readout).size
    rng = np.random.default_rng([network.seed, 2])
    phase = rng.uniform(0.0, 2.0 * np.pi, (3, size))
    period = rng.uniform(50.0, 200.0, (3, size))
    target = np.sin(2.0 * np.pi * np.arange(steps)[:, np.newaxis, np.newaxis] / period + phase).sum(axis=1) / np.sqrt(3.0)
    return {network.task.readout: Signal(target=target, window=np.ones(steps, np.bool_))}


def white_signals(network: Network, *, steps: int) -> dict[str, Signal]:
    """Return targets without memory for a network, the same every time: normal, of the variance of :func:`random_signals`, in each step."""
    if network.task is None:
        return {}
    size = network.population(network.task.readout).size
    target = np.random.default_rng([network.seed, 3]).normal(0.0, np.sqrt(0.5), (steps, size))
    return {network.task.readout: Signal(target=target, window=np.ones(steps, np.bool_))}


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the cosine between two weight changes; 0.0 if one of them is zero."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0.0 else 0.0
