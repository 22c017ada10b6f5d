"""scikit-learn's 1,797 real 8x8 digits (UCI "Optical recognition of handwritten digits", test part) as spike trains.

Split: within each class the samples are put in an order drawn from the network seed, and the first ``round(test_fraction n)`` of them
are held out. No writer information exists in this copy, so both parts may hold digits by the same writer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.tasks.data import EventData, Option, Purpose, Sample, read_options, stream, task_of

N_PIXELS, N_CLASSES, FULL = 64, 10, 16.0  # pixels are 0 .. 16

OPTIONS = {
    "encoder": Option(default="rate", choices=("rate", "latency"), meaning="how a pixel becomes spikes"),
    "test_fraction": Option(default=0.2, low=0.01, high=0.9, meaning="share of each class that is held out"),
    "max_rate": Option(default=200.0, low=0.0, high=1e6, open_low=True, meaning="Hz of a full pixel (encoder rate)"),
    "redraw": Option(default=True, meaning="draw the spikes of a training sample afresh in each epoch (encoder rate)"),
    "latency_fraction": Option(
        default=0.8, low=0.0, high=1.0, open_low=True, meaning="share of the sample over which latencies spread (encoder latency)"
    ),
}


def split(labels: IntArray, test_fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Return (train, test): sorted indices, stratified by class, a function of the arguments."""
    test: list[IntArray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = stream(seed, Purpose.SPLIT, minor=int(label)).permutation(len(members))
        test.append(members[order[: round(test_fraction * len(members))]])
    held_out = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def encode_rate(image: FloatArray, n_steps: int, per_step: float, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return (neuron, step): in each step a pixel of intensity x in [0, 1] spikes with probability x ``per_step``."""
    step, neuron = np.nonzero(rng.random((n_steps, image.size)) < image * per_step)
    return neuron.astype(np.int64), step.astype(np.int64)


def encode_latency(image: FloatArray, n_steps: int, fraction: float) -> tuple[IntArray, IntArray]:
    """Return (neuron, step): a pixel of intensity x in (0, 1] spikes once, the brighter the earlier; a dark one never.

    step = round((1 - x) (fraction n_steps - 1)).
    """
    neuron = np.flatnonzero(image > 0.0)
    last = max(0.0, fraction * n_steps - 1.0)
    step = np.rint((1.0 - image[neuron]) * last).astype(np.int64)
    order = np.lexsort((neuron, step))
    return neuron[order].astype(np.int64), step[order]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DigitSamples:
    """Part of the digits. images : float64 (n, 64) in [0, 1]; ids : int64 (n,), index in the whole data set."""

    images: FloatArray
    labels: IntArray
    ids: IntArray
    seed: int
    n_steps: int
    encoder: str
    per_step: float
    latency_fraction: float
    redraw: bool

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return one digit as spikes (see :class:`neurocompile.tasks.data.Samples`)."""
        if self.encoder == "latency":
            neuron, step = encode_latency(self.images[index], self.n_steps, self.latency_fraction)
        else:
            rng = stream(self.seed, Purpose.ENCODE, epoch if self.redraw else 0, int(self.ids[index]))
            neuron, step = encode_rate(self.images[index], self.n_steps, self.per_step, rng)
        return Sample(neuron=neuron.astype(np.int32), step=step, label=int(self.labels[index]))


def load(network: Network, path: str | None = None) -> EventData:  # noqa: ARG001 - the data come with scikit-learn
    """Return the digits as events for the network's task (InputError NC241/NC242: options)."""
    from sklearn.datasets import load_digits

    task, data = task_of(network)
    options = read_options(data, OPTIONS)
    images, labels = load_digits(return_X_y=True)
    images, labels = images / FULL, labels.astype(np.int64)
    parts = {}
    for name, ids in zip(("train", "test"), split(labels, float(options["test_fraction"]), network.seed), strict=True):
        parts[name] = DigitSamples(
            images=images[ids],
            labels=labels[ids],
            ids=ids,
            seed=network.seed,
            n_steps=task.sample_steps,
            encoder=str(options["encoder"]),
            per_step=min(1.0, float(options["max_rate"]) * network.dt),
            latency_fraction=float(options["latency_fraction"]),
            redraw=bool(options["redraw"]) and name == "train",
        )
    return EventData(n_inputs=N_PIXELS, n_classes=N_CLASSES, **parts, identity=f"digits of scikit-learn, {len(labels)} samples")
