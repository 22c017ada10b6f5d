"""What a linear classifier reaches on the number of events of each input: the figure that a spiking network should beat."""

from __future__ import annotations

import numpy as np

from neurocompile.ir._types import IntArray
from neurocompile.tasks.data import EventData, event_counts


def linear_baseline(data: EventData, train: IntArray, test: IntArray) -> float | None:
    """Return the held-out accuracy of a logistic regression on event counts, divided by the largest count of the training part.

    train, test : indices of samples. L2 penalty with C = 1 (scikit-learn's default). None if the training part has one class only.
    """
    from sklearn.linear_model import LogisticRegression

    labels = data.train.labels[train]
    if len(np.unique(labels)) < 2 or not len(test):
        return None
    x, x_test = (event_counts(part, ids, data.n_inputs) for part, ids in ((data.train, train), (data.test, test)))
    scale = max(1.0, float(x.max()))
    model = LogisticRegression(max_iter=2000).fit(x / scale, labels)
    return float(np.mean(model.predict(x_test / scale) == data.test.labels[test]))
