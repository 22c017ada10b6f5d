"""Options of the lowering (``--set KEY=VALUE``): names, ranges, defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neurocompile.backends.loihi2.forms import SECOND_STATES, TRACE_BITS, X1_IMPULSE, Form, SecondState
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean

_AUTO = "auto"
_MOST_STEPS = 10**6
KNOWN = {
    "error_scale": "a positive number, membrane units (default 1.0)",
    "low_bits": "one of 'd' (default), 'd6' or 'none'",
    "eprop_form": f"'{_AUTO}' (default) or one of {', '.join(repr(form.value) for form in Form)}",
    "adaptation": "one of 'auto' (default), 'none', 'tag' or 'trace'",
    "tune": f"'{_AUTO}' (default) or a whole number of steps from 0 to {_MOST_STEPS}",
    "weight_bits": "a whole number from 1 to 8 (default: 8 bits at the start, learnt weights move by single units)",
    "third_factors": "'signed' (default), or 'split': two non-negative ones in the place of one with a sign",
    "trace_bits": f"a whole number from 3 to {TRACE_BITS} (default {TRACE_BITS})",
    "weight_room": "a number from 1 to 16 (default 2.0)",
}
"""Option -> its values"""
ADAPTATIONS = (_AUTO, "none", "tag", "trace")
"""What tells ``lagged`` of the second eligibility of adaptive neurons"""
_NUMBERS: dict[str, Callable[[float], bool]] = {
    "error_scale": lambda x: 0 < x < math.inf,
    "tune": lambda x: x in range(_MOST_STEPS + 1),
    "weight_bits": lambda x: x in range(1, 9),
    "trace_bits": lambda x: x in range(3, TRACE_BITS + 1),
    "weight_room": lambda x: 1 <= x <= 16,
}
"""Option -> whether it takes a number"""
_WORDS = {
    "low_bits": tuple(SECOND_STATES),
    "eprop_form": (_AUTO, *(form.value for form in Form)),
    "tune": (_AUTO,),
    "third_factors": ("signed", "split"),
    "adaptation": ADAPTATIONS,
}
"""Option -> words that it takes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the lowering.

    error_scale : error (membrane units) at which y3 is at its reference; low_bits : where low bits of hidden weights are (SECOND_STATES);
    form : of e-prop; None: the compiler chooses; adaptation : see ADAPTATIONS, auto: whatever measures best;
    tune_steps : of the short simulations that scales are measured in, 0: worst cases; None:
    as many as the size of the network allows;
    weight_bits : weights are multiples of the step of so many bits, in the same range, also those that are learnt; None: 8 bits at the
    start, and learning moves mixed weights by single units as Lava does (9 bits);
    weight_room : plastic weights may grow to this many times the largest initial one;
    trace_bits : resolution of presynaptic traces and of psi within their 7 bits;
    split : whether learning signals are sent as two non-negative halves (halves.py).
    """

    error_scale: float = 1.0
    low_bits: str = "d"
    form: Form | None = None
    tune_steps: int | None = None
    adaptation: str = _AUTO
    weight_bits: int | None = None
    weight_room: float = 2.0
    trace_bits: int = TRACE_BITS
    split: bool = False

    @property
    def second(self) -> SecondState | None:
        """Low bits of hidden weights."""
        return SECOND_STATES[self.low_bits]

    @property
    def trace_step(self) -> int:
        """Smallest difference of traces."""
        return 1 << (TRACE_BITS - self.trace_bits)

    @property
    def impulse(self) -> int:
        """What a spike adds to a presynaptic trace."""
        return X1_IMPULSE // self.trace_step


def read_options(given: Mapping[str, str]) -> Options:
    """Return the options; InputError NC201/NC207 with all findings for values out of range and names that do not exist."""
    found: list[Diagnostic] = []
    numbers: dict[str, float] = {}
    words: dict[str, str] = {}
    for name, text in given.items():
        if name not in KNOWN:
            found.append(Diagnostic(code="NC207", message=f"target 'loihi2' has no option '{name}'", help=did_you_mean(name, KNOWN)))
        elif text in _WORDS.get(name, ()):
            words[name] = text
        elif (number := _number(text)) is not None and name in _NUMBERS and _NUMBERS[name](number):
            numbers[name] = number
        else:
            found.append(_wrong(name, text))
    if found:
        raise InputError(found)
    form = words.get("eprop_form", _AUTO)
    return Options(
        error_scale=numbers.get("error_scale", 1.0),
        low_bits=words.get("low_bits", "d"),
        form=None if form == _AUTO else Form(form),
        tune_steps=int(numbers["tune"]) if "tune" in numbers else None,
        adaptation=words.get("adaptation", _AUTO),
        weight_bits=int(numbers["weight_bits"]) if "weight_bits" in numbers else None,
        weight_room=numbers.get("weight_room", 2.0),
        trace_bits=int(numbers.get("trace_bits", TRACE_BITS)),
        split=words.get("third_factors") == "split",
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _wrong(name: str, text: str) -> Diagnostic:
    return Diagnostic(code="NC201", message=f"{name} is {text!r}, must be {KNOWN[name]}", help=f"--set {name}=VALUE, or leave it out")
