"""Fixtures and helpers of the tests that deploy to a job service on loopback (`cloud.py`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import job_service, spinnaker_cloud
from tests.deploy.cloud import TOKEN, Cloud
from tests.deploy.conftest import Deploy, results_of, state_of


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A service, and a token for it in the environment; HOME is a folder that stays empty."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EBRAINS_TOKEN", TOKEN)
    monkeypatch.delenv("CLB_AUTH", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job_service, "READ_SECONDS", 5.0)
    monkeypatch.setattr(job_service, "SUBMIT_SECONDS", 5.0)
    monkeypatch.setattr(spinnaker_cloud, "SEARCH_SECONDS", 0.1)
    found = Cloud(tmp_path / "cloud")
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def send(cloud: Cloud, command: Deploy) -> Deploy:
    """Deploy to the service."""

    def go(*words: str | Path) -> tuple[int, str, str]:
        place = words.index("--") if "--" in words else len(words)
        return command(*words[:place], *cloud.options(), "--poll", "0.05", "--patience", "0.5", *words[place:])

    return go


@pytest.fixture
def resume(command: Deploy) -> Deploy:
    """Go on with a folder."""
    return lambda folder, *more: command("--resume", "-o", folder, "--poll", "0.05", "--patience", "0.5", *more)


def check_whole(cloud: Cloud, out: Path, *, steps: int = 1, size: int = 1000) -> None:
    """One job ran once; log and results are here, whole, and nothing else is; the token is on no disk."""
    (number,) = cloud.jobs
    assert (cloud.work(number) / "started").read_text() == "once"
    assert (out / "log.txt").read_text() == cloud.jobs[number]["log"]
    assert (out / "results.npz").read_bytes() == results_of(steps, size)
    assert {p.name for p in out.iterdir()} == {"deploy.json", "log.txt", "results.npz", ".lock"}
    assert state_of(out)["phase"] == "done"
    check_secret(out.parent)


def check_secret(folder: Path, *printed: str) -> None:
    """The token is in no file of a folder, HOME included, and in nothing that was printed."""
    written = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert written
    assert [p for p in written if TOKEN.encode() in p.read_bytes()] == []
    assert [p for p in written if TOKEN in p.name] == []
    assert not any(TOKEN in text for text in printed)


def start(cloud: Cloud, *words: Any) -> subprocess.Popen[str]:
    """Run `deploy` in a process of its own."""
    place = words.index("--")
    options = [*cloud.options(), "--poll", "0.05"]
    command = [sys.executable, "-m", "neurocompile", "deploy", *map(str, words[:place]), *options, *map(str, words[place:])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(out: Path) -> int:
    log = out / "log.txt"
    return log.read_bytes().count(b"\n") if log.exists() else 0
