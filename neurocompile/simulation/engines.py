"""What a sliced simulation runs in: the reference engine, or a target's integers, behind the same few doors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from neurocompile.backends.reference import Recording, RecordOptions, Simulator
from neurocompile.ir import Network
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation.twin import TwinSimulator

RECORDABLE = ("membrane", "adaptation", "surrogate", "learning_signal", "traces", "weights")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """Some steps: what was recorded by the keys of out.npz, spikes by population, sum of the rewards, time of stepping."""

    arrays: dict[str, AnyArray]
    n_spikes: dict[str, int]
    reward: float
    wall_s: float


class Engine(Protocol):
    """What runs. ``ranges``, ``range_starts``: what a state lies by; ``live_state``: all that changes, arrays that can be filled and then
    given to ``adopt``."""

    @property
    def network(self) -> Network: ...
    @property
    def step(self) -> int: ...
    @property
    def ranges(self) -> int: ...
    @property
    def range_starts(self) -> tuple[int, ...]: ...
    def advance(
        self, n_steps: int, *, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], learn: bool, record: RecordOptions
    ) -> Slice: ...
    def live_state(self) -> dict[str, AnyArray]: ...
    def adopt(self, state: dict[str, AnyArray]) -> None: ...


def recorded_arrays(recording: Recording) -> dict[str, AnyArray]:
    """Return what a run recorded by the keys of out.npz; of two runs in a row, the joined arrays are those of one run over both."""
    arrays = _usual_arrays(recording.spikes, recording.outputs)
    for name, outcome in (("action", recording.actions), ("reward", recording.rewards), ("td_error", recording.td_errors)):
        if outcome is not None:
            arrays[name] = outcome
    for kind in RECORDABLE:
        recorded: dict[str, Any] = getattr(recording, kind)
        for name, values in recorded.items():
            for key, array in values.items() if isinstance(values, dict) else [("", values)]:
                # final weights have the plain key; snapshots of weights are a history
                arrays[f"{'weights_history' if kind == 'weights' else kind}:{name}" + (f":{key}" if key else "")] = np.asarray(array)
    arrays["snapshot_step"] = recording.snapshot_steps
    return arrays


def _usual_arrays(spikes: Mapping[str, Spikes], outputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    arrays: dict[str, AnyArray] = {}
    for name, of in spikes.items():
        arrays[f"spike_step:{name}"], arrays[f"spike_neuron:{name}"] = of.step, of.neuron
    for name, values in outputs.items():
        arrays[f"output:{name}"] = values
    return arrays


class ReferenceEngine:
    """The reference engine."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    @property
    def network(self) -> Network:
        return self.simulator.network

    @property
    def step(self) -> int:
        return self.simulator.step

    @property
    def ranges(self) -> int:
        return self.simulator.ranges

    @property
    def range_starts(self) -> tuple[int, ...]:
        return self.simulator.range_starts

    def advance(
        self, n_steps: int, *, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], learn: bool, record: RecordOptions
    ) -> Slice:
        recording = self.simulator.run(n_steps, spikes=spikes, signals=signals, learn=learn, record=record)
        reward = 0.0 if recording.rewards is None else float(recording.rewards.sum())
        return Slice(arrays=recorded_arrays(recording), n_spikes=recording.n_spikes, reward=reward, wall_s=recording.wall_s)

    def live_state(self) -> dict[str, AnyArray]:
        return self.simulator.live_state()

    def adopt(self, state: dict[str, AnyArray]) -> None:
        """Do nothing: its state was filled in place."""


class TwinEngine:
    """A target's integers, which record spikes and outputs alone. ``n_synaptic_events``: arrivals so far, before a resume too."""

    ranges = 1

    def __init__(self, simulator: TwinSimulator) -> None:
        self.simulator = simulator
        self._events = np.zeros(1, np.int64)

    @property
    def network(self) -> Network:
        return self.simulator.network

    @property
    def step(self) -> int:
        return self.simulator.step

    @property
    def range_starts(self) -> tuple[int, ...]:
        return (0, sum(p.size for p in self.network.populations))

    @property
    def n_synaptic_events(self) -> int:
        return int(self._events[0])

    def advance(
        self, n_steps: int, *, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], learn: bool, record: RecordOptions
    ) -> Slice:
        if any(getattr(record, kind) for kind in RECORDABLE):
            raise ValueError("a twin records spikes and outputs alone")
        began = time.perf_counter()
        run = self.simulator.run(n_steps, spikes=spikes, signals=signals, learn=learn)
        self._events += run.n_synaptic_events
        arrays = _usual_arrays(run.spikes, run.outputs)
        return Slice(arrays=arrays, n_spikes=run.n_spikes, reward=0.0, wall_s=time.perf_counter() - began)

    def live_state(self) -> dict[str, AnyArray]:
        return {**self.simulator.state(), "events": self._events}

    def adopt(self, state: dict[str, AnyArray]) -> None:
        """Go on from a state; InputError NC235 if it is of another program."""
        own = dict(state)
        self._events = own.pop("events").astype(np.int64)
        self.simulator.restore(own)


__all__ = ["RECORDABLE", "Engine", "ReferenceEngine", "Slice", "TwinEngine", "recorded_arrays"]
