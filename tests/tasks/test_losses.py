"""Losses and metrics against hand-made numbers and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix as oracle

from neurocompile.ir.task import Loss
from neurocompile.tasks.losses import decide, loss_of, one_hot, softmax
from neurocompile.tasks.metrics import accuracy, confusion_matrix


def test_one_hot_signal() -> None:
    signal = one_hot(2, 3, 5, 2, 0.5)
    assert signal.target.tolist() == [[0.0, 0.0, 0.5]] * 5
    assert signal.window.tolist() == [False] * 3 + [True] * 2


def test_losses() -> None:
    rng = np.random.default_rng(1)
    y, target, window = rng.normal(size=(6, 3)) * 50, np.eye(3)[rng.integers(3, size=6)], np.arange(6) >= 2
    squared = sum(0.5 * (y[t, k] - target[t, k]) ** 2 for t in range(2, 6) for k in range(3)) / 4
    assert loss_of(Loss.MEAN_SQUARED_ERROR, y, target, window) == pytest.approx(squared, rel=1e-12)
    entropy = -(target * log_softmax(y, axis=1))[2:].sum() / 4
    assert loss_of(Loss.CROSS_ENTROPY, y, target, window) == pytest.approx(entropy, rel=1e-12)
    assert loss_of(Loss.CROSS_ENTROPY, y, target, np.zeros(6, bool)) == 0.0
    assert softmax(y) == pytest.approx(np.exp(log_softmax(y, axis=1)), rel=1e-12)
    # the derivative of the loss is the error that the engine sends: softmax(y) - y*
    step = np.zeros_like(y)
    step[3, 1] = 1e-6
    slope = (loss_of(Loss.CROSS_ENTROPY, y + step, target, window) - loss_of(Loss.CROSS_ENTROPY, y - step, target, window)) / 2e-6 * 4
    assert slope == pytest.approx((softmax(y) - target)[3, 1], abs=1e-6)


def test_decision_uses_the_window_only() -> None:
    output = np.array([[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert decide(output, np.array([False, True, True])) == 1
    assert decide(output, np.ones(3, bool)) == 0


def test_confusion_matrix() -> None:
    rng = np.random.default_rng(2)
    labels, decisions = rng.integers(4, size=100), rng.integers(4, size=100)
    found = confusion_matrix(labels, decisions, 4)
    assert np.array_equal(found, oracle(labels, decisions))
    assert accuracy(found) == np.mean(labels == decisions)
    assert accuracy(np.zeros((2, 2), np.int64)) == 0.0
