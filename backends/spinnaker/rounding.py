"""What 16-bit weights cost, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.ir._types import FloatArray


@dataclass(frozen=True, slots=True)
class Rounding:
    """What rounding costs some synapses, in the description's units; sums of squares of the weights and of their errors."""

    resolution: float
    max_error: float
    error_squares: float
    weight_squares: float
    rounded_to_zero: int


def rounding(weight: FloatArray, scale: FloatArray | float, steps: tuple[float, float]) -> Rounding:
    """Return what becomes of weights, (m,), in the description's units, that are stored as multiples of a step.

    scale : stored weight of a weight of 1, (m,) or one for all; steps : of weights >= 0 and of those below, stored units.
    """
    scaled = weight * scale
    step = np.where(scaled < 0, steps[1], steps[0])
    stored = np.rint(scaled / step) * step
    error = np.abs(stored - scaled) / scale
    return Rounding(
        resolution=float(np.max(step / scale, initial=0.0)),
        max_error=float(np.max(error, initial=0.0)),
        error_squares=float((error**2).sum()),
        weight_squares=float((weight**2).sum()),
        rounded_to_zero=int(np.count_nonzero((stored == 0) & (scaled != 0))),
    )


def rounding_row(parts: Sequence[Rounding], n: int) -> dict[str, Any]:
    """Return the report's row of a projection of n synapses, whose parts these are."""
    rms = float(np.sqrt(sum(p.weight_squares for p in parts) / n)) if n else 0.0
    return {
        "resolution": max((p.resolution for p in parts), default=0.0),
        "max_error": max((p.max_error for p in parts), default=0.0),
        "relative_rms_error": float(np.sqrt(sum(p.error_squares for p in parts) / n)) / rms if rms > 0 else 0.0,
        "rounded_to_zero": sum(p.rounded_to_zero for p in parts),
    }
