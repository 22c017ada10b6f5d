"""Whole deployments to a real sshd: what arrives, what runs, what comes back, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.loihi2.validate import run_program
from neurocompile.deploy.inrc import Inrc
from neurocompile.ir.npz import load_npz
from neurocompile.ir.signals import Spikes
from tests.deploy.conftest import QUICK, Deploy, Host, check_failure, replace_program, results_of, state_of, wait_for, when


@pytest.fixture(scope="module")
def at_home(build: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Results of the program run here."""
    spikes = Spikes.load(build.parent / "spikes.npz", size=2)
    arrays, _ = run_program(build / "program", steps=12, inputs={"in": spikes})
    assert len(arrays["spike_step:out"]) > 0
    return arrays


@pytest.mark.parametrize("copy", ["rsync", "sftp"])
def test_a_run_in_lava_gives_what_it_gives_here(
    host: Host, deploy: Deploy, build: Path, at_home: dict[str, np.ndarray[Any, Any]], tmp_path: Path, copy: str
) -> None:
    spikes = build.parent / "spikes.npz"
    out = tmp_path / "out"
    code, answer, err = deploy(
        build, "--no-hw", "--copy", copy, "--format", "json", "-o", out, "--", "--steps", "12", "--input", f"in={spikes}"
    )
    assert code == 0, err
    there = load_npz(out / "results.npz")
    assert set(there) == set(at_home)
    for name, array in at_home.items():
        np.testing.assert_array_equal(there[name], array, err_msg=name)
    found = json.loads(answer)
    assert (found["phase"], found["summary"]["n_steps"], found["summary"]["on_chip"]) == ("done", 12, False)
    assert host.wire.logins == 1
    assert (host.runs[0] / "log").read_bytes() == (out / "log.txt").read_bytes()


def test_what_the_job_is_given(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    hostile = ["a b", "it's", '"$(touch pwned)"', "`touch pwned`", "; touch pwned", "*", "~", "\\", "new\nline", "ü", ""]
    echoes = [word for text in hostile for word in ("--echo", text)]
    (tmp_path / "in puts").mkdir()
    for name in ("a'b.npz", "$(x).npz"):
        (tmp_path / "in puts" / name).write_bytes(name.encode())
    inputs = [f"--input=one={tmp_path}/in puts/a'b.npz", "--input", f"two={tmp_path}/in puts/$(x).npz"]
    code, out, err = deploy(quick, "--partition", "oheogulch", "--loihi-gen", "N3C1", "-o", tmp_path / "out", "--", *inputs, *echoes)
    assert code == 0, err
    assert f"wrote {tmp_path / 'out' / 'results.npz'}" in out
    log = (tmp_path / "out" / "log.txt").read_text()
    environment, summary = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    assert environment["environment"] == {
        "SLURM": "1", "NOSLURM": None, "PARTITION": "oheogulch", "BOARD": None, "LOIHI_GEN": "N3C1",
    }  # fmt: skip
    assert summary == {"echo": hostile, "inputs": [b"a'b.npz".hex(), b"$(x).npz".hex()], "hw": True}
    arguments = (host.slurm / "jobs" / "1" / "arguments").read_text().split()
    (run,) = host.runs
    assert arguments == [
        "--parsable", f"--job-name=nc-{run.name}", "--output=slurm.log", "--no-requeue", "--partition=oheogulch", "job.sh",
    ]  # fmt: skip
    assert list(host.folder.rglob("pwned")) == []
    assert [line for line in err.splitlines() if line.startswith("step")] == [f"step {n:06d} of a program" for n in range(3)]


def test_board_and_a_python_with_an_odd_path(host: Host, command: Deploy, quick: Path, tmp_path: Path) -> None:
    odd = host.folder / "home" / "my $(env)'s python"
    odd.symlink_to(sys.executable)
    words = [quick, "--board", "ncl-ext-og-05", "-o", tmp_path / "out", "--python", f"~/{odd.name}"]
    options = host.options()
    place = options.index("--python")
    code, _, err = command(*words, *options[:place], *options[place + 2 :])
    assert code == 0, err
    assert '"BOARD": "ncl-ext-og-05"' in (tmp_path / "out" / "log.txt").read_text()
    assert "--nodelist=ncl-ext-og-05" in (host.slurm / "jobs" / "1" / "arguments").read_text().split()


def test_nothing_is_readable_for_others(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    assert deploy(quick, "-o", tmp_path / "out")[0] == 0
    for path in [host.base / "builds", host.base / "runs", *host.base.glob("*/*"), *host.base.glob("runs/*/*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_unchanged_build_is_copied_once(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    code, _, err = deploy(quick, "-o", tmp_path / "a", "--", "--steps", "1")
    assert (code, "copied" in err) == (0, True)
    (first,) = host.builds
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    code, _, err = deploy(quick, "-o", tmp_path / "b", "--", "--steps", "2")
    assert (code, "was there already" in err) == (0, True)
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before
    for name, steps in (("a", 1), ("b", 2)):
        assert (tmp_path / name / "results.npz").read_bytes() == results_of(steps)
    replace_program(quick, QUICK + "# changed\n")
    code, _, err = deploy(quick, "-o", tmp_path / "c")
    assert (code, "copied" in err, len(host.builds), len(host.runs)) == (0, True, 2, 3)
    assert list((host.base / "incoming").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_build_that_was_damaged_on_the_host_is_copied_again(host: Host, deploy: Deploy, quick: Path, tmp_path: Path, damage: str) -> None:
    assert deploy(quick, "-o", tmp_path / "a")[0] == 0
    program = host.builds[0] / "program"
    if damage == "changed":
        (program / "run.py").write_text("raise SystemExit(9)\n")
    elif damage == "missing":
        (program / "network.json").unlink()
    else:
        (program / "random.py").write_text("raise SystemExit(9)\n")  # would be imported instead of Python's
    code, _, err = deploy(quick, "-o", tmp_path / "b")
    assert (code, "copied" in err) == (0, True), err
    assert not (program / "random.py").exists()
    assert {p.name for p in (quick / "program").iterdir()} - {"__pycache__"} == {p.name for p in program.iterdir()}


@pytest.mark.parametrize(("has", "option", "used"), [(True, "auto", "rsync"), (False, "auto", "sftp"), (True, "sftp", "sftp")])
def test_rsync_where_both_ends_have_it(host: Host, deploy: Deploy, quick: Path, tmp_path: Path, has: bool, option: str, used: str) -> None:
    tool = host.folder / "bin" / "rsync"
    tool.unlink()
    if has:
        tool.write_text(f'#!/bin/sh\n: >"{host.folder}/rsync-was-here"\nexec {shutil.which("rsync")} "$@"\n')
        tool.chmod(0o755)
    assert deploy(quick, "--copy", option, "-o", tmp_path / "out")[0] == 0
    assert (host.folder / "rsync-was-here").exists() == (used == "rsync")


def test_a_host_without_what_is_needed(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    (host.folder / "bin" / "rsync").unlink()
    assert "no rsync on the host" in check_failure(deploy(quick, "--copy", "rsync", "-o", tmp_path / "a"), "NC524")
    (host.folder / "bin" / "sbatch").unlink()
    assert "no `sbatch`" in check_failure(deploy(quick, "-o", tmp_path / "b"), "NC524")
    assert host.runs == []


def test_on_the_host_itself_without_slurm(host: Host, deploy: Deploy, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scontrol", "sacct", "scancel"):
        (host.folder / "bin" / name).unlink()
    code, _, err = deploy(quick, "--launch", "login", "-o", tmp_path / "a", "--", "--steps", "3")
    assert code == 0, err
    assert (tmp_path / "a" / "results.npz").read_bytes() == results_of(3)
    assert state_of(tmp_path / "a")["job"].startswith("pid-")
    assert deploy(quick, "--launch", "login", "--detach", "-o", tmp_path / "b", "--", "--wait")[0] == 0
    pid = int(state_of(tmp_path / "b")["job"][4:])
    (run,) = (r for r in host.runs if not (r / "exit").exists())
    wait_for((run / "started").exists, "the program runs")
    machine = (run / "host").read_text()
    (run / "host").write_text("another\n")  # the process of that number here may be anyone's
    assert "runs on another" in check_failure(command("--cancel", "-o", tmp_path / "b", "--ssh-config", host.config), "NC525")
    (run / "host").write_text(machine)
    assert Path(f"/proc/{pid}/cwd").resolve() == run
    assert "RUNNING" in command("--cancel", "-o", tmp_path / "b", "--ssh-config", host.config)[1]
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), "the program ends")
    check_failure(resume(tmp_path / "b"), "NC526")


def test_detach_and_resume(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, answer, _ = deploy(quick, "--detach", "--format", "json", "-o", out, "--", "--wait", "--lines", "5")
    found = json.loads(answer)
    assert (code, found["phase"], found["job"], found["results"]) == (0, "submitted", "1", None)
    assert not (out / "results.npz").exists()
    (run,) = host.runs
    (run / "go").touch()
    code, answer, _ = resume(out, "--format", "json")
    found = json.loads(answer)
    assert (code, found["phase"], found["results"]) == (0, "done", str(out / "results.npz"))
    assert (out / "results.npz").read_bytes() == results_of(1)
    host.stop()  # what is done needs no host
    code, answer, _ = resume(out)
    assert (code, "is there already" in answer) == (0, True)
    assert list(host.jobs()) == ["1"]


@pytest.mark.parametrize(("exit_code", "code"), [(1, "NC526"), (2, "NC528"), (3, "NC528")])
def test_a_program_that_fails(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, exit_code: int, code: str) -> None:
    out = tmp_path / "out"
    err = check_failure(deploy(quick, "-o", out, "-q", "--", "--exit", str(exit_code), "--lines", "50"), code)
    assert f"ended with exit code {exit_code}" in err
    assert "step 000049" in err
    assert "step 000010" not in err
    assert not (out / "results.npz").exists()
    assert check_failure(resume(out), code) == err  # once more, the same
    assert list(host.jobs()) == ["1"]


def test_a_program_without_results_or_without_python(host: Host, deploy: Deploy, command: Deploy, quick: Path, tmp_path: Path) -> None:
    replace_program(quick, "print('that was all')\n")
    assert "left no results" in check_failure(deploy(quick, "-o", tmp_path / "a"), "NC526")
    options = host.options()
    options[options.index("--python") + 1] = "/none/python"
    err = check_failure(command(quick, "-o", tmp_path / "b", *options), "NC526")
    assert "exit code 127" in err
    assert "/none/python" in err


def test_a_partition_that_slurm_does_not_know(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    err = check_failure(deploy(quick, "--partition", "nosuch", "-o", tmp_path / "out"), "NC525")
    assert "invalid partition specified: nosuch" in err


def running(host: Host) -> bool:
    """Whether a process of job 1 runs."""
    group = (host.slurm / "jobs" / "1" / "pid").read_text().strip()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, member_of = status.read_text().rpartition(")")[2].split()[:3]
            if member_of == group and state != "Z":
                return True
    return False


@pytest.mark.parametrize("moment", ["waiting in the queue", "running"])
def test_cancelling(host: Host, deploy: Deploy, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    if moment == "waiting in the queue":
        (host.slurm / "hold").touch()
    assert deploy(quick, "--detach", "-o", out, "--", "--wait")[0] == 0
    state = "PENDING" if moment == "waiting in the queue" else "RUNNING"
    wait_for(lambda: host.jobs() == {"1": state} and (host.slurm / "jobs" / "1" / "pid").exists(), state)
    code, answer, _ = command("--cancel", "-o", out, "--ssh-config", host.config)
    assert (code, f"its state was {state}" in answer) == (0, True)
    assert host.jobs() == {"1": "CANCELLED"}
    wait_for(lambda: not running(host), "the processes of the job end")
    assert "CANCELLED" in check_failure(resume(out), "NC526")
    code, answer, _ = command("--cancel", "-o", out, "--ssh-config", host.config)  # once more does no harm
    assert (code, "its state was" in answer) == (0, True)


def test_cancelling_before_anything_was_submitted(
    host: Host, deploy: Deploy, command: Deploy, resume: Deploy, quick: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    check_failure(deploy(quick, "--partition", "nosuch", "-o", out), "NC525")
    assert "its state was NONE" in command("--cancel", "-o", out, "--ssh-config", host.config)[1]
    assert "was cancelled before it began" in check_failure(resume(out), "NC526")
    assert host.jobs() == {}


@pytest.mark.parametrize(("state", "source"), [("TIMEOUT", "scontrol"), ("OUT_OF_MEMORY", "sacct")])
def test_a_job_that_slurm_ends(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, state: str, source: str) -> None:
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out, "--", "--wait")[0] == 0
    wait_for(lambda: (host.runs[0] / "log").exists() and host.jobs() == {"1": "RUNNING"}, "the job runs")
    job = host.slurm / "jobs" / "1"
    os.killpg(int((job / "pid").read_text()), 9)
    (job / "state").write_text(f"{state}\n")
    if source == "sacct":
        (host.slurm / "forgotten").touch()
    assert f"job 1: {state}" in check_failure(resume(out), "NC526")


def test_slurm_that_does_not_answer_ends_nothing(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out, "--", "--wait")[0] == 0
    (host.slurm / "down").touch()
    thread = when(lambda: questions(host) > 6, host.let_go)  # more often than what is believed otherwise
    assert resume(out)[0] == 0
    thread.join()


def questions(host: Host) -> int:
    """How often slurm was asked for states."""
    return len((host.slurm / "questions").read_text().splitlines()) if (host.slurm / "questions").exists() else 0


def test_questions_to_slurm_are_fewer_than_looks(
    host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    follow = Inrc.follow
    monkeypatch.setattr(Inrc, "follow", lambda self, *a, **o: (looks.append(o["ask"]), follow(self, *a, **o))[1])
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out, "--", "--wait")[0] == 0
    thread = when(lambda: len(looks) > 11, host.let_go)
    assert resume(out)[0] == 0
    thread.join()
    assert looks[:11] == [n % 5 == 0 for n in range(11)]
    assert questions(host) <= sum(looks)


def tree(folder: Path) -> dict[str, int]:
    """What changes with a file, by path; the log of sshd is written at any time."""
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != "sshd.log"}


def test_a_dry_run_says_all_and_touches_nothing(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "spikes.npz").write_bytes(b"12345")
    before = tree(tmp_path)
    words = [quick, "--partition", "p7", "--dry-run", "-o", tmp_path / "out"]
    args = ["--", "--steps", "7", "--input", f"in={tmp_path}/spikes.npz", "--echo", "a b"]
    code, out, err = deploy(*words, *args)
    assert (code, err) == (0, "")
    assert tree(tmp_path) == before
    assert host.wire.logins == 0
    assert "nothing was done" in out
    for expected in (
        "ssh -F", "rsync ", "sftp ", "put -r", "sbatch --parsable", "--partition=p7", "squeue", "scancel", "program/run.py",
        "BatchMode=yes", "export PARTITION=p7", "run.py --hw --loihi-gen N3B3 --partition p7 --steps 7 --input in=inputs/0-",
        "--echo 'a b' --out results.npz",
    ):  # fmt: skip
        assert expected in out, expected
    assert "StrictHostKeyChecking" not in out
    code, answer, _ = deploy(*words, "--format", "json", *args)
    found = json.loads(answer)
    assert [f"{name} {size}" for name, size in found["files"].items()] == [
        x for x in out.splitlines() if x.startswith(("builds/", "runs/"))
    ]
    files = {p.relative_to(quick).as_posix(): p.stat().st_size for p in (quick / "program").rglob("*") if p.is_file()}
    sizes = {name.partition("/")[2].partition("/")[2]: size for name, size in found["files"].items()}
    assert {n: s for n, s in sizes.items() if n.startswith("program/")} == files
    assert sorted(s for n, s in sizes.items() if n.startswith("inputs/")) == [5]
    assert (found["phase"], found["job"]) == ("planned", None)


def test_the_scripts_of_a_dry_run_are_those_that_run(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    words = [quick, "-o", tmp_path / "out", "--format", "json"]
    planned = {s["heading"]: s["text"] for s in json.loads(deploy(*words, "--dry-run")[1])["steps"]}
    assert deploy(*words)[0] == 0
    assert (host.runs[0] / "job.sh").read_text() == planned["runs/RUN/job.sh"]
    for text in planned.values():
        if "\n" in text:
            done = subprocess.run(["sh", "-n"], input=f"main() {{\n{text}\n}}\n", text=True, capture_output=True)
            assert "Syntax error" not in done.stderr or text.startswith("sftp"), done.stderr


@pytest.mark.parametrize(
    "host_name",
    ["-oProxyCommand=touch pwned", "-v", "a b", "a;touch pwned", "$(touch pwned)", "a@b@c", "", "user@-x", "a\nb", "a/b", "[::1]", "a:22",
     "x" * 300, "ü"],
)  # fmt: skip
def test_hosts_that_are_none(command: Deploy, quick: Path, tmp_path: Path, host_name: str) -> None:
    err = check_failure(command(quick, f"--host={host_name}", "-o", tmp_path / "out"), "NC160")
    assert "HOST" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--partition", "a,b;c"), ("--partition", "-w"), ("--board", "$(x)"), ("--board", ""), ("--remote-dir", "../x"),
     ("--remote-dir", "a b"), ("--remote-dir", "-rf"), ("--remote-dir", "a/../../b"), ("--remote-dir", "~/x"), ("--remote-dir", "a//b"),
     ("--remote-dir", "host:x"), ("--remote-dir", "x/-rf")],
)  # fmt: skip
def test_names_that_a_shell_could_mistake(command: Deploy, quick: Path, tmp_path: Path, option: str, value: str) -> None:
    check_failure(command(quick, "--host", "h", f"{option}={value}", "-o", tmp_path / "out"), "NC160")


def test_options_that_do_not_go_together(host: Host, command: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words in (
        [quick, "--host", "h", "--partition", "a", "--board", "b"],
        [quick],
        ["--host", "h"],
        [quick, "--host", "h", "--resume", "--cancel"],
        [quick, "--host", "h", "--dry-run", "--detach"],
        [quick, "--host", "h", "--", "--out", "x"],
        [quick, "--host", "h", "--", "--out=x"],
    ):
        place = words.index("--") if "--" in words else len(words)
        check_failure(command(*words[:place], "-o", out, *words[place:]), "NC160")
    check_failure(command(quick, "--host", "h", "-o", out, "--", "--input", "in=none.npz"), "NC105")
    assert not out.exists()


def test_builds_that_cannot_be_deployed(command: Deploy, quick: Path, tmp_path: Path) -> None:
    out = ["--host", "h", "-o", str(tmp_path / "out")]
    check_failure(command(tmp_path / "none", *out), "NC703")
    manifest = json.loads((quick / "manifest.json").read_text())
    (quick / "manifest.json").write_text(json.dumps(manifest | {"target": "nest"}))
    assert "not for nest" in check_failure(command(quick, *out), "NC160")
    (tmp_path / "secret").write_text("s")
    digest = "sha256:043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"
    for name in ("program/../../secret", "program/-x", "program/a b", "program/a\nb"):
        file = quick / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("s")
        (quick / "manifest.json").write_text(json.dumps(manifest | {"files": manifest["files"] | {name: digest}}))
        check_failure(command(quick, *out), "NC703")
    (quick / "manifest.json").write_text(json.dumps(manifest))
    (quick / "program" / "network.json").write_text("{}")
    check_failure(command(quick, *out), "NC704")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("copy", ["rsync", "sftp"])
def test_a_full_disk_on_the_host(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path, copy: str) -> None:
    """A limit on the size of files stands for the disk: the write fails in the midst of a file in both cases."""
    (tmp_path / "big.npz").write_bytes(os.urandom(1 << 20))
    if copy == "rsync":
        tool = host.folder / "bin" / "rsync"
        tool.unlink()
        tool.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 256\nexec {shutil.which("rsync")} "$@"\n')
        tool.chmod(0o755)
    else:
        server = next(p for p in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server") if Path(p).exists())
        wrapper = host.folder / "sftp-server"
        wrapper.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 256\nexec {server}\n')
        wrapper.chmod(0o755)
        host.stop()
        host.subsystem = str(wrapper)
        host.start()
    out = tmp_path / "out"
    check_failure(deploy(quick, "--copy", copy, "-o", out, "--", "--input", f"x={tmp_path}/big.npz"), "NC524")
    assert host.jobs() == {}
    assert host.runs == host.builds == []  # nothing half-copied is where a run would look
    if copy == "rsync":
        shutil.copy(shutil.which("rsync") or "", host.folder / "bin" / "rsync")
    else:
        host.stop()
        host.subsystem = "internal-sftp"
        host.start()
    assert resume(out)[0] == 0  # there is room again
    assert list((host.base / "incoming").iterdir()) == []


def test_a_remote_folder_that_cannot_be_made(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    host.base.write_text("a file")
    err = check_failure(deploy(quick, "-o", tmp_path / "out"), "NC524")
    assert "cannot be made" in err
    assert "File exists" in err or "Not a directory" in err  # the host's own words


def test_a_local_folder_that_cannot_be_made(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_failure(deploy(quick, "-o", tmp_path / "file" / "out"), "NC701")
    assert host.jobs() == {}


def test_a_login_shell_that_prints(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    """Scripts are told from the noise; the copying programs cannot be, and the message says what to do."""
    (host.folder / "home" / ".bashrc").write_text("echo welcome; echo @x end\n")
    (host.folder / "home" / ".profile").write_text("echo welcome\n")
    found = deploy(quick, "--copy", "rsync", "-o", tmp_path / "out")
    if found[0] == 0:
        pytest.skip("the login shell reads no start-up file here")
    assert "start-up files silent" in check_failure(found, "NC524")
    (host.folder / "home" / ".bashrc").write_text("")
    (host.folder / "home" / ".profile").write_text("")
    assert resume(tmp_path / "out")[0] == 0


def test_a_host_that_allows_one_session_a_login(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    host.stop()
    host.extra = "MaxSessions 1"
    host.start()
    assert "MaxSessions" in check_failure(deploy(quick, "-o", tmp_path / "out"), "NC524")


def test_a_log_that_never_comes_whole(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    """Its end was taken away on the host: what is there is shown, and the results are fetched."""
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out)[0] == 0
    wait_for((host.runs[0] / "exit").exists, "the job ends")
    os.truncate(host.runs[0] / "log", 40)
    assert resume(out)[0] == 0
    assert ((out / "log.txt").stat().st_size, (out / "results.npz").read_bytes()) == (40, results_of(1))


def test_a_remote_folder_that_is_removed(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out)[0] == 0
    wait_for(lambda: host.jobs() == {"1": "COMPLETED"}, "the job ends")
    shutil.rmtree(host.base)
    assert "the run is gone from the host" in check_failure(resume(out), "NC524")


def test_a_copy_that_differs(host: Host, deploy: Deploy, quick: Path, tmp_path: Path) -> None:
    """A host on which every checksum is wrong: nothing is renamed into place."""
    tool = host.folder / "bin" / "sha256sum"
    tool.unlink()
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    check_failure(deploy(quick, "-o", tmp_path / "out"), "NC527")
    assert host.runs == host.builds == []


def test_results_that_differ(host: Host, deploy: Deploy, resume: Deploy, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deploy(quick, "--detach", "-o", out)[0] == 0
    wait_for((host.runs[0] / "exit").exists, "the job ends")
    (host.runs[0] / "results.npz").write_bytes(bytes(1000))  # as many bytes as there were
    assert "what it left is on the host" in check_failure(resume(out), "NC527")
    assert not (out / "results.npz").exists()
    (host.runs[0] / "results.npz").write_bytes(results_of(1))
    assert resume(out)[0] == 0
    assert (out / "results.npz").read_bytes() == results_of(1)


def test_no_secret_is_written_or_printed(
    host: Host, deploy: Deploy, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path
) -> None:
    monkeypatch.setenv("INRC_TOKEN", "hunter2-token-in-the-environment")
    printed = ""
    for copy in ("rsync", "sftp"):
        code, out, err = deploy(quick, "--copy", copy, "-v", "-o", tmp_path / copy, "--", "--exit", "0")
        assert code == 0
        printed += out + err
    host.write_config(key="stranger")
    printed += check_failure(deploy(quick, "-o", tmp_path / "c"), "NC521")
    private = [line for name in ("user", "stranger") for line in (keys / name).read_text().splitlines()[1:-1]]
    secrets = [s.encode() for s in ("hunter2-token-in-the-environment", *private)]
    assert len(secrets) > 8
    written = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and not p.is_symlink()}
    assert any(p.name == "deploy.json" for p in written)
    assert any(p.name == "job.sh" for p in written)
    for secret in secrets:
        assert secret.decode() not in printed
        assert [p for p, content in written.items() if secret in content] == []
    assert left_by(os.getpid()) == []


def left_by(pid: int) -> list[Path]:
    """Private folders of a process."""
    return [p for place in {"/tmp", tempfile.gettempdir()} for p in Path(place).glob(f"nc-ssh-{pid}-*")]
