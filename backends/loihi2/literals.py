"""Coefficients of Loihi's learning rules: a mantissa of 4 bits and a power of two."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A coefficient mantissa * 2^exponent of a learning rule: mantissa -8 .. 7, exponent -7 .. 8."""

    mantissa: int
    exponent: int

    def __str__(self) -> str:
        return f"{self.mantissa}*2^{self.exponent}"

    @property
    def value(self) -> float:
        return self.mantissa * 2.0**self.exponent

    @property
    def negative(self) -> Literal:
        return Literal(mantissa=-self.mantissa, exponent=self.exponent)


def nearest_literal(value: float) -> Literal | None:
    """Return the coefficient nearest to a positive number; None: it is nearer to 0 than to the smallest, 2^-7."""
    if value < 2.0**-8:
        return None
    choices = [Literal(mantissa=m, exponent=e) for e in range(-7, 9) for m in (1, 2, 3, 4, 5, 6, 7)]
    return min(choices, key=lambda c: (abs(c.value - value), c.mantissa))
