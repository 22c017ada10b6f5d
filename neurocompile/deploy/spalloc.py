"""The destination ``spalloc``: boards of a spalloc server. The program runs on this machine, in the background; sPyNNaker itself asks the
server for boards, keeps them while it runs, and gives them back (unverified with boards: docs/deploy.md).

The run has a home of its own with a ``.spynnaker.cfg`` that names the server; the user's is not touched. What runs and what comes of it
lies in ``spalloc/`` of the deployment's folder. Passwords reach sPyNNaker through its environment alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import site
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from neurocompile.deploy import scripts, spalloc_server
from neurocompile.deploy.destination import Order, Progress, Seen, check_name
from neurocompile.deploy.job_service import check_url, is_loopback
from neurocompile.deploy.local import LocalShell
from neurocompile.deploy.shell import framed
from neurocompile.deploy.shell_host import ShellHost
from neurocompile.deploy.state import STATE
from neurocompile.deploy.tokens import Secret, Source
from neurocompile.ir.errors import InputError, SdkMissingError

CLASSIC_PORT = 22244
_BASE = "spalloc"
_CREATED = re.compile(r"Created spalloc job (\d{1,9})\b")
"""What sPyNNaker's client says in the log."""
_CLOCKS_DIFFER = 60.0
_FORGET = """\
import pathlib, sqlite3
for path in pathlib.Path(".").rglob("*.sqlite3"):
    try:
        base = sqlite3.connect(path)
        base.execute("PRAGMA secure_delete = ON")
        base.execute("DELETE FROM proxy_configuration WHERE kind IN ('COOKIE', 'HEADER')")
        base.commit()
        base.close()
    except sqlite3.Error:
        pass
"""
"""sPyNNaker writes the cookies of its session with a new server into its databases, for programs that look at a simulation from outside."""
_MOST_RETRIES = 3
"""sPyNNaker's own number of them."""
_SERVER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")
_TOKEN = Source(variables=("OIDC_BEARER_TOKEN",), service="neurocompile-ebrains", user="token")
"""What sPyNNaker itself reads for a login with EBRAINS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpallocSettings:
    """Which server, for whom; all of it ends up in the state file, so none of it may be a secret.

    server : HOST or HOST:PORT of a classic server, https://... of a new one; user : owner of the job (classic), name to log in (new).
    """

    OPTIONS: ClassVar = {"server": "server", "user": "user", "machine": "machine", "group": "group", "python": "python"}
    """Option -> field."""
    WAY_THERE: ClassVar = ()

    server: str
    user: str | None = None
    machine: str | None = None
    group: str | None = None
    python: str = sys.executable

    def __post_init__(self) -> None:
        if self.is_new:
            check_url("--server", self.server)
        else:
            found = _SERVER.fullmatch(self.server) if isinstance(self.server, str) else None
            if found is None or len(self.server) > 255 or not 0 < int(found[2] or CLASSIC_PORT) < 1 << 16:
                raise InputError.of(
                    "NC160", f"--server {_shown(self.server)} is no server", help="HOST or HOST:PORT (classic), https://HOST/PATH (new)"
                )
            if self.user is None:
                raise InputError.of("NC160", "--user is needed", help="whose boards they are; by custom an e-mail address")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise InputError.of("NC160", f"--user {self.user!r} is not a name", help="letters, digits, '.', '_', '@', '+' and '-' only")
        for option, name in (("--machine", self.machine), ("--group", self.group)):
            if name is not None:
                check_name(option, name)

    @classmethod
    def of_options(cls, given: Mapping[str, Any]) -> SpallocSettings:
        """Settings of the command's options that were given (InputError NC160)."""
        if given.get("server") is None:
            raise InputError.of("NC160", "--server is needed", help="--server HOST (classic) or https://HOST/PATH (new)")
        found = dict(given)
        if "://" in found["server"]:
            found["server"] = check_url("--server", found["server"])
        if "python" in found:  # the program runs in another folder, with another home
            python = os.path.expanduser(found["python"])
            found["python"] = os.path.abspath(python) if os.sep in python else python
        return cls(**found)

    @property
    def is_new(self) -> bool:
        """Whether the server is one of the new kind."""
        return isinstance(self.server, str) and "://" in self.server

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a classic server."""
        host, _, port = self.server.partition(":")
        return host, int(port or CLASSIC_PORT)

    @property
    def place(self) -> str:
        """Name in messages."""
        return urlsplit(self.server).netloc if self.is_new else self.server

    def as_json(self) -> dict[str, Any]:
        """Return the settings for the state file."""
        return asdict(self)

    def confirm(self, given: Collection[str], *, begun: bool) -> None:
        """InputError NC160 if a password would go to a server that only the state file names, which may be somebody else's."""
        if self.is_new and not begun and "server" not in given and not is_loopback(self.server):
            raise InputError.of(
                "NC160", f"{STATE} names {self.server}: your password would go there", help=f"--server {self.server}, if you trust it"
            )


class Spalloc(ShellHost):
    """See `Destination`. ``begun``: the program was started already, or is to be cancelled: the server is not asked then."""

    def __init__(self, settings: SpallocSettings, folder: Path, run: str, *, begun: bool) -> None:
        self.settings, self._out = settings, Path(os.path.abspath(folder))
        self._begun = begun or (self._out / _BASE / "runs" / run / "job").exists()
        self._local = LocalShell(self._out, {})
        super().__init__(self._local, base=_BASE, place=settings.place)
        self._machines: list[spalloc_server.Machine] | None = None
        self._retries: int | None = None

    def connect(self) -> None:
        """Ask whether the server answers and takes the login."""
        settings = self.settings
        if not self._begun:
            if settings.is_new:
                password, token = self._secrets()
                version = spalloc_server.ask_new(settings.server, settings.user, password, token)
            else:
                version, self._machines = spalloc_server.classic_machines(*settings.address)
            logging.getLogger("neurocompile").info("spalloc server %s: version %s", settings.place, version)
        super().connect()

    def prepare(self, order: Order) -> str:
        """Look whether the server has a machine that is large enough, then copy."""
        if self._machines is not None:
            wanted = spalloc_server.boards_asked_for(_boards(order))
            machine = spalloc_server.choose(self._machines, self.settings.machine, wanted, self.place)
            logging.getLogger("neurocompile").info("machine %s: %d boards, %d of them lent", machine.name, machine.boards, machine.lent)
            # sPyNNaker asks for other boards if these do not answer, but keeps these: with none left it would wait for itself
            self._retries = max(0, min(_MOST_RETRIES, (machine.boards - machine.lent) // wanted - 1))
        return super().prepare(order)

    def submit(self, order: Order) -> str:
        """Start the program unless that was done."""
        job = super().submit(order)
        self._begun = True  # if the connection is made again, it is for the log alone
        return job

    def follow(self, run: str, job: str, seen: Seen, *, ask: bool) -> Progress:
        """Look at the run's folder; if the program has failed, see to it that its boards are given back."""
        found = super().follow(run, job, seen, ask=ask)
        if (found.ended is not None and found.ended.exit_code) or found.gone is not None:
            self._release(run)
        return found

    def cancel(self, run: str, job: str | None) -> str:
        """End the program, and give its boards back."""
        state = super().cancel(run, job)
        self._release(run)
        return state

    def _release(self, run: str) -> None:
        """Give back what boards of a classic server the run has left: those that its log names."""
        folder = self._out / _BASE / "runs" / run
        try:
            begun = (folder / "claim").stat().st_mtime
            jobs = {int(found) for found in _CREATED.findall((folder / "log").read_text(encoding="utf-8", errors="replace"))}
        except OSError:
            return
        if jobs and not self.settings.is_new and self.settings.user is not None:
            done = spalloc_server.release(*self.settings.address, jobs, self.settings.user, begun - _CLOCKS_DIFFER)
            if done:
                logging.getLogger("neurocompile").info("boards of job %s given back", ", ".join(map(str, done)))

    def _secrets(self) -> tuple[Secret | None, Secret | None]:
        """Password and token for a new server, which sPyNNaker finds in its environment (SdkMissingError NC529: neither is there)."""
        user = self.settings.user or os.environ.get("SPALLOC_USER")
        token = None
        if user is None:
            token = _TOKEN.find()
            if token is None:
                raise SdkMissingError.of("NC529", f"{self.place} needs a login", help=f"--user NAME, or {_TOKEN.way_to_give()}")
            self._local.environment["OIDC_BEARER_TOKEN"] = token.text
            return None, token
        password = Source(variables=("SPALLOC_PASSWORD",), service="neurocompile-spalloc", user=user).need(f"password of {user}")
        self._local.environment.update(SPALLOC_USER=user, SPALLOC_PASSWORD=password.text)
        return password, None

    def _configuration(self) -> str:
        """The run's .spynnaker.cfg."""
        settings = self.settings
        machine: dict[str, Any] = {"version": 5}
        if settings.is_new:
            machine["spalloc_server"] = settings.server
            machine["spalloc_group"] = settings.group
        else:
            machine["spalloc_server"], machine["spalloc_port"] = settings.address
            machine["spalloc_user"] = settings.user
        machine["spalloc_machine"] = settings.machine
        machine["spalloc_retry"] = self._retries
        lines = [f"{name} = {value}" for name, value in machine.items() if value is not None]
        # write_network_graph would need graphviz
        return "\n".join(["[Machine]", *lines, "[Mode]", "mode = Production", "[Reports]", "write_network_graph = False", ""])

    def _run_files(self, order: Order) -> dict[str, bytes]:
        home = self._out / _BASE / "runs" / order.run / "home"
        environment = [
            ("PYTHONUNBUFFERED", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            # sPyNNaker takes its configuration from one of these two, and refuses two files
            ("HOME", str(home)),
            ("XDG_CONFIG_HOME", str(home / "xdg")),
            ("PYTHONUSERBASE", site.getuserbase()),  # packages of `pip install --user` lie below the user's own home
        ]
        script = scripts.job_script(
            python=self.settings.python,
            digest=order.digest,
            arguments=["--spalloc", *order.args, "--out", "results.npz"],
            environment=environment,
            afterwards=_FORGET if self.settings.is_new else "",
        )
        return {"job.sh": script.encode("utf-8", "surrogateescape"), "home/.spynnaker.cfg": self._configuration().encode("ascii")}

    def _describe_login(self) -> list[tuple[str, str]]:
        if self.settings.is_new:
            login = "as --user or SPALLOC_USER, with SPALLOC_PASSWORD or the keyring's; else with OIDC_BEARER_TOKEN or the keyring's token"
            asked = f"log in to {self.settings.server} {login}"
        else:
            asked = f"version, list_machines, list_jobs of {':'.join(map(str, self.settings.address))}"
        shell = f"cd {self._out}\nsh -s\n{framed('SCRIPT', 'MARK')}"
        return [
            ("ask the server", asked),
            ("the shell that the following scripts are given to, on stdin, each in the place of SCRIPT", shell),
        ]

    def _describe_copy(self, incoming: str) -> list[tuple[str, str]]:
        return [("copy", f"the files to {incoming}")]

    def _describe_fetch(self, results: str) -> list[tuple[str, str]]:
        return [("copy the results", results)]


def _boards(order: Order) -> int:
    """Boards that the build says it needs; 1 if it does not."""
    try:
        found = json.loads(order.files["program/network.json"].read_bytes())["n_boards"]
    except (OSError, ValueError, TypeError, KeyError):
        return 1
    return found if type(found) is int and found > 0 else 1


def _shown(server: object) -> str:
    """A server in a message, without what may be a password."""
    return "with '@' in it" if "@" in str(server) else repr(server)
