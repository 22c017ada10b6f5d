"""Learning signals as two non-negative third factors (``--set third_factors=split``).

Whether silicon takes negative y traces is not public; Lava's models do. Split, a neuron sends max(y3, 0) as y3 and max(-y3, 0) as
another y, and every product with y3 gets a second one with that other y and the opposite sign. One of the two is 0 in every step, so
the engine adds the same numbers in the same order: nothing is lost, at the cost of a product more for each.

The other y is y2 where psi is not sent (forms without eligibility in the tag, and readouts). Forms with eligibility in the tag need y2
for psi; they take y1, and the constant that y1 was becomes (x2 + constant) with a presynaptic trace x2 that no spike moves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from neurocompile.backends.loihi2.forms import Form

_RULES = tuple(f"{target}_{precision}" for target in ("dw", "dd", "dt") for precision in ("fixed", "real"))


def other_trace(form: Form | None) -> int:
    """Return the number of the y that carries the negative half in a form (None: a readout's)."""
    return 1 if form is not None and form.has_tag else 2


def split_rule(rule: Mapping[str, Any], form: Form | None, carry: int) -> dict[str, Any]:
    """Return rule strings (as of ``forms.hidden_rule``) with both halves. carry : the constant that y1 is in them."""
    other = other_trace(form)
    made = dict(rule)
    for name in _RULES:
        text = made[name]
        if text is None:
            continue
        if other == 1:
            text = text.replace("*y1", f"*(x2+{carry})")
        made[name] = " ".join(part for term in re.split(r" (?=[+-] )", text) for part in _halves(term, other))
    return made


def _halves(term: str, other: int) -> list[str]:
    """Return a term of a sum, and where it has y3 its negative with the other y."""
    if not term.endswith("*y3"):
        return [term]
    sign, rest = (term[0], term[2:]) if term[:2] in ("+ ", "- ") else ("+", term)
    negative = f"{'-' if sign == '+' else '+'} {rest[:-1]}{other}"
    if rest.startswith("-"):  # - -1*2^e: Lava reads no two signs
        negative = f"{sign} {rest[1:-1]}{other}"
    return [term, negative]
