"""Errors that a user can act on: a stable code, the place, the numbers and a way out.

Every failure that input can cause is a :class:`NeurocompileError`; it carries one or more :class:`Diagnostic`, so that all errors of
a file appear in one run. The table of codes is in :mod:`neurocompile.ir.codes` (``neurocompile explain CODE`` prints it).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the command line (documented in README.md)."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    DOES_NOT_FIT = 4
    SDK_MISSING = 5
    MISMATCH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """A place in a text file. ``line`` and ``column`` count from 1; ``text`` is the whole line, for display."""

    file: str
    line: int
    column: int
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding.

    Attributes
    ----------
    code : str
        Stable code such as ``NC204``; the table is in ``neurocompile.ir.codes``.
    message : str
        What is wrong, with the object's name and the numbers.
    span : SourceSpan, optional
        Where in the user's file.
    file : str, optional
        The file it is about when there is no position in it (a binary file, a folder).
    help : str, optional
        A way out; without one, the explanation of the code is shown.
    field : tuple of str or int
        Path of the offending value inside the object that was being built (for example ``("params", "tau_mem")``); readers turn it
        into ``span``.
    """

    code: str
    message: str
    span: SourceSpan | None = None
    file: str | None = None
    help: str | None = None
    field: tuple[str | int, ...] = ()

    def at(self, span: SourceSpan | None) -> Diagnostic:
        """Return the same finding with a place, if it has none yet."""
        return self if self.span is not None or span is None else replace(self, span=span)

    @property
    def way_out(self) -> str | None:
        """The finding's own help, else what the table of codes says."""
        if self.help:
            return self.help
        from neurocompile.ir.codes import CODES  # the table needs this module

        return CODES[self.code].explanation if self.code in CODES else None

    def render(self) -> str:
        """Return the finding as text: the headline, the line of the file with a caret, and the help."""
        place = f"{self.span}: " if self.span else (f"{self.file}: " if self.file else "")
        lines = [f"error[{self.code}]: {place}{self.message}"]
        if self.span is not None and self.span.text is not None:
            number = str(self.span.line)
            text, column = self.span.text.rstrip("\n"), self.span.column
            start = max(0, column - 100)
            lines.append(f"  {number} | {text[start : start + 160]}")
            lines.append(f"  {' ' * len(number)} | {' ' * (column - 1 - start)}^")
        if self.way_out:
            lines.append(f"  help: {self.way_out}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Return the finding as a JSON-ready dictionary."""
        return {
            "code": self.code,
            "message": self.message,
            "file": self.span.file if self.span else self.file,
            "line": self.span.line if self.span else None,
            "column": self.span.column if self.span else None,
            "help": self.way_out,
        }


class NeurocompileError(Exception):
    """Base of every error that the user's input or surroundings can cause.

    Parameters
    ----------
    diagnostics : Diagnostic or iterable of Diagnostic
        At least one finding.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        found = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        if not found:
            raise ValueError("an error needs at least one diagnostic")
        self.diagnostics: tuple[Diagnostic, ...] = found
        super().__init__("\n".join(d.render() for d in found))

    def __reduce__(self) -> tuple[type[NeurocompileError], tuple[tuple[Diagnostic, ...]]]:
        """Errors come back from other processes as they are."""
        return type(self), (self.diagnostics,)

    @classmethod
    def of(
        cls,
        code: str,
        message: str,
        *,
        help: str | None = None,
        span: SourceSpan | None = None,
        file: str | None = None,
        field: tuple[str | int, ...] = (),
    ) -> NeurocompileError:
        """Make an error with one diagnostic (arguments as in :class:`Diagnostic`)."""
        return cls(Diagnostic(code=code, message=message, help=help, span=span, file=file, field=field))


class InputError(NeurocompileError):
    """The description, a file or an option is wrong (exit 3)."""

    exit_code = ExitCode.BAD_INPUT


class UnsupportedError(NeurocompileError):
    """The description is right, but the target cannot express it (exit 3)."""

    exit_code = ExitCode.BAD_INPUT


class DoesNotFitError(NeurocompileError):
    """The network needs more than the machine has (exit 4)."""

    exit_code = ExitCode.DOES_NOT_FIT


class SdkMissingError(NeurocompileError):
    """An SDK or hardware that the command needs is absent (exit 5)."""

    exit_code = ExitCode.SDK_MISSING


class MismatchError(NeurocompileError):
    """A verification found a difference (exit 6)."""

    exit_code = ExitCode.MISMATCH


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """Return ``did you mean 'x'?`` for the choice nearest to ``word``, or the list of choices if none is near."""
    known = sorted(set(choices))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(known)}" if known else None
