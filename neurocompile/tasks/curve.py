"""The learning curve as CSV and PNG."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch. ``train_*`` are measured while the weights change, ``test_*`` afterwards on the held-out part; spikes and synaptic
    events are means per training sample. No times: the same training gives the same curve."""

    epoch: int
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    spikes_per_sample: float
    synaptic_events_per_sample: float


def curve_csv(history: Sequence[EpochRecord]) -> bytes:
    """Return the curve as CSV with a header line; numbers round-trip."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue().encode()


def curve_png(history: Sequence[EpochRecord], title: str, baseline: float | None = None) -> bytes:
    """Return the curve as PNG (accuracy left, loss right; the linear baseline as a dashed line); same input, same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    for axis, what in ((left, "accuracy"), (right, "loss")):
        for part, name in (("train", "training"), ("test", "held out")):
            axis.plot(epochs, [getattr(row, f"{part}_{what}") for row in history], marker=".", label=name)
        axis.set(xlabel="epoch", ylabel=what)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if baseline is not None:
        left.axhline(baseline, linestyle="--", color="gray", label="linear on event counts")
    left.legend(loc="lower right")
    figure.suptitle(title, parse_math=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
    return image.getvalue()
