"""Metrics of a classification."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import IntArray


def confusion_matrix(labels: npt.ArrayLike, decisions: npt.ArrayLike, n_classes: int) -> IntArray:
    """Return how often a sample of class i (row) was decided to be j (column), int64 (n_classes, n_classes)."""
    result = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(result, (np.asarray(labels, np.int64), np.asarray(decisions, np.int64)), 1)
    return result


def accuracy(confusion: IntArray) -> float:
    """Return the share of right decisions, in [0, 1] (0 without samples)."""
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else 0.0
