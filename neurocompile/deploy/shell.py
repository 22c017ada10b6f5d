"""Scripts for a POSIX shell and what they say, on this machine or behind ssh; private folders; commands in sessions of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neurocompile.deploy.destination import ConnectionLost

_SAFE_FOLDER = re.compile(r"/[A-Za-z0-9_./-]{0,60}")
_FOLDER = "nc-ssh-"
MESSAGE_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a script said: its values by name, the bytes behind them, and the last of what it and ssh printed on stderr."""

    values: Mapping[str, str]
    data: bytes
    errors: str


def framed(body: str, mark: str) -> str:
    """Return a script whose output can be told from what else a login prints, and whose commands cannot read the script from stdin.

    The body says its results with ``say NAME VALUE`` (one line) and may end with ``log N`` and N raw bytes; ``fail TEXT`` ends it.
    """
    return (
        "say() { printf '%s %s\\n' \"$1\" \"$(printf '%s' \"$2\" | tr '\\n' ' ')\"; }\n"
        'fail() { say error "$1"; exit 0; }\n'
        f"trap 'printf \"\\n@{mark} end\\n\"' EXIT\n"
        f"main() {{\n{body.rstrip()}\n}}\n"
        f"printf '\\n@{mark} begin\\n'\n"
        "main </dev/null\n"
    )


def answered(printed: bytes, mark: str, errors: str) -> Answer | None:
    """What a framed script said among what else was printed; None if it did not come to its end (ConnectionLost: its log was cut)."""
    _, begun, rest = printed.partition(f"\n@{mark} begin\n".encode())
    said, ended, _ = rest.rpartition(f"\n@{mark} end\n".encode())
    return _parsed(said, errors) if begun and ended else None


def _parsed(said: bytes, errors: str) -> Answer:
    values: dict[str, str] = {}
    while said:
        line, _, said = said.partition(b"\n")
        name, _, value = line.decode("utf-8", "replace").partition(" ")
        if name == "log":
            if not value.isdigit() or len(said) < int(value):
                raise ConnectionLost("the answer was cut")
            return Answer(values=values, data=said[: int(value)], errors=errors)
        values[name] = value
    return Answer(values=values, data=b"", errors=errors)


def tail(text: bytes) -> str:
    """The last words of ssh, rsync or sftp, in one line."""
    lines = [line.strip() for line in text[-MESSAGE_BYTES:].decode("utf-8", "replace").splitlines()]
    return "; ".join(line for line in lines if line and not set(line) <= {"@"})


def private_folder() -> Path:
    """A new folder for this user alone, with a path that is short and plain enough for a socket and for rsync's -e."""
    base = tempfile.gettempdir()
    place = base if _SAFE_FOLDER.fullmatch(base) else "/tmp"  # noqa: S108 - mkdtemp makes it with mode 700
    for left in Path(place).glob(f"{_FOLDER}*"):  # by processes that were killed
        pid = left.name[len(_FOLDER) :].partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)) and left.lstat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=place))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _killed_on_error(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process, and what it has started, if waiting for it ends with an exception (Ctrl-C)."""
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def run_alone(
    command: Sequence[str], given: bytes, *, seconds: float | None = None, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a session of its own, so that Ctrl-C reaches this process alone (ConnectionLost: it takes too long)."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, start_new_session=True, env=env
    )
    with _killed_on_error(process):
        try:
            out, err = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ConnectionLost(f"no answer for {seconds:.0f} s") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
