"""The destination ``inrc``: a host of Intel's Neuromorphic Research Community, by ssh, with slurm (unverified there: docs/deploy.md)."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurocompile.deploy import scripts
from neurocompile.deploy.destination import Ended, Order, Progress, check_host, check_name, check_remote_path, file_digest, sums_text
from neurocompile.deploy.ssh import Answer, Connection, Login, framed, sftp_up
from neurocompile.ir.errors import NeurocompileError, SdkMissingError

TARGET = "loihi2"
GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")
"""Of `lava.utils.loihi.ChipGeneration`."""
LAUNCHES = ("sbatch", "login")
COPIES = ("auto", "rsync", "sftp")
_LOG_PIECE = 1 << 18
_COPY_TRIES = 2
_SUBMIT_TRIES = 3
_OVER = re.compile(r"GONE|BOOT_FAIL|CANCELLED.*|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|REVOKED|TIMEOUT")
"""States of slurm that a job does not leave (squeue, scontrol, sacct), and ours for a job that slurm no longer knows."""
_EXIT = re.compile(r"(\d+) (\d+) (?:([0-9a-f]{64}) (\d+)|([-?]) -) *")
_JOB = re.compile(r"[0-9A-Za-z_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InrcSettings:
    """How to reach the host and how to run there; all of it ends up in the state file, so none of it may be a secret."""

    host: str
    port: int | None = None
    ssh_config: str | None = None
    remote_dir: str = ".neurocompile"
    partition: str | None = None
    board: str | None = None
    loihi_gen: str = "N3B3"
    python: str = "python3"
    launch: str = "sbatch"
    copy: str = "auto"
    hardware: bool = True

    def __post_init__(self) -> None:
        check_host(self.host)
        check_remote_path("--remote-dir", self.remote_dir)
        for option, name in (("--partition", self.partition), ("--board", self.board)):
            if name is not None:
                check_name(option, name)

    def as_json(self) -> dict[str, Any]:
        """Return the settings for the state file."""
        return asdict(self)


class Inrc:
    """See `Destination`."""

    def __init__(self, settings: InrcSettings) -> None:
        self.settings = settings
        self._login = Login(host=settings.host, port=settings.port, config=settings.ssh_config)
        self._connection = Connection(self._login)
        self._rsync: bool | None = None

    def connect(self) -> None:
        """Log in."""
        self._connection.open()

    def close(self) -> None:
        """Log out."""
        self._connection.close()

    def prepare(self, order: Order) -> bool:
        """Copy what the host has not, and rename it into place."""
        for _ in range(_COPY_TRIES):
            has = self._say(scripts.look_up(self._base, order.run, order.digest)).values
            if self.settings.launch == "sbatch" and not has.get("sbatch"):
                raise self._error("NC524", "the host has no `sbatch`", help="--launch login runs the program on the host itself")
            fresh = has.get("build") != "present"
            if not fresh and has.get("run") == "present":
                return False
            self._rsync = self._choose(bool(has.get("rsync")))
            with tempfile.TemporaryDirectory(dir=self._connection.folder) as folder:
                self._stage(order, Path(folder) / "tree", build=fresh)
                self._connection.upload(Path(folder), "tree", f"{self._base}/incoming/{order.run}", rsync=self._rsync)
            if "damaged" not in self._say(scripts.receive(self._base, order.run, order.digest)).values:
                return fresh
        raise self._error("NC527", f"the copy on the host differs from what was sent, {_COPY_TRIES} times")

    def submit(self, order: Order) -> str:
        """Start the job unless that was done."""
        for _ in range(_SUBMIT_TRIES):
            said = self._say(scripts.submit(self._base, order.run, self.settings.launch, self._sbatch_options())).values
            if "cancelled" in said:
                raise self._error("NC526", f"run {order.run} was cancelled before it began")
            if "refused" in said:
                raise self._error("NC525", f"slurm takes no job: {said['refused'].strip() or 'without a reason'}")
            if "again" not in said:
                if not _JOB.fullmatch(said.get("job", "").strip()):
                    raise self._error("NC525", f"slurm's number of the job is not one: {said.get('job', '')!r}")
                return said["job"].strip()
        raise self._error("NC525", "the job was submitted, but slurm does not know it")

    def follow(self, run: str, job: str, offset: int, *, ask: bool) -> Progress:
        """Look at the run's folder, and ask slurm if wished."""
        script = scripts.look(self._base, run, job, self.settings.launch, offset=offset, limit=_LOG_PIECE, ask=ask)
        answer = self._say(script)
        state, seen = answer.values.get("state", "").strip(), offset + len(answer.data)
        ended = gone = None
        if answer.values.get("exit"):
            found = _EXIT.fullmatch(answer.values["exit"])
            if found is None:
                raise self._error("NC526", f"how the run ended cannot be read: {answer.values['exit']!r}")
            code, log_bytes, digest, size = int(found[1]), int(found[2]), found[3], found[4]
            end = Ended(exit_code=code, state="ENDED", results=None if digest is None else (int(size), digest))
            if seen >= log_bytes:
                ended = end
            elif ask:
                gone = end  # the rest of the log is late, or was taken away
        elif _OVER.fullmatch(state):
            gone = Ended(exit_code=None, state=state.split()[0], results=None, message=answer.values.get("slurm", "").strip())
        return Progress(state=state, log=answer.data, more=seen < int(answer.values["size"]), ended=ended, gone=gone)

    def fetch(self, run: str, into: Path) -> None:
        """Copy results.npz."""
        if self._rsync is None:
            has = self._say('say rsync "$(command -v rsync)"').values
            self._rsync = self._choose(bool(has.get("rsync")))
        self._connection.download(f"{self._base}/runs/{run}/results.npz", into, rsync=self._rsync)

    def cancel(self, run: str) -> str:
        """End the job."""
        said = self._say(scripts.cancel(self._base, run, self.settings.launch)).values
        if "refused" in said and not _OVER.fullmatch(said.get("state", "").strip()):
            raise self._error("NC525", f"the job was not cancelled: {said['refused'].strip()}")
        return said.get("state", "").strip() or "UNKNOWN"

    def describe(self, order: Order) -> list[tuple[str, str]]:
        """Every command and script, in the order of their use."""
        socket, base, run = "PRIVATE-FOLDER/m", self._base, order.run
        shell = shlex.join(self._login.shell(socket))
        incoming, results = f"{base}/incoming/{run}", f"{base}/runs/{run}/results.npz"
        launch = self.settings.launch
        steps = [
            ("log in, once for all", shlex.join(self._login.master(socket))),
            (
                "the shell that the following scripts are given to, on stdin, each in the place of SCRIPT",
                f"{shell}\n{framed('SCRIPT', 'MARK')}",
            ),
            ("script: what the host has", scripts.look_up(base, run, order.digest)),
        ]
        if self.settings.copy != "sftp":
            steps.append(("copy, where both ends have rsync", shlex.join(self._login.rsync_up(socket, "tree", incoming))))
        if self.settings.copy != "rsync":
            steps.append(("copy, where they have not", f"{shlex.join(self._login.sftp(socket))}\n{sftp_up('tree', incoming)}"))
        return [
            *steps,
            ("script: check the copy, rename it", scripts.receive(base, run, order.digest)),
            (f"runs/{run}/job.sh", self._job_script(order)),
            ("script: start the job", scripts.submit(base, run, launch, self._sbatch_options())),
            (
                "script: state and log, from the byte last seen, again and again",
                scripts.look(base, run, "JOB", launch, offset=0, limit=_LOG_PIECE, ask=True),
            ),
            ("copy the results (or with sftp)", shlex.join(self._login.rsync_down(socket, results, "results.npz.part"))),
            ("script: --cancel", scripts.cancel(base, run, launch)),
        ]

    @property
    def _base(self) -> str:
        return self.settings.remote_dir

    def _sbatch_options(self) -> list[str]:
        partition, board = self.settings.partition, self.settings.board
        return [f"--partition={partition}"] * (partition is not None) + [f"--nodelist={board}"] * (board is not None)

    def _job_script(self, order: Order) -> str:
        settings = self.settings
        environment = [("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1")]
        options: list[str] = []
        if settings.hardware:
            environment += [("SLURM", "1"), ("LOIHI_GEN", settings.loihi_gen)]
            options += ["--hw", "--loihi-gen", settings.loihi_gen]
            for name, value in (("partition", settings.partition), ("board", settings.board)):
                if value is not None:
                    environment.append((name.upper(), value))
                    options += [f"--{name}", value]
        return scripts.job_script(
            python=settings.python,
            digest=order.digest,
            arguments=[*options, *order.args, "--out", "results.npz"],
            environment=environment,
        )

    def _choose(self, remote: bool) -> bool:
        """Whether to copy with rsync."""
        both = remote and shutil.which("rsync") is not None
        if self.settings.copy == "rsync" and not both:
            raise self._error("NC524", f"there is no rsync {'here' if remote else 'on the host'}", help="--copy sftp needs none")
        return both and self.settings.copy != "sftp"

    def _stage(self, order: Order, tree: Path, *, build: bool) -> None:
        """Lay out what goes to the host, with the checksums of all of it."""
        (tree / "run" / "inputs").mkdir(parents=True)
        script = self._job_script(order).encode("utf-8", "surrogateescape")
        (tree / "run" / "job.sh").write_bytes(script)
        sums = [f"{hashlib.sha256(script).hexdigest()}  run/job.sh\n"]
        placed = {f"run/inputs/{name}": path for name, path in order.inputs.items()}
        if build:
            placed |= {f"build/{name}": path for name, path in order.files.items()}
        for name, path in placed.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
            sums.append(f"{file_digest(tree / name)}  {name}\n")
        if build:
            text = sums_text({name: file_digest(tree / "build" / name) for name in order.files})
            (tree / "build" / "SHA256SUMS").write_text(text, encoding="ascii")
            if hashlib.sha256(text.encode("ascii")).hexdigest() != order.digest:
                raise self._error("NC704", "a file of the build was changed while it was being copied", help="run the command again")
        (tree / "SHA256SUMS").write_text("".join(sums), encoding="ascii")
        for folder, _, files in os.walk(tree):  # whatever the umask here is
            os.chmod(folder, 0o700)
            for file in files:
                os.chmod(Path(folder) / file, 0o600)

    def _say(self, script: str) -> Answer:
        answer = self._connection.script(script)
        if "error" in answer.values:
            raise self._error("NC524", f"{answer.values['error']}{f': {answer.errors}' if answer.errors else ''}")
        return answer

    def _error(self, code: str, message: str, *, help: str | None = None) -> NeurocompileError:
        return SdkMissingError.of(code, f"{self.settings.host}: {message}", help=help)
