"""A simulation in slices: progress and interruption between them, checkpoints at steps that do not depend on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.backends.reference import RecordOptions
from neurocompile.backends.reference.inputs import check_once
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation.checkpoint import CheckpointFile, Meta
from neurocompile.simulation.engines import Engine
from neurocompile.simulation.memory import watch
from neurocompile.tasks.progress import Bar

CHECKPOINT_SECONDS = 30.0
_SLICE_SECONDS = 0.2
_SLICE_BYTES = 2.0**25
_PART_BYTES = 2**28
"""Recordings beyond this many bytes are written at once."""
_FIRST_SLICE = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What is to be run. ``n_steps``: in all, from step 0; ``kept``: whether spikes, outputs and recordings are wanted at the end."""

    n_steps: int
    spikes: Mapping[str, Spikes]
    signals: Mapping[str, Signal]
    learn: bool
    record: RecordOptions
    kept: bool


class Run:
    """A simulation on its way.

    Attributes
    ----------
    step : int
        Steps done.
    n_spikes : dict population -> int
    reward : float
        Sum of the rewards so far.
    wall_s : float
        Time of stepping, that before a resume included.
    """

    def __init__(self, engine: Engine, plan: Plan, file: CheckpointFile | None, identity: Mapping[str, str]) -> None:
        self.engine, self.plan, self.file, self.identity = engine, plan, file, dict(identity)
        for name, given in plan.spikes.items():
            check_once(name, given.step, given.neuron)
        # also refuses what cannot be recorded
        empty = engine.advance(0, spikes=plan.spikes, signals={}, learn=True, record=plan.record)
        self._empty = empty.arrays
        self.n_spikes, self.reward, self.wall_s = dict(empty.n_spikes), 0.0, 0.0
        self._slices: list[dict[str, AnyArray]] = []
        self._bytes = dict.fromkeys(self._empty, 0)
        self._held = self._n_parts = self._saved_at = 0

    @property
    def step(self) -> int:
        return self.engine.step

    def resume(self, meta: Meta) -> None:
        """Go back to a checkpoint; the engine must have been made with its ``ranges``."""
        if self.file is None:
            raise ValueError("there is no file to resume from")
        self.file.restore(meta, self.engine)
        self.n_spikes, self.reward, self.wall_s = dict(meta.n_spikes), meta.reward, meta.wall_s
        self._n_parts, self._saved_at = meta.n_parts, meta.step

    def go(self, every: int | None, stopped: Callable[[], bool], bar: Bar) -> bool:
        """Run until all steps are done; False if stopped before. With a file, a checkpoint is written either way.

        ``every``: steps between checkpoints, at their multiples; None: every half minute, less often if writing takes long.
        """
        length, saved, pause = _FIRST_SLICE, time.monotonic(), CHECKPOINT_SECONDS
        most = self._longest_slice()
        while self.step < self.plan.n_steps and not stopped():
            bar.update("step", self.step, self.plan.n_steps)
            began = time.monotonic()
            self._advance(min(length, most), every)
            took = time.monotonic() - began
            length = max(1, min(2 * length, int(length * _SLICE_SECONDS / max(took, 1e-6))))
            due = time.monotonic() - saved > pause if every is None else self.step % every == 0
            if self.file is not None and due:
                before = time.monotonic()
                self.save()
                saved = time.monotonic()
                pause = max(CHECKPOINT_SECONDS, 10.0 * (saved - before))
        bar.update("step", self.step, self.plan.n_steps)
        self.save()
        return self.step >= self.plan.n_steps

    def _longest_slice(self) -> int:
        network = self.engine.network
        width = 2 * sum(r.size for r in network.readouts) + sum(x.shape[1] for x in self._empty.values() if x.ndim == 2)
        return max(1, int(_SLICE_BYTES / (8.0 * max(width, 1))))

    def _advance(self, length: int, every: int | None) -> None:
        """Run one slice. Snapshots are due at multiples of ``record.every`` whatever the slices."""
        plan, start = self.plan, self.step
        stop = min(start + length, plan.n_steps)
        if every is not None and self.file is not None:
            stop = min(stop, (start // every + 1) * every)
        record = plan.record
        if record.weights or record.traces:
            following = (start // record.every + 1) * record.every
            if start % record.every or stop < following:
                stop = min(stop, following)
                record = replace(record, every=following - start)
            else:
                stop -= stop % record.every
        signals = {name: s.part(start, stop) for name, s in plan.signals.items() if len(s.target) > start}
        spikes = {name: _between(s, start, stop) for name, s in plan.spikes.items()}
        done = self.engine.advance(stop - start, spikes=spikes, signals=signals, learn=plan.learn, record=record)
        self.wall_s += done.wall_s
        self.reward += done.reward
        for name, count in done.n_spikes.items():
            self.n_spikes[name] += count
        if plan.kept or self.file is not None:
            self._keep(done.arrays)

    def _keep(self, arrays: dict[str, AnyArray]) -> None:
        self._slices.append(arrays)
        for name, array in arrays.items():
            self._bytes[name] += array.nbytes
            self._held += array.nbytes
        if self.file is not None and self._held > _PART_BYTES:
            self.save()
        if self.plan.kept:  # joining the pieces of an array takes as much again; a file's pieces have to be read as well
            largest = float(max(self._bytes.values()))
            watch(self.step, self.plan.n_steps, float(self._held), largest if self.file is None else 2.0 * largest)

    def save(self) -> None:
        """Write a checkpoint, unless there is no file or nothing has happened since the last one."""
        if self.file is None or (self._saved_at == self.step and self._n_parts):
            return
        part = {name: np.concatenate([empty, *(s[name] for s in self._slices)]) for name, empty in self._empty.items()}
        self.file.save_part(self._n_parts, self._saved_at, part, self.step)
        self._slices.clear()
        self._held = 0
        self._n_parts, self._saved_at = self._n_parts + 1, self.step
        meta = Meta(
            identity=self.identity,
            step=self.step,
            n_parts=self._n_parts,
            n_spikes=self.n_spikes,
            reward=self.reward,
            wall_s=self.wall_s,
            ranges=self.engine.ranges,
            range_starts=self.engine.range_starts,
        )
        self.file.save(meta, self.engine)

    def arrays(self) -> Iterator[tuple[str, AnyArray]]:
        """Yield what was recorded from step 0 on, key by key, each forgotten when it has been yielded."""
        for name, empty in self._empty.items():
            pieces = [] if self.file is None else list(self.file.pieces(name, self._n_parts))
            pieces += [s.pop(name) for s in self._slices]
            joined = np.concatenate([empty, *pieces])
            if name != "snapshot_step" or len(joined):
                yield name, joined


def _between(spikes: Spikes, start: int, stop: int) -> Spikes:
    low, high = np.searchsorted(spikes.step, [start, stop])
    return Spikes(neuron=spikes.neuron[low:high], step=spikes.step[low:high])
