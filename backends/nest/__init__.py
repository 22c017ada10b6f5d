"""NEST: the network as a PyNEST program with the e-prop models, for threads and MPI (docs/nest.md)."""

from neurocompile.backends.nest.target import TARGET, NestTarget

__all__ = ["TARGET", "NestTarget"]
