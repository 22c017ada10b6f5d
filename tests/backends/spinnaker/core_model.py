"""One SpiNNaker core, one Python integer at a time: slow, plain, and written apart from the twin that it checks.

Parameters are rounded to nearest; quotients, exponentials and products are rounded down, as in the machine code of the wheel's
IF_curr_delta.aplx, IF_curr_exp.aplx and IF_curr_delta_ca2_adaptive.aplx.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np

from neurocompile.backends.spinnaker.neurons import Cell

ONE = 1 << 15


def word(value: int) -> int:
    """32 bits with a sign."""
    return (value + 2**31) % 2**32 - 2**31


def encode(value: float) -> int:
    return round(Fraction(Decimal(str(float(value)))) * ONE)


def product(a: int, b: int) -> int:
    return word(a * b >> 15)


def scaled(x: int, fraction: int) -> int:
    high, low = divmod(x, 2**32)
    low *= fraction
    return high * fraction + low // 2**32 + (low % 2**32 >= 2**31 - 1)


def exponential(x: int) -> int:
    """2^32 exp(x / 2^15) for x <= 0: exp of the whole number above, brought down by sixteenths and by a parabola for what is left."""
    if x < -340695:
        return 0
    whole = -(-x // ONE)
    value = round(Decimal(whole).exp() * 2**32)
    back = whole * ONE - x
    if back:
        value -= scaled(value, round((1 - (Decimal(-(back // 2048)) / 16).exp()) * 2**32))
        rest = back % 2048 << 17
        value -= scaled(value, 5294 + ((4293434720 - (2081624032 * rest >> 32)) * rest >> 32))
    return value


class Core:
    """One neuron of a cell (``index``); ``update`` takes what the ring buffers hold for a tick, s16.15 integers."""

    def __init__(self, cell: Cell, dt: float, index: int = 0) -> None:
        n = cell.size
        p = {name: encode(np.broadcast_to(value, (n,))[index]) for name, value in cell.params.items()}
        self.p, self.exponential = p, cell.cell == "IF_curr_exp"
        step = encode(dt * 1e3)
        self.r = p["tau_m"] * ONE // max(p["cm"], 1)
        self.e = exponential(-(step * ONE // p["tau_m"])) >> 17
        self.silent = -(-(p["tau_refrac"] * ONE // step) // ONE)
        self.scale = ONE * ONE // step
        self.kept, self.first = [0, 0], [0, 0]
        if self.exponential:
            for k, name in enumerate(("tau_syn_E", "tau_syn_I")):
                self.kept[k] = exponential(-(step * ONE // p[name]))
                self.first[k] = (p[name] * ONE // step) * (2**32 - 1 - self.kept[k]) // ONE % 2**32
        self.ca_kept = exponential(-(step * ONE // p["tau_ca2"])) >> 17 if "tau_ca2" in p else 0
        self.rest()

    def rest(self) -> None:
        self.i = [self.p.get("isyn_exc", 0), self.p.get("isyn_inh", 0)]
        self.v, self.timer, self.ca = self.p["v_init"], 0, 0

    def update(self, arrived: tuple[int, int]) -> bool:
        if self.exponential:
            self.i = [word(i + (a * f >> 32)) for i, a, f in zip(self.i, arrived, self.first, strict=True)]
            current = self.i[0] - self.i[1]
        else:
            current = product(arrived[0], self.scale) - product(arrived[1], self.scale)
        self.ca = product(self.ca, self.ca_kept)
        if self.timer <= 0:
            alpha = word(product(word(current - self.ca + self.p["i_offset"]), self.r) + self.p["v_rest"])
            self.v = word(alpha - product(self.e, word(alpha - self.v)))
        else:
            self.timer -= 1
        fires = self.v >= self.p["v_thresh"]
        if fires:
            self.v, self.timer = self.p["v_reset"], self.silent
            self.ca = word(self.ca + self.p.get("i_alpha", 0))
        if self.exponential:
            self.i = [i * k >> 32 for i, k in zip(self.i, self.kept, strict=True)]
        return fires
