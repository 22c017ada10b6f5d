"""The destination ``inrc``: a host of Intel's Neuromorphic Research Community, by ssh, with slurm (unverified there: docs/deploy.md)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from neurocompile.deploy import scripts
from neurocompile.deploy.destination import Order, check_host, check_name, check_remote_path
from neurocompile.deploy.shell import framed
from neurocompile.deploy.shell_host import ShellHost
from neurocompile.deploy.ssh import Connection, Login, sftp_up
from neurocompile.ir.errors import InputError

GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")
"""Of `lava.utils.loihi.ChipGeneration`."""
LAUNCHES = ("sbatch", "login")
COPIES = ("auto", "rsync", "sftp")


@dataclass(frozen=True, slots=True, kw_only=True)
class InrcSettings:
    """How to reach the host and how to run there; all of it ends up in the state file, so none of it may be a secret."""

    OPTIONS: ClassVar = {
        "host": "host", "port": "port", "ssh_config": "ssh_config", "remote_dir": "remote_dir", "partition": "partition", "board": "board",
        "loihi_gen": "loihi_gen", "python": "python", "launch": "launch", "copy": "copy", "no_hw": "hardware",
    }  # fmt: skip
    """Option -> field."""
    WAY_THERE: ClassVar = ("host", "port", "ssh_config")

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

    @classmethod
    def of_options(cls, given: Mapping[str, Any]) -> InrcSettings:
        """Settings of the command's options that were given (InputError NC160)."""
        if given.get("host") is None:
            raise InputError.of("NC160", "--host is needed", help="--host USER@HOST, or a name of your ssh configuration")
        if given.get("partition") is not None and given.get("board") is not None:
            raise InputError.of("NC160", "--partition and --board do not go together", help="a board is in a partition")
        found = {cls.OPTIONS[name]: value for name, value in given.items()}
        if "hardware" in found:
            found["hardware"] = not found["hardware"]
        if found.get("ssh_config") is not None:
            found["ssh_config"] = os.path.abspath(found["ssh_config"])
        return cls(**found)

    @property
    def place(self) -> str:
        """Name in messages."""
        return self.host

    def as_json(self) -> dict[str, Any]:
        """Return the settings for the state file."""
        return asdict(self)

    def confirm(self, given: Collection[str], *, begun: bool) -> None:
        """Nothing to confirm: ssh knows its hosts, and no secret is sent."""


class Inrc(ShellHost):
    """See `Destination`."""

    def __init__(self, settings: InrcSettings) -> None:
        self.settings = settings
        self.launch, self.copy = settings.launch, settings.copy
        self._login = Login(host=settings.host, port=settings.port, config=settings.ssh_config)
        super().__init__(Connection(self._login), base=settings.remote_dir, place=settings.host)

    def _describe_login(self) -> list[tuple[str, str]]:
        shell = shlex.join(self._login.shell(_SOCKET))
        return [
            ("log in, once for all", shlex.join(self._login.master(_SOCKET))),
            (
                "the shell that the following scripts are given to, on stdin, each in the place of SCRIPT",
                f"{shell}\n{framed('SCRIPT', 'MARK')}",
            ),
        ]

    def _describe_copy(self, incoming: str) -> list[tuple[str, str]]:
        steps = []
        if self.settings.copy != "sftp":
            steps.append(("copy, where both ends have rsync", shlex.join(self._login.rsync_up(_SOCKET, "tree", incoming))))
        if self.settings.copy != "rsync":
            steps.append(("copy, where they have not", f"{shlex.join(self._login.sftp(_SOCKET))}\n{sftp_up('tree', incoming)}"))
        return steps

    def _describe_fetch(self, results: str) -> list[tuple[str, str]]:
        return [("copy the results (or with sftp)", shlex.join(self._login.rsync_down(_SOCKET, results, "results.npz.part")))]

    def _launch_options(self) -> list[str]:
        partition, board = self.settings.partition, self.settings.board
        return [f"--partition={partition}"] * (partition is not None) + [f"--nodelist={board}"] * (board is not None)

    def _run_files(self, order: Order) -> dict[str, bytes]:
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
        script = scripts.job_script(
            python=settings.python,
            digest=order.digest,
            arguments=[*options, *order.args, "--out", "results.npz"],
            environment=environment,
            path=scripts.INRC_PATH,
        )
        return {"job.sh": script.encode("utf-8", "surrogateescape")}


_SOCKET = "PRIVATE-FOLDER/m"
"""Of the master connection, in descriptions."""
