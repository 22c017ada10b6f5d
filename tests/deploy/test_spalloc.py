"""Deployments to boards of a spalloc server: a real spalloc-server on loopback whose board controller is a stub, and a stand-in for the
login of a new one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from neurocompile.deploy import spalloc_server
from tests.deploy.conftest import QUICK, Deploy, Wire, check_failure, replace_program, results_of, state_of, wait_for, when

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
PASSWORD = "correct-horse-that-must-not-be-seen-91c2"
TOKEN = "eyJ-bearer-that-must-not-be-seen-55aa"


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
            self.process = subprocess.Popen([str(c) for c in command], cwd=self.folder, stdout=log, stderr=log)
        wait_for(self._listens, "spalloc-server listens")

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


def test_a_run(server: Server, send: Deploy, at_home: Path, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "my out's"
    before = {p: p.read_bytes() for p in at_home.rglob("*") if p.is_file()}
    (tmp_path / "in.npz").write_bytes(b"spikes")
    words = ["--steps", "4", "--input", f"in={tmp_path}/in.npz", "--echo", "a b", "--echo", "$(touch pwned)"]
    code, answer, err = send(quick_spinnaker, "--machine", "six", "--format", "json", "-v", "-o", out, "--", *words)
    assert code == 0, err
    found = json.loads(answer)
    assert (found["to"], found["host"], found["phase"]) == ("spalloc", f"127.0.0.1:{server.port}", "done")
    assert found["summary"] == {"echo": ["a b", "$(touch pwned)"], "inputs": [b"spikes".hex()], "hw": False}
    assert "version 6.0.0" in err
    assert "six: 6 boards, 0 of them lent" in err
    check_whole(out, steps=4)
    cfg = (the_run(out) / "home" / ".spynnaker.cfg").read_text()
    assert cfg.splitlines()[:6] == [
        "[Machine]", "version = 5", "spalloc_server = 127.0.0.1", f"spalloc_port = {server.port}", "spalloc_user = me@uni.example",
        "spalloc_machine = six",
    ]  # fmt: skip
    assert {p: p.read_bytes() for p in at_home.rglob("*") if p.is_file()} == before
    assert list(tmp_path.rglob("pwned")) == []


def test_spynnaker_itself_takes_the_boards(server: Server, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """Its own code reads the configuration of the run, asks the server, keeps the boards, and gives them back."""
    replace_program(quick_spinnaker, ALLOCATES)
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--machine", "six", "--detach", "-o", out, "--", "--boards", "3", "--wait")[0] == 0
    wait_for(lambda: allocated(out), "boards are allocated")
    (job,) = server.ask("list_jobs")
    assert (job["owner"], job["allocated_machine_name"], len(job["boards"])) == ("me@uni.example", "six", 3)
    _, machines = spalloc_server.classic_machines("127.0.0.1", server.port)
    assert {m.name: (m.boards, m.lent) for m in machines} == {"lone": (1, 0), "six": (6, 3), "odd": (1, 0)}
    (the_run(out) / "go").touch()
    code, _, err = resume(out)
    assert code == 0, err
    assert json.loads((out / "results.npz").read_bytes())["boards"] == 3
    wait_for(lambda: server.owners() == [], "the boards are given back")


def test_boards_are_given_back_when_it_is_cancelled(
    server: Server, send: Deploy, command: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    """Those of the run, and no others: not of another owner, not the same owner's that the run's log does not name."""
    replace_program(quick_spinnaker, ALLOCATES)
    others = [server.ask("create_job", [1], owner=owner, keepalive=60.0, machine="six") for owner in ("me@uni.example", "you@uni.example")]
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--machine", "six", "--detach", "-o", out, "--", "--boards", "3", "--wait")[0] == 0
    wait_for(lambda: allocated(out), "boards are allocated")
    assert len(server.ask("list_jobs")) == 3
    assert "its state was RUNNING" in command("--cancel", "-o", out)[1]
    assert sorted(job["job_id"] for job in server.ask("list_jobs")) == sorted(others)
    (run,) = (out / "spalloc" / "runs").iterdir()
    (run / "log").write_text("".join(f"Created spalloc job {number}\n" for number in others))
    os.utime(run / "claim", (time.time() + 3600, time.time() + 3600))  # jobs from before this run: their numbers may be used again
    assert command("--cancel", "-o", out)[0] == 0
    assert len(server.ask("list_jobs")) == 2
    os.utime(run / "claim", (time.time() - 5, time.time() - 5))
    assert command("--cancel", "-o", out)[0] == 0
    assert [job["owner"] for job in server.ask("list_jobs")] == ["you@uni.example"]


def test_the_program_of_a_build_finds_no_board(
    server: Server, send: Deploy, command: Deploy, resume: Deploy, spinnaker_build: Path, tmp_path: Path
) -> None:
    """The emitted program takes a board, at whose address is nobody: that ends it. sPyNNaker would ask for other boards without giving
    these back, and of a machine without others wait for itself, for ever."""
    out = tmp_path / "out"
    code, _, err = send(spinnaker_build, "--machine", "lone", "-o", out, "--", "--steps", "5")
    assert code == 5, err
    assert re.search(r"error\[NC526\]: program/run.py ended with exit code [15]", err)
    assert "Created spalloc job" in err
    assert "spalloc_retry = 0" in (the_run(out) / "home" / ".spynnaker.cfg").read_text()
    assert not (out / "results.npz").exists()
    assert server.owners() == []
    assert send(spinnaker_build, "--machine", "six", "--detach", "-o", tmp_path / "b", "--", "--steps", "5")[0] == 0
    assert "spalloc_retry = 3" in (the_run(tmp_path / "b") / "home" / ".spynnaker.cfg").read_text()
    assert command("--cancel", "-o", tmp_path / "b")[0] == 0


def test_the_connection_to_the_server_is_dropped(
    server: Server, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    """While it is asked, and, through sPyNNaker's own client, while the program runs."""
    replace_program(quick_spinnaker, ALLOCATES)
    wire = Wire(to=server.port, cut_after=30)
    try:
        out = tmp_path / "out"
        code, _, err = command(quick_spinnaker, *options(wire.port), "--detach", "-o", out, "--", "--wait")
        assert code == 0, err
        assert (wire.cut_after, wire.logins) == (None, 2)
        wait_for(lambda: allocated(out), "boards are allocated")
        wire.cut()
        time.sleep(0.5)
        assert server.owners() == ["me@uni.example"]
        (the_run(out) / "go").touch()
        code, _, err = resume(out)
        assert code == 0, err
        assert json.loads((out / "results.npz").read_bytes())["boards"] == 1
        assert server.owners() in (["me@uni.example"], [])  # kept alive over a connection of its own, as long as the program ran
    finally:
        wire.close()


def test_boards_that_do_not_come_up(server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    replace_program(quick_spinnaker, ALLOCATES)
    (server.folder / "broken").touch()
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out")
    assert code == 5
    assert "error[NC526]: program/run.py ended with exit code 1" in err
    assert "Requests failed on BMP bmp-of-lone" in err  # the server's words, in the program's log


def test_servers_that_do_not_answer(server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    server.stop()
    check_failure(send(quick_spinnaker, "-o", out), "NC520")
    assert not out.exists()
    server.start()
    assert send(quick_spinnaker, "-o", out)[0] == 0
    check_whole(out)


def test_a_server_whose_version_spynnaker_cannot_read(
    server_python: Path, at_home: Path, command: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    """spalloc-server 1!7.0.0 tells its clients so; sPyNNaker 1!7.4.1's client ends with ValueError: invalid literal for int(): '1!7'."""
    server = Server(server_python, tmp_path / "server", version="own")
    try:
        server.start()
        assert server.ask("version") == "1!7.0.0"
        err = check_failure(command(quick_spinnaker, *options(server.port), "-o", tmp_path / "out"), "NC530")
        assert "version 1!7.0.0" in err
        assert not (tmp_path / "out").exists()
        code = f"from spalloc_client import Job; Job(1, hostname='127.0.0.1', port={server.port}, owner='me')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "ValueError: invalid literal for int() with base 10: '1!7'" in done.stderr
    finally:
        server.stop()


ODD = {
    "nothing": (b"", "NC520"),
    "no JSON": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "NC530"),
    "no object": (b"7\n", "NC530"),
    "an exception": (b'{"exception": "no such command"}\n', "NC530"),
    "another version": (b'{"return": "9.0.0"}\n{"return": []}\n{"return": []}\n', "NC530"),
    "odd machines": (b'{"return": "5.0.0"}\n{"return": [{"name": "a"}]}\n{"return": []}\n', "NC530"),
    "machines that are none": (b'{"return": "5.0.0"}\n{"return": 7}\n{"return": []}\n', "NC530"),
    "half an answer": (b'{"return": "5.0', "NC520"),
    "latin": (b'{"return": "\xe9"}\n', "NC530"),
}


@pytest.mark.parametrize("what", ODD)
def test_servers_of_another_kind(at_home: Path, command: Deploy, quick_spinnaker: Path, tmp_path: Path, what: str) -> None:
    said, code = ODD[what]
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    with link:
                        link.recv(1024)
                        link.sendall(said)
                        while said.endswith(b"\n") and link.recv(1024):
                            pass

        threading.Thread(target=serve, daemon=True).start()
        check_failure(command(quick_spinnaker, *options(listener.getsockname()[1]), "-o", tmp_path / "out"), code)
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_silent(
    at_home: Path, command: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spalloc_server, "SECONDS", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        check_failure(command(quick_spinnaker, *options(listener.getsockname()[1]), "-o", tmp_path / "out"), "NC520")


def test_going_on_and_cancelling_without_the_server(
    server: Server, send: Deploy, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    """deploy was killed between the start of the program and its state file; the server is down since."""
    for name in ("a", "b"):
        out = tmp_path / name
        assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
        (out / "deploy.json").write_text(json.dumps(state_of(out) | {"phase": "ready", "job": None}))
    server.stop()
    (the_run(tmp_path / "a") / "go").touch()
    assert resume(tmp_path / "a")[0] == 0
    check_whole(tmp_path / "a")
    assert "its state was RUNNING" in command("--cancel", "-o", tmp_path / "b")[1]
    assert "cancelled before it began" in check_failure(resume(tmp_path / "b"), "NC526")
    check_failure(send(quick_spinnaker, "-o", tmp_path / "c"), "NC520")


def test_machines_that_are_not_there(server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    err = check_failure(send(quick_spinnaker, "--machine", "seven", "-o", tmp_path / "a"), "NC525")
    assert "lone (1 boards), six (6 boards), odd (1 boards)" in err
    set_boards(quick_spinnaker, 7)
    check_failure(send(quick_spinnaker, "-o", tmp_path / "b"), "NC525")
    set_boards(quick_spinnaker, 2)  # a triad
    check_failure(send(quick_spinnaker, "--machine", "lone", "-o", tmp_path / "c"), "NC525")
    assert send(quick_spinnaker, "-o", tmp_path / "d")[0] == 0
    with pytest.raises(Exception, match="'default'"):
        spalloc_server.choose([spalloc_server.Machine(name="odd", boards=1, lent=0, tags=("x",))], None, 1, "there")


def set_boards(build: Path, n: int) -> None:
    """Let a build say that it needs so many boards."""
    file = build / "program" / "network.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"n_boards": n}))
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["files"]["program/network.json"] = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    (build / "manifest.json").write_text(json.dumps(manifest))


def start(server: Server, *words: Any) -> subprocess.Popen[str]:
    """Run `deploy` in a process of its own."""
    place = words.index("--")
    command = [sys.executable, "-m", "neurocompile", "deploy", *map(str, words[:place]), *options(server.port), *map(str, words[place:])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_program_outlives_deploy(server: Server, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Killed, or ended by Ctrl-C; and the server need not be there to go on: the program is here."""
    out = tmp_path / "out"
    process = start(server, quick_spinnaker, "-o", out, "--", "--wait", "--lines", "5")
    wait_for(lambda: lines(out) > 5, "the log")
    process.send_signal(how)
    _, err = process.communicate(timeout=20)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"neurocompile deploy --resume -o {out}" in err
    assert alive(out)
    assert not (out / "results.npz").exists()
    server.stop()
    thread = when(lambda: lines(out) > 5, (the_run(out) / "go").touch)
    code, _, err = resume(out)
    thread.join()
    assert code == 0, err
    check_whole(out)


def test_the_program_is_killed_or_cancelled(
    server: Server, send: Deploy, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a"
    assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
    assert "its state was RUNNING" in command("--cancel", "-o", out)[1]
    wait_for(lambda: not alive(out), "the program ends")
    assert "GONE" in check_failure(resume(out), "NC526")
    out = tmp_path / "b"
    assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
    os.killpg(int(state_of(out)["job"][4:]), signal.SIGKILL)  # as when the machine went down
    assert "GONE" in check_failure(resume(out), "NC526")


@pytest.mark.parametrize("exit_code", [1, 2, 5])
def test_programs_that_fail(server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path, exit_code: int) -> None:
    err = check_failure(
        send(quick_spinnaker, "-o", tmp_path / "out", "--", "--exit", str(exit_code)), "NC528" if exit_code == 2 else "NC526"
    )
    assert f"ended with exit code {exit_code}" in err
    assert "step 000002 of a program" in err


def test_a_dry_run_says_all_and_touches_nothing(server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    def seen() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*") if server.folder not in [p, *p.parents]}

    before, log = seen(), (server.folder / "log").read_text().count("New client")
    code, out, err = send(quick_spinnaker, "--dry-run", "-o", tmp_path / "out", "--", "--steps", "7")
    assert (code, err) == (0, "")
    for expected in (
        "list_machines",
        "--spalloc --steps 7 --out results.npz",
        "spalloc_user = me@uni.example",
        "export HOME=",
        "setsid",
        "nothing was done",
    ):
        assert expected in out, expected
    assert seen() == before
    assert (server.folder / "log").read_text().count("New client") == log


@pytest.mark.parametrize(
    ("option", "value"),
    [("--server", "a b"), ("--server", "$(x)"), ("--server", "-x"), ("--server", "host:0"), ("--server", "host:99999"),
     ("--server", "a\nb"), ("--server", "me:secret-pass@host"),
     ("--server", "https://me:secret-pass@host/"), ("--server", "http://host/"), ("--server", "ftp://x"),
     ("--server", "spalloc://host"), ("--server", ""), ("--user", "a b"), ("--user", "a\n[Mode]\nmode = Debug"), ("--user", "%(x)s"),
     ("--user", ""), ("--machine", "a#b"), ("--machine", "../x"), ("--group", "a;b")],
)  # fmt: skip
def test_settings_that_are_none(at_home: Path, command: Deploy, quick_spinnaker: Path, tmp_path: Path, option: str, value: str) -> None:
    err = check_failure(command(quick_spinnaker, *options(1), f"{option}={value}", "-o", tmp_path / "out"), "NC160")
    assert "secret-pass" not in err
    assert not (tmp_path / "out").exists()


def test_options_that_are_needed(at_home: Path, command: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    for words in (["--server", "h"], ["--user", "me"], []):
        check_failure(command(quick_spinnaker, "--to", "spalloc", *words, "-o", tmp_path / "out"), "NC160")


@dataclass
class NewServer:
    """The login of a new spalloc server: what spinnman's client asks of it before anything else."""

    drop: bool = False
    garbage: bool = False

    def __post_init__(self) -> None:
        this = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if this.drop:
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif this.garbage:
                    self._answer(200, "<html>It works!</html>")
                elif self.path.endswith("/system/login.html"):
                    given = self.headers.get("Authorization")
                    if given not in {None, f"Bearer {TOKEN}"}:
                        self._answer(401, f"no such token: {given}")
                        return
                    session = "anonymous" if given is None else "in"
                    self._answer(200, '<input type="hidden" name="_csrf" value="c1" />', session)
                elif self.path.endswith("/srv/spalloc/"):
                    if "JSESSIONID=in" not in self.headers.get("Cookie", ""):
                        self._answer(401, "log in first")
                        return
                    version = {"major-version": 7, "minor-version": 2, "revision": 0}
                    url = f"{this.url}srv/spalloc/"
                    found = {"version": version, "machines-ref": f"{url}machines", "jobs-ref": f"{url}jobs"}
                    self._answer(200, json.dumps({**found, "csrf-header": "X-CSRF", "csrf-token": "c2"}))
                else:
                    self._answer(404, "")

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                good = (form["username"], form["password"]) == (["me"], [PASSWORD])
                if good:
                    self._answer(302, "", "in")
                else:
                    self._answer(403, json.dumps({"message": f"bad credentials: {form['password'][0]}"}))

            def _answer(self, status: int, text: str, session: str | None = None) -> None:
                self.send_response(status)
                if session is not None:
                    self.send_header("Set-Cookie", f"JSESSIONID={session}; Path=/")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/spalloc/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def new_server(at_home: Path, tmp_path: Path) -> Iterator[NewServer]:
    found = NewServer()
    yield found
    found.close()
    end_programs(tmp_path)


COOKIE = "JSESSIONID-that-must-not-stay-77d0"
KNOWS = QUICK.replace(
    "started = pathlib",
    "import sqlite3\n"  # as sPyNNaker's databases have it
    'os.makedirs("reports/run_1")\n'
    'base = sqlite3.connect("reports/run_1/ds.sqlite3")\n'
    'base.execute("CREATE TABLE proxy_configuration(kind, name, value)")\n'
    f"rows = [('COOKIE', 'JSESSIONID', {COOKIE!r}), ('HEADER', 'X-CSRF', {COOKIE!r}), ('SPALLOC', 'job uri', 'https://kept')]\n"
    'base.executemany("INSERT INTO proxy_configuration VALUES (?, ?, ?)", rows)\n'
    "base.commit()\n"
    "base.close()\n"
    'pathlib.Path("reports/other.sqlite3").write_text("no database")\n'
    "import hashlib\n"
    'names = ("SPALLOC_USER", "SPALLOC_PASSWORD", "OIDC_BEARER_TOKEN")\n'
    'print("secrets", [hashlib.sha256(os.environ.get(n, "").encode()).hexdigest()[:8] for n in names])\n'
    "started = pathlib",
)


@pytest.mark.parametrize("kind", ["password", "token"])
def test_a_new_server(
    new_server: NewServer,
    command: Deploy,
    resume: Deploy,
    quick_spinnaker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """The secret reaches the program through its environment, and is in no file, no argv and nothing that is printed."""
    replace_program(quick_spinnaker, KNOWS)
    out = tmp_path / "out"
    words = ["--to", "spalloc", "--server", new_server.url, "--poll", "0.05"]
    if kind == "password":
        monkeypatch.setenv("SPALLOC_PASSWORD", PASSWORD)
        words += ["--user", "me"]
        expected = ["me", PASSWORD, ""]
    else:
        monkeypatch.setenv("OIDC_BEARER_TOKEN", TOKEN)
        expected = ["", "", TOKEN]
    printed = command(quick_spinnaker, *words, "--group", "my-group", "--detach", "-v", "-o", out, "--", "--wait")
    assert printed[0] == 0, printed
    job = int(state_of(out)["job"][4:])
    processes = [p for p in Path("/proc").glob("[0-9]*") if in_group(p, job)]
    assert processes
    argv = b"".join(p.joinpath("cmdline").read_bytes() for p in processes)
    assert b"run.py" in argv
    (the_run(out) / "go").touch()
    monkeypatch.delenv("SPALLOC_PASSWORD", raising=False)
    monkeypatch.delenv("OIDC_BEARER_TOKEN", raising=False)
    code, answer, err = resume(out)  # the program has it: it is not needed again
    assert code == 0, err
    check_whole(out)
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in expected]
    assert f"secrets {hashes}" in (out / "log.txt").read_text()
    database = (the_run(out) / "reports" / "run_1" / "ds.sqlite3").read_bytes()
    assert b"https://kept" in database
    assert COOKIE.encode() not in database
    cfg = (the_run(out) / "home" / ".spynnaker.cfg").read_text()
    assert f"spalloc_server = {new_server.url.rstrip('/')}" in cfg
    assert "spalloc_group = my-group" in cfg
    for secret in (PASSWORD, TOKEN):
        assert secret.encode() not in argv
        assert [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()] == []
        assert not any(secret in text for text in (*printed[1:], answer, err))


def test_a_deployment_of_somebody_else(
    new_server: NewServer, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password does not go to a server that only a file names."""
    monkeypatch.setenv("SPALLOC_PASSWORD", PASSWORD)
    out = tmp_path / "out"
    words = ["--to", "spalloc", "--server", new_server.url, "--user", "me", "--poll", "0.05"]
    assert command(quick_spinnaker, *words, "--detach", "-o", out)[0] == 0
    wait_for((the_run(out) / "exit").exists, "the program ends")
    before = json.dumps(state_of(out) | {"phase": "new", "job": None})
    (out / "deploy.json").write_text(before.replace(new_server.url.rstrip("/"), "https://elsewhere.invalid"))
    shutil.rmtree(out / "spalloc")
    assert "your password would go there" in check_failure(resume(out), "NC160")
    check_failure(resume(out, "--server", "https://elsewhere.invalid"), "NC520")
    check_failure(resume(out, "--server", new_server.url), "NC711")


def in_group(process: Path, group: int) -> bool:
    with suppress(OSError, IndexError, ValueError):
        return int(re.sub(r"^.*\) ", "", process.joinpath("stat").read_text()).split()[2]) == group
    return False


def test_a_new_server_that_refuses(
    new_server: NewServer, command: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = [quick_spinnaker, "--to", "spalloc", "--server", new_server.url, "-o", out]
    err = check_failure(command(*words), "NC529")
    assert "OIDC_BEARER_TOKEN" in err
    assert "SPALLOC_PASSWORD" in check_failure(command(*words, "--user", "me"), "NC529")
    monkeypatch.setenv("SPALLOC_PASSWORD", "wrong-password-that-must-not-be-seen")
    err = check_failure(command(*words, "--user", "me"), "NC529")
    assert "wrong-password" not in err
    monkeypatch.setenv("OIDC_BEARER_TOKEN", "wrong-token-that-must-not-be-seen")
    err = check_failure(command(*words), "NC529")
    assert "wrong-token" not in err
    monkeypatch.setenv("OIDC_BEARER_TOKEN", TOKEN)
    new_server.garbage = True
    check_failure(command(*words), "NC530")
    new_server.garbage, new_server.drop = False, True
    check_failure(command(*words), "NC520")
    assert not out.exists()
    new_server.drop = False
    assert command(*words, "--poll", "0.05")[0] == 0
    check_whole(out)
