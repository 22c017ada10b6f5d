"""Where the independent pieces of a build run: threads of this process, or the workers of a Dask cluster (docs/cluster.md).

The cluster gets functions of neurocompile by name and plain arguments (arrays, dataclasses), pickled by Dask; the scheduler and its
workers can run any code here and there, so they are to be trusted as a remote shell is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import queue
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import neurocompile
from neurocompile.ir.errors import InputError, NeurocompileError, SdkMissingError
from neurocompile.ir.shards import Shards, Shared, all_cores

if TYPE_CHECKING:
    from distributed import Client, Future

R = TypeVar("R")

CONNECT_SECONDS = 10.0
"""To wait for the scheduler, and then for its first worker."""
WORKERLESS_SECONDS = 60.0
"""To wait for a new worker when all have gone."""
_POLL_SECONDS = 2.0
_AHEAD = 2
"""Pieces under way for each thread of the cluster: one runs, one is there already when it ends."""
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)  # one and the same from Python 3.11 on
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


@contextlib.contextmanager
def open_shards(scheduler: str | None) -> Iterator[Shards]:
    """Give what runs pieces of work: all cores of this machine, or the workers of a Dask scheduler.

    Raises
    ------
    InputError
        NC160: not an address.
    SdkMissingError
        NC501: the package distributed is not installed; NC510: no scheduler or no worker; NC511: their versions differ from ours.
    """
    if scheduler is None:
        yield all_cores()
        return
    match = _ADDRESS.fullmatch(scheduler)
    if match is None or not 0 < int(match[3]) < 2**16:
        raise InputError.of("NC160", f"--scheduler {scheduler!r} is not an address", help="give it as tcp://HOST:PORT or tls://HOST:PORT")
    with _connected(scheduler) as client:
        _check_workers(client, scheduler)
        yield Cluster(client, scheduler)


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        import dask
        import distributed
    except ImportError:
        raise SdkMissingError.of(
            "NC501", "--scheduler needs distributed, which is not installed", help="pip install 'neurocompile[cluster]'"
        ) from None
    # Pieces are as large as is good for the network; Dask would warn of arguments above 10 MB.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
        try:
            client = _within(CONNECT_SECONDS, lambda: distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False))
        except (*_TIMEOUTS, OSError, ValueError, RuntimeError) as error:
            raise SdkMissingError.of(
                "NC510",
                f"scheduler {scheduler} does not answer: {_first_line(error)}",
                help="start one (`dask scheduler`, then `dask worker ADDRESS` on each machine), or leave out --scheduler",
            ) from None
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_SECONDS)


def _within(seconds: float, make: Callable[[], R]) -> R:
    """Return ``make()``, or raise TimeoutError: Dask waits for ever on a connection to something that is no scheduler."""
    made: queue.SimpleQueue[tuple[R | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            made.put((make(), None))
        except Exception as error:
            made.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        found, error = made.get(timeout=2 * seconds)  # its own message, where it has one, says more
    except queue.Empty:
        raise TimeoutError("the connection is open, but nothing comes back") from None
    if error is not None:
        raise error
    return cast(R, found)


def _check_workers(client: Client, scheduler: str) -> None:
    """Raise SdkMissingError unless there are workers, all with our versions."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except _TIMEOUTS:
        raise SdkMissingError.of(
            "NC510",
            f"scheduler {scheduler} has no worker after {CONNECT_SECONDS:g} s",
            help=f"start some: `dask worker {scheduler}`",
        ) from None
    ours = surroundings()
    for worker, theirs in sorted(client.run(surroundings, on_error="return").items()):
        if isinstance(theirs, BaseException):
            raise _differ(worker, f"has no neurocompile of this version ({_first_line(theirs)})")
        _compare(worker, ours, theirs)


def surroundings() -> dict[str, str]:
    """Return what the bytes of a build depend on beside its inputs: versions, a digest of our code, the kind of processor."""
    found = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba")}
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "neurocompile": f"{neurocompile.__version__} ({_code_digest()})",
        "python": python,
        **found,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "processor": platform.machine(),
    }


@functools.cache
def _code_digest() -> str:
    root = Path(neurocompile.__file__).parent
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(n for n in names if n.endswith(".py")):
            file = Path(folder) / name
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _compare(worker: str, ours: dict[str, str], theirs: dict[str, str]) -> None:
    differing = [f"{name} {theirs.get(name)} (here {version})" for name, version in ours.items() if theirs.get(name) != version]
    if differing:
        raise _differ(worker, "has " + ", ".join(differing))


def _differ(worker: str, what: str) -> NeurocompileError:
    return SdkMissingError.of(
        "NC511",
        f"worker {worker} {what}: the bytes of the build could differ",
        help="install the same versions on all machines of the cluster, or leave out --scheduler",
    )


def _run_piece(ours: dict[str, str], function: Callable[..., R], *arguments: Any) -> R:
    """Run on a worker; it may have joined after the others were asked for their versions."""
    _compare(platform.node(), ours, surroundings())
    return function(*arguments)


def _same(value: R) -> R:
    return value


class Cluster:
    """Runs pieces on the workers of a Dask cluster (:class:`neurocompile.ir.shards.Shards`).

    Dask runs a piece again elsewhere if its worker dies, and gives it up after as many deaths as its setting
    ``distributed.scheduler.allowed-failures`` says (3).
    """

    def __init__(self, client: Client, scheduler: str) -> None:
        self._client, self._scheduler, self._ours = client, scheduler, surroundings()

    def map(self, function: Callable[..., R], arguments: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """See :class:`neurocompile.ir.shards.Shards`.

        Raises
        ------
        SdkMissingError
            NC512: a piece was given up, or the cluster was lost.
        """
        waiting: deque[Future] = deque()
        shared: dict[int, tuple[Shared[Any], Future]] = {}
        ahead = _AHEAD * max(1, sum(self._threads().values()))
        try:
            for given in arguments:
                waiting.append(self._client.submit(_run_piece, self._ours, function, *self._sent(given, shared), pure=False))
                if len(waiting) > ahead:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            self._client.cancel(list(waiting))

    def _sent(self, arguments: tuple[Any, ...], shared: dict[int, tuple[Shared[Any], Future]]) -> Iterator[Any]:
        """Yield arguments as they are submitted; what is shared is a task of its own, which workers hand on to each other."""
        for argument in arguments:
            if not isinstance(argument, Shared):
                yield argument
                continue
            if id(argument) not in shared:
                shared[id(argument)] = argument, self._client.submit(_same, argument.value, pure=False)
            yield shared[id(argument)][1]

    def _threads(self) -> dict[str, int]:
        found: dict[str, int] = self._client.nthreads()
        return found

    def _result(self, future: Future) -> Any:
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        lost = None
        try:
            while not future.done():
                with contextlib.suppress(*_TIMEOUTS):
                    return future.result(timeout=_POLL_SECONDS)
                lost = None if self._threads() else lost or time.monotonic()
                if lost is not None and time.monotonic() - lost > WORKERLESS_SECONDS:
                    raise self._failed(f"it has had no worker for {WORKERLESS_SECONDS:g} s")
            return future.result()
        except KilledWorker as error:
            raise self._failed(f"a piece was given up, because each of its workers died: {_first_line(error)}") from None
        except MemoryError as error:
            raise self._failed(f"a worker has too little memory: {_first_line(error)}") from None
        except (CancelledError, CommClosedError, OSError) as error:
            raise self._failed(f"it was lost: {_first_line(error)}") from None

    def _failed(self, why: str) -> NeurocompileError:
        return SdkMissingError.of(
            "NC512",
            f"cluster {self._scheduler}: {why}; nothing was written",
            help="look at the workers' logs and memory, start them again, or leave out --scheduler",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


__all__ = ["Cluster", "open_shards", "surroundings"]
