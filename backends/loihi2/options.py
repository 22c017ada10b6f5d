"""Options of the lowering (``--set KEY=VALUE``): names, ranges, defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean

KNOWN = {
    "error_scale": "a positive number, membrane units (default 1.0)",
    "low_bits": "'d' (default) or 'none'",
    "weight_bits": "a whole number from 1 to 8 (default: 8 bits at the start, learnt weights move by single units)",
    "weight_room": "a number from 1 to 16 (default 2.0)",
}
"""Option -> its values"""
_NUMBERS: dict[str, Callable[[float], bool]] = {"weight_bits": lambda x: x in range(1, 9), "weight_room": lambda x: 1 <= x <= 16}
"""Option -> whether it takes a number"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the lowering.

    weight_bits : weights are multiples of the step of so many bits, in the same range, also those that are learnt; None: 8 bits at the
    start, and learning moves mixed weights by single units as Lava does (9 bits);
    weight_room : plastic weights may grow to this many times the largest initial one.
    """

    weight_bits: int | None = None
    weight_room: float = 2.0


def read_options(given: Mapping[str, str]) -> Options:
    """Return the options; InputError NC201/NC207 with all findings for values out of range and names that do not exist."""
    found: list[Diagnostic] = []
    values: dict[str, float] = {}
    for name, text in given.items():
        if name not in KNOWN:
            found.append(Diagnostic(code="NC207", message=f"target 'loihi2' has no option '{name}'", help=did_you_mean(name, KNOWN)))
        elif name in _NUMBERS:
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = math.nan
            if not _NUMBERS[name](values[name]):
                found.append(_wrong(name, text))
    if found:
        raise InputError(found)
    return Options(
        weight_bits=int(values["weight_bits"]) if "weight_bits" in values else None,
        weight_room=values.get("weight_room", 2.0),
    )


def _wrong(name: str, text: str) -> Diagnostic:
    return Diagnostic(code="NC201", message=f"{name} is {text!r}, must be {KNOWN[name]}", help=f"--set {name}=VALUE, or leave it out")
