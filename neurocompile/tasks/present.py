"""Showing samples to a network in a simulation, one after the other: the inner step of training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir._types import IntArray
from neurocompile.ir.signals import Spikes
from neurocompile.ir.task import ActorCritic, Loss
from neurocompile.tasks.data import COMMON_OPTIONS, EventData, Sample, input_population, task_of, window_steps
from neurocompile.tasks.losses import decide, loss_of, negative_reward, one_hot
from neurocompile.tasks.metrics import accuracy, confusion_matrix
from neurocompile.tasks.numerics import Runner


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums over the samples shown so far. labels, decisions : one int a sample; spikes are those of neurons that are no spike sources."""

    labels: list[int] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)
    loss: float = 0.0
    n_spikes: int = 0
    n_synaptic_events: int = 0

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def confusion(self, n_classes: int) -> IntArray:
        """Return the confusion matrix, int64 (n_classes, n_classes)."""
        return confusion_matrix(self.labels, self.decisions, n_classes)

    def means(self, n_classes: int) -> dict[str, float]:
        """Return accuracy, loss (per step of the window), spikes and synaptic events per sample (0 without samples)."""
        n = max(1, self.n)
        return {
            "accuracy": accuracy(self.confusion(n_classes)),
            "loss": self.loss / n,
            "spikes_per_sample": self.n_spikes / n,
            "synaptic_events_per_sample": self.n_synaptic_events / n,
        }


class Presenter:
    """Shows samples of a task to a simulator.

    A sample takes ``task.sample_steps`` steps; its learning window is their end. Samples follow one another without a break in one
    continuous simulation, or, with ``reset_between_samples``, each begins at rest (pending gradients are applied before).
    """

    def __init__(self, network: Network, data: EventData) -> None:
        task, source = task_of(network)
        options: Mapping[str, object] = source.options
        scale = options.get("target_scale", COMMON_OPTIONS["target_scale"].default)
        self.n_steps, self.readout, self.loss = task.sample_steps, task.readout, task.loss
        self.n_classes = data.n_classes
        self.input = input_population(network).name
        self.sources = {p.name for p in network.spike_sources}
        self.reset = bool(options.get("reset_between_samples", COMMON_OPTIONS["reset_between_samples"].default))
        window = window_steps(network)
        self.signals = [one_hot(c, data.n_classes, self.n_steps, window, float(scale)) for c in range(data.n_classes)]  # type: ignore[arg-type]

    def show(self, simulator: Runner, sample: Sample, tally: Tally, *, learn: bool) -> None:
        """Run one sample and enter its outcome in ``tally``."""
        if self.reset and simulator.step:
            if learn:
                simulator.flush()
            simulator.reset_dynamics()
        signal = self.signals[sample.label]
        result = simulator.run(
            self.n_steps,
            spikes={self.input: Spikes(neuron=sample.neuron, step=sample.step + simulator.step)},
            signals={self.readout: signal} if learn or isinstance(self.loss, ActorCritic) else {},  # a policy always acts
            learn=learn,
        )
        output = result.outputs[self.readout]
        tally.labels.append(sample.label)
        tally.decisions.append(decide(output, signal.window))
        if isinstance(self.loss, Loss):
            tally.loss += loss_of(self.loss, output, signal.target, signal.window)
        elif result.actions is not None:
            tally.loss += negative_reward(result.actions, signal.target, signal.window)
        tally.n_spikes += sum(n for name, n in result.n_spikes.items() if name not in self.sources)
        tally.n_synaptic_events += result.n_synaptic_events


def first_indices(n: int, limit: int | None) -> IntArray:
    """Return 0 .. n-1, or the first ``limit`` of them."""
    return np.arange(n if limit is None else min(n, limit), dtype=np.int64)
