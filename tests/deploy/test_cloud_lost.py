"""Faults of a job service and of the way to it, jobs that end oddly, processes that are killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import job_service, spinnaker_cloud
from tests.deploy.cloud import COLLAB, TOKEN, Cloud, Fault
from tests.deploy.conftest import Deploy, check_failure, results_of, state_of, wait_for, when
from tests.deploy.in_cloud import check_secret, check_whole, cloud, lines, resume, send, start

__all__ = ["cloud", "resume", "send"]


BIG = 3_000_000


@pytest.mark.parametrize("what", ["drop before", "drop after", "cut", "slow", "garbage", (503, "<html>no</html>"), (429, "")])
@pytest.mark.parametrize("kind", ["submit", "log", "job", "output"])
def test_a_fault_at_each_request(
    cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: Any
) -> None:
    for name in ("READ_SECONDS", "SUBMIT_SECONDS"):
        monkeypatch.setattr(job_service, name, 0.5 if what == "slow" else 5.0)
    cloud.faults = [Fault(kind, what)]
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out", "--", "--size", "200000")
    assert code == 0, err
    assert cloud.faults[0].seen >= 1
    check_whole(cloud, tmp_path / "out", size=200000)
    check_secret(tmp_path, err)
    if kind == "submit":
        assert cloud.count("submit") == (2 if what == "drop before" or isinstance(what, tuple) else 1)


@pytest.mark.parametrize("what", ["drop before", "drop after", "cut", "garbage", (502, "bad gateway")])
def test_a_fault_at_the_first_request(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, what: Any) -> None:
    cloud.faults = [Fault("userinfo", what)]
    check_failure(send(quick_spinnaker, "-o", tmp_path / "out"), "NC520")
    assert not (tmp_path / "out").exists()
    assert cloud.count("submit") == 0
    assert send(quick_spinnaker, "-o", tmp_path / "out")[0] == 0
    check_whole(cloud, tmp_path / "out")


def test_faults_at_all_requests_one_after_the_other(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """Each kind of request fails at its second time, too, and at the one that follows a fault."""
    kinds = ("userinfo", "find", "submit", "log", "job", "output")
    cloud.faults = [Fault(k, w, after=n) for k in kinds for n, w in ((1, "drop before"), (2, "garbage"), (3, "cut"))]
    cloud.faults += [Fault("submit", "drop after"), Fault("output", "cut")]
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out", "--", "--lines", "40", "--size", "100000")
    assert code == 0, err
    check_whole(cloud, tmp_path / "out", size=100000)


def test_a_job_that_is_found_late(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """The answer to the submission is lost, and the service writes the job's tag only a while later: it is looked for more than once."""
    cloud.faults, cloud.late = [Fault("submit", "drop after")], 0.3
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out")
    assert code == 0, err
    assert cloud.count("submit") == 1
    check_whole(cloud, tmp_path / "out")


def test_a_service_that_does_not_look_at_tags(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    cloud.hold = True
    others = [cloud.accept({"code": "import a", "collab": COLLAB, "hardware_platform": "SpiNNaker", "tags": ["mine"]}) for _ in range(150)]
    cloud.hold, cloud.tags_work = False, False
    cloud.faults = [Fault("submit", "drop after")]
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out")
    assert code == 0, err
    assert cloud.count("submit") == 1
    assert len(cloud.jobs) == len(others) + 1
    assert int(state_of(tmp_path / "out")["job"]) == max(cloud.jobs)


def test_a_job_that_was_submitted_twice_nevertheless(
    cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    """The first submission was so late that no look found it: the younger job is taken off the queue as soon as both are seen."""
    out = tmp_path / "out"
    cloud.hold, cloud.faults, cloud.late = True, [Fault("submit", "drop after")], 1.5
    code, _, err = send(quick_spinnaker, "--detach", "-o", out)
    assert code == 0, err
    assert len(cloud.bodies) == 2
    (out / "deploy.json").write_text(json.dumps(state_of(out) | {"phase": "ready", "job": None}))
    wait_for(lambda: len([j for j in cloud.jobs.values() if j["visible"] < spinnaker_cloud.time.monotonic()]) == 2, "both are visible")
    code, _, err = resume(out, "--detach")
    assert code == 0, err
    assert cloud.deleted == [140001]
    assert (list(cloud.jobs), state_of(out)["job"]) == ([140000], "140000")
    cloud.run(140000)
    assert resume(out)[0] == 0
    check_whole(cloud, out)


@pytest.mark.parametrize("ranges", [True, False])
def test_results_that_break_off_again_and_again(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, ranges: bool) -> None:
    cloud.ranges, cloud.faults = ranges, [Fault("output", "cut", times=2)]
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out", "--", "--size", str(BIG))
    assert code == 0, err
    assert cloud.count("output") == 3
    check_whole(cloud, tmp_path / "out", size=BIG)


def test_results_that_differ(cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
    (number,) = cloud.jobs
    wait_for(lambda: cloud.jobs[number]["status"] == "finished", "the job ends")
    file = cloud.work(number) / "results.npz"
    for wrong in (bytes(1000), bytes(999), bytes(5000), b""):
        file.write_bytes(wrong)
        assert "fetch it with" in check_failure(resume(out), "NC527")
        assert not (out / "results.npz").exists()
    file.unlink()
    assert "404" in check_failure(resume(out), "NC530")
    file.write_bytes(results_of(1))
    assert resume(out)[0] == 0
    check_whole(cloud, out)


def test_jobs_that_end_without_a_word(cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """The executor died, the job was removed by its platform, or by somebody in the web interface."""
    cloud.hold = True
    for number, status in enumerate(("error", "finished", "removed", None)):
        out = tmp_path / f"out{number}"
        assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
        job = max(cloud.jobs)
        if status is None:
            del cloud.jobs[job]
        else:
            cloud.jobs[job] |= {"status": status, "log": "Error:\n\tat JobProcessManager.java\n" if status == "error" else None}
        err = check_failure(resume(out), "NC526")
        assert f"job {job}: {status or 'REMOVED'}" in err
        if status == "error":
            assert "JobProcessManager.java" in err


def test_a_program_that_arrives_damaged(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    accept = cloud.accept
    cloud.accept = lambda body: accept(body | {"code": body["code"].replace('ARCHIVE = """\nUEsD', 'ARCHIVE = """\nUEsE')})  # type: ignore[method-assign]
    assert "arrived damaged" in check_failure(send(quick_spinnaker, "-o", tmp_path / "out"), "NC526")


def test_a_log_that_begins_again(cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """The executor's server was restarted, and sends another log: what there was is kept under another name."""
    out = tmp_path / "out"
    cloud.hold = True
    assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
    (number,) = cloud.jobs
    first = "".join(f"before the restart {n}\n" for n in range(100))
    cloud.jobs[number]["log"] = first
    thread = when(lambda: (out / "log.txt").exists() and (out / "log.txt").read_text() == first,
                  lambda: (cloud.jobs[number].update(log=None), cloud.run(number)))  # fmt: skip
    code, _, err = resume(out)
    thread.join()
    assert code == 0, err
    assert "the log begins again" in err
    assert (out / "log.1.txt").read_text() == first
    assert (out / "log.txt").read_text() == cloud.jobs[number]["log"]
    assert (out / "results.npz").read_bytes() == results_of(1)


KILLED_AT: dict[str, tuple[Fault | None, Callable[[Cloud, Path], Any]]] = {
    "before the job is submitted": (Fault("submit", "drop before", times=99), lambda cloud, out: cloud.count("submit")),
    "before the job's number is known": (Fault("submit", "slow"), lambda cloud, out: cloud.jobs),
    "in the log": (None, lambda cloud, out: lines(out) > 3),
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_and_resumed(cloud: Cloud, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    fault, condition = KILLED_AT[moment]
    cloud.faults, cloud.slow_seconds = [] if fault is None else [fault], 30.0
    process = start(cloud, quick_spinnaker, "-o", out, "--", "--wait", "--lines", "20")
    wait_for(lambda: condition(cloud, out), moment)
    argv = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.kill()
    printed = process.communicate()
    assert b"deploy" in argv
    assert TOKEN.encode() not in argv
    assert not (out / "results.npz").exists()
    cloud.faults = []
    thread = when(lambda: cloud.jobs and lines(out) > 3, cloud.let_go)
    code, answer, err = resume(out)
    thread.join()
    assert code == 0, err
    assert len(cloud.bodies) == 1
    check_whole(cloud, out)
    check_secret(tmp_path, *printed, answer, err)


def test_ctrl_c_leaves_the_job_alone(cloud: Cloud, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(cloud, quick_spinnaker, "-o", out, "--", "--wait")
    wait_for(lambda: lines(out) > 2, "the log")
    process.send_signal(signal.SIGINT)
    answer, err = process.communicate(timeout=20)
    assert (process.returncode, answer) == (130, "")
    for words in ("the job goes on", f"neurocompile deploy --resume -o {out}", f"neurocompile deploy --cancel -o {out}"):
        assert words in err
    assert "Traceback" not in err
    cloud.let_go()
    assert resume(out)[0] == 0
    check_whole(cloud, out)


def test_patience_ends_and_resume_goes_on(cloud: Cloud, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def break_down() -> None:
        cloud.faults = [Fault(kind, "drop before", times=10**6) for kind in ("log", "job", "userinfo")]

    thread = when(lambda: lines(out) > 0, break_down)
    err = check_failure(
        command(quick_spinnaker, *cloud.options(), "--poll", "0.05", "--patience", "0.01", "-o", out, "--", "--wait"), "NC523"
    )
    thread.join()
    assert "the job goes on" in err
    assert f"--resume -o {out}" in err
    check_failure(resume(out), "NC520")
    cloud.faults = []
    cloud.let_go()
    assert resume(out)[0] == 0
    check_whole(cloud, out)


def test_nonsense_is_believed_in_the_end(
    cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_service, "MOST_ODD", 3)
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
    for body in ("", "[]", "7", '{"id": "x", "status": 3}', '{"id": 1}', '{"id": 1, "status": "finished", "tags": 5}', "[" * 10**5):
        cloud.faults = [Fault("job", (200, body), times=99)]
        check_failure(resume(out), "NC530")
    cloud.faults = [Fault("log", (200, '{"a": 1}'), times=99)]
    check_failure(resume(out), "NC530")
    cloud.faults = []
    assert resume(out)[0] == 0
    check_whole(cloud, out)


def test_cancelling(cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    cloud.hold = True
    assert send(quick_spinnaker, "--detach", "-o", tmp_path / "a")[0] == 0
    (number,) = cloud.jobs
    assert "its state was submitted" in send("--cancel", "-o", tmp_path / "a")[1]
    assert (cloud.deleted, cloud.jobs) == ([number], {})
    check_failure(resume(tmp_path / "a"), "NC526")
    assert "its state was NONE" in send("--cancel", "-o", tmp_path / "a")[1]
    cloud.hold = False
    out = tmp_path / "b"
    assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
    (number,) = cloud.jobs
    wait_for(lambda: cloud.jobs[number]["status"] == "running", "the job runs")
    assert f"job {number} is running" in check_failure(send("--cancel", "-o", out), "NC525")
    cloud.let_go()
    assert resume(out)[0] == 0
    assert (out / "results.npz").read_bytes() == results_of(1)
    assert "its state was ENDED" in send("--cancel", "-o", out)[1]


def test_cancelling_before_and_while_the_job_is_submitted(
    cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path
) -> None:
    out, cloud.quota, cloud.hold = tmp_path / "a", False, True
    check_failure(send(quick_spinnaker, "-o", out), "NC525")
    assert "its state was NONE" in send("--cancel", "-o", out)[1]
    cloud.quota = True
    assert "was cancelled before it began" in check_failure(resume(out), "NC526")
    assert cloud.jobs == {}
    cloud.faults, cloud.slow_seconds, out = [Fault("submit", "slow")], 1.0, tmp_path / "b"
    process = start(cloud, quick_spinnaker, "-o", out, "--")
    wait_for(lambda: cloud.jobs, "the job is there, its number not yet known")
    (out / "cancelled").touch()
    assert process.wait(timeout=30) == 5
    assert cloud.jobs == {}
    process.communicate()


def test_what_cannot_be_resumed(cloud: Cloud, send: Deploy, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
    whole = (out / "deploy.json").read_bytes()
    job = str(next(iter(cloud.jobs))).encode()
    for text in (whole.replace(b"spinnaker-cloud", b"spinnaker-clown"), whole.replace(b'"collab"', b'"collap"'),
                 whole.replace(b'"' + job, b'"../' + job), whole.replace(b'"' + job + b'"', b'"-1"')):  # fmt: skip
        assert text != whole
        (out / "deploy.json").write_bytes(text)
        check_failure(resume(out), "NC721")
    (out / "deploy.json").write_bytes(whole.replace(b'"http://127.0.0.1', b'"http://example.org'))
    check_failure(resume(out), "NC160")  # a token is not sent where a changed file says, over http
    (out / "deploy.json").write_bytes(whole)
    check_failure(command("--resume", "-o", out, "--collab", "another"), "NC711")
    check_failure(command("--resume", "-o", out, "--to", "inrc"), "NC711")
    check_failure(command("--resume", "-o", out, "--host", "h"), "NC160")
    cloud.let_go()
    assert resume(out, "--to", "spinnaker-cloud", "--service", f"{cloud.url}/")[0] == 0
    check_whole(cloud, out)
