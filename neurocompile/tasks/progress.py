"""What happens beside a long run: a progress bar on stderr that is silent where nobody looks, and signals that ask it to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """One bar; does nothing without a :class:`Progress`."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1) if progress is not None else None

    def update(self, text: str, done: int, total: int) -> None:
        """Show ``text`` and done / total."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=done, total=max(total, 1))


@contextmanager
def track(progress: bool | None) -> Iterator[Bar]:
    """Give a bar on stderr; ``None``: only if stderr is a terminal."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield Bar(None)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield Bar(shown)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag (the second acts as usual); only the main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, note)
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
