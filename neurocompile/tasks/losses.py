"""Losses as functions of a readout's course, and targets of a classification."""

from __future__ import annotations

import numpy as np

from neurocompile.ir._types import BoolArray, FloatArray, Int32Array
from neurocompile.ir.signals import Signal
from neurocompile.ir.task import Loss


def one_hot(label: int, n_classes: int, n_steps: int, window: int, scale: float = 1.0) -> Signal:
    """Return the signal of one sample: ``scale`` for the readout of ``label``, 0 for the others; the last ``window`` steps count."""
    target = np.zeros((n_steps, n_classes))
    target[:, label] = scale
    return Signal(target=target, window=np.arange(n_steps) >= n_steps - window)


def softmax(y: FloatArray) -> FloatArray:
    """Return softmax over the last axis."""
    shifted = np.exp(y - y.max(axis=-1, keepdims=True))
    result: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def loss_of(kind: Loss, output: FloatArray, target: FloatArray, window: BoolArray) -> float:
    """Return the loss per step of the window (0 for an empty window).

    mean_squared_error: 1/2 sum_k (y - y*)^2; cross_entropy: -sum_k y* log softmax(y). output, target : float64 (n_steps, n); window :
    bool (n_steps,).
    """
    y, wanted = output[window], target[window]
    if not len(y):
        return 0.0
    if kind is Loss.MEAN_SQUARED_ERROR:
        return float(0.5 * np.sum((y - wanted) ** 2) / len(y))
    top = y.max(axis=-1, keepdims=True)
    log_softmax = y - top - np.log(np.exp(y - top).sum(axis=-1, keepdims=True))
    return float(-np.sum(wanted * log_softmax) / len(y))


def negative_reward(actions: Int32Array, target: FloatArray, window: BoolArray) -> float:
    """Return minus the mean reward that actions earned per step of the window (0 for an empty window), whenever it arrives: what learning
    from reward makes small."""
    steps = np.flatnonzero(window)
    return float(-target[steps, actions[steps]].mean()) if len(steps) else 0.0


def decide(output: FloatArray, window: BoolArray) -> int:
    """Return the decision of a readout: the class with the largest mean output in the window (the first of equals)."""
    return int(np.argmax(output[window].mean(axis=0)))
