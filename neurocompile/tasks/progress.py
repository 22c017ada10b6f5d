"""A progress bar on stderr that is silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
