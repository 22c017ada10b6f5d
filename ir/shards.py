"""Independent pieces of work of a stage, and where they run: here, or wherever the caller's executor sends them.

A stage cuts its work by sizes that are fixed (never by the number of threads or machines) and joins the results in order, so that its
result has the same bits wherever the pieces ran.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from neurocompile.ir._types import Int32Array

R = TypeVar("R")
T = TypeVar("T")

SYNAPSES = 1_000_000
"""Of a piece of work at most, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared(Generic[T]):
    """An argument that many pieces take: an executor sends it to a machine once. The function gets ``value`` itself."""

    value: T


class Shards(Protocol):
    """What runs independent pieces of work."""

    def map(self, function: Callable[..., R], arguments: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """Yield ``function(*a)`` for each of the arguments, in their order; the first error in that order is raised.

        ``function`` is one of a module, with plain arguments and results. Arguments are drawn a few ahead of the results, so neither
        all arguments nor all results need to be in memory at once.
        """


@dataclass(frozen=True, slots=True)
class Threads:
    """Runs pieces in ``n`` threads of this process (kernels, zlib and most of NumPy let other threads run); 1: in turn, in the caller's."""

    n: int

    def map(self, function: Callable[..., R], arguments: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """See :class:`Shards`."""
        if self.n == 1:
            for given in arguments:
                yield function(*_plain(given))
            return
        waiting: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self.n) as pool:
            try:
                for given in arguments:
                    waiting.append(pool.submit(function, *_plain(given)))
                    if len(waiting) > self.n:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def _plain(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.value if isinstance(a, Shared) else a for a in arguments)


IN_TURN = Threads(1)


def pieces_of(n: int) -> list[slice]:
    """Cut ``n`` synapses into pieces of :data:`SYNAPSES`, at least one."""
    return [slice(start, min(start + SYNAPSES, n)) for start in range(0, max(n, 1), SYNAPSES)]


def ranges_of_targets(post: Int32Array) -> list[slice]:
    """Cut synapses in order of their targets into ranges of whole targets, of about :data:`SYNAPSES`; in another order: into pieces."""
    n = len(post)
    if n <= SYNAPSES or bool((post[1:] < post[:-1]).any()):
        return pieces_of(n)
    edges = np.unique(np.searchsorted(post, post[SYNAPSES:n:SYNAPSES])).tolist()
    edges = [0, *(edge for edge in edges if edge > 0), n]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def all_cores() -> Threads:
    """Return an executor with a thread for each core that this process may use."""
    return Threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


__all__ = ["IN_TURN", "SYNAPSES", "Shards", "Shared", "Threads", "all_cores", "pieces_of", "ranges_of_targets"]
