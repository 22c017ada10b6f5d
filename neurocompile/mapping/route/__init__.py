"""Placed parts to ways over links. Every router has the signature ``route(problem, partition, placement, machine, *, mode) -> Routes``."""

from neurocompile.mapping.route.trees import MODES, route

__all__ = ["MODES", "route"]
