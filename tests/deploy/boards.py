"""A real spalloc-server on loopback whose board controller is a stub, and helpers of the tests that deploy to its boards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import spalloc_server
from tests.deploy.conftest import Deploy, results_of, state_of, wait_for

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = """\
lone = Machine.single_board("lone", bmp_ip="bmp-of-lone", spinnaker_ip="127.0.0.91")
places = {(x, 0, z): (0, 0, 3 * x + z) for x in range(2) for z in range(3)}
six = Machine.with_standard_ips("six", board_locations=places, base_ip="10.2.0.0")
odd = Machine.single_board("odd", tags={"experimental"}, bmp_ip="bmp-of-odd", spinnaker_ip="127.0.0.92")
configuration = Configuration(machines=[lone, six, odd], ip="127.0.0.1", timeout_check_interval=0.2, seconds_before_free=0)
"""
ALLOCATES = '''\
"""A program that takes boards as sPyNNaker does, by its own code and configuration, waits, and gives them back."""
import argparse, json, os, pathlib, time

options = argparse.ArgumentParser()
options.add_argument("--spalloc", action="store_true", required=True)
options.add_argument("--boards", type=int, default=1)
options.add_argument("--wait", action="store_true")
options.add_argument("--out")
args = options.parse_args()
import pyNN.spiNNaker as sim
from spinn_front_end_common.interface.interface_functions.spalloc_allocator_old import spalloc_allocate_job_old

sim.setup(timestep=1.0, n_boards_required=args.boards)
host, connections, controller = spalloc_allocate_job_old()
print("allocated", flush=True)
until = time.monotonic() + 120
while args.wait and not os.path.exists("go") and time.monotonic() < until:
    time.sleep(0.05)
try:
    controller.close()
except Exception as error:  # its client does not connect again for this; the server frees boards that it hears nothing of
    print("boards not given back:", type(error).__name__, flush=True)
pathlib.Path(args.out).write_bytes(json.dumps({"host": host, "boards": len(connections)}).encode())
print(json.dumps({"host": host, "boards": len(connections)}))
'''


@dataclass
class Server:
    """A spalloc-server."""

    python: Path
    folder: Path
    version: str = "6.0.0"
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "machines.py").write_text(CONFIGURATION)
        if not self.port:
            with closing(socket.create_server(("127.0.0.1", 0))) as probe:
                self.port = probe.getsockname()[1]
        command = [
            self.python,
            ROOT / "tests/deploy/spalloc/serve.py",
            self.version,
            "machines.py",
            "--port",
            str(self.port),
            "--cold-start",
        ]
        with (self.folder / "log").open("ab") as log:
            gone = self._gone()
            self.process = subprocess.Popen([str(c) for c in command], cwd=self.folder, stdout=log, stderr=log)
        wait_for(self._listens, "spalloc-server listens")
        wait_for(lambda: self._gone() > gone, "spalloc-server has written that this look at it is over")

    def _gone(self) -> int:
        """How many clients have gone, by its log."""
        return (self.folder / "log").read_text().count(" disconnected")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), timeout=1)):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, command: str, args: Sequence[Any] = (), **more: Any) -> Any:
        """Ask it something, without its client."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as link, link.makefile("rw") as lines:
            lines.write(json.dumps({"command": command, "args": list(args), "kwargs": more}) + "\n")
            lines.flush()
            return json.loads(lines.readline())["return"]

    def owners(self) -> list[str]:
        """Whose jobs have boards."""
        return [job["owner"] for job in self.ask("list_jobs")]


@pytest.fixture(scope="session")
def server_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of its own that has spalloc-server."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv for an environment with spalloc-server")
    folder = tmp_path_factory.mktemp("spalloc-server") / "venv"
    python = folder / "bin" / "python"
    for words in (
        ["venv", "-q", "--python", sys.executable, str(folder)],
        ["pip", "install", "-q", "--python", str(python), "spalloc-server==1!7.0.0"],
    ):
        done = subprocess.run([uv, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"spalloc-server cannot be installed: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME that stays as it is."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".spynnaker.cfg").write_text("[Machine]\nmachine_name = the-users-own-board\nversion = 3\n")
    monkeypatch.setenv("HOME", str(home))
    for name in ("SPALLOC_USER", "SPALLOC_PASSWORD", "OIDC_BEARER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(spalloc_server, "SECONDS", 5.0)
    return home


@pytest.fixture
def server(server_python: Path, tmp_path: Path, at_home: Path) -> Iterator[Server]:
    """A server that runs."""
    found = Server(server_python, tmp_path / "server")
    try:
        found.start()
        yield found
    finally:
        found.stop()
        end_programs(tmp_path)


def end_programs(folder: Path) -> None:
    """End what tests have left running."""
    for job in folder.glob("*/spalloc/runs/*/job"):
        with suppress(ProcessLookupError, ValueError):
            os.killpg(int(job.read_text().strip()[4:]), signal.SIGKILL)


def options(port: int) -> list[str]:
    return ["--to", "spalloc", "--server", f"127.0.0.1:{port}", "--user", "me@uni.example", "--poll", "0.05", "--patience", "0.3"]


@pytest.fixture
def send(server: Server, command: Deploy) -> Deploy:
    """Deploy to the server's boards."""

    def go(*words: str | Path) -> tuple[int, str, str]:
        place = words.index("--") if "--" in words else len(words)
        return command(*words[:place], *options(server.port), *words[place:])

    return go


@pytest.fixture
def resume(command: Deploy) -> Deploy:
    return lambda folder, *more: command("--resume", "-o", folder, "--poll", "0.05", "--patience", "0.3", *more)


def the_run(out: Path) -> Path:
    (found,) = (out / "spalloc" / "runs").iterdir()
    return found


def allocated(out: Path) -> bool:
    """Whether `ALLOCATES` says that it has boards."""
    log = the_run(out) / "log"
    return log.exists() and "allocated" in log.read_text()


def lines(out: Path) -> int:
    log = out / "log.txt"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def check_whole(out: Path, *, steps: int = 1) -> None:
    run = the_run(out)
    assert (run / "started").read_text() == "once"
    assert (out / "log.txt").read_bytes() == (run / "log").read_bytes()
    assert (out / "results.npz").read_bytes() == results_of(steps)
    assert {p.name for p in out.iterdir()} == {"deploy.json", "log.txt", "results.npz", ".lock", "spalloc"}
    assert state_of(out)["phase"] == "done"


def alive(out: Path) -> bool:
    """Whether the program runs."""
    pid = int(state_of(out)["job"][4:])
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
