"""Deployments to boards of a spalloc server (`boards.py`)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import spalloc_server
from tests.deploy.boards import (
    ALLOCATES,
    Server,
    alive,
    allocated,
    at_home,
    check_whole,
    lines,
    options,
    resume,
    send,
    server,
    server_python,
    the_run,
)
from tests.deploy.conftest import Deploy, Wire, check_failure, replace_program, state_of, wait_for, when

__all__ = ["at_home", "resume", "send", "server", "server_python"]


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


@pytest.mark.parametrize("where", ["relative", "home"])
def test_another_python(
    server: Server, send: Deploy, quick_spinnaker: Path, tmp_path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Its path is this command's, although the program runs in another folder and with another home."""
    odd = at_home / "my $(env)'s"
    odd.mkdir()
    (odd / "python").write_text(f'#!/bin/sh\necho of my own\nexec {sys.executable} "$@"\n')
    (odd / "python").chmod(0o755)
    monkeypatch.chdir(at_home)
    python = f"{odd.name}/python" if where == "relative" else f"~/{odd.name}/python"
    code, _, err = send(quick_spinnaker, "--python", python, "-o", tmp_path / "out")
    assert code == 0, err
    assert "of my own" in (tmp_path / "out" / "log.txt").read_text()


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
