"""Units at the edge: text such as ``20 ms`` becomes an SI number here, once, and nowhere else.

Times and frequencies always carry a unit (0 and infinity need none): a bare ``20`` means ms to users of NEST and s to others.
Membrane quantities (potentials, weights) are plain numbers in the user's own unit, or carry V, mV or uV and become volts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

import numpy as np

from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import InputError, did_you_mean


class Dimension(Enum):
    """What a quantity measures; the value is its name in messages."""

    TIME = "time"
    FREQUENCY = "frequency"
    MEMBRANE = "membrane quantity"
    PER_MEMBRANE = "inverse membrane quantity"
    NUMBER = "number without unit"


UNITS: dict[Dimension, dict[str, int]] = {
    Dimension.TIME: {"s": 0, "ms": -3, "us": -6, "µs": -6, "μs": -6, "ns": -9},
    Dimension.FREQUENCY: {"Hz": 0, "kHz": 3, "MHz": 6, "mHz": -3},
    Dimension.MEMBRANE: {"V": 0, "mV": -3, "uV": -6, "µV": -6, "μV": -6},
    Dimension.PER_MEMBRANE: {"1/V": 0, "1/mV": 3, "1/uV": 6, "1/µV": 6, "1/μV": 6},
    Dimension.NUMBER: {},
}
"""Unit -> power of ten that leads to SI (s, Hz, V, 1/V)."""

EXAMPLES: dict[Dimension, str] = {
    Dimension.TIME: "20 ms",
    Dimension.FREQUENCY: "10 Hz",
    Dimension.MEMBRANE: "15 mV",
    Dimension.PER_MEMBRANE: "0.3 1/mV",
    Dimension.NUMBER: "0.5",
}

NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_QUANTITY = re.compile(rf"\s*({NUMBER})\s*(\S.*?)?\s*", re.DOTALL)
PLAIN_ALLOWED = (Dimension.MEMBRANE, Dimension.PER_MEMBRANE, Dimension.NUMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number in SI (or in the user's own membrane unit where ``unit`` is None) and the unit it was written in."""

    value: float
    unit: str | None


def unit_pattern(dimension: Dimension) -> str:
    """Return the regular expression of a quantity with a unit of that dimension (for the JSON Schema)."""
    names = "|".join(re.escape(u) for u in UNITS[dimension])
    return rf"^\s*{NUMBER}\s*({names})\s*$"


def scale(values: FloatArray, unit: str, dimension: Dimension) -> FloatArray:
    """Return ``values``, given in ``unit``, in SI. One rounding per number."""
    power = UNITS[dimension][unit]
    return np.asarray(values * 10.0**power if power >= 0 else values / 10.0**-power, dtype=np.float64)


def _shift(number: str, power: int) -> float:
    """Return number * 10^power, rounded once (so that '35 ms' is 0.035 exactly)."""
    mantissa, _, exponent = number.lower().partition("e")
    if len(exponent) > 7:  # beyond any float; int() of a very long text would be slow or refused
        return float(number)
    return float(f"{mantissa}e{int(exponent or 0) + power}")


def _dimension_of(unit: str) -> Dimension | None:
    return next((d for d, names in UNITS.items() if unit in names), None)


def _spelled(dimension: Dimension) -> str:
    return ", ".join(u for u in UNITS[dimension] if u.isascii())


def parse_quantity(given: str | float, dimension: Dimension) -> Quantity:
    """Return a quantity in SI.

    Parameters
    ----------
    given : str or float
        ``20 ms``, ``15 mV``, ``0.03``, 0, inf.
    dimension : Dimension
        What is expected.

    Raises
    ------
    InputError
        NC114 not a number, NC115 unit missing, NC116 unknown unit or unit of another dimension.
    """
    example = f"write for example '{EXAMPLES[dimension]}'"
    if not isinstance(given, str):
        try:
            value = float(given)
        except OverflowError:
            value = math.nan
        if math.isnan(value):
            raise InputError.of("NC114", f"expected a {dimension.value}, got {str(given)[:40]}", help=example)
        if dimension not in PLAIN_ALLOWED and value != 0.0 and not math.isinf(value):
            raise InputError.of(
                "NC115", f"{value:g} has no unit, expected a {dimension.value} in {_spelled(dimension)}", help=_with_units(value, dimension)
            )
        return Quantity(value=value, unit=None)
    match = _QUANTITY.fullmatch(given)
    if match is None:
        raise InputError.of("NC114", f"expected a {dimension.value}, got '{given[:60]}'", help=example)
    number, unit = match.groups()
    if unit is None:
        return parse_quantity(_finite(_shift(number, 0), given), dimension)
    if unit not in UNITS[dimension]:
        other = _dimension_of(unit)
        what = f"'{unit[:40]}' is a unit of {other.value}" if other else f"unknown unit '{unit[:40]}'"
        fix = f"use {_spelled(dimension)}" if UNITS[dimension] else "write the number alone"
        same = [u for u in UNITS[dimension] if u.casefold() == unit.casefold()]  # 'mv'; the case of a unit has a meaning
        if same:
            fix = f"did you mean '{same[0]}'?"
        elif other is None and (near := did_you_mean(unit[:40], UNITS[dimension])) and near.startswith("did"):
            fix = near
        raise InputError.of("NC116", f"{what}, expected a {dimension.value}", help=fix)
    return Quantity(value=_finite(_shift(number, UNITS[dimension][unit]), given), unit=unit)


def _finite(value: float, given: str) -> float:
    if math.isinf(value):
        raise InputError.of("NC114", f"'{given[:40]}' is too large for a float64", help="write .inf for infinity")
    return value


def _with_units(value: float, dimension: Dimension) -> str:
    first, second = ("ms", "s") if dimension is Dimension.TIME else ("Hz", "kHz")
    return f"write '{value:g} {first}' or '{value:g} {second}'"


STEP_TOLERANCE = 1e-9
"""Allowed distance of time/dt from a whole number, relative above 1: float64 division errs by 2e-16 relative, so this only forgives
rounding, never a wrong number of steps."""


def whole_steps(time: float, dt: float) -> int | None:
    """Return ``time / dt`` (both s) as a whole number of steps, or None if it is not one within 1e-9."""
    ratio = time / dt
    if not math.isfinite(ratio):
        return None
    nearest = round(ratio)
    return nearest if abs(ratio - nearest) <= STEP_TOLERANCE * max(1.0, abs(ratio)) else None
