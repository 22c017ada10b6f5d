"""What destinations with a shell have in common, be it behind ssh (`inrc.py`) or on this machine (`spalloc.py`).

A folder with builds and runs, scripts that do each step once, and a job's script that says last how the program ended.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from neurocompile.deploy import scripts
from neurocompile.deploy.destination import Ended, Order, Progress, Seen, file_digest, sums_text
from neurocompile.deploy.shell import Answer
from neurocompile.ir.errors import NeurocompileError, SdkMissingError

_LOG_PIECE = 1 << 18
_THERE = "was there already"
_COPY_TRIES = 2
_SUBMIT_TRIES = 3
_OVER = re.compile(r"GONE|BOOT_FAIL|CANCELLED.*|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|REVOKED|TIMEOUT")
"""States of slurm that a job does not leave (squeue, scontrol, sacct), and ours for a job that slurm no longer knows."""
_EXIT = re.compile(r"(\d+) (\d+) (?:([0-9a-f]{64}) (\d+)|([-?]) -) *")
_JOB = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class Shell(Protocol):
    """A POSIX shell with a folder of its own, and copies to and from there. All methods but ``close`` may raise ConnectionLost."""

    @property
    def folder(self) -> Path:
        """A private local folder for what is to be copied, on the file system of temporary files."""

    def open(self) -> None:
        """Make it usable."""

    def close(self) -> None:
        """Leave."""

    def script(self, body: str) -> Answer:
        """Run a script and return what it said (`shell.framed`)."""

    def upload(self, folder: Path, tree: str, remote: str, *, rsync: bool) -> None:
        """Copy ``folder/tree`` to ``remote/tree``."""

    def download(self, remote: str, local: Path, *, rsync: bool) -> None:
        """Copy a file to ``local``, of which a first part may be there."""


class ShellHost:
    """See `Destination`; subclasses say how jobs are launched and what is run."""

    launch = "login"
    """``sbatch``: as a job of slurm; ``login``: in the background of the host."""
    copy = "auto"

    def __init__(self, shell: Shell, *, base: str, place: str) -> None:
        self._shell, self._base, self.place = shell, base, place
        self._rsync: bool | None = None

    def connect(self) -> None:
        """Log in."""
        self._shell.open()

    def close(self) -> None:
        """Log out."""
        self._shell.close()

    def prepare(self, order: Order) -> str:
        """Copy what the host has not, and rename it into place."""
        for _ in range(_COPY_TRIES):
            has = self._say(scripts.look_up(self._base, order.run, order.digest)).values
            if self.launch == "sbatch" and not has.get("sbatch"):
                raise self._error("NC524", "the host has no `sbatch`", help="--launch login runs the program on the host itself")
            fresh = has.get("build") != "present"
            if not fresh and has.get("run") == "present":
                return _THERE
            self._rsync = self._choose(bool(has.get("rsync")))
            with tempfile.TemporaryDirectory(dir=self._shell.folder) as folder:
                self._stage(order, Path(folder) / "tree", build=fresh)
                self._shell.upload(Path(folder), "tree", f"{self._base}/incoming/{order.run}", rsync=self._rsync)
            if "damaged" not in self._say(scripts.receive(self._base, order.run, order.digest)).values:
                return "copied" if fresh else _THERE
        raise self._error("NC527", f"the copy on the host differs from what was sent, {_COPY_TRIES} times")

    def submit(self, order: Order) -> str:
        """Start the job unless that was done."""
        for _ in range(_SUBMIT_TRIES):
            said = self._say(scripts.submit(self._base, order.run, self.launch, self._launch_options())).values
            if "cancelled" in said:
                raise self._error("NC526", f"run {order.run} was cancelled before it began")
            if "refused" in said:
                raise self._error("NC525", f"slurm takes no job: {said['refused'].strip() or 'without a reason'}")
            if "again" not in said:
                if not _JOB.fullmatch(said.get("job", "").strip()):
                    raise self._error("NC525", f"slurm's number of the job is not one: {said.get('job', '')!r}")
                return said["job"].strip()
        raise self._error("NC525", "the job was submitted, but slurm does not know it")

    def follow(self, run: str, job: str, seen: Seen, *, ask: bool) -> Progress:
        """Look at the run's folder, and ask slurm if wished."""
        answer = self._say(scripts.look(self._base, run, job, self.launch, offset=seen.offset, limit=_LOG_PIECE, ask=ask))
        state, now = answer.values.get("state", "").strip(), seen.offset + len(answer.data)
        ended = gone = None
        if answer.values.get("exit"):
            found = _EXIT.fullmatch(answer.values["exit"])
            if found is None:
                raise self._error("NC526", f"how the run ended cannot be read: {answer.values['exit']!r}")
            code, log_bytes, digest, size = int(found[1]), int(found[2]), found[3], found[4]
            end = Ended(exit_code=code, state="ENDED", results=None if digest is None else (int(size), digest))
            if now >= log_bytes:
                ended = end
            elif ask:
                gone = end  # the rest of the log is late, or was taken away
        elif _OVER.fullmatch(state):
            gone = Ended(exit_code=None, state=state.split()[0], results=None, message=answer.values.get("slurm", "").strip())
        return Progress(state=state, log=answer.data, more=now < int(answer.values["size"]), ended=ended, gone=gone)

    def fetch(self, run: str, job: str, into: Path) -> None:  # noqa: ARG002 - the folder is the run's
        """Copy results.npz."""
        if self._rsync is None:
            has = self._say('say rsync "$(command -v rsync)"').values
            self._rsync = self._choose(bool(has.get("rsync")))
        self._shell.download(f"{self._base}/runs/{run}/results.npz", into, rsync=self._rsync)

    def cancel(self, run: str, job: str | None) -> str:  # noqa: ARG002 - the folder knows it
        """End the job, and let nobody submit it later."""
        said = self._say(scripts.cancel(self._base, run, self.launch)).values
        if "refused" in said and not _OVER.fullmatch(said.get("state", "").strip()):
            raise self._error("NC525", f"the job was not cancelled: {said['refused'].strip()}")
        return said.get("state", "").strip() or "UNKNOWN"

    def describe(self, order: Order) -> list[tuple[str, str]]:
        """Every command and script, in the order of their use."""
        base, run, launch = self._base, order.run, self.launch
        return [
            *self._describe_login(),
            ("script: what the host has", scripts.look_up(base, run, order.digest)),
            *self._describe_copy(f"{base}/incoming/{run}"),
            ("script: check the copy, rename it", scripts.receive(base, run, order.digest)),
            *((f"runs/{run}/{name}", text.decode("utf-8", "surrogateescape")) for name, text in self._run_files(order).items()),
            ("script: start the job", scripts.submit(base, run, launch, self._launch_options())),
            (
                "script: state and log, from the byte last seen, again and again",
                scripts.look(base, run, "JOB", launch, offset=0, limit=_LOG_PIECE, ask=True),
            ),
            *self._describe_fetch(f"{base}/runs/{run}/results.npz"),
            ("script: --cancel", scripts.cancel(base, run, launch)),
        ]

    def places(self, order: Order) -> dict[str, Path]:
        """Files below the folder of builds and runs."""
        found = {f"builds/{order.digest}/{name}": path for name, path in order.files.items()}
        return found | {f"runs/{order.run}/inputs/{name}": path for name, path in order.inputs.items()}

    def _describe_login(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def _describe_copy(self, incoming: str) -> list[tuple[str, str]]:
        raise NotImplementedError

    def _describe_fetch(self, results: str) -> list[tuple[str, str]]:
        raise NotImplementedError

    def _launch_options(self) -> list[str]:
        return []

    def _run_files(self, order: Order) -> dict[str, bytes]:
        """Files of the run's folder beside its inputs: job.sh, and what else the program needs there."""
        raise NotImplementedError

    def _choose(self, remote: bool) -> bool:
        """Whether to copy with rsync."""
        both = remote and shutil.which("rsync") is not None
        if self.copy == "rsync" and not both:
            raise self._error("NC524", f"there is no rsync {'here' if remote else 'on the host'}", help="--copy sftp needs none")
        return both and self.copy != "sftp"

    def _stage(self, order: Order, tree: Path, *, build: bool) -> None:
        """Lay out what goes to the host, with the checksums of all of it."""
        (tree / "run" / "inputs").mkdir(parents=True)
        sums = []
        for name, text in self._run_files(order).items():
            (tree / "run" / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / "run" / name).write_bytes(text)
            sums.append(f"{hashlib.sha256(text).hexdigest()}  run/{name}\n")
        placed = {f"run/inputs/{name}": path for name, path in order.inputs.items()}
        if build:
            placed |= {f"build/{name}": path for name, path in order.files.items()}
        for name, path in placed.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
            sums.append(f"{file_digest(tree / name)}  {name}\n")
        if build:
            listed = sums_text({name: file_digest(tree / "build" / name) for name in order.files})
            (tree / "build" / "SHA256SUMS").write_text(listed, encoding="ascii")
            if hashlib.sha256(listed.encode("ascii")).hexdigest() != order.digest:
                raise self._error("NC704", "a file of the build was changed while it was being copied", help="run the command again")
        (tree / "SHA256SUMS").write_text("".join(sums), encoding="ascii")
        for folder, _, files in os.walk(tree):  # whatever the umask here is
            os.chmod(folder, 0o700)
            for file in files:
                os.chmod(Path(folder) / file, 0o600)

    def _say(self, script: str) -> Answer:
        answer = self._shell.script(script)
        if "error" in answer.values:
            raise self._error("NC524", f"{answer.values['error']}{f': {answer.errors}' if answer.errors else ''}")
        return answer

    def _error(self, code: str, message: str, *, help: str | None = None) -> NeurocompileError:
        return SdkMissingError.of(code, f"{self.place}: {message}", help=help)
