"""N-MNIST (Orchard et al. 2015) in its own layout: ``Train/<digit>/<number>.bin``, ``Test/<digit>/<number>.bin``.

Five bytes an event: x, y (8 bits each), then a bit of polarity and 23 bits of time in microseconds, big-endian. An "event" with y = 240
marks an overflow of the sensor's timer: all later times are 2^13 us later (the data set's own reader, ``Read_Ndataset.m``). Files are
read when a sample is asked for; only their names and sizes are read before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir._types import IntArray
from neurocompile.ir.errors import InputError
from neurocompile.tasks.data import EventData, Option, Sample, read_options, task_of

WIDTH, N_CLASSES, EVENT_BYTES = 34, 10, 5
OVERFLOW_Y, OVERFLOW_US = 240, 1 << 13

OPTIONS = {
    "duration": Option(default=336_040, low=1, high=2**31, meaning="microseconds of a recording, scaled to sample_steps"),
    "pool": Option(default=1, low=1, high=WIDTH, meaning="side of the squares of pixels that share an input neuron; divides 34"),
    "polarity": Option(default=True, meaning="one input neuron for each polarity; false: both share one"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events of a recording, each int64 (m,): x, y in 0 .. 33, polarity 0 or 1, time in us."""

    x: IntArray
    y: IntArray
    polarity: IntArray
    time: IntArray


def read_events(path: str | Path) -> Events:
    """Read one recording; InputError NC246 if it cannot be read, NC247 with the byte offset if it is malformed."""
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError.of("NC246", f"cannot be read: {error.strerror}", file=str(path)) from None
    rest = raw.size % EVENT_BYTES
    if rest or not raw.size:
        what = f"ends inside an event: {rest} bytes at offset {raw.size - rest}" if rest else "is empty"
        raise InputError.of("NC247", f"{what} (an event has {EVENT_BYTES} bytes)", file=str(path), help="fetch the file again")
    x, y, high, middle, low = raw.reshape(-1, EVENT_BYTES).T.astype(np.int64)
    time = ((high & 0x7F) << 16) | (middle << 8) | low
    overflow = y == OVERFLOW_Y
    time += OVERFLOW_US * np.cumsum(overflow)
    bad = ~overflow & ((x >= WIDTH) | (y >= WIDTH))
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError.of(
            "NC247",
            f"event {first} at offset {first * EVENT_BYTES} has x = {x[first]}, y = {y[first]}; both must be below {WIDTH}",
            file=str(path),
            help="this is no N-MNIST recording, or it is damaged",
        )
    keep = ~overflow
    return Events(x=x[keep], y=y[keep], polarity=(high >> 7)[keep], time=time[keep])


def to_steps(events: Events, *, n_steps: int, duration: int, pool: int = 1, polarity: bool = True) -> tuple[IntArray, IntArray]:
    """Return (neuron, step), each pair once, sorted by step, then neuron.

    step = time n_steps // duration, at most n_steps - 1; neuron = (y' w + x') p + polarity with w = 34 / pool pixels a side and p = 2
    polarities (1 if both share a neuron). Events of one neuron in one step are one spike: a neuron spikes at most once a step.
    """
    side = WIDTH // pool
    neuron = (events.y // pool) * side + events.x // pool
    if polarity:
        neuron = 2 * neuron + events.polarity
    size = side * side * (2 if polarity else 1)
    step = np.minimum(events.time * n_steps // duration, n_steps - 1)
    both = np.unique(step * size + neuron)
    return both % size, both // size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recordings:
    """Recordings of one part, read when asked for."""

    files: tuple[Path, ...]
    labels: IntArray
    n_steps: int
    duration: int
    pool: int
    polarity: bool

    def sample(self, index: int, epoch: int = 0) -> Sample:  # noqa: ARG002 - a recording is the same in every epoch
        """Return one recording as spikes (see :class:`neurocompile.tasks.data.Samples`)."""
        events = read_events(self.files[index])
        late = events.time > self.duration
        if late.any():
            first = int(np.argmax(late))
            raise InputError.of(
                "NC247",
                f"an event is at {events.time[first]} us, after the end of a recording ({self.duration} us)",
                file=str(self.files[index]),
                help="set `duration` of the data set, or fetch the file again",
            )
        neuron, step = to_steps(events, n_steps=self.n_steps, duration=self.duration, pool=self.pool, polarity=self.polarity)
        return Sample(neuron=neuron.astype(np.int32), step=step, label=int(self.labels[index]))


def find_recordings(folder: Path, part: str) -> tuple[tuple[Path, ...], IntArray]:
    """Return files and labels of a part (``Train`` or ``Test``), ordered by their numbers, as MNIST orders them; InputError NC246."""
    root = folder / part
    if not root.is_dir():
        raise InputError.of(
            "NC246",
            f"there is no folder '{part}' in it",
            file=str(folder),
            help="point `path` (or --data) to the folder that holds Train/<digit>/<number>.bin and Test/<digit>/<number>.bin",
        )
    found = [(file, digit) for digit in range(N_CLASSES) for file in (root / str(digit)).glob("*.bin")]
    if not found:
        raise InputError.of("NC246", f"'{part}' holds no recordings (<digit>/<number>.bin)", file=str(folder))
    found.sort(key=lambda item: (item[0].stem.zfill(10), item[1]))
    return tuple(file for file, _ in found), np.array([digit for _, digit in found], np.int64)


def load(network: Network, path: str | None = None) -> EventData:
    """Return N-MNIST as events for the network's task (InputError NC241/NC242: options, NC246: folder)."""
    task, data = task_of(network)
    options = read_options(data, OPTIONS)
    pool, polarity = int(options["pool"]), bool(options["polarity"])
    if WIDTH % pool:
        raise InputError.of("NC242", f"task.data.nmnist.pool is {pool}, must divide {WIDTH}", field=("task", "data", "nmnist", "pool"))
    where = path if path is not None else data.path
    if where is None:
        raise InputError.of("NC246", "data set 'nmnist' needs a folder", help="add `path:` to the data set, or pass --data PATH")
    digest = hashlib.sha256()
    parts = {}
    for part in ("Train", "Test"):
        files, labels = find_recordings(Path(where), part)
        for file, label in zip(files, labels, strict=True):
            digest.update(f"{part}/{label}/{file.name} {file.stat().st_size}\n".encode())
        parts[part.lower()] = Recordings(
            files=files, labels=labels, n_steps=task.sample_steps, duration=int(options["duration"]), pool=pool, polarity=polarity
        )
    side = WIDTH // pool
    return EventData(
        n_inputs=side * side * (2 if polarity else 1), n_classes=N_CLASSES, **parts, identity=f"nmnist, files {digest.hexdigest()}"
    )
