"""Questions to a server that lends SpiNNaker boards, before a program is started that would only find out late: does it answer, does it
take the login, has it boards. Classic servers (TCP) are asked through `spalloc_client`, new ones (HTTPS) through `spinnman`; both come with
sPyNNaker.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from neurocompile.deploy.destination import ConnectionLost
from neurocompile.deploy.tokens import Secret
from neurocompile.ir.errors import NeurocompileError, SdkMissingError

SECONDS = 10.0
"""For an answer."""
TRIES = 3
_TRIAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine of a classic server. boards : that work; lent : of them, to jobs of anybody; tags : such jobs go there."""

    name: str
    boards: int
    lent: int
    tags: tuple[str, ...]


def classic_machines(host: str, port: int) -> tuple[str, list[Machine]]:
    """Return a server's version and its machines, in its order (ConnectionLost; SdkMissingError NC501, NC530)."""
    for last in range(TRIES - 1, -1, -1):
        try:
            return _ask_classic(host, port)
        except ConnectionLost:
            if not last:
                raise
    raise AssertionError("unreachable")


def _ask_classic(host: str, port: int) -> tuple[str, list[Machine]]:
    try:
        from spalloc_client.protocol_client import ProtocolClient, ProtocolError, ProtocolTimeoutError, SpallocServerException
        from spalloc_client.scripts.support import VERSION_RANGE_START, VERSION_RANGE_STOP
    except ImportError:
        raise _no_sdk("spalloc_client") from None
    try:
        with ProtocolClient(host, port, timeout=SECONDS) as client:
            version = client.version(timeout=SECONDS)
            machines = client.list_machines(timeout=SECONDS)
            jobs = client.list_jobs(timeout=SECONDS)
    except (ProtocolTimeoutError, ProtocolError, OSError) as error:
        raise ConnectionLost(f"{host}:{port}: {str(error) or type(error).__name__}") from None
    except SpallocServerException as error:
        raise SdkMissingError.of("NC530", f"{host}:{port}: {error}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SdkMissingError.of("NC530", f"{host}:{port} does not speak spalloc's protocol") from None
    if not _taken(str(version), VERSION_RANGE_START, VERSION_RANGE_STOP):
        first, stop = (".".join(map(str, v)) for v in (VERSION_RANGE_START, VERSION_RANGE_STOP))
        raise SdkMissingError.of(
            "NC530",
            f"{host}:{port} is a spalloc server of version {version}; sPyNNaker's client takes those from {first} to below {stop}",
            help="releases with an epoch (1!7.0.0) say it to their clients, whose releases cannot read it; ask the server's operators",
        )
    try:
        return str(version), [_machine(found, jobs) for found in machines]
    except (AttributeError, ValueError, TypeError, KeyError):
        raise SdkMissingError.of("NC530", f"{host}:{port} describes its machines otherwise than spalloc-server does") from None


def _taken(version: str, first: tuple[int, ...], stop: tuple[int, ...]) -> bool:
    """Whether sPyNNaker's client takes a server of this version; it ends with an error if not."""
    parts = version.split(".")[:3]
    return all(part.isascii() and part.isdigit() for part in parts) and first <= tuple(map(int, parts)) < stop


def _machine(found: Any, jobs: Any) -> Machine:
    boards = _TRIAD * int(found["width"]) * int(found["height"]) - len(found["dead_boards"])
    lent = sum(len(job["boards"] or ()) for job in jobs if job["allocated_machine_name"] == found["name"])
    return Machine(name=str(found["name"]), boards=boards, lent=lent, tags=tuple(str(tag) for tag in found["tags"]))


def choose(machines: Sequence[Machine], name: str | None, n_boards: int, place: str) -> Machine:
    """Return the machine that such a job can go to, the freest one (SdkMissingError NC525: there is none)."""
    listed = ", ".join(f"{m.name} ({m.boards} boards)" for m in machines) or "none"
    if name is not None:
        found = [m for m in machines if m.name == name]
        if not found:
            raise SdkMissingError.of("NC525", f"{place} has no machine {name!r}; it has: {listed}")
    else:
        found = [m for m in machines if "default" in m.tags]
        if not found:
            raise SdkMissingError.of("NC525", f"{place} has no machine with the tag 'default'; it has: {listed}", help="--machine NAME")
    large = [m for m in found if m.boards >= n_boards]
    if not large:
        raise SdkMissingError.of("NC525", f"{place} has no machine of {n_boards} boards; it has: {listed}")
    return max(large, key=lambda m: m.boards - m.lent)


def release(host: str, port: int, jobs: Collection[int], owner: str, since: float) -> list[int]:
    """Give back the boards of a classic server's jobs that a program has left; return which. Only jobs of the owner that began after
    ``since`` (seconds since 1970); a server that does not answer frees them by itself, when it has heard nothing of them for a minute."""
    try:
        from spalloc_client.protocol_client import ProtocolClient, ProtocolError, ProtocolTimeoutError, SpallocServerException
    except ImportError:
        return []
    done = []
    try:
        with ProtocolClient(host, port, timeout=SECONDS) as client:
            found: Any = client.list_jobs(timeout=SECONDS)
            for job in found:
                if job["job_id"] in jobs and job["owner"] == owner and float(job["start_time"]) >= since:
                    client.destroy_job(int(job["job_id"]), "the program has ended", timeout=SECONDS)
                    done.append(int(job["job_id"]))
    except (ProtocolTimeoutError, ProtocolError, SpallocServerException, OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return done


def boards_asked_for(n_boards: int) -> int:
    """Boards of one machine that an allocation for so many may need: servers of the classic kind lend triads from four boards on."""
    return n_boards if n_boards <= 1 else _TRIAD * math.ceil(n_boards / _TRIAD)


def ask_new(url: str, user: str | None, password: Secret | None, token: Secret | None) -> str:
    """Log in to a new server; return its version (ConnectionLost; SdkMissingError NC501, NC529, NC530)."""
    try:
        import requests
        from spinnman.exceptions import SpallocException
        from spinnman.spalloc import SpallocClient
    except ImportError:
        raise _no_sdk("spinnman") from None
    hide = [secret for secret in (password, token) if secret is not None]
    try:
        client = SpallocClient(
            url,
            username=user,
            password=None if password is None else password.text,
            bearer_token=None if token is None else token.text,
        )
        version = str(client.version)
        client.close()
        return version
    except requests.exceptions.SSLError as error:
        raise SdkMissingError.of("NC530", f"{url}: its certificate is not accepted: {type(error).__name__}") from None
    except requests.exceptions.RequestException as error:
        raise ConnectionLost(f"{url}: {type(error).__name__}") from None
    except (SpallocException, ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        for secret in hide:
            said = secret.hide(said)
        if any(word in said for word in ("Unable to login", "Could not renew", "401", "403")):
            raise SdkMissingError.of("NC529", f"{url} refuses the login: {said}") from None
        raise SdkMissingError.of("NC530", f"{url} does not answer as a spalloc server does: {type(error).__name__}: {said}") from None


def _no_sdk(module: str) -> NeurocompileError:
    return SdkMissingError.of("NC501", f"sPyNNaker's module {module} is not installed", help="pip install 'neurocompile[spinnaker]'")
