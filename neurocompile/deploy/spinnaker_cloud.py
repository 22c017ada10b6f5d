"""The destination ``spinnaker-cloud``: SpiNNaker in Manchester, by batch jobs of EBRAINS (unverified there: docs/deploy.md).

The build travels inside the job's script (`payload.py`). One job a run: it carries the run's name as a tag, which is looked for before a
submission whose answer was lost is repeated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from neurocompile.deploy import payload
from neurocompile.deploy.destination import Ended, Order, Progress, Seen
from neurocompile.deploy.job_service import JobService, check_url, file_name, is_loopback
from neurocompile.deploy.state import STATE
from neurocompile.deploy.tokens import Source
from neurocompile.ir.errors import DoesNotFitError, InputError, NeurocompileError, SdkMissingError

SERVICE = "https://nmpi-v3.hbpneuromorphic.eu"
USERINFO = "https://iam.ebrains.eu/auth/realms/hbp/protocol/openid-connect/userinfo"
TOKEN = Source(variables=("EBRAINS_TOKEN", "CLB_AUTH"), service="neurocompile-ebrains", user="token")
PLATFORM = "SpiNNaker"
MOST_BYTES = 64 << 20
"""Of the script: the service sends it along with each of its answers about the job."""
SEARCHES, SEARCH_SECONDS = 5, 2.0
"""Looks for a job whose submission got no answer, before it is submitted again, and the time between them."""
_SECONDS_PER_BYTE = 1e-6
"""The service is asked no more often than this allows, for each of its answers about a job holds the script, or the whole log."""
_COLLAB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """Which service and which collab; all of it ends up in the state file, so none of it may be a secret."""

    OPTIONS: ClassVar = {"collab": "collab", "hours": "hours", "service": "service", "userinfo": "userinfo"}
    """Option -> field."""
    WAY_THERE: ClassVar = ("service", "userinfo")

    collab: str
    hours: int | None = None
    service: str = SERVICE
    userinfo: str = USERINFO

    def __post_init__(self) -> None:
        if not isinstance(self.collab, str) or not _COLLAB.fullmatch(self.collab):
            raise InputError.of(
                "NC160",
                f"--collab {self.collab!r} is not a collab",
                help="the last part of its address: wiki.ebrains.eu/bin/view/Collabs/NAME",
            )
        check_url("--service", self.service)
        check_url("--userinfo", self.userinfo)

    @classmethod
    def of_options(cls, given: Mapping[str, Any]) -> CloudSettings:
        """Settings of the command's options that were given (InputError NC160)."""
        if given.get("collab") is None:
            raise InputError.of("NC160", "--collab is needed", help="the collab that has a quota for SpiNNaker")
        found = dict(given)
        for name in ("service", "userinfo"):
            if name in found:
                found[name] = check_url(f"--{name}", found[name])
        return cls(**found)

    @property
    def place(self) -> str:
        """Name in messages."""
        return urlsplit(self.service).netloc

    def as_json(self) -> dict[str, Any]:
        """Return the settings for the state file."""
        return asdict(self)

    def confirm(self, given: Collection[str], *, begun: bool) -> None:  # noqa: ARG002
        """InputError NC160 if the token would go to a service that only the state file names, which may be somebody else's."""
        for name, own in (("service", SERVICE), ("userinfo", USERINFO)):
            url = getattr(self, name)
            if url != own and name not in given and not is_loopback(url):
                raise InputError.of(
                    "NC160",
                    f"{STATE} names {url}, which is not EBRAINS': your token would go there",
                    help=f"--{name} {url}, if you trust it; else --{name} with another",
                )


class SpinnakerCloud:
    """See `Destination`."""

    def __init__(self, settings: CloudSettings) -> None:
        self.settings, self.place = settings, settings.place
        self._service = JobService(settings.service, settings.userinfo, TOKEN)
        self._script: tuple[str, str] | None = None
        self._in_doubt = True
        """Whether an earlier submission may have arrived."""
        self._ask_again = self._read_again = 0.0

    def connect(self) -> None:
        """Ask whose the token is."""
        self._service.log_in()

    def close(self) -> None:
        """Forget the token."""
        self._service.close()

    def prepare(self, order: Order) -> str:
        """Pack the build; nothing is sent yet."""
        text = self._packed(order)
        self._in_doubt = False
        return f"packed, {len(text):,} bytes"

    def submit(self, order: Order) -> str:
        """Submit the job unless that was done."""
        tag = tag_of(order.run)
        if self._in_doubt:
            for look in range(SEARCHES):
                if look:
                    time.sleep(SEARCH_SECONDS)
                found = self._service.find(tag)
                if found:
                    return self._one_of(found)
        job = self._job(order)
        self._in_doubt, doubted = True, self._in_doubt
        number = self._service.submit(job)
        return self._one_of(self._service.find(tag) or [{"id": number, "status": ""}]) if doubted else str(number)

    def follow(self, run: str, job: str, seen: Seen, *, ask: bool) -> Progress:
        """Look at the log; at the job too, if asked or if the log says that the program has ended."""
        number = _number(job)
        if time.monotonic() < self._read_again:
            return Progress(state="", log=b"", more=False, ended=None, gone=None)
        text = self._service.log(number)
        self._read_again = time.monotonic() + _SECONDS_PER_BYTE * len(text or "")
        end = _end_of(run, text)
        state, ended, gone = "", None, None
        if end is not None or (ask and time.monotonic() >= self._ask_again):
            found = self._service.job(number)
            state = "REMOVED" if found is None else str(found["status"])
            size = 0 if found is None else len(str(found.get("code", "")))
            self._ask_again = time.monotonic() + _SECONDS_PER_BYTE * size
            if state in {"finished", "error"} and end is None:  # it may have ended since the log was read
                text = self._service.log(number)
                end = _end_of(run, text)
            if end is not None and (state in {"finished", "error"} or end.exit_code):
                ended = Ended(exit_code=end.exit_code, state=state, results=end.results)
            elif state in {"finished", "error", "removed", "REMOVED"}:
                gone = Ended(exit_code=None, state=state, results=None, message=_WITHOUT_END)
        news, anew = _news(text, seen)
        return Progress(state=state, log=news, more=False, ended=ended, gone=gone, anew=anew)

    def fetch(self, run: str, job: str, into: Path) -> None:  # noqa: ARG002 - the job's number is enough
        """Copy results.npz from where the service says that it is, without the token."""
        found = self._service.job(_number(job))
        data = None if found is None else found.get("output_data")
        files = data.get("files") if isinstance(data, dict) else None
        urls = [f["url"] for f in files or () if isinstance(f, dict) and isinstance(f.get("url"), str)] if isinstance(files, list) else []
        # by their addresses: the service's own `path` lacks letters at its beginning (it strips characters, not a prefix)
        urls = sorted((url for url in urls if file_name(url) == "results.npz"), key=len)
        if not urls:
            raise self._error("NC530", f"job {job} has no results.npz among its {len(files or ())} output files")
        self._service.download(urls[0], into)

    def cancel(self, run: str, job: str | None) -> str:
        """Take the job off the queue (SdkMissingError NC525: it runs already, and the service cannot end it)."""
        found = self._service.find(tag_of(run))
        if job is not None and not any(str(j["id"]) == job for j in found):
            known = self._service.job(_number(job))
            found += [] if known is None else [known]
        states = [str(j["status"]) for j in found]
        for known in found:
            if known["status"] == "submitted":
                self._service.delete(int(known["id"]))
        if any(state in {"validated", "running", "mapped"} for state in states):
            raise self._error(
                "NC525",
                f"job {found[0]['id']} is {states[0]}: the service ends no job that has left the queue",
                help="it ends by itself; --hours limits the next one. --resume still fetches its results",
            )
        return "ENDED" if states and states[0] in {"finished", "error"} else states[0] if states else "NONE"

    def describe(self, order: Order) -> list[tuple[str, str]]:
        """Every request, in the order of their use."""
        url, tag = self.settings.service, tag_of(order.run)
        secret = f"Authorization: Bearer (of {TOKEN.variables[0]}, or of the keyring)"
        job = self._job(order)
        code, archive, _ = str(job["code"]).partition('ARCHIVE = """\n')
        job["code"] = f"SCRIPT, {len(str(job['code']))} bytes"
        body = "\n".join(f"  {name}: {value!r}" for name, value in job.items())
        return [
            ("whose the token is", f"GET {self.settings.userinfo}\n{secret}"),
            ("after a lost answer, and for --cancel: the job with the run's tag", f"GET {url}/jobs/?tags={tag}&size=100\n{secret}"),
            ("submit", f"POST {url}/jobs/\n{secret}\n{body}"),
            ("SCRIPT", f"{code}{archive}(the packed files in base 64)"),
            ("log, again and again", f"GET {url}/jobs/JOB/log\n{secret}"),
            ("state, at every fifth look", f"GET {url}/jobs/JOB?with_log=false&with_comments=false\n{secret}"),
            ("results.npz, without the token", "GET the address in output_data of the job"),
            ("--cancel, while the job waits", f"DELETE {url}/jobs/JOB\n{secret}"),
        ]

    def places(self, order: Order) -> dict[str, Path]:
        """Files in the script's archive."""
        return {**order.files, **{f"inputs/{name}": path for name, path in order.inputs.items()}}

    def _packed(self, order: Order) -> str:
        if self._script is None or self._script[0] != order.run:
            arguments = ["--ebrains", *order.args, "--out", "results.npz"]
            text = payload.script(order, arguments, payload.archive(order))
            if len(text) > MOST_BYTES:
                raise DoesNotFitError.of(
                    "NC531", f"{self.place}: the script with the packed build has {len(text):,} bytes, more than {MOST_BYTES:,}"
                )
            self._script = (order.run, text)
        return self._script[1]

    def _job(self, order: Order) -> dict[str, Any]:
        """The job as the service's client would send it."""
        job: dict[str, Any] = {"command": "run.py {system}", "hardware_platform": PLATFORM, "collab": self.settings.collab}
        job["code"] = self._packed(order)
        if self.settings.hours is not None:
            job["hardware_config"] = {"timeout": self.settings.hours}
        job["tags"] = [tag_of(order.run)]
        return job

    def _one_of(self, jobs: list[dict[str, Any]]) -> str:
        """Keep the oldest of the jobs with one tag; take the others off the queue."""
        for extra in jobs[1:]:
            if extra["status"] == "submitted":
                self._service.delete(int(extra["id"]))
        return str(jobs[0]["id"])

    def _error(self, code: str, message: str, *, help: str | None = None) -> NeurocompileError:
        return SdkMissingError.of(code, f"{self.place}: {message}", help=help)


_WITHOUT_END = "its log has no line that says how the program ended"


@dataclass(frozen=True, slots=True)
class _End:
    exit_code: int
    results: tuple[int, str] | None


def _number(job: str) -> int:
    """A job's number, as it stands in the state file (InputError NC721)."""
    if not (job.isascii() and job.isdigit() and len(job) < 20):
        raise InputError.of("NC721", f"{STATE} has a job {job!r}, which no job service has")
    return int(job)


def tag_of(run: str) -> str:
    """The tag of a run's job."""
    return f"neurocompile-{run}"


def _end_of(run: str, text: str | None) -> _End | None:
    """How the program ended, if its log says so."""
    found = list(payload.end_line(run).finditer(text or ""))
    if not found:
        return None
    code, digest, size = found[-1].groups()
    return _End(int(code), None if digest is None else (int(size), digest))


def _news(text: str | None, seen: Seen) -> tuple[bytes, bool]:
    """What a log has behind what has been seen, and whether it is another log: it does not go on where the one that was seen ended."""
    whole = (text or "").encode("utf-8", "replace")
    if not whole:
        return b"", False
    if len(whole) >= seen.offset and whole[seen.offset - len(seen.tail) : seen.offset] == seen.tail:
        return whole[seen.offset :], False
    return whole, True
