"""A job service on loopback: as EBRAINS' own (version 3) answers by its public source, faults of that included, with Manchester's executor.

- ``GET /jobs/ID/log``, and a job ``with_log=true``, are an error 500 until the job has a log.
- A job's ``path`` of an output file lacks letters at its beginning: the service strips a set of characters where it means a prefix.
- The executor writes code that says ``import`` to run.py, whatever the job's ``command``, and runs it with the argument ``spiNNaker``;
  what is new in its folder afterwards is output. It sends the whole log each time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "eyJ-a-token-that-must-not-be-seen-anywhere-7f3a"
USER = "hodgkin"
COLLAB = "my-collab"


@dataclass
class Fault:
    """Something that goes wrong at a request: ``times`` requests of a kind, behind ``after`` good ones.

    what : ``drop before`` (nothing is done), ``drop after`` (it is done, but no answer comes), ``cut`` (half an answer), ``slow``,
    ``garbage``, or a status with a body.
    """

    kind: str
    what: str | tuple[int, str]
    times: int = 1
    after: int = 0
    seen: int = 0


@dataclass
class Cloud:
    """The service and what it has."""

    folder: Path
    ranges: bool = False
    """Whether outputs can be had in parts."""
    hold: bool = False
    """Jobs stay in the queue."""
    tags_work: bool = True
    late: float = 0.0
    """Seconds that a job is found only after: its tags are written last."""
    quota: bool = True
    slow_seconds: float = 1.0
    configuration: str = "[Machine]\nremote_spinnaker_url = http://manager.invalid/\nversion = 5\n"
    """What the executor writes to spynnaker.cfg."""
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(kind, method, path with query, Authorization)"""
    deleted: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    outputs_elsewhere: Callable[[str], str] = lambda url: url
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        cloud = self

        class Handler(_Handler):
            pass

        Handler.cloud = cloud
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join()

    def options(self) -> list[str]:
        """Options of `deploy` that lead here."""
        return ["--to", "spinnaker-cloud", "--collab", COLLAB, "--service", self.url, "--userinfo", f"{self.url}/userinfo"]

    def count(self, kind: str) -> int:
        return sum(request[0] == kind for request in self.requests)

    def work(self, number: int) -> Path:
        return self.folder / f"job{number}"

    def let_go(self) -> None:
        """Let a program that waits (QUICK with --wait) go on."""
        (self.work(min(self.jobs)) / "go").touch()

    def fault(self, kind: str) -> Fault | None:
        """The fault that this request has."""
        with self._lock:
            for fault in self.faults:
                if fault.kind == kind:
                    fault.seen += 1
                    if fault.after < fault.seen <= fault.after + fault.times:
                        return fault
        return None

    def accept(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a job into the queue."""
        with self._lock:
            number = 140000 + len(self.jobs) + len(self.deleted)
            job = {
                "id": number, "user_id": USER, "status": "submitted", "timestamp_submission": "2026-11-01T10:00:00Z", "code": body["code"],
                "command": body.get("command"), "collab": body["collab"], "hardware_platform": body["hardware_platform"],
                "hardware_config": body.get("hardware_config"), "tags": body.get("tags") or [], "input_data": None, "output_data": None,
                "resource_uri": f"/jobs/{number}", "log": None, "comments": None, "visible": time.monotonic() + self.late,
            }  # fmt: skip
            self.jobs[number] = job
            self.bodies.append(body)
        if not self.hold:
            self.run(number)
        return job

    def run(self, number: int) -> None:
        """Let the executor have a job."""
        thread = threading.Thread(target=self._execute, args=(self.jobs[number],), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _execute(self, job: dict[str, Any]) -> None:
        job["status"] = "validated"
        work = self.work(job["id"])
        work.mkdir(parents=True)
        assert "import" in job["code"]
        assert not job["code"].strip().startswith("http")
        (work / "run.py").write_text(job["code"], encoding="utf-8")
        (work / "spynnaker.cfg").write_text(self.configuration)
        existing = {p for p in work.rglob("*") if p.is_file()}
        job["status"] = "running"
        process = subprocess.Popen(
            [sys.executable, "run.py", "spiNNaker"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                job["log"] = (job["log"] or "") + line
        code = process.wait()
        files = [p for p in sorted(work.rglob("*")) if p.is_file() and p not in existing and p.suffix != ".pyc"]
        urls = [self.outputs_elsewhere(f"{self.url}/output/{COLLAB}/{job['id']}/{p.relative_to(work).as_posix()}") for p in files]
        prefix = f"{self.url}/output/"
        job["output_data"] = {
            "repository": "SpiNNaker Manchester temporary storage",
            "files": [{"url": url, "path": url.lstrip(prefix), "content_type": None, "size": None, "hash": None} for url in urls],
        }
        if code:
            trace = f"java.lang.Exception: Python exited with a non-zero code ({code})\n\tat PyNNJobProcess.execute(PyNNJobProcess.java)\n"
            job["log"] = (job["log"] or "") + trace
        job["status"] = "error" if code else "finished"


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(OSError):  # clients that hang up
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _kind(self, method: str) -> str:
        parts = [p for p in urlsplit(self.path).path.split("/") if p]
        if parts[:1] == ["jobs"]:
            if method == "POST":
                return "submit"
            if method == "DELETE":
                return "delete"
            return "find" if len(parts) == 1 else "log" if parts[2:] == ["log"] else "job"
        return parts[0] if parts else "about"

    def _serve(self, method: str) -> None:
        cloud, kind = self.cloud, self._kind(method)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cloud.requests.append((kind, method, self.path, self.headers.get("Authorization", "")))
        fault = cloud.fault(kind)
        what = None if fault is None else fault.what
        if what == "drop before":
            self._hang_up()
            return
        if isinstance(what, tuple):
            self._answer(what[0], what[1].encode(), "text/html")
            return
        status, answer = self._answers(method, kind, body)
        if what == "drop after":
            self._hang_up()
        elif what == "slow":
            time.sleep(cloud.slow_seconds)
            with suppress(OSError):
                self._answer(status, answer)
        elif what == "garbage":
            self._answer(status, b'{"id": 14, "status": "fini')
        else:
            self._answer(status, answer, cut=what == "cut")

    def _answers(self, method: str, kind: str, body: bytes) -> tuple[int, bytes]:
        if kind == "output":
            return self._output()
        if kind == "about":
            return 200, json.dumps({"about": "This is the EBRAINS Neuromorphic Computing Job Queue API.", "version": "3"}).encode()
        given = self.headers.get("Authorization", "")
        if given != f"Bearer {TOKEN}":
            if kind == "userinfo":
                return 401, json.dumps({"error": "invalid_token", "error_description": f"Token verification failed: {given}"}).encode()
            return 500, b"Internal Server Error"  # it asks the place of identities, and does not catch its error
        status, found = getattr(self, f"_{kind}")(method, body)
        return status, json.dumps(found).encode()

    def _userinfo(self, _method: str, _body: bytes) -> tuple[int, Any]:
        return 200, {"sub": "1-2-3", "preferred_username": USER, "roles": {"team": [f"collab-{COLLAB}-editor"]}}

    def _submit(self, _method: str, body: bytes) -> tuple[int, Any]:
        found = json.loads(body)
        if found["collab"] != COLLAB:
            return 404, {"detail": "You do not have access to this collab or there is no collab with this id"}
        if not self.cloud.quota:
            return 403, {"detail": "You do not have sufficient compute quota to submit this job"}
        return 201, self._shown(self.cloud.accept(found))

    def _find(self, _method: str, _body: bytes) -> tuple[int, Any]:
        query = parse_qs(urlsplit(self.path).query)
        found = [j for j in self.cloud.jobs.values() if time.monotonic() >= j["visible"]]
        if self.cloud.tags_work and "tags" in query:
            found = [j for j in found if set(j["tags"]) & set(query["tags"])]
        if "status" in query:
            found = [j for j in found if j["status"] in query["status"]]
        if query.get("user_id", [USER]) != [USER]:
            return 403, {"detail": "User id provided does not match authentication token"}
        return 200, [self._shown(j) for j in found[: int(query.get("size", ["10"])[0])]]

    def _number(self) -> int:
        return int(urlsplit(self.path).path.split("/")[2])

    def _job(self, _method: str, _body: bytes) -> tuple[int, Any]:
        job = self.cloud.jobs.get(self._number())
        if job is None:
            return 404, {"detail": "Either there is no job with that id, or you do not have access to it"}
        with_log = parse_qs(urlsplit(self.path).query).get("with_log") == ["true"]
        if with_log and job["log"] is None:
            return 500, "Internal Server Error"
        return 200, self._shown(job, with_log=with_log)

    def _log(self, _method: str, _body: bytes) -> tuple[int, Any]:
        job = self.cloud.jobs.get(self._number())
        if job is None:
            return 404, {"detail": "Either there is no job with that id, or you do not have access to it"}
        return (500, "Internal Server Error") if job["log"] is None else (200, job["log"])

    def _delete(self, _method: str, _body: bytes) -> tuple[int, Any]:
        job = self.cloud.jobs.pop(self._number(), None)
        if job is None:
            return 404, {"detail": "Either there is no job with that id, or you do not have access to it"}
        self.cloud.deleted.append(job["id"])
        return 200, None

    @staticmethod
    def _shown(job: dict[str, Any], *, with_log: bool = False) -> dict[str, Any]:
        return {**job, "log": job["log"] if with_log else None}

    def _output(self) -> tuple[int, bytes]:
        _, _, _, number, name = urlsplit(self.path).path.split("/", 4)
        file = self.cloud.work(int(number)) / name
        if not file.is_file():
            return 404, b"Results from the job have been removed"
        return 200, file.read_bytes()

    def _answer(self, status: int, body: bytes, kind: str = "application/json", *, cut: bool = False) -> None:
        wanted = self.headers.get("Range", "")
        extra = {}
        if self._kind(self.command) == "output" and self.cloud.ranges and wanted.startswith("bytes=") and status == 200:
            start = int(wanted[len("bytes=") : -1])
            if start >= len(body):
                status, body = 416, b""
            else:
                extra["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[start:]
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
