"""Target ``spinnaker``: sPyNNaker programs for SpiNNaker 1 (and mapping for SpiNNaker 2). docs/spinnaker.md."""

from neurocompile.backends.spinnaker.target import TARGET

__all__ = ["TARGET"]
