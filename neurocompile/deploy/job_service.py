"""EBRAINS' neuromorphic job service (version 3), as its own client `nmpi` 0.11.2 speaks to it, with timeouts, without files.

Why not that client: docs/deploy.md; tests/deploy/test_nmpi.py runs it against the same service as this. The token goes to the service and
to the place that says whose it is (userinfo), nowhere else: not to where results lie, not along redirections.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from neurocompile.deploy.destination import ConnectionLost
from neurocompile.deploy.tokens import Secret, Source
from neurocompile.ir.errors import DoesNotFitError, InputError, NeurocompileError, SdkMissingError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS, READ_SECONDS, SUBMIT_SECONDS = 20.0, 60.0, 300.0
"""To reach the service, between two pieces of an answer, and for the answer to a submission, which may be large (the service's limit)."""
MOST_ODD = 5
"""Answers in a row that make no sense, before that is believed."""
_MOST_BYTES = 1 << 28
_PIECE = 1 << 16
_MESSAGE = 500
_WAITING = ("submitted", "validated", "running")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_url(option: str, url: str) -> str:
    """Return an address without a slash at its end, if a token can be sent there (InputError NC160): https, or http on this machine."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise InputError.of("NC160", f"{option} {url!r} is not an address") from None
    if "@" in parts.netloc:  # a password may stand before it: not shown
        raise InputError.of(
            "NC160", f"{option}: names and passwords do not belong into an address", help="tokens come from the environment"
        )
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \"'<>\\^`{|}")
    if not (plain and port_ok and parts.hostname and not parts.query and not parts.fragment):
        raise InputError.of("NC160", f"{option} {url!r} is not an address", help="https://HOST, without '?' and '#'")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InputError.of("NC160", f"{option} {url!r}: only https, for a token would be readable on the way")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


class JobService:
    """The service at an address, for the user whose token ``source`` has. All methods but ``close`` raise ConnectionLost."""

    def __init__(self, url: str, userinfo: str, source: Source) -> None:
        self.url, self.userinfo, self._source = url, userinfo, source
        self._secret: Secret | None = None
        self._session: requests.Session | None = None
        self._odd: Counter[str] = Counter()
        self._path = ""

    def log_in(self) -> str:
        """Read the token, and ask whose it is; return the user's name (SdkMissingError NC529 if there is none or it is refused)."""
        library = _requests()
        self.close()
        self._secret = self._source.need("token for EBRAINS")
        self._session = library.Session()
        found = self._json("GET", self.userinfo, refused=(400, 401, 403))
        name = found.get("preferred_username", found.get("sub")) if isinstance(found, dict) else None
        if not isinstance(name, str):
            raise self._nonsense(f"{self.userinfo} does not say whose the token is")
        return name

    def close(self) -> None:
        """Forget the token."""
        if self._session is not None:
            self._session.close()
        self._session = self._secret = None

    def submit(self, job: Mapping[str, Any]) -> int:
        """Submit a job; return its number. After ConnectionLost the service may have it (`find`)."""
        found = self._json("POST", f"{self.url}/jobs/", body=job, otherwise="NC525")
        return self._checked_job(found)["id"]  # type: ignore[no-any-return]

    def find(self, tag: str) -> list[dict[str, Any]]:
        """Return the user's own jobs with a tag, oldest first. A service that does not look at tags is asked for all that wait or run."""
        found = self._list({"tags": tag, "size": "100"})
        mine = [job for job in found if tag in (job.get("tags") or ())]
        if len(mine) != len(found):
            found = self._list([*(("status", status) for status in _WAITING), ("size", "100000")])
            mine += [job for job in found if tag in (job.get("tags") or ()) and job["id"] not in {m["id"] for m in mine}]
        return sorted(mine, key=lambda job: int(job["id"]))

    def job(self, number: int) -> dict[str, Any] | None:
        """Return a job without its log; None if the service has none of that number for this user."""
        found = self._json("GET", f"{self.url}/jobs/{number}", {"with_log": "false", "with_comments": "false"}, missing=(404,))
        return None if found is None else self._checked_job(found)

    def log(self, number: int) -> str | None:
        """Return a job's log; None if there is none yet: the service's own answer to that is an error 500."""
        try:
            found = self._json("GET", f"{self.url}/jobs/{number}/log", missing=(404, 500))
        except _ServerError:
            return None
        if found is None or isinstance(found, str):
            self._odd[self._path] = 0
            return found
        raise self._nonsense("a log that is no text")

    def delete(self, number: int) -> None:
        """Take a job off the queue; nothing happens to one that runs. It is no error if it is gone."""
        self._json("DELETE", f"{self.url}/jobs/{number}", missing=(404,), otherwise="NC525", empty=True)

    def download(self, url: str, into: Path) -> None:
        """Copy a result, without the token, going on behind what ``into`` has where its place can do that."""
        library = _requests()
        if urlsplit(url).scheme not in {"http", "https"}:
            raise SdkMissingError.of("NC530", f"{self.url}: the results are said to be at {url[:200]!r}, which is no address on the web")
        have = into.stat().st_size
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with library.get(url, headers=headers, timeout=(CONNECT_SECONDS, READ_SECONDS), stream=True, auth=_nobody) as answer:
                if answer.status_code == 416:
                    into.write_bytes(b"")
                    raise ConnectionLost("the results are shorter than what is here of them")
                if answer.status_code >= 500 or answer.status_code == 429:
                    raise ConnectionLost(f"{urlsplit(url).netloc} answers {answer.status_code}")
                if answer.status_code not in {200, 206}:
                    raise SdkMissingError.of("NC530", f"the results cannot be had from {url[:200]}: {answer.status_code} {answer.reason}")
                goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                if answer.status_code == 206 and not goes_on:
                    raise ConnectionLost("another part of the results than was asked for")
                with into.open("ab" if goes_on else "wb") as file:
                    for piece in answer.iter_content(_PIECE):
                        file.write(piece)
        except library.exceptions.RequestException as error:
            raise ConnectionLost(_why(error)) from None

    def _list(self, params: Any) -> list[dict[str, Any]]:
        found = self._json("GET", f"{self.url}/jobs/", params)
        if not isinstance(found, list):
            raise self._nonsense("no list of jobs")
        return [self._checked_job(job) for job in found]

    def _checked_job(self, found: Any) -> dict[str, Any]:
        """Return a job that has what is used of it."""
        if not (isinstance(found, dict) and type(found.get("id")) is int and 0 <= found["id"] < 1 << 63):
            raise self._nonsense("a job without a number")
        if not isinstance(found.get("status"), str) or not isinstance(found.get("tags") or [], list):
            raise self._nonsense("a job without a state")
        self._odd[self._path] = 0
        return found

    def _json(
        self, method: str, url: str, params: Any = None, *, body: Any = None, missing: tuple[int, ...] = (),
        refused: tuple[int, ...] = (401,), otherwise: str = "NC530", empty: bool = False,
    ) -> Any:  # fmt: skip
        """Ask, and return the answer's JSON. ``missing``: for these, None; ``refused``: the token is; ``otherwise``: code."""
        self._path = f"{method} {url}"
        status, text = self._ask(method, url, params, body)
        if status in missing:
            return None
        if status in refused:
            source = "" if self._secret is None else f" of the {self._secret.source}"
            raise SdkMissingError.of(
                "NC529", f"{_host(url)} refuses the token{source}: {self._detail(status, text)}", help=self._source.way_to_give()
            )
        if status == 429 or status >= 500:
            raise _ServerError(f"{_host(url)} answers {self._detail(status, text)}")
        if not 200 <= status < 300:
            message = f"{_host(url)} answers {self._detail(status, text)}"
            raise DoesNotFitError.of("NC531", message) if status == 413 else SdkMissingError.of(otherwise, message)
        if empty:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise self._nonsense("what is no JSON") from None
        return found

    def _ask(self, method: str, url: str, params: Any, body: Any) -> tuple[int, bytes]:
        library = _requests()
        if self._session is None or self._secret is None:
            raise ConnectionLost("not logged in")
        timeout = CONNECT_SECONDS, READ_SECONDS if body is None else SUBMIT_SECONDS
        try:
            with self._session.request(
                method, url, params=params, timeout=timeout, auth=_Bearer(self._secret), allow_redirects=False, stream=True,
                data=None if body is None else json.dumps(body).encode("ascii"),
                headers={"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"}),
            ) as answer:  # fmt: skip
                text = b""
                for piece in answer.iter_content(_PIECE):
                    text += piece
                    if len(text) > _MOST_BYTES:
                        raise self._nonsense("more than can be")
                return answer.status_code, text
        except library.exceptions.SSLError as error:
            raise SdkMissingError.of(
                "NC530", f"{_host(url)}: its certificate is not accepted: {_why(error)}", help="REQUESTS_CA_BUNDLE names other authorities"
            ) from None
        except library.exceptions.RequestException as error:
            raise ConnectionLost(self._secret.hide(_why(error))) from None

    def _detail(self, status: int, text: bytes) -> str:
        """Status and the service's own words, in one line, without the token."""
        said: Any = text.decode("utf-8", "replace")
        try:
            found = json.loads(said)
            said = next((found[key] for key in ("detail", "error_description", "error") if key in found), "")
        except (ValueError, TypeError, RecursionError):
            pass
        words = " ".join(str(said).split())
        words = words if self._secret is None else self._secret.hide(words)
        return f"{status}{f' ({words[:_MESSAGE]})' if words else ''}"

    def _nonsense(self, what: str) -> Exception:
        """The error for an answer that makes no sense: it may be a passing fault of something on the way."""
        self._odd[self._path] += 1
        if self._odd[self._path] >= MOST_ODD:
            return _unlike(self.url, what)
        return ConnectionLost(f"{_host(self.url)} gave {what}")


class _ServerError(ConnectionLost):
    """The service is there, but cannot answer."""


class _Bearer:
    """Puts the token into a request; given with each, so that no ~/.netrc takes its place."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._secret.text}"
        return request


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials, not even those of ~/.netrc."""
    return request


def file_name(url: str) -> str:
    """The last part of an address' path."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _unlike(url: str, what: str) -> NeurocompileError:
    return SdkMissingError.of("NC530", f"{_host(url)} gave {what}, {MOST_ODD} times")


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _why(error: Exception) -> str:
    """What is at the bottom of an error of requests, in few words."""
    found: Any = error
    for _ in range(5):
        inner = getattr(found, "reason", None) or next((a for a in getattr(found, "args", ()) if isinstance(a, Exception)), None)
        if not isinstance(inner, Exception):
            break
        found = inner
    return " ".join(f"{type(found).__name__}: {found}".split())[:200]


def _requests() -> ModuleType:
    try:
        import requests
    except ImportError:
        raise SdkMissingError.of("NC501", "requests is not installed", help="pip install 'neurocompile[deploy]'") from None
    return requests
