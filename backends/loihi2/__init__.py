"""Loihi 2 through Lava: lowering to integers, emission of a Lava program, its NumPy twin."""

from neurocompile.backends.loihi2.target import Loihi2Target
from neurocompile.backends.loihi2.twin import TwinResult, run_twin

TARGET = Loihi2Target()

__all__ = ["TARGET", "Loihi2Target", "TwinResult", "run_twin"]
