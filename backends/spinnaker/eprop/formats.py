"""A population's numbers on its cores: membrane, surrogate, errors and learning signals as integers (docs/spinnaker-eprop.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.ranges import Adaptation, psi_bits
from neurocompile.ir import ALIF, LIF, LeakyReadout, Surrogate, SurrogateKind
from neurocompile.ir._types import FloatArray
from neurocompile.ir.neurons import Reset, decay, expand

Ints = npt.NDArray[np.int64]
ONE = 1 << 15
"""Integer units of a scaled membrane unit (s16.15)"""
WORD = 2**31 - 1
DECAY_BITS = 31
ERROR_MOST = 32767
"""The error that a packet carries has 16 bits"""
NEAR, PER_OCTAVE, OCTAVES = 64, 32, 8
"""Pieces of the surrogate's table up to one width from the threshold, and in each octave of widths beyond; linear in between"""
TABLE = NEAR + PER_OCTAVE * OCTAVES
REACH = {
    SurrogateKind.PIECEWISE_LINEAR: 1.0,
    SurrogateKind.EXPONENTIAL: 10.4,
    SurrogateKind.FAST_SIGMOID_DERIVATIVE: 180.0,
    SurrogateKind.ARCTAN_DERIVATIVE: 181.0,
}
"""Distance from the threshold, in widths, beyond which the surrogate is below half a unit of 2^-15 of its height"""


@dataclass(frozen=True, slots=True)
class Factor:
    """A real number as mantissa 2^-shift, for 32 x 32 -> 64 bits: x -> round(x mantissa 2^-shift)."""

    mantissa: int
    shift: int

    @classmethod
    def of(cls, value: float) -> Factor:
        """The nearest factor, 30 bits; shift 1 .. 62. Raises ValueError for numbers beyond 2^29; what is below 2^-33 loses bits."""
        if value <= 0.0:
            return cls(0, 1)
        shift = min(29 - math.floor(math.log2(value)), 62)
        if shift < 1:
            raise ValueError(f"a factor of {value:g} does not fit")
        return cls(round(value * 2.0**shift), shift)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neurons:
    """Integers of a population's update, (n,) each unless said otherwise; membranes are relative to v_leak, in s16.15 of S membrane units.

    decay, current_decay, adapt_decay : 31 fraction bits; bias, v_min, threshold, v_reset, adapt_step : membrane; leak : v_leak, for what is
    recorded; refractory : steps; initial_current : membrane; subtract : reset by subtraction; readout : sends no spikes.
    table (TABLE + 1,) : psi, fraction bits of scales.psi_bits; reach : |v - threshold| at which the table ends (membrane); position :
    distance -> sixty-fourths of a width, 8 fraction bits.
    """

    decay: Ints
    current_decay: Ints
    adapt_decay: Ints
    bias: Ints
    v_min: Ints
    threshold: Ints
    v_reset: Ints
    adapt_step: Ints
    leak: Ints
    refractory: Ints
    initial_current: Ints
    subtract: bool
    readout: bool
    table: Ints
    reach: int
    position: Factor

    @property
    def uniform(self) -> bool:
        """Whether all neurons have the same numbers."""
        arrays = (getattr(self, f.name) for f in fields(self) if f.name != "table")
        return all(bool((a == a[0]).all()) for a in arrays if isinstance(a, np.ndarray))


def lower_neurons(model: LIF | LeakyReadout, size: int, dt: float, scale: float, surrogate: Surrogate | None) -> Neurons:
    """Return the integers of a population. scale : S; surrogate : None for readouts.

    Raises
    ------
    ValueError
        A number that 32 bits do not hold, with its name.
    """
    unit = scale * ONE

    def membrane(name: str, value: FloatArray) -> Ints:
        scaled = np.rint(value * unit)
        if np.abs(scaled).max(initial=0.0) > WORD:
            worst = float(value[int(np.argmax(np.abs(scaled)))])
            raise ValueError(f"{name} is {worst:g}, which is {abs(worst) * scale:g} in s16.15 (it ends at 65536)")
        whole: Ints = scaled.astype(np.int64)
        return whole

    def fraction(values: FloatArray) -> Ints:
        whole: Ints = np.minimum(np.rint(values * 2.0**DECAY_BITS), WORD).astype(np.int64)
        return whole

    n, none = size, np.zeros(size)
    nothing = none.astype(np.int64)
    leak, floor = expand(model.v_leak, n), expand(model.v_min, n)
    threshold = expand(model.v_threshold, n) - leak if isinstance(model, LIF) else none
    table, reach, position = np.zeros(TABLE + 1, np.int64), 0, Factor(0, 1)
    if surrogate is not None:
        distance = REACH[surrogate.kind] * surrogate.width
        table = np.rint(_psi(surrogate, _corners() * surrogate.width) * 2.0 ** psi_bits(surrogate.height)).astype(np.int64)
        reach = int(min(round(distance * unit), WORD))
        position = Factor.of(NEAR * 256.0 / (surrogate.width * unit))
    return Neurons(
        decay=fraction(decay(model.tau_mem, dt, model.integration, n)),
        current_decay=fraction(decay(getattr(model, "tau_syn", 0.0), dt, model.integration, n)),
        adapt_decay=fraction(decay(model.adapt_tau, dt, model.integration, n)) if isinstance(model, ALIF) else nothing,
        bias=membrane("bias", expand(model.bias, n)),
        v_min=np.where(np.isfinite(floor), membrane("v_min", np.where(np.isfinite(floor), floor - leak, 0.0)), -WORD),
        threshold=membrane("v_threshold", threshold),
        v_reset=membrane("v_reset", expand(model.v_reset, n) - leak) if isinstance(model, LIF) else nothing,
        adapt_step=membrane("adapt_beta", expand(model.adapt_beta, n)) if isinstance(model, ALIF) else nothing,
        leak=membrane("v_leak", leak),
        refractory=np.rint(expand(model.t_ref, n) / dt).astype(np.int64) if isinstance(model, LIF) else nothing,
        initial_current=membrane("i_init", expand(getattr(model, "i_init", 0.0), n)),
        subtract=isinstance(model, LIF) and model.reset is Reset.SUBTRACT,
        readout=not isinstance(model, LIF),
        table=table,
        reach=reach,
        position=position,
    )


def adapting(neurons: Neurons, scale: float, height: float) -> tuple[Neurons, Adaptation | None]:
    """Return neurons and what the scales of their second eligibility state follow from, None if none of them adapts.

    Where some have an adapt_beta of 0, their adapt_decay, which then has no effect, becomes one that bounds nothing.
    scale : S; height : of the surrogate.
    """
    adapts = neurons.adapt_step > 0
    if not adapts.any():
        return neurons, None
    unit = 1.0 / (scale * ONE)
    found = Adaptation.of(neurons.adapt_decay[adapts], neurons.adapt_step[adapts], unit, height)
    if adapts.all() or found.least <= 0.0:
        return neurons, found
    other = replace(neurons, adapt_decay=np.where(adapts, neurons.adapt_decay, math.ceil(found.least * 2.0**DECAY_BITS)))
    return other, Adaptation.of(other.adapt_decay, other.adapt_step, unit, height)


def _corners() -> FloatArray:
    """Return where the table's pieces meet, widths, (TABLE + 1,)."""
    octaves = [2.0**k * (1.0 + np.arange(PER_OCTAVE) / PER_OCTAVE) for k in range(OCTAVES)]
    return np.concatenate([np.arange(NEAR) / NEAR, *octaves, [2.0**OCTAVES]])


def _psi(surrogate: Surrogate, distance: FloatArray) -> FloatArray:
    x = distance / surrogate.width
    if surrogate.kind is SurrogateKind.PIECEWISE_LINEAR:
        shape = np.maximum(0.0, 1.0 - x)
    elif surrogate.kind is SurrogateKind.EXPONENTIAL:
        shape = np.exp(-x)
    elif surrogate.kind is SurrogateKind.FAST_SIGMOID_DERIVATIVE:
        shape = (1.0 + x) ** -2.0
    else:
        shape = 1.0 / (1.0 + x * x)
    found: FloatArray = surrogate.height * shape
    return found


def membrane_scale(model: LIF | LeakyReadout, size: int, largest_weight: float) -> float:
    """Return S, a power of two: threshold minus rest in (8, 16], or for readouts the largest weight in (1, 2]."""
    if isinstance(model, LIF):
        distance = float(np.abs(expand(model.v_threshold, size) - expand(model.v_leak, size)).max()) / 2.0
    else:
        distance = 4.0 * largest_weight
    if distance <= 0.0:
        distance = largest_weight if largest_weight > 0.0 else 1.0
    with np.errstate(divide="ignore", over="ignore"):
        return float(2.0 ** np.clip(np.floor(np.log2(8.0 / distance)), -14, 20))
