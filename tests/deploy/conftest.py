"""A host to deploy to: a real sshd on a free port of this machine, stand-ins for slurm's commands, and a wire that can be cut."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.cli import run
from neurocompile.ir.codes import CODES

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
TOOLS = (
    "sh", "cat", "cp", "cut", "find", "head", "hostname", "ls", "mkdir", "mv", "nohup", "readlink", "rm", "rmdir", "sed", "setsid",
    "sha256sum", "sleep", "tail", "tr", "wc",
)  # fmt: skip
"""All that a host has: what docs/deploy.md asks for."""
STAND_INS = Path(__file__).parent / "slurm"
NET = """\
name: tiny
dt: 1 ms
seed: 3
populations:
  in: {model: spike_source, size: 2}
  out: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 1.0}}
projections:
  - {pre: in, post: out, connect: all_to_all, weight: 0.7, delay: 1 ms}
"""
QUICK = '''\
"""A program for tests of the way there and back: prints, waits, writes bytes, and ends, as its options say."""
import argparse, json, os, pathlib, random, sys, time

options = argparse.ArgumentParser()
options.add_argument("--steps", type=int, default=1)
options.add_argument("--lines", type=int, default=3)
options.add_argument("--size", type=int, default=1000)
options.add_argument("--exit", type=int, default=0)
options.add_argument("--input", action="append", default=[])
options.add_argument("--echo", action="append", default=[])
options.add_argument("--wait", action="store_true")
options.add_argument("--out")
options.add_argument("--hw", action="store_true")
options.add_argument("--ebrains", action="store_true")
options.add_argument("--spalloc", action="store_true")
options.add_argument("--partition")
options.add_argument("--board")
options.add_argument("--loihi-gen")
args = options.parse_args()
started = pathlib.Path("started")
started.write_text("again" if started.exists() else "once")
for line in range(args.lines):
    print(f"step {line:06d} of a program", flush=line % 100 == 0)
print(json.dumps({"environment": {k: os.environ.get(k) for k in ("SLURM", "NOSLURM", "PARTITION", "BOARD", "LOIHI_GEN")}}), flush=True)
until = time.monotonic() + 120  # a test that failed may have forgotten it
while args.wait and not os.path.exists("go") and time.monotonic() < until:
    time.sleep(0.05)
inputs = [pathlib.Path(i.partition("=")[2]).read_bytes().hex() for i in args.input]
pathlib.Path(args.out).write_bytes(random.Random(args.steps).randbytes(args.size))
print(json.dumps({"echo": args.echo, "inputs": inputs, "hw": args.hw}))
sys.exit(args.exit)
'''


def _missing() -> str | None:
    """Why there can be no host here, or None."""
    lacking = [name for name in ("ssh", "sftp", "rsync", "ssh-keygen") if shutil.which(name) is None] + ["sshd"] * (SSHD is None)
    if lacking:
        return f"needs {', '.join(lacking)} (Debian: openssh-server, rsync)"
    if os.geteuid() == 0:
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd, run by root, separates its privileges
        except OSError as error:
            return f"sshd, run by root, needs /run/sshd: {error}"
    return None


@dataclass
class Wire:
    """What lies between ssh and sshd: forwards a port, counts what comes from sshd, and can be cut."""

    to: int
    port: int = 0
    cut_after: int | None = None
    """Bytes from sshd until everything is cut, once."""
    cut_after_sent: int | None = None
    """The same of bytes to sshd."""
    logins: int = 0
    broken: bool = False
    """Takes no new connections."""
    _ends: list[socket.socket] = field(default_factory=list)
    _silent: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.broken:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    client.close()
                    continue
                self.logins += 1
                self._ends += [client, server]
                for source, sink, received in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, received), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, received: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(16384):
                if source in self._silent:
                    continue
                if self._over(len(piece), received=received):
                    self.cut()
                    return
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _over(self, count: int, *, received: bool) -> bool:
        name = "cut_after" if received else "cut_after_sent"
        left = getattr(self, name)
        if left is None:
            return False
        setattr(self, name, left - count if left >= count else None)
        return bool(left < count)

    def silence(self) -> None:
        """Let the connections that there are stand, but pass nothing on: as after a laptop's sleep, or a router that has forgotten."""
        self._silent += self._ends

    def cut(self) -> None:
        """Cut all connections."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()
        self.cut()


@dataclass
class Host:
    """The remote side, and how to reach it."""

    folder: Path
    keys: Path
    sshd: subprocess.Popen[bytes] | None = None
    port: int = 0
    wire: Wire = field(init=False)
    extra: str = ""
    """Lines for sshd's configuration."""
    subsystem: str = "internal-sftp"

    @property
    def base(self) -> Path:
        """The remote folder of deployments."""
        return self.folder / "nc"

    @property
    def slurm(self) -> Path:
        """Where the stand-ins keep their state."""
        return self.folder / "slurm"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def runs(self) -> list[Path]:
        return sorted((self.base / "runs").glob("*"))

    @property
    def builds(self) -> list[Path]:
        return sorted((self.base / "builds").glob("*"))

    def jobs(self) -> dict[str, str]:
        """Number of each submitted job -> its state."""
        return {p.parent.name: p.read_text().strip() for p in sorted(self.slurm.glob("jobs/*/state"))}

    def set_up(self) -> None:
        for name in ("bin", "home", "slurm/jobs"):
            (self.folder / name).mkdir(parents=True)
        for tool in [*TOOLS, "rsync"]:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.folder / "bin" / tool).symlink_to(found)
        for command in STAND_INS.iterdir():
            shutil.copy(command, self.folder / "bin" / command.name)
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port = probe.getsockname()[1]
        self.wire = Wire(to=self.port)
        self.start()
        self.write_config()

    def write_config(self, *, key: str = "user", known: str = "host") -> None:
        """Write ssh's configuration: which key logs in, and which host key is known ('' : none)."""
        public = (self.keys / f"{known}.pub").read_text() if known else ""
        (self.folder / "known_hosts").write_text(public and f"[127.0.0.1]:{self.wire.port} {public}")
        self.config.write_text(
            f"Host loihi\n  HostName 127.0.0.1\n  Port {self.wire.port}\n  User {pwd.getpwuid(os.geteuid()).pw_name}\n"
            f"  IdentityFile {self.keys / key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
        )

    def start(self) -> None:
        """Start sshd, and wait until it listens."""
        assert SSHD is not None
        text = (
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.keys / 'host'}\nAuthorizedKeysFile {self.keys / 'user.pub'}\n"
            "UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"Subsystem sftp {self.subsystem}\n{self.extra}\n"
            f"SetEnv PATH={self.folder / 'bin'} HOME={self.folder / 'home'} STAND_IN={self.slurm}\n"
        )
        (self.folder / "sshd_config").write_text(text)
        with (self.folder / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log)
        wait_for(self._listens, "sshd listens")

    def _listens(self) -> bool:
        assert self.sshd is not None
        assert self.sshd.poll() is None, (self.folder / "sshd.log").read_text()
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), timeout=1)):
            return True
        return False

    def stop(self) -> None:
        """End sshd; its sessions go on, as those of a real one do."""
        if self.sshd is not None:
            self.sshd.terminate()
            self.sshd.wait()

    def stop_all(self) -> None:
        """End sshd and kill its sessions."""
        sessions = self.sessions()
        self.stop()
        for pid in sessions:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Let a program that waits (QUICK with --wait) go on."""
        (self.runs[0] / "go").touch()

    def sessions(self) -> list[int]:
        """Processes of sshd that serve a login."""
        assert self.sshd is not None
        return [int(p) for p in Path(f"/proc/{self.sshd.pid}/task/{self.sshd.pid}/children").read_text().split()]

    def close(self) -> None:
        for job in self.slurm.glob("jobs/*/pid"):
            with suppress(ProcessLookupError, ValueError):
                os.killpg(int(job.read_text()), signal.SIGKILL)
        if hasattr(self, "wire"):
            self.wire.close()
        if self.sshd is not None and self.sshd.poll() is None:
            self.stop_all()

    def options(self) -> list[str]:
        """Options of `deploy` that lead here."""
        where = ["--host", "loihi", "--ssh-config", str(self.config), "--remote-dir", str(self.base)]
        return [*where, "--python", sys.executable, "--poll", "0.1", "--patience", "0.5"]


def when(condition: Callable[[], Any], action: Callable[[], Any]) -> threading.Thread:
    """Do something in another thread as soon as a condition holds; join the thread to know that it was done."""

    def watch() -> None:
        wait_for(condition, "the moment to act")
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key pairs of a host, another host, a user and a stranger."""
    reason = _missing()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "other_host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True)
    return folder


@pytest.fixture
def host(tmp_path: Path, keys: Path) -> Iterator[Host]:
    """A host that runs."""
    found = Host(folder=tmp_path / "host", keys=keys)
    try:
        found.set_up()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of three neurons for loihi2."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "net.yaml").write_text(NET)
    assert run(["build", str(folder / "net.yaml"), "--target", "loihi2", "-o", str(folder / "out"), "-q"]) == 0
    np.savez(folder / "spikes.npz", neuron=[0, 1, 0, 1], step=[1, 2, 5, 6])
    return folder / "out"


@pytest.fixture
def quick(build: Path, tmp_path: Path) -> Path:
    """The build with a program that needs no Lava (`QUICK`); a folder of its own for each test."""
    return quickened(build, tmp_path / "quick")


@pytest.fixture(scope="session")
def spinnaker_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network built for spinnaker."""
    folder = tmp_path_factory.mktemp("spinnaker")
    (folder / "net.yaml").write_text(NET.replace("v_threshold: 1.0", "v_threshold: 1.0, reset: to_value"))
    assert run(["build", str(folder / "net.yaml"), "--target", "spinnaker", "-o", str(folder / "out"), "-q"]) == 0
    return folder / "out"


@pytest.fixture
def quick_spinnaker(spinnaker_build: Path, tmp_path: Path) -> Path:
    """That with `QUICK`."""
    return quickened(spinnaker_build, tmp_path / "quick")


def quickened(build: Path, folder: Path) -> Path:
    """Copy a build, with `QUICK` as its program."""
    shutil.copytree(build, folder)
    replace_program(folder, QUICK)
    return folder


def replace_program(folder: Path, text: str) -> None:
    """Put another run.py into a build, with its digest."""
    (folder / "program" / "run.py").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["program/run.py"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    (folder / "manifest.json").write_text(json.dumps(manifest))


Deploy = Callable[..., tuple[int, str, str]]


def results_of(steps: int, size: int = 1000) -> bytes:
    """What QUICK leaves."""
    return random.Random(steps).randbytes(size)


def state_of(folder: Path) -> dict[str, Any]:
    """What a deployment's folder remembers."""
    found = json.loads((folder / "deploy.json").read_text())
    assert isinstance(found, dict)
    return found


def check_failure(found: tuple[int, str, str], code: str) -> str:
    """The exit code is the table's, the message on stderr names the code and has no traceback."""
    exit_code, out, err = found
    assert exit_code == CODES[code].exit_code, err
    assert f"error[{code}]" in err
    assert "Traceback" not in err
    assert out == ""
    return err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Deploy:
    """Run `deploy` in this process; returns (exit code, stdout, stderr)."""

    def go(*words: str | Path) -> tuple[int, str, str]:
        code = run(["deploy", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


@pytest.fixture
def deploy(host: Host, command: Deploy) -> Deploy:
    """The same with the options that lead to the host."""

    def go(*words: str | Path) -> tuple[int, str, str]:
        place = words.index("--") if "--" in words else len(words)
        return command(*words[:place], *host.options(), *words[place:])

    return go


@pytest.fixture
def resume(host: Host, command: Deploy) -> Deploy:
    """Go on with the deployment of a folder."""

    def go(folder: Path, *more: str) -> tuple[int, str, str]:
        return command("--resume", "-o", folder, "--poll", "0.05", "--patience", "0.5", "--ssh-config", host.config, *more)

    return go
