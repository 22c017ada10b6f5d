"""Neurons to parts: what one core holds. One file an algorithm; :func:`partition` chooses, repairs, refines, compares (docs/mapping.md)."""

from neurocompile.mapping.partition.run import ALGORITHMS, partition

__all__ = ["ALGORITHMS", "partition"]
