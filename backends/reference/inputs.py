"""Spikes and signals of one run -> the arrays that the kernels read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.ir import Network, SpikeSource
from neurocompile.ir._types import Int32Array, IntArray
from neurocompile.ir.errors import InputError, did_you_mean
from neurocompile.ir.signals import Signal, Spikes


def gather_inputs(network: Network, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], first: int, n_steps: int) -> t.Inputs:
    """Return what steps ``first`` .. ``first + n_steps - 1`` are given (errors as in ``Simulator.run``)."""
    sources = [p.name for p in network.spike_sources]
    for name in spikes:
        if name not in sources:
            raise InputError.of("NC207", f"spikes are given for '{name}', which is no spike source", help=did_you_mean(name, sources))
    steps, neurons = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, given in spikes.items():
        population = network.population(name)
        if given.neuron.size and int(given.neuron.max()) >= population.size:
            raise InputError.of(
                "NC204",
                f"neuron {int(given.neuron.max())} of '{name}' spikes, but the population has {population.size} neurons",
                help=f"indices count from 0 to {population.size - 1}",
            )
        low, high = np.searchsorted(given.step, [first, first + n_steps])
        step, neuron = given.step[low:high], given.neuron[low:high].astype(np.int64)
        check_once(name, step, neuron)
        steps.append(step - first)
        neurons.append(neuron + network.offsets[name])
    step, neuron = np.concatenate(steps), np.concatenate(neurons)
    order = np.lexsort((neuron, step))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(step, minlength=n_steps))]).astype(np.int64)
    mode = [
        t.POISSON if isinstance(p.model, SpikeSource) and p.name not in spikes and np.any(np.asarray(p.model.rate) > 0) else t.GIVEN
        for p in network.populations
    ]
    return t.Inputs(np.array(mode, np.uint8), pointer, neuron[order].astype(np.int32), *_signals(network, signals, n_steps))


def check_once(name: str, step: IntArray, neuron: IntArray | Int32Array) -> None:
    """Raise InputError NC237 if a neuron of a source spikes twice in a step (spikes sorted as in :class:`Spikes`)."""
    twice = np.flatnonzero((np.diff(step) == 0) & (np.diff(neuron) == 0))
    if twice.size:
        raise InputError.of(
            "NC237",
            f"neuron {int(neuron[twice[0]])} of '{name}' spikes twice in step {int(step[twice[0]])}",
            help="a neuron spikes at most once a step: merge the events, or choose a smaller dt",
        )


def _signals(network: Network, signals: Mapping[str, Signal], n_steps: int) -> tuple[t.F8, t.F8, t.F8]:
    readouts, loss = network.readouts, network.actor_critic
    policy = None if loss is None or network.task is None else network.task.readout
    for name in signals:
        if name not in {r.name for r in readouts}:
            raise InputError.of(
                "NC207", f"a signal is given for '{name}', which is no readout", help=did_you_mean(name, [r.name for r in readouts])
            )
        if loss is not None and name == loss.critic:
            raise InputError.of(
                "NC207",
                f"a signal is given for the critic '{name}', which learns from rewards",
                help=f"give rewards to the policy '{policy}'",
            )
        if signals[name].reward is not None and name != policy:
            raise InputError.of(
                "NC207",
                f"the signal of '{name}' has rewards, but the readout is no policy",
                help="rewards act with task: {loss: {actor_critic: ...}} and belong to the task's readout",
            )
    target = np.zeros((n_steps, sum(r.size for r in readouts)))
    window = np.zeros((n_steps, len(readouts)))
    reward = np.zeros(0 if loss is None else n_steps)
    column = 0
    for index, readout in enumerate(readouts):
        signal = signals.get(readout.name)
        if signal is not None:
            if signal.target.shape[1] != readout.size:
                raise InputError.of(
                    "NC202", f"the signal of '{readout.name}' has {signal.target.shape[1]} columns, the readout has {readout.size} neurons"
                )
            rows = min(n_steps, len(signal.target))
            target[:rows, column : column + readout.size] = signal.target[:rows]
            window[:rows, index] = signal.window[:rows]
            if signal.reward is not None:
                reward[:rows] = signal.reward[:rows]
        column += readout.size
    return target, window, reward
