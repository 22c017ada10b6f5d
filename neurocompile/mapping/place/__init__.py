"""Parts to chips and cores. Every placer has the signature ``place(problem, partition, machine, *, seed) -> Placement``."""

from neurocompile.mapping.place.walk import place

__all__ = ["place"]
