"""What a deployment must remember, in the local folder: ``deploy.json``, replaced whole at each change; it holds no secret.

The folder of a deployment: ``deploy.json``, ``log.txt`` (the job's output as far as it has been seen), ``results.npz`` at the end, and a
lock that only one following process holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from neurocompile.deploy.destination import Ended, Seen
from neurocompile.ir.errors import InputError, NeurocompileError
from neurocompile.versions import FORMAT_VERSION

STATE, LOG, RESULTS, LOCK, CANCELLED = "deploy.json", "log.txt", "results.npz", ".lock", "cancelled"
_TAIL = 256
PHASES = ("new", "ready", "submitted", "ended", "done")
"""new: nothing is certain; ready: all is on the host; submitted: there is a job; ended: how is known; done: results are here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One deployment.

    to : destination; settings : its own; build : absolute path; digest : of the program's files; inputs : name at the destination ->
    [absolute path, digest]; args : of program/run.py; run, job : names; log_offset : bytes of the log that are in log.txt;
    end : `Ended` as JSON.
    """

    to: str
    settings: Mapping[str, Any]
    build: str
    digest: str
    inputs: Mapping[str, list[str]]
    args: list[str]
    run: str
    phase: str = "new"
    job: str | None = None
    log_offset: int = 0
    end: Mapping[str, Any] | None = None
    format_version: str = field(default=FORMAT_VERSION)

    @property
    def ended(self) -> Ended:
        """How the job ended; only from the phase ``ended`` on."""
        if self.end is None:
            raise ValueError("without an end")
        results = self.end["results"]
        return Ended(**{**self.end, "results": None if results is None else (int(results[0]), str(results[1]))})


class RunFolder:
    """A deployment's folder, with its state."""

    def __init__(self, path: Path, state: State) -> None:
        self.path, self.state = path, state

    @classmethod
    def create(cls, path: Path, state: State) -> RunFolder:
        """Begin a deployment in a folder (InputError NC713 if there is one already, NC701 if it cannot be written)."""
        if any((path / name).exists() for name in (STATE, RESULTS, LOG)):
            raise InputError.of(
                "NC713", "holds a deployment already", file=str(path), help="go on with --resume, or choose another folder with -o"
            )
        folder = cls(path, state)
        folder.save()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Read a deployment (InputError NC720 if there is none, NC721 if its state cannot be read)."""
        file = path / STATE
        try:
            found = json.loads(file.read_bytes())
            state = State(**found)
            if state.format_version != FORMAT_VERSION or state.phase not in PHASES:
                raise ValueError("of another version")
            if (
                not isinstance(state.log_offset, int)
                or not isinstance(state.settings, dict)
                or not isinstance(state.inputs, dict)
                or not _plain(state)
            ):
                raise ValueError("of another form")
            if state.phase in PHASES[2:] and not isinstance(state.job, str):
                raise ValueError("without a job")
            if state.phase in PHASES[3:]:
                _ = state.ended
        except FileNotFoundError:
            raise InputError.of("NC720", f"there is no {STATE} to go on from", file=str(path)) from None
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            raise InputError.of("NC721", f"cannot be read: {error}", file=str(file)) from None
        return cls(path, state)

    def update(self, **changes: Any) -> None:
        """Change the state and save it."""
        self.state = replace(self.state, **changes)
        self.save()

    def save(self) -> None:
        """Replace deploy.json."""
        temporary = self.path / f"{STATE}.tmp"
        try:
            with temporary.open("w", encoding="ascii") as file:
                json.dump(asdict(self.state), file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / STATE)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def cancelled(self) -> bool:
        """Whether somebody has cancelled the deployment: a file of its own, for another process may hold the lock and write the state."""
        return (self.path / CANCELLED).exists()

    def mark_cancelled(self) -> None:
        """Remember that nothing is to be submitted any more."""
        try:
            (self.path / CANCELLED).touch()
        except OSError as error:
            raise unwritable(self.path, error) from None

    @property
    def seen(self) -> Seen:
        """What is here of the log."""
        offset = self.state.log_offset
        if not offset:
            return Seen(offset=0)
        with (self.path / LOG).open("rb") as file:
            file.seek(max(0, offset - _TAIL))
            return Seen(offset=offset, tail=file.read(min(_TAIL, offset)))

    def put_log_aside(self) -> str:
        """Begin log.txt again; return the name under which the old one is kept."""
        number = 1
        while (self.path / f"log.{number}.txt").exists():
            number += 1
        try:
            (self.path / LOG).replace(self.path / f"log.{number}.txt")
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.update(log_offset=0)
        return f"log.{number}.txt"

    def trim_log(self) -> None:
        """Make log.txt and the state agree on how much of the log has been seen, whatever moment a process was killed at."""
        log = self.path / LOG
        try:
            log.touch()
            seen = min(self.state.log_offset, log.stat().st_size)
            os.truncate(log, seen)
        except OSError as error:
            raise unwritable(self.path, error) from None
        if seen != self.state.log_offset:
            self.update(log_offset=seen)

    def add_log(self, piece: bytes) -> None:
        """Append to log.txt."""
        try:
            with (self.path / LOG).open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.update(log_offset=self.state.log_offset + len(piece))

    def log_end(self, lines: int) -> str:
        """The last lines of log.txt."""
        if not (self.path / LOG).exists():
            return ""
        with (self.path / LOG).open("rb") as file:
            file.seek(max(0, self.state.log_offset - 100 * lines))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _plain(state: State) -> bool:
    """Whether names that scripts and paths are made of are such as we make them."""
    names = re.fullmatch(r"[0-9a-f]{16}", state.run) and re.fullmatch(r"[0-9a-f]{64}", state.digest)
    return (
        bool(names) and all(re.fullmatch(r"\d+-[0-9a-f]{16}\.npz", n) for n in state.inputs) and all(isinstance(a, str) for a in state.args)
    )


@contextmanager
def locked(path: Path, *, make: bool) -> Iterator[None]:
    """Hold a deployment's folder, which is made if wished (InputError NC722 if another process holds it); the lock ends with the process,
    however that ends."""
    try:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError.of("NC722", "another process follows this deployment", file=str(path)) from None
        yield
    finally:
        os.close(lock)


def unwritable(path: Path, error: OSError) -> NeurocompileError:
    """The error for a local place that cannot be written."""
    return InputError.of("NC701", f"cannot be written: {error.strerror or error}", file=str(path))
