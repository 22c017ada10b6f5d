"""Placed parts to ways over links. Every router has the signature ``route(problem, partition, placement, machine, *, exact) -> Routes``."""

from neurocompile.mapping.route.trees import route

__all__ = ["route"]
