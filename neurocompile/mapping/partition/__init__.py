"""Neurons to parts: what one core holds. Every partitioner has the signature ``partition(problem) -> Partition``."""

from neurocompile.mapping.partition.sequential import partition

__all__ = ["partition"]
