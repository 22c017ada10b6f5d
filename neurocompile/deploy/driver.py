"""One deployment from beginning to end, from whatever point its state says: prepare, submit, follow, fetch; every step can be repeated."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from neurocompile.deploy.destination import ConnectionLost, Destination, Ended, Order, file_digest
from neurocompile.deploy.state import PHASES, RESULTS, RunFolder, State, unwritable
from neurocompile.ir.errors import InputError, NeurocompileError, SdkMissingError

R = TypeVar("R")

LONGEST_PAUSE_S = 60.0
"""Between two tries to reach a host again."""
_ASK_EVERY = 5
"""Looks at the log for one question to the scheduler, which serves many."""
_LATE_LOOKS = 4
"""Questions with the answer that a job is over, before that is believed of a job whose folder does not say so (shared file systems
show files late; 20 looks are a minute by default)."""
_FETCH_TRIES = 3
_REFUSED_INPUT = (2, 3)
"""Exit codes of program/run.py for options and input that it does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """poll : seconds between two looks at the log; slowest : the most that they grow to while nothing is new; patience : seconds to try to
    reach the host again."""

    poll: float
    slowest: float
    patience: float


class Deployment:
    """A deployment that is under way; ``tell`` gets notes (lines), ``show`` the log as it comes."""

    def __init__(
        self, folder: RunFolder, destination: Destination, tempo: Tempo, *, tell: Callable[[str], None], show: Callable[[bytes], None]
    ) -> None:
        self._folder, self._destination, self._tempo = folder, destination, tempo
        self._tell, self._show = tell, show

    def _reached(self, phase: str) -> bool:
        return PHASES.index(self._folder.state.phase) >= PHASES.index(phase)

    def begin(self, order: Callable[[], Order]) -> None:
        """Copy and submit, as far as that has not been done; SdkMissingError NC526 if the deployment was cancelled before."""
        if not self._reached("ready"):
            found = order()
            done = self._patiently(lambda: self._destination.prepare(found))
            self._folder.update(phase="ready")
            self._tell(f"program {found.digest[:12]}: {done}")
        if not self._reached("submitted"):
            self._stop_if_cancelled("before it began")
            found = order()
            job = self._patiently(lambda: self._destination.submit(found))
            self._folder.update(phase="submitted", job=job)
            self._tell(f"job {job}")
            if self._folder.cancelled():  # by another process, in the meantime
                self._patiently(lambda: self._destination.cancel(self._folder.state.run, job))
                self._stop_if_cancelled("while it was being submitted")

    def _stop_if_cancelled(self, when: str) -> None:
        if self._folder.cancelled():
            raise SdkMissingError.of("NC526", f"run {self._folder.state.run} was cancelled {when}")

    def finish(self) -> dict[str, Any]:
        """Follow the job to its end and fetch its results; return the program's summary (the last line of its log that is one).

        Raises
        ------
        InputError
            NC528: the program did not take its options or input.
        SdkMissingError
            NC526: the job ended otherwise than well.
        """
        if not self._reached("ended"):
            self._folder.trim_log()
            ended = self._follow()
            self._folder.update(phase="ended", end=asdict(ended))
        ended = self._folder.state.ended
        if ended.exit_code != 0:
            raise self._failure(ended)
        if not self._reached("done"):
            if ended.results is None:
                raise self._failure(ended)
            self._fetch(*ended.results)
            self._folder.update(phase="done")
        return self._summary()

    def _follow(self) -> Ended:
        run, job = self._folder.state.run, self._folder.state.job or ""
        looks, late, shown, pause = 0, 0, "", self._tempo.poll
        while True:
            known, ask = self._folder.seen, looks % _ASK_EVERY == 0
            seen = self._patiently(lambda known=known, ask=ask: self._destination.follow(run, job, known, ask=ask))  # type: ignore[misc]
            looks += 1
            if seen.anew:
                self._tell(f"the log begins again; what there was is in {self._folder.put_log_aside()}")
            if seen.log:
                self._folder.add_log(seen.log)
                self._show(seen.log)
            if seen.ended is not None:
                return seen.ended
            pause = self._tempo.poll if seen.log else min(1.5 * pause, max(self._tempo.poll, self._tempo.slowest))
            if seen.state and seen.state != shown:
                shown, pause = seen.state, self._tempo.poll
                self._tell(f"job {job}: {shown}")
            if seen.log:
                late = 0
            elif seen.gone is not None:
                late += 1
                if late >= _LATE_LOOKS:
                    return seen.gone
            pause = self._tempo.poll if late else pause
            if not seen.more:
                time.sleep(pause)

    def _fetch(self, size: int, digest: str) -> None:
        """Bring results.npz here, whole: under another name until its digest is right."""
        part, final = self._folder.path / f".{RESULTS}.part", self._folder.path / RESULTS
        for _ in range(_FETCH_TRIES):
            try:
                part.touch(mode=0o600)
                if part.stat().st_size > size:
                    os.truncate(part, 0)
                self._patiently(lambda: self._destination.fetch(self._folder.state.run, self._folder.state.job or "", part))
                if part.stat().st_size == size and file_digest(part) == digest:
                    with part.open("rb") as file:
                        os.fsync(file.fileno())
                    part.replace(final)
                    return
                part.unlink()
            except OSError as error:
                raise unwritable(self._folder.path, error) from None
        raise SdkMissingError.of(
            "NC527", f"results.npz differs from what the job wrote ({size} bytes, sha256 {digest[:12]}...), {_FETCH_TRIES} times"
        )

    def _patiently(self, step: Callable[[], R]) -> R:
        """Do a step; while the host cannot be reached, try again with growing pauses, as long as patience lasts."""
        lost_at, pause, lost = None, self._tempo.poll, None
        while True:
            try:
                if lost is not None:
                    self._destination.connect()
                    self._tell("connected again")
                return step()
            except ConnectionLost as now:
                lost = now
            clock = time.monotonic()
            lost_at = clock if lost_at is None else lost_at
            if clock + pause - lost_at > self._tempo.patience:
                raise SdkMissingError.of("NC523", f"the connection was lost: {lost}", help=self.way_on()) from None
            self._tell(f"connection lost ({lost}); trying again in {pause:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def way_on(self) -> str:
        """What a user can do about a deployment that is not followed any more."""
        folder = shlex.quote(str(self._folder.path))
        resume = f"`neurocompile deploy --resume -o {folder}`"
        if self._reached("ended"):
            return f"the job has ended, what it left is on the host; fetch it with {resume}"
        goes_on = "the job goes on without this process" if self._reached("submitted") else "nothing runs yet"
        return f"{goes_on}; go on with {resume}, end it with `neurocompile deploy --cancel -o {folder}`"

    def _failure(self, ended: Ended) -> NeurocompileError:
        said = self._folder.log_end(20)
        last = f"; the end of {self._folder.path / 'log.txt'}:\n{said}" if said else ""
        if ended.exit_code in _REFUSED_INPUT:
            return InputError.of("NC528", f"program/run.py ended with exit code {ended.exit_code}{last}")
        if ended.exit_code is None:
            why = f"job {self._folder.state.job}: {ended.state}{f' ({ended.message})' if ended.message else ''}"
        elif ended.exit_code == 0:
            why = "program/run.py ended well, but left no results"
        else:
            why = f"program/run.py ended with exit code {ended.exit_code}"
        return SdkMissingError.of("NC526", why + last)

    def _summary(self) -> dict[str, Any]:
        """The last JSON object that begins a line of the log, on one line or on many."""
        text = self._folder.log_end(2000)
        place = len(text)
        while (place := text.rfind("{", 0, place)) >= 0:
            if place == 0 or text[place - 1] == "\n":
                try:
                    found, _ = json.JSONDecoder().raw_decode(text, place)
                except ValueError:
                    continue
                return dict(found)
        return {}


def order_of(state: State, files: Mapping[str, Path]) -> Order:
    """Return the order of a deployment; InputError NC711 if an input is not what it was at the beginning."""
    inputs = {}
    for name, (path, digest) in state.inputs.items():
        try:
            same = file_digest(Path(path)) == digest
        except OSError as error:
            raise InputError.of("NC105", f"cannot be read: {error.strerror}", file=path) from None
        if not same:
            raise InputError.of("NC711", "was changed since the deployment began", file=path, help="begin anew in another folder")
        inputs[name] = Path(path)
    return Order(run=state.run, digest=state.digest, files=files, inputs=inputs, args=tuple(state.args))
