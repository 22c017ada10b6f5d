"""Number formats of Lava's ``fixed_pt`` models, as integers and conversions (source: lava-nc 0.10, ``lava/proc/lif/models.py``).

These are the format of the emitted program, not properties of a machine: the twin must equal Lava whatever the machine file says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

DECAY_UNITY = 4096
"""decays are 12-bit fractions"""
ALIGN_SHIFT = 6
"""activations and thresholds are aligned this many bits above the state's lowest bit"""
STATE_MAX = 2**23 - 1
"""u and v: 24 bits with sign"""
THRESHOLD_MAX = 2**17 - 1
BIAS_MANTISSA_MAX = 2**12 - 1
BIAS_EXPONENT_MAX = 7
WEIGHT_EXPONENT_MIN, WEIGHT_EXPONENT_MAX = -8, 7
WEIGHT_FULL = 254
"""largest weight that every sign mode holds (mixed weights are even)"""
DELAY_MAX_STEPS = 63
"""6-bit delays 0 .. 62 of DelaySparse, plus the step that passes between two processes (netx clamps at 62 as well)"""
TRACE_MAX = 127


def decayed(state: IntArray, decay: IntArray | int) -> IntArray:
    """Return state * (4096 - decay) / 4096 rounded towards zero, as Lava's LIF."""
    product = state.astype(np.int64) * (DECAY_UNITY - np.asarray(decay, np.int64))
    result: IntArray = np.sign(product) * (np.abs(product) >> 12)
    return result


def decay_register(factor: FloatArray) -> IntArray:
    """Return 12-bit decays (0 .. 4096, 4096 = no memory) of decay factors per step in [0, 1]."""
    register: IntArray = np.rint(DECAY_UNITY * (1.0 - factor)).astype(np.int64)
    return register


def mantissa_shift(gain: float, *, bits: int = 15) -> tuple[int, int]:
    """Return (mantissa, shift) with mantissa / 2^shift ~ gain, 0 <= mantissa < 2^bits, 0 <= shift <= 40; relative error <= 2^-bits
    unless the gain is below 2^-40."""
    if gain <= 0.0:
        return 0, 0
    shift = int(np.clip(bits - 1 - np.floor(np.log2(gain)), 0, 40))
    return int(np.rint(gain * 2.0**shift)), shift


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantisedWeights:
    """Weights of one projection as the chip holds them.

    values : int16 (m,), multiplied by ``unit`` membrane units each; sign_mode : MIXED | EXCITATORY | INHIBITORY;
    exponent : shared weight exponent; low, high : range of the values; clipped : how many did not fit; step : at the start all values are
    multiples of it;
    coarse : learning moves weights by multiples of 2^coarse, which all values are; 0: by single units, as Lava does, also where mixed
    weights were even.
    """

    values: npt.NDArray[np.int16]
    unit: float
    exponent: int
    sign_mode: str
    low: int
    high: int
    clipped: int
    step: int = 1
    coarse: int = 0

    @property
    def level(self) -> int:
        """Exponent of the unit in which learnt weights move."""
        return self.exponent + self.coarse


WEIGHT_RANGES = {"MIXED": (-256, 254), "EXCITATORY": (0, 255), "INHIBITORY": (-255, 0)}
"""sign mode -> smallest, largest weight"""


def narrowest_sign_mode(weight: FloatArray) -> str:
    """Return the sign mode with the most resolution that holds some weights."""
    return "EXCITATORY" if weight.size == 0 or weight.min() >= 0 else "INHIBITORY" if weight.max() <= 0 else "MIXED"


def exact_format(weight: FloatArray) -> tuple[int, str] | None:
    """Return (exponent, sign mode) in which 8 bits hold weights exactly, or None. ``weight``: in units of 2^6 state units.

    The exponent of the least magnitude. A negative one holds odd weights of mixed sign up to 127 (in halves, mixed weights are even):
    every sum is then a multiple of what the shift removes, so nothing is rounded.
    """
    weight = np.unique(weight)
    for exponent in sorted(range(WEIGHT_EXPONENT_MIN, WEIGHT_EXPONENT_MAX + 1), key=abs):
        scaled = weight / 2.0**exponent
        for mode in dict.fromkeys((narrowest_sign_mode(weight), "MIXED")):
            low, high = WEIGHT_RANGES[mode]
            step = 2.0 if mode == "MIXED" else 1.0
            if bool((scaled / step == np.rint(scaled / step)).all()) and scaled.min(initial=0) >= low and scaled.max(initial=0) <= high:
                return exponent, mode
    return None


def quantise_weights(
    weight: FloatArray, scale: float, exponent: int, *, sign_mode: str | None = None, bits: int | None = None
) -> QuantisedWeights:
    """Round weights (membrane units) to 8 bits at ``scale`` state units per membrane unit and a weight exponent.

    ``sign_mode`` None takes the narrowest that holds the weights. Mixed weights are even: the sign takes one of the 8 bits, and
    Lava clears the lowest bit by rounding down, so it is rounded here. Fewer ``bits``: multiples of a coarser step in the same range,
    learnt weights too; None: 8 bits, from which learning may move by single units.
    """
    if sign_mode is None:
        sign_mode = narrowest_sign_mode(weight)
    unit = 2.0 ** (ALIGN_SHIFT + exponent) / scale
    coarse = 8 - (bits or 8) + (sign_mode == "MIXED")
    step = 2**coarse
    low, high = (int(np.trunc(end / step)) * step for end in WEIGHT_RANGES[sign_mode])
    rounded = step * np.rint(weight / unit / step)
    values = np.clip(rounded, low, high)
    return QuantisedWeights(
        values=values.astype(np.int16),
        unit=unit,
        exponent=exponent,
        sign_mode=sign_mode,
        low=low,
        high=high,
        clipped=int((values != rounded).sum()),
        step=step,
        coarse=0 if bits is None else coarse,
    )
