"""Checkpoints of a simulation: FILE holds the state, FILE.part000000 ... what was recorded, interval by interval.

A part appears before the FILE that counts it, each of them whole or not at all; so at any moment FILE and the parts that it counts
belong together, and a part is written once however long the run is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, fill_from_npz, stream_npz
from neurocompile.simulation.engines import Engine

FORMAT = "neurocompile-simulation/2"
_META_BYTES = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What FILE says beside the state.

    Attributes
    ----------
    identity : dict
        What the run depends on -> a digest or a value as text.
    step : int
        Steps done.
    n_parts : int
    n_spikes : dict
        Population -> spikes so far.
    reward : float
        Sum of the rewards so far (learning from reward).
    wall_s : float
        Time of stepping so far.
    ranges : int
        What the engine was made with (``Simulator.ranges``).
    range_starts : tuple of int
        What the state lies by (``Simulator.range_starts``).
    """

    identity: dict[str, str]
    step: int
    n_parts: int
    n_spikes: dict[str, int]
    reward: float
    wall_s: float
    ranges: int
    range_starts: tuple[int, ...]


class CheckpointFile:
    """FILE and its parts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, number: int) -> Path:
        """Path of a part."""
        return self.path.with_name(f"{self.path.name}.part{number:06d}")

    def begin(self) -> None:
        """Make sure that a new run overwrites nothing (InputError NC713) and can write (NC701)."""
        if self.path.exists():
            raise InputError.of(
                "NC713",
                "holds a checkpoint of a simulation already, or something else",
                file=str(self.path),
                help="go on with --resume, delete it, or choose another file",
            )
        if not self.path.parent.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise InputError.of("NC701", "cannot be written: no such folder, or no permission", file=str(self.path))
        self.clean()

    def clean(self) -> None:
        """Remove what a killed process was writing when it was killed."""
        unfinished = re.compile(rf"\.{re.escape(self.path.name)}(\.part\d{{6,}})?\.[a-z0-9_]{{8}}")
        for file in self.path.parent.iterdir():
            if unfinished.fullmatch(file.name):
                file.unlink(missing_ok=True)

    def save_part(self, number: int, first: int, arrays: Mapping[str, AnyArray], stop: int) -> None:
        """Write what was recorded in steps first .. stop-1."""
        meta = _as_array({"format": FORMAT, "first": first, "stop": stop})
        stream_npz(self.part(number), [("meta", meta), *arrays.items()], compressed=False)

    def save(self, meta: Meta, engine: Engine) -> None:
        """Write FILE: all state, without a copy of it in memory."""
        state = ((f"state:{name}", array) for name, array in engine.live_state().items())
        stream_npz(self.path, [("meta", _as_array({"format": FORMAT, **asdict(meta)})), *state], compressed=False)
        self._settle()

    def _settle(self) -> None:
        """Let the names of the files outlast a loss of power, where folders can be flushed."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError:
            return
        try:
            os.fsync(folder)
        except OSError:
            pass
        finally:
            os.close(folder)

    def read(self) -> Meta:
        """Read what FILE says (InputError NC710 there is none, NC712 it cannot be read)."""
        if not self.path.is_file():
            raise InputError.of(
                "NC710", "there is no checkpoint to resume from", file=str(self.path), help="leave out --resume to begin the simulation"
            )
        found = self._meta(self.path)
        try:
            meta = Meta(
                identity={str(k): str(v) for k, v in found["identity"].items()},
                step=int(found["step"]),
                n_parts=int(found["n_parts"]),
                n_spikes={str(k): int(v) for k, v in found["n_spikes"].items()},
                reward=float(found["reward"]),
                wall_s=float(found["wall_s"]),
                ranges=int(found["ranges"]),
                range_starts=tuple(int(x) for x in found["range_starts"]),
            )
            if not (meta.step >= 0 and meta.n_parts >= 0 and meta.wall_s >= 0.0 and meta.ranges >= 1):
                raise ValueError("a count that cannot be")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(self.path, str(error)) from None
        return meta

    def enter(self, meta: Meta | None, identity: Mapping[str, str], n_steps: int) -> None:
        """Make sure that a run of so many steps can go on from ``meta``, or begin (None): errors of :meth:`check` and :meth:`begin`, and
        InputError NC711 if it is behind its last step."""
        if meta is None:
            self.begin()
            return
        self.check(meta, identity)
        if meta.step > n_steps:
            raise InputError.of(
                "NC711",
                f"the checkpoint is at step {meta.step}, behind --steps {n_steps}",
                file=str(self.path),
                help=f"--steps {meta.step} or more",
            )

    def check(self, meta: Meta, identity: Mapping[str, str]) -> None:
        """Make sure that FILE and its parts belong to this run; what a killed process was writing is removed.

        Raises
        ------
        InputError
            NC711 it belongs to another run (with what differs), NC712 parts are missing or cannot be read.
        """
        then = meta.identity
        differing = [name for name in sorted({*then, *identity}) if then.get(name) != identity.get(name)]
        if differing:
            raise InputError.of(
                "NC711",
                "the checkpoint belongs to another simulation; what differs: "
                + "; ".join(_difference(name, then.get(name), identity.get(name)) for name in differing),
                file=str(self.path),
                help="resume with what it was begun with (only --steps may grow), or begin anew with another file",
            )
        self._check_parts(meta)
        self.clean()

    def restore(self, meta: Meta, engine: Engine) -> None:
        """Read the state in place (InputError NC712 if it is damaged; the engine is of no use then)."""
        if meta.range_starts != engine.range_starts:
            raise self._damaged(self.path, f"its state lies by ranges {meta.range_starts}, not {engine.range_starts}")
        try:
            state = engine.live_state()
            fill_from_npz(self.path, {f"state:{name}": array for name, array in state.items()})
            engine.adopt(state)
        except InputError as error:
            raise self._damaged(self.path, error.diagnostics[0].message) from None

    def _check_parts(self, meta: Meta) -> None:
        """Raise InputError NC712 unless the parts are there and follow each other from step 0 to the checkpoint's."""
        stop = 0
        for number in range(meta.n_parts):
            found = self._meta(self.part(number))
            if found.get("first") != stop or not isinstance(found.get("stop"), int):
                raise self._damaged(self.part(number), f"it begins at step {found.get('first')}, the part before ends at {stop}")
            stop = found["stop"]
        if stop != meta.step:
            raise self._damaged(self.path, f"its parts end at step {stop}, the state is of step {meta.step}")

    def pieces(self, key: str, n_parts: int) -> Iterator[AnyArray]:
        """Yield one recorded array, part by part."""
        for number in range(n_parts):
            try:
                with self.part(number).open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
                    yield archive[key]
            except Exception as error:
                raise self._damaged(self.part(number), str(error)) from None

    def _meta(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
                if archive.zip.getinfo("meta.npy").file_size > _META_BYTES:
                    raise ValueError("its description is too long")
                found: dict[str, Any] = json.loads(archive["meta"].tobytes().decode())
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']!r}, this version reads {FORMAT!r}")
        except Exception as error:  # whatever NumPy, zipfile and json say about a file that is no checkpoint
            raise self._damaged(path, str(error)) from None
        return found

    def _damaged(self, path: Path, reason: str) -> InputError:
        found = InputError.of(
            "NC712", f"is no readable checkpoint: {reason}", file=str(path), help="begin the simulation anew with another file"
        )
        return InputError(found.diagnostics)


def _as_array(meta: Mapping[str, Any]) -> AnyArray:
    return np.frombuffer(json.dumps(meta).encode(), np.uint8)


def _difference(name: str, then: str | None, now: str | None) -> str:
    if then is None or now is None:
        return f"{name} ({'not given then' if then is None else 'not given now'})"
    if max(len(then), len(now)) > 60:  # digests
        return f"{name} (changed)"
    return f"{name} ({then} then, {now} now)"
