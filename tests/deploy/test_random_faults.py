"""Faults in any number and order, drawn at random: a deployment to the cloud comes to its end, or says why not and goes on later, and its
program runs once. NC_DEPLOY_EXAMPLES=200 draws many."""

from __future__ import annotations

import ast
import os
import string
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.deploy import job_service, payload, spinnaker_cloud
from neurocompile.deploy.destination import Order, Seen
from neurocompile.deploy.spinnaker_cloud import _news
from neurocompile.deploy.state import RunFolder, State
from neurocompile.deploy.tokens import Secret
from neurocompile.ir.errors import InputError
from tests.deploy.cloud import TOKEN, Cloud, Fault
from tests.deploy.conftest import Deploy, quickened, results_of, state_of

EXAMPLES = int(os.environ.get("NC_DEPLOY_EXAMPLES", "6"))
KINDS = ("userinfo", "find", "submit", "log", "job", "output")
WHATS: tuple[Any, ...] = (
    "drop before",
    "drop after",
    "cut",
    "garbage",
    (500, "Internal Server Error"),
    (503, ""),
    (200, "[]"),
    (429, "wait"),
)
faults = st.builds(Fault, kind=st.sampled_from(KINDS), what=st.sampled_from(WHATS), times=st.integers(1, 3), after=st.integers(0, 3))
relaxed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@relaxed
@given(drawn=st.lists(faults, max_size=8), ranges=st.booleans(), late=st.sampled_from([0.0, 0.3]))
def test_any_faults(
    spinnaker_build: Path, command: Deploy, tmp_path_factory: pytest.TempPathFactory, drawn: list[Fault], ranges: bool, late: float
) -> None:
    folder = tmp_path_factory.mktemp("faults")
    build, out = quickened(spinnaker_build, folder / "quick"), folder / "out"
    for fault in drawn:
        fault.seen = 0  # an example may be tried again
    cloud = Cloud(folder / "cloud", ranges=ranges, faults=drawn, late=late)
    patch = pytest.MonkeyPatch()
    try:
        patch.setenv("HOME", str(folder))
        patch.setenv("EBRAINS_TOKEN", TOKEN)
        patch.setattr(job_service, "READ_SECONDS", 5.0)
        patch.setattr(spinnaker_cloud, "SEARCH_SECONDS", 0.1)
        quick = ["--poll", "0.05", "--patience", "0.02"]
        for _ in range(40):
            words = ["--resume", "-o", out] if (out / "deploy.json").exists() else [build, *cloud.options(), "-o", out]
            code, _, err = command(*words, *quick, *(["--", "--size", "50000"] if words[0] == build else []))
            assert code in {0, 5}, err
            assert "Traceback" not in err
            assert TOKEN not in err
            if code == 0:
                break
        assert code == 0, err
        assert (out / "results.npz").read_bytes() == results_of(1, 50000)
        assert [p.name for p in cloud.folder.iterdir()] == [f"job{state_of(out)['job']}"]  # what ran
        assert (out / "log.txt").read_text() == cloud.jobs[int(state_of(out)["job"])]["log"]
    finally:
        patch.undo()
        cloud.close()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(arguments=st.lists(st.text(st.characters(exclude_characters="\0"))), data=st.binary(max_size=200))
def test_the_script_holds_any_argument(tmp_path_factory: pytest.TempPathFactory, arguments: list[str], data: bytes) -> None:
    order = Order(run="f" * 16, digest="0" * 64, files={}, inputs={}, args=())
    text = payload.script(order, arguments, data)
    assert text.isascii()
    tree = ast.parse(text)
    values = {
        n.targets[0].id: ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }
    assert values["ARGUMENTS"] == arguments
    assert values["RUN"] == "f" * 16
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert functions == ["unpack", "result", "main"]  # nothing came in with the arguments


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pieces=st.lists(st.tuples(st.booleans(), st.text(max_size=400)), max_size=12))
def test_any_log(tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, str]]) -> None:
    """A log that grows, and at times begins again with other words: log.txt is the last, byte for byte, and each earlier one is kept."""
    folder = tmp_path_factory.mktemp("log")
    state = State(to="x", settings={}, build="b", digest="0" * 64, inputs={}, args=[], run="0" * 16)
    run = RunFolder.create(folder, state)
    log, begun, kept = "", 0, 0
    for again, piece in pieces:
        if again:
            begun += 1
            log = f"log number {begun}\n"
        log += piece
        news, anew = _news(log, run.seen)
        if anew:
            run.put_log_aside()
            kept += 1
        if news:
            run.add_log(news)
    if log:
        assert (folder / "log.txt").read_bytes() == log.encode("utf-8", "replace")
    assert len(list(folder.glob("log.*.txt"))) == kept
    assert _news(None, Seen(offset=5, tail=b"12345")) == (b"", False)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(url=st.one_of(st.text(), st.from_regex(r"(https?|ftp|file)://[a-z@:0-9.\[\]-]{0,12}(/[a-z?#@]{0,4})?", fullmatch=True)))
def test_addresses_that_are_taken_are_safe(url: str) -> None:
    try:
        taken = job_service.check_url("--service", url)
    except InputError:
        return
    parts = urlsplit(taken)
    assert parts.scheme == "https" or parts.hostname in {"127.0.0.1", "localhost", "::1"}
    assert parts.username is None
    assert parts.password is None
    assert set(taken) <= set(string.printable) - set(string.whitespace)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(secret=st.text(string.ascii_letters, min_size=8), before=st.text(), after=st.text())
def test_a_secret_is_in_no_text_that_was_hidden(secret: str, before: str, after: str) -> None:
    found = Secret(secret, "somewhere")
    assert secret not in found.hide(before + secret + after)
    assert secret not in repr(found).replace("somewhere", "")
