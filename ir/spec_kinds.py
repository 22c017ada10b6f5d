"""Kinds of values and fields that several sections of the file format share (:mod:`neurocompile.ir.spec`)."""

from __future__ import annotations

from neurocompile.ir.spec_build import ManyValues
from neurocompile.ir.spec_sections import Field
from neurocompile.ir.spec_types import Quantity, Steps
from neurocompile.ir.units import Dimension

TIME, RATE = Quantity(dimension=Dimension.TIME), Quantity(dimension=Dimension.FREQUENCY)
MEMBRANE, PER_MEMBRANE = Quantity(dimension=Dimension.MEMBRANE), Quantity(dimension=Dimension.PER_MEMBRANE)
STEPS = Steps()
TIMES, RATES, MEMBRANES = (ManyValues(inner=k, wrap=False) for k in (TIME, RATE, MEMBRANE))
WEIGHTS, DELAYS = ManyValues(inner=MEMBRANE, wrap=True), ManyValues(inner=STEPS, wrap=True)
WINDOW = Field(
    key="learning_window",
    kind=Steps(as_int=True),
    doc="Errors count in the last part of a sample only, of this length (a time or a number of steps).",
    default="the whole sample",
    attr="learning_window_steps",
)
