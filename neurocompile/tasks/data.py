"""Data sets as events: what ``train`` and ``evaluate`` ask of a data set, its options, and :func:`load_data`.

Everything random is a function of (network seed, purpose, index) through a counter-based generator, so that a sample can be made alone,
in any order, on any worker, and is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir._types import Int32Array, IntArray
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean
from neurocompile.ir.network import Population
from neurocompile.ir.task import DataSet, Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One sample as input spikes: neuron int32 (m,), step int64 (m,) within the sample, each pair once, sorted by step, then neuron;
    label 0 .. n_classes-1."""

    neuron: Int32Array
    step: IntArray
    label: int


class Samples(Protocol):
    """One part (training or test) of a data set."""

    @property
    def labels(self) -> IntArray:
        """Label of each sample, int64 (n,)."""

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return sample ``index`` as it is presented in ``epoch`` (encoders that draw spikes afresh differ between epochs)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventData:
    """A data set as events.

    Attributes
    ----------
    n_inputs, n_classes : int
        Neurons that the spike source and the readout need.
    train, test : Samples
        Disjoint.
    identity : str
        What the data are, in words that change when they do (part of a checkpoint's digest).
    """

    n_inputs: int
    n_classes: int
    train: Samples
    test: Samples
    identity: str


class Purpose(IntEnum):
    """Streams of random numbers of a task; they never overlap."""

    SPLIT = 1
    ENCODE = 2
    ORDER = 3


def stream(seed: int, purpose: Purpose, major: int = 0, minor: int = 0) -> np.random.Generator:
    """Return the generator of (seed, purpose, major, minor); major < 2^28 (an epoch), minor < 2^32 (a sample)."""
    word = (int(purpose) << 60) | (int(major) << 32) | int(minor)
    return np.random.Generator(np.random.Philox(key=np.array([seed, word], np.uint64)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting of ``task.data``: its default gives the type; a number lies in [low, high], a text is one of ``choices``."""

    default: float | int | str | bool
    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False
    choices: tuple[str, ...] = ()
    meaning: str = ""

    def check(self, place: str, value: object) -> str | None:
        """Return what is wrong with a value, or None."""
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else f"{place} is {value!r}, must be true or false"
        if isinstance(self.default, str):
            return None if value in self.choices else f"{place} is {value!r}, must be one of: {', '.join(self.choices)}"
        kind = int if isinstance(self.default, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            return f"{place} is {value!r}, must be a {'whole ' if kind is int else ''}number"
        if not (self.low < value if self.open_low else self.low <= value) or not value <= self.high or not np.isfinite(value):
            return f"{place} is {value:g}, must lie in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"
        return None


COMMON_OPTIONS: dict[str, Option] = {
    "reset_between_samples": Option(
        default=False,
        meaning="apply pending gradients and bring the membranes and traces to rest before each sample; false: one continuous simulation",
    ),
    "target_scale": Option(default=1.0, low=0.0, high=1e9, open_low=True, meaning="target of the right class's readout (the others': 0)"),
}

Values = Mapping[str, float | int | str | bool]


def read_options(data: DataSet, known: Mapping[str, Option]) -> dict[str, float | int | str | bool]:
    """Return the options of a data set with defaults filled in; InputError NC241/NC242 with all findings."""
    table = {**COMMON_OPTIONS, **known}
    found: list[Diagnostic] = []
    for name, value in data.options.items():
        place: tuple[str, ...] = ("task", "data", data.kind, name)
        if name not in table:
            message = f"task.data.{data.kind}: option '{name}' does not exist"
            found.append(Diagnostic(code="NC241", message=message, help=did_you_mean(name, table), field=place))
            continue
        wrong = table[name].check(f"task.data.{data.kind}.{name}", value)
        if wrong is not None:
            found.append(Diagnostic(code="NC242", message=wrong, help=table[name].meaning or None, field=place))
    if found:
        raise InputError(found)
    return {name: data.options.get(name, option.default) for name, option in table.items()}


def task_of(network: Network) -> tuple[Task, DataSet]:
    """Return the task and its data set; InputError NC243 if the description has none."""
    task = network.task
    if task is None or task.data is None:
        raise InputError.of(
            "NC243",
            f"network '{network.name}' has no data set to learn from",
            help="add `task: {readout: NAME, data: {digits: {}}}`, or give spikes and signals to `simulate`",
            field=("task",),
        )
    return task, task.data


def input_population(network: Network) -> Population:
    """Return the spike source that the data drive; InputError NC244 if that is not clear."""
    task, _ = task_of(network)
    if task.input is not None:
        return network.population(task.input)
    sources = network.spike_sources
    if len(sources) != 1:
        raise InputError.of(
            "NC244",
            f"the network has {len(sources)} spike sources; the data drive one",
            help="add `input: NAME` to the task" if sources else "add a population with `model: spike_source`",
            field=("task", "input"),
        )
    return sources[0]


def window_steps(network: Network) -> int:
    """Return how many of a sample's last steps count: the task's learning window, else that of its e-prop rule, else all."""
    task, _ = task_of(network)
    steps = task.learning_window_steps
    if steps is None:
        steps = next((s for r in network.rules if (s := getattr(r, "learning_window_steps", None)) is not None), task.sample_steps)
    if steps > task.sample_steps:
        raise InputError.of(
            "NC242", f"the learning window has {steps} steps, a sample only {task.sample_steps}", field=("task", "learning_window")
        )
    return int(steps)


def load_data(network: Network, path: str | None = None) -> EventData:
    """Return the data set of a network's task.

    Parameters
    ----------
    network : Network
    path : str, optional
        Folder of the data, instead of the description's.

    Raises
    ------
    InputError
        NC240 unknown data set, NC241/NC242 options, NC243/NC244 task, NC245 sizes that differ, NC246/NC247 files.
    """
    from neurocompile.tasks import digits, nmnist

    loaders: dict[str, Callable[[Network, str | None], EventData]] = {"digits": digits.load, "nmnist": nmnist.load}
    task, data = task_of(network)
    if data.kind not in loaders:
        raise InputError.of(
            "NC240", f"data set '{data.kind}' does not exist", help=did_you_mean(data.kind, loaders), field=("task", "data")
        )
    source = input_population(network)
    events = loaders[data.kind](network, path)
    readout = network.population(task.readout)
    found = [
        Diagnostic(
            code="NC245",
            message=f"data set '{data.kind}' has {have} {what}, but '{population.name}' has {population.size} neurons",
            help=f"set the size of '{population.name}' to {have}",
            field=("populations", population.name, "size"),
        )
        for what, have, population in (("inputs", events.n_inputs, source), ("classes", events.n_classes, readout))
        if population.size != have
    ]
    if found:
        raise InputError(found)
    return events


def event_counts(samples: Samples, indices: Iterable[int], n_inputs: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return how often each input spikes in each sample, float64 (n, n_inputs)."""
    rows = [np.bincount(samples.sample(i).neuron, minlength=n_inputs) for i in indices]
    return np.array(rows, np.float64).reshape(len(rows), n_inputs)
