"""The login of a new spalloc server, of which there is a stand-in alone: what sPyNNaker's client asks of it first."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.deploy.boards import at_home, check_whole, end_programs, resume, the_run
from tests.deploy.conftest import QUICK, Deploy, check_failure, replace_program, state_of, wait_for

__all__ = ["at_home", "resume"]
PASSWORD = "correct-horse-that-must-not-be-seen-91c2"
TOKEN = "eyJ-bearer-that-must-not-be-seen-55aa"


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
    wait_for((the_run(out) / "started").exists, "the program runs")
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
