"""What a destination is: a place with hardware that a build's program is copied to and run at, however long that takes.

A destination holds nothing that matters: what must survive a lost connection or a killed process is in the state file (`state.py`), so
each step can be repeated, and a repeated step does not do its work twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neurocompile.ir.errors import InputError

_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REMOTE_PATH = re.compile(r"/?[A-Za-z0-9_.][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_.][A-Za-z0-9_.+-]*)*")
_FILE = re.compile(r"program(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)+")


class ConnectionLost(Exception):
    """The host cannot be reached now; what was asked of it may or may not have been done, and can be asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run of one build.

    run : random name of the run; digest : of the files of the program, hex;
    files : path below the build folder (``program/...``) -> local file; inputs : name at the destination -> local file;
    args : of program/run.py, in which the files of ``inputs`` stand as ``inputs/NAME``.
    """

    run: str
    digest: str
    files: Mapping[str, Path]
    inputs: Mapping[str, Path]
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended.

    exit_code : of the program, None if it was ended from outside; state : the scheduler's word for it;
    results : (bytes, sha256 in hex) of results.npz, None if there is none; message : what the scheduler printed.
    """

    exit_code: int | None
    state: str
    results: tuple[int, str] | None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is here of a job's log: so many bytes, and the last of them (for places that can begin a log anew)."""

    offset: int
    tail: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at a job: the scheduler's state ('': not asked, or it did not answer), the log from the offset on, and whether more of
    the log is there already. ``anew``: the place has begun the log again, ``log`` is from its first byte.

    ended : how the job ended, once its folder says so and all of its log has been given; gone : the same as long as its folder does not
    say so, or has not all of the log (shared file systems show files late).
    """

    state: str
    log: bytes
    more: bool
    ended: Ended | None
    gone: Ended | None
    anew: bool = False


class Destination(Protocol):
    """A place to run a program. Every method but ``close`` raises ConnectionLost, or a NeurocompileError that says what to do."""

    @property
    def place(self) -> str:
        """Its name in messages."""

    def connect(self) -> None:
        """Log in; called again after ConnectionLost."""

    def prepare(self, order: Order) -> str:
        """Bring program and inputs there, whole or not at all; say in a few words what was done."""

    def submit(self, order: Order) -> str:
        """Start the job, once however often this is called; return the scheduler's name for it."""

    def follow(self, run: str, job: str, seen: Seen, *, ask: bool) -> Progress:
        """Look at the job and its log behind what has been seen; ``ask`` the scheduler too, not only for the log."""

    def fetch(self, run: str, job: str, into: Path) -> None:
        """Copy results.npz to a local file, going on with what is there already. The caller checks the digest."""

    def cancel(self, run: str, job: str | None) -> str:
        """End the job, if there is one; return its state before: the scheduler's, ENDED, NONE (never submitted)."""

    def describe(self, order: Order) -> list[tuple[str, str]]:
        """Return (heading, text) of every command, script and request that the steps above would use; connects to nothing."""

    def places(self, order: Order) -> dict[str, Path]:
        """Return name at the destination -> local file of all that would be sent."""

    def close(self) -> None:
        """Log out. Jobs go on."""


def check_host(host: str) -> str:
    """Return HOST or USER@HOST if it is one (InputError NC160): letters, digits, ``.``, ``_``, ``-``, not first a ``-``."""
    if not _HOST.fullmatch(host) or len(host) > 255:
        raise InputError.of(
            "NC160",
            f"--host {host!r} is not of the form HOST or USER@HOST",
            help="letters, digits, '.', '_' and '-' only; give other addresses a name in your ssh configuration (Host, HostName)",
        )
    return host


def check_name(option: str, name: str) -> str:
    """Return the name of a partition or board if it is one (InputError NC160)."""
    if not _NAME.fullmatch(name):
        raise InputError.of(
            "NC160", f"{option} {name!r} is not a name", help="letters, digits, '.', '_' and '-' only, not first '.' or '-'"
        )
    return name


def check_remote_path(option: str, path: str) -> str:
    """Return a path on the host, absolute or below the home folder, if no shell or copying program could mistake it (InputError NC160)."""
    if not _REMOTE_PATH.fullmatch(path) or ".." in path.split("/") or len(path) > 1000:
        raise InputError.of(
            "NC160",
            f"{option} {path!r} is not a path that can be used on the host",
            help="letters, digits, '.', '_', '+', '-' and '/' only, without '..'; below the home folder unless it begins with '/'",
        )
    return path


def check_file(name: str, build: str) -> str:
    """Return the path of a program's file inside a build folder if it stays there (InputError NC703)."""
    if not _FILE.fullmatch(name) or ".." in name.split("/"):
        raise InputError.of("NC703", f"its manifest names a file {name!r}, which no build has", file=build, help="build it again")
    return name


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def sums_text(digests: Mapping[str, str]) -> str:
    """SHA256SUMS of files, by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
