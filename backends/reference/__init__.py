"""The reference engine: neurons, event-driven e-prop and STDP in float64 (numba)."""

from neurocompile.backends.reference.recording import Recording, RecordOptions
from neurocompile.backends.reference.simulator import Simulator

__all__ = ["RecordOptions", "Recording", "Simulator"]
