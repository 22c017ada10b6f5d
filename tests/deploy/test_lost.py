"""Connections that break and processes that are killed, at every moment that matters: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import ssh
from tests.deploy.conftest import QUICK, Deploy, Host, check_failure, replace_program, results_of, state_of, wait_for, when
from tests.deploy.test_runs import left_by

BIG = 1_500_000


def check_whole(host: Host, out: Path, *, size: int = 1000) -> None:
    """One job ran once; log and results are here, whole."""
    assert list(host.jobs()) == ["1"]
    (run,) = host.runs
    assert (run / "started").read_text() == "once"
    assert (out / "log.txt").read_bytes() == (run / "log").read_bytes()
    assert (out / "results.npz").read_bytes() == results_of(1, size)
    assert {p.name for p in out.iterdir()} == {"deploy.json", "log.txt", "results.npz", ".lock"}
    assert state_of(out)["phase"] == "done"


def test_a_wire_cut_in_the_log(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    host.wire.cut_after = 300_000  # the log has 520 kB
    code, _, err = deploy(quick, "-o", tmp_path / "out", "--", "--lines", "20000")
    assert code == 0, err
    assert (host.wire.cut_after, host.wire.logins) == (None, 2)
    assert "connection lost" in err
    assert [line for line in err.splitlines() if line.startswith("step")] == [f"step {n:06d} of a program" for n in range(20000)]
    check_whole(host, tmp_path / "out")


def test_a_wire_that_falls_silent(host: Host, deploy: Deploy, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says that the connection is gone: ssh asks, and gives up after three questions without an answer."""
    monkeypatch.setattr(ssh, "KEEP_ALIVE_SECONDS", 1)
    out = tmp_path / "out"

    def fall_silent() -> None:
        host.wire.silence()
        host.let_go()

    thread = when(lambda: lines(out) > 2, fall_silent)
    code, _, err = deploy(quick, "-o", out, "--", "--wait")
    thread.join()
    assert code == 0, err
    assert "connection lost" in err
    assert host.wire.logins >= 2  # a busy machine may miss an answer again
    check_whole(host, out)


@pytest.mark.parametrize("copy", ["rsync", "sftp"])
def test_a_wire_cut_in_the_results(host: Host, deploy: Deploy, quick: Path, tmp_path: Path, copy: str) -> None:
    host.wire.cut_after = BIG // 2
    code, _, err = deploy(quick, "--copy", copy, "-o", tmp_path / "out", "--", "--size", str(BIG))
    assert code == 0, err
    assert (host.wire.cut_after, host.wire.logins) == (None, 2)
    check_whole(host, tmp_path / "out", size=BIG)


@pytest.mark.parametrize("copy", ["rsync", "sftp"])
def test_a_wire_cut_while_the_build_is_copied(host: Host, deploy: Deploy, quick: Path, tmp_path: Path, copy: str) -> None:
    (tmp_path / "big.npz").write_bytes(os.urandom(BIG))
    host.wire.cut_after_sent = BIG // 2
    code, _, err = deploy(quick, "--copy", copy, "-o", tmp_path / "out", "--", "--input", f"in={tmp_path}/big.npz")
    assert code == 0, err
    assert (host.wire.cut_after_sent, host.wire.logins) == (None, 2)
    summary = json.loads((tmp_path / "out" / "log.txt").read_text().splitlines()[-1])
    assert summary["inputs"] == [(tmp_path / "big.npz").read_bytes().hex()]
    check_whole(host, tmp_path / "out")
    assert list((host.base / "incoming").iterdir()) == []


def test_a_wire_cut_while_the_job_is_being_submitted(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    """sbatch has taken the job, but nobody heard its number: it must not be submitted again."""
    (host.slurm / "slow").touch()
    thread = when(host.jobs, host.wire.cut)
    code, _, err = deploy(quick, "-o", tmp_path / "out")
    thread.join()
    assert code == 0, err
    assert "connection lost" in err
    check_whole(host, tmp_path / "out")


@pytest.mark.parametrize("begun", [True, False])
def test_a_submission_whose_number_was_never_written(
    host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, begun: bool
) -> None:
    """The host went down between sbatch and the file with the number: the job itself, or the queue, knows it."""
    out = tmp_path / "out"
    if not begun:
        (host.slurm / "hold").touch()
    assert deploy(quick, "--detach", "-o", out)[0] == 0
    if begun:
        wait_for((host.runs[0] / "exit").exists, "the job ends")
    (host.runs[0] / "job").unlink()
    (out / "deploy.json").write_text(json.dumps(state_of(out) | {"phase": "ready", "job": None}))
    (host.folder / "bin" / "sleep").unlink()  # no waiting for a submission that is under way: there is none
    (host.folder / "bin" / "sleep").symlink_to("/bin/true")
    thread = when(lambda: state_of(out)["job"] == "1", lambda: (host.slurm / "hold").unlink(missing_ok=True))
    code, _, err = resume(out)
    thread.join()
    assert code == 0, err
    check_whole(host, out)


def test_sessions_killed_and_sshd_restarted(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def breakdown() -> None:
        host.stop_all()
        host.start()
        host.let_go()

    thread = when(lambda: (out / "log.txt").exists() and (out / "log.txt").stat().st_size > 0, breakdown)
    code, _, err = deploy(quick, "-o", out, "--patience", "1", "--", "--wait")
    thread.join()
    assert code == 0, err
    assert "connection lost" in err
    assert "connected again" in err
    check_whole(host, out)


def test_a_login_that_is_refused_when_it_is_renewed(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    """No patience with that: it needs somebody, who is told what becomes of the job."""
    out = tmp_path / "out"

    def lock_out() -> None:
        host.write_config(key="stranger")
        host.wire.cut()

    thread = when(lambda: lines(out) > 2, lock_out)
    err = check_failure(deploy(quick, "-o", out, "--", "--wait"), "NC521")
    thread.join()
    assert "the job goes on without this process" in err
    host.write_config()
    host.let_go()
    assert resume(out)[0] == 0
    check_whole(host, out)


def test_patience_ends_and_resume_goes_on(host: Host, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def breakdown() -> None:
        host.wire.broken = True
        host.wire.cut()

    thread = when(lambda: (out / "log.txt").exists() and (out / "log.txt").stat().st_size > 0, breakdown)
    words = [*host.options(), "--patience", "0.01"]
    err = check_failure(command(quick, "-o", out, *words, "--", "--wait"), "NC523")
    thread.join()
    assert "the job goes on" in err
    assert f"--resume -o {out}" in err
    check_failure(resume(out), "NC520")  # still broken: no patience with a host that never answered
    host.wire.broken = False
    host.let_go()
    assert resume(out)[0] == 0
    check_whole(host, out)


def start(host: Host, *words: Any) -> subprocess.Popen[str]:
    """Run `deploy` in a process of its own."""
    place = words.index("--")
    command = [sys.executable, "-m", "neurocompile", "deploy", *map(str, words[:place]), *host.options(), *map(str, words[place:])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(out: Path) -> int:
    log = out / "log.txt"
    return log.read_bytes().count(b"\n") if log.exists() else 0


KILLED_AT = {
    "while the build is copied": lambda host, out: list((host.base / "incoming").glob("*/*")),
    "while the job is submitted": lambda host, out: host.jobs(),
    "in the log": lambda host, out: lines(out) > 3,
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_and_resumed(host: Host, resume: Deploy, quick: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    (host.slurm / "slow").touch()
    (tmp_path / "input.npz").write_bytes(os.urandom(BIG))
    process = start(host, quick, "-o", out, "--", "--wait", "--lines", "20", f"--input=in={tmp_path}/input.npz")
    wait_for(lambda: KILLED_AT[moment](host, out), moment)
    process.kill()
    process.communicate()
    wait_for(lambda: host.sessions() == [], "the login ends with the process")
    assert not (out / "results.npz").exists()
    thread = when(lambda: host.runs and lines(out) > 3, host.let_go)
    code, _, err = resume(out)
    thread.join()
    assert code == 0, err
    check_whole(host, out)
    assert left_by(process.pid) == []  # removed by the next process that logs in


def test_killed_in_the_results(host: Host, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(host, quick, "--copy", "sftp", "-o", out, "--", "--size", str(10 * BIG))
    part = out / ".results.npz.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 0, "a part of the results")
    process.kill()
    process.communicate()
    if not (out / "results.npz").exists():  # else it was quicker than the signal
        assert 0 < part.stat().st_size <= 10 * BIG
    assert resume(out)[0] == 0
    check_whole(host, out, size=10 * BIG)


@pytest.mark.parametrize("damage", [b"", b"half a log that the state file does not know of\n"])
def test_a_log_that_differs_from_the_state(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, damage: bytes) -> None:
    """A process can be killed between the log and the state file, and a disk can forget what was written last."""
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out, "--", "--lines", "20")[0] == 0
    wait_for((host.runs[0] / "exit").exists, "the job ends")
    log = (host.runs[0] / "log").read_bytes()
    (out / "log.txt").write_bytes(log[:100] + damage if damage else log[:40])
    (out / "deploy.json").write_text(json.dumps(state_of(out) | {"log_offset": 100}))
    assert resume(out)[0] == 0
    check_whole(host, out)


def test_ctrl_c_leaves_the_job_alone(host: Host, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(host, quick, "-o", out, "--", "--wait")
    wait_for(lambda: lines(out) > 2, "the log")
    process.send_signal(signal.SIGINT)
    answer, err = process.communicate(timeout=20)
    assert (process.returncode, answer) == (130, "")
    assert "the job goes on" in err
    assert f"neurocompile deploy --resume -o {out}" in err
    assert f"neurocompile deploy --cancel -o {out}" in err
    assert "Traceback" not in err
    assert host.jobs() == {"1": "RUNNING"}
    wait_for(lambda: host.sessions() == [], "the login ends")
    host.let_go()
    assert resume(out)[0] == 0
    check_whole(host, out)


def test_two_processes_do_not_follow_one_job(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(host, quick, "-o", out, "--", "--wait")
    wait_for(lambda: lines(out) > 2, "the log")
    check_failure(resume(out), "NC722")
    host.let_go()
    assert process.wait(timeout=20) == 0
    process.communicate()
    check_whole(host, out)
    check_failure(deploy(quick, "-o", out), "NC713")
    check_whole(host, out)


@pytest.mark.parametrize(("change", "code"), [({"key": "stranger"}, "NC521"), ({"known": ""}, "NC522"), ({"known": "other_host"}, "NC522")])
def test_logins_that_fail(
    host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, change: dict[str, str], code: str
) -> None:
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out)[0] == 0
    host.write_config(**change)
    known = (host.folder / "known_hosts").read_text()
    check_failure(deploy(quick, "-o", tmp_path / "new"), code)
    assert not (tmp_path / "new").exists()
    check_failure(resume(out), code)  # a deployment that has begun loses nothing
    assert (host.folder / "known_hosts").read_text() == known
    host.write_config()
    assert resume(out)[0] == 0
    check_whole(host, out)


def test_hosts_that_do_not_answer(host: Host, deploy: Deploy, command: Deploy, quick: Path, tmp_path: Path) -> None:
    host.wire.broken = True
    check_failure(deploy(quick, "-o", tmp_path / "out"), "NC520")
    host.config.write_text("Host loihi\n  HostName host.invalid\n")
    check_failure(deploy(quick, "-o", tmp_path / "out"), "NC520")
    host.config.write_text("Hots loihi\n")
    check_failure(deploy(quick, "-o", tmp_path / "out"), "NC160")
    check_failure(command(quick, "-o", tmp_path / "out", "--host", "loihi", "--ssh-config", tmp_path / "none"), "NC160")
    assert not (tmp_path / "out").exists()


def test_a_machine_without_ssh(deploy: Deploy, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_failure(deploy(quick, "-o", tmp_path / "out"), "NC501")


def test_what_cannot_be_resumed(host: Host, deploy: Deploy, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for option in ("--resume", "--cancel"):
        check_failure(command(option, "-o", out), "NC720")
    assert not out.exists()
    (tmp_path / "in.npz").write_bytes(b"1")
    words = ["--", "--steps", "2", "--input", f"in={tmp_path}/in.npz"]
    assert deploy(quick, "--partition", "nosuch", "-o", out, *words)[0] == 5  # refused by slurm
    whole = (out / "deploy.json").read_bytes()
    for text in (b"", b"{", b"[]", b"{}", whole.replace(b'"1.0"', b'"0.9"'), whole.replace(b'"ready"', b'"submitted"'),
                 whole.replace(b'"ready"', b'"done"'), whole.replace(b'"host"', b'"hots"'),
                 re.sub(rb'"run": "[0-9a-f]+"', b'"run": "$(touch pwned)"', whole), whole.replace(b'"0-', b'"../0-')):  # fmt: skip
        (out / "deploy.json").write_bytes(text)
        check_failure(command("--resume", "-o", out), "NC721")
    (out / "deploy.json").write_bytes(whole)
    again = [quick, "--resume", "-o", out]
    check_failure(command(*again, "--partition", "other"), "NC711")
    check_failure(command(*again, "--", "--steps", "3"), "NC711")
    check_failure(deploy(*again, *words), "NC525")  # the same options and arguments are taken: slurm refuses once more
    (tmp_path / "in.npz").write_bytes(b"2")
    check_failure(command(*again, *words), "NC711")
    check_failure(resume(out), "NC711")
    (tmp_path / "in.npz").unlink()
    check_failure(resume(out), "NC105")


def test_a_build_that_was_changed_before_it_was_resumed(
    host: Host, deploy: Deploy, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    check_failure(deploy(quick, "--partition", "nosuch", "-o", out), "NC525")
    replace_program(quick, QUICK + "# changed\n")
    check_failure(command(quick, "--resume", "-o", out), "NC711")
    check_failure(resume(out), "NC711")
    replace_program(quick, QUICK)
    (host.slurm / "jobs").mkdir(exist_ok=True)
    check_failure(resume(out), "NC525")
    assert host.jobs() == {}
