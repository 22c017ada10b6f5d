"""Learning rules of Loihi as data: ``"2^-1*u0*x1*y2 - 1*2^-4*u0*t"`` -> products -> a table that a compiled loop reads.

Grammar and limits are those of Lava 0.10's learning engine (docs/loihi2.md); its parser is not used, so that a rule that it would read
otherwise shows as a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

TARGETS = {"dw": 0, "dd": 1, "dt": 2}
"""What a rule changes -> its number: weight, second tag, tag"""
VARIABLES = {"w": 0, "d": 1, "t": 2, "x0": 3, "x1": 4, "x2": 5, "y0": 6, "y1": 7, "y2": 8, "y3": 9}
"""Factor -> its number. Up to t: one value a synapse; up to x2: one a presynaptic neuron; the others: one a postsynaptic neuron"""
FIRST_PRE, FIRST_POST = VARIABLES["x0"], VARIABLES["y0"]
EVERY_STEP = -1
"""In the place of a dependency: u, once in 2^k steps"""
WIDTHS = {"w": 9, "d": 9, "t": 9, "x0": 1, "x1": 7, "x2": 7, "y0": 1, "y1": 7, "y2": 7, "y3": 7}
"""Bits to which a factor is clipped: -2^bits .. 2^bits - 1"""
MANTISSA_BITS = 4
ACCUMULATOR_BITS = 15
STATE_SHIFT = 7
"""A weight, tag or second tag is held times 2^7 in the accumulator"""
_WORD = 31
"""Products of this many bits fit 32-bit integers"""
_TERM = re.compile(r"\s*([+-]?)\s*((?:[^+\-(]|\([^)]*\)|(?<=\^)-|(?<=\*)-|(?<=^)-)+)")
_BRACKET = re.compile(r"(sgn)?\(\s*([wdtxy]\d?)\s*(?:([+-])\s*(\d+))?\s*\)")
_LITERAL = re.compile(r"(-?\d+)(?:\^(-?\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """``variable`` + ``const``, or the sign of that sum."""

    variable: str
    const: int = 0
    sign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """mantissa 2^exponent dependency factors..; ``dependency``: x0, y0 or u; ``period_exponent`` k of u: once in 2^k steps."""

    target: str
    dependency: str
    mantissa: int
    exponent: int
    factors: tuple[Factor, ...]
    period_exponent: int = 0

    @property
    def bits(self) -> int:
        """Width of the product before it is shifted to the accumulator's."""
        return MANTISSA_BITS + sum(WIDTHS[f.variable] for f in self.factors)


def parse_rule(target: str, text: str) -> list[Product]:
    """Return the products of a rule for ``target`` (dw, dd or dt).

    Raises
    ------
    ValueError
        If the engine has no such rule: no dependency, an unknown factor, a mantissa beyond -8 .. 7 or an exponent beyond -7 .. 8.
    """
    products, place = [], 0
    text = text.replace(" ", "")
    while place < len(text):
        found = _TERM.match(text, place)
        if found is None or found.end() == place:
            raise ValueError(f"{target}: cannot read '{text[place:]}'")
        products.append(_parse_product(target, found[2], -1 if found[1] == "-" else 1))
        place = found.end()
    if not products:
        raise ValueError(f"{target}: the rule is empty")
    if len({p.period_exponent for p in products if p.dependency == "u"}) > 1:
        raise ValueError(f"{target}: all u of a rule have one period, '{text}'")
    return products


def _parse_product(target: str, text: str, mantissa: int) -> Product:
    dependency, exponent, period = "", 0, 0
    factors: list[Factor] = []
    for word in text.split("*"):
        if re.fullmatch(r"u\d", word):
            if dependency not in {"", "u"}:
                raise ValueError(f"{target}: two dependencies in '{text}'")
            dependency, period = "u", int(word[1])
        elif word in {"x0", "y0"}:
            if dependency:
                factors.append(Factor(variable=word))
            else:
                dependency = word
        elif word in VARIABLES:
            factors.append(Factor(variable=word))
        elif (literal := _LITERAL.fullmatch(word)) is not None:
            if literal[2] is None:
                mantissa *= int(literal[1])
            elif literal[1] == "2":
                exponent += int(literal[2])
            else:
                raise ValueError(f"{target}: '{word}' is no power of 2")
        elif (bracket := _BRACKET.fullmatch(word)) is not None and bracket[2] in VARIABLES:
            const = int(bracket[4] or 0) * (-1 if bracket[3] == "-" else 1)
            if bracket[1] and bracket[2] not in {"w", "d", "t"}:
                raise ValueError(f"{target}: sgn is of w, d or t, not of {bracket[2]}")
            factors.append(Factor(variable=bracket[2], const=const, sign=bool(bracket[1])))
        else:
            raise ValueError(f"{target}: cannot read '{word}' in '{text}'")
    while abs(mantissa) > 7 and mantissa % 2 == 0 and exponent < 8:
        mantissa, exponent = mantissa // 2, exponent + 1
    if not dependency:
        raise ValueError(f"{target}: '{text}' has no dependency (x0, y0 or u)")
    if not (-8 <= mantissa <= 7 and -7 <= exponent <= 8):
        raise ValueError(f"{target}: '{text}' is {mantissa} 2^{exponent}; the engine has -8 .. 7 and 2^-7 .. 2^8")
    return Product(
        target=target, dependency=dependency, mantissa=mantissa, exponent=exponent, factors=tuple(factors), period_exponent=period
    )


def signed(products: Sequence[Product]) -> tuple[list[Product], int, int]:
    """Return (products, number of a y, constant) of a rule whose third factor comes as two halves (backends/loihi2/halves.py), with y3
    minus that y in the place of y3, and y1 for (x2 + constant) where that y is y1; the number is 0 for a rule that has y3 as it is."""
    for other in ("y1", "y2"):
        seconds = [(k, replace(p, mantissa=-p.mantissa, factors=_with(p.factors, "y3", other))) for k, p in enumerate(products)]
        pairs = [(k, products.index(s)) for k, s in seconds if "y3" in {f.variable for f in products[k].factors} and s in products]
        if not pairs or len(pairs) != sum("y3" in {f.variable for f in p.factors} for p in products):
            continue
        dropped = {second for _, second in pairs}
        joined = [p for k, p in enumerate(products) if k not in dropped]
        if other == "y2":
            return joined, 2, 0
        constants = {f.const for p in joined for f in p.factors if f.variable == "x2"}
        if len(constants) == 1:
            named = [replace(p, factors=tuple(Factor(variable="y1") if f.variable == "x2" else f for f in p.factors)) for p in joined]
            return named, 1, constants.pop()
    return list(products), 0, 0


def _with(factors: tuple[Factor, ...], old: str, new: str) -> tuple[Factor, ...]:
    return tuple(replace(f, variable=new) if f.variable == old else f for f in factors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleTable:
    """Products as arrays, in the order dw, dd, dt and of the rule within each.

    product : int32 (p, 7): target, dependency (EVERY_STEP or a variable), mantissa, right shift, left shift, first factor, end of factors;
    factor : int32 (f, 5): variable, constant, whether its sign, smallest and largest value;
    period : steps between the products of u; wide : whether a product needs more than 32 bits.
    """

    product: npt.NDArray[np.int32]
    factor: npt.NDArray[np.int32]
    period: int
    wide: bool


def parse_rules(rules: Mapping[str, str | None]) -> list[Product]:
    """Return the products of some rules, target -> text or None, sorted by target."""
    return [p for target in TARGETS if (text := rules.get(target)) for p in parse_rule(target, text)]


def table(rules: Mapping[str, str | None]) -> RuleTable:
    """Return the table of some rules, target -> text or None."""
    return tabulate(parse_rules(rules))


def tabulate(products: Iterable[Product]) -> RuleTable:
    """Return the table of products; they must be sorted by target."""
    rows: list[tuple[int, ...]] = []
    factors: list[tuple[int, ...]] = []
    products = list(products)
    for p in products:
        first = len(factors)
        for f in p.factors:
            limit = 2 ** WIDTHS[f.variable]
            factors.append((VARIABLES[f.variable], f.const, int(f.sign), -limit, limit - 1))
        dependency = EVERY_STEP if p.dependency == "u" else VARIABLES[p.dependency]
        right, left = max(0, p.bits - ACCUMULATOR_BITS), p.exponent + STATE_SHIFT
        rows.append((TARGETS[p.target], dependency, p.mantissa, right, left, first, len(factors)))
    periods = {p.period_exponent for p in products if p.dependency == "u"}
    if len(periods) > 1:
        raise ValueError("all u of a learning rule have one period")
    return RuleTable(
        product=np.array(rows, np.int32).reshape(-1, 7),
        factor=np.array(factors, np.int32).reshape(-1, 5),
        period=2 ** max(periods, default=0),
        wide=any(p.bits > _WORD for p in products),
    )
