"""What is missing, as numbers beside the message: what would fit is sought from them (``neurocompile/advice.py``)."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.errors import Diagnostic, DoesNotFitError
from neurocompile.mapping.problem import Int32Array
from neurocompile.mapping.types import Partition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shortfall:
    """More is needed than there is.

    Attributes
    ----------
    resource, unit : str
        What is short: a resource of the problem; ``cores``, ``routing entries`` or ``keys``. For cores, what enforces most of them.
    needed, available : float
        Of a core, a chip or the machine.
    neurons : int32 array, optional
        The neuron, or the neurons that must stay together, that need too much alone.
    outgoing : bool
        The neuron needs too much because of its targets, not because of its synapses.
    partition : Partition, optional
        The parts that found no room.
    """

    resource: str
    unit: str
    needed: float
    available: float
    neurons: Int32Array | None = None
    outgoing: bool = False
    partition: Partition | None = None


class ShortfallError(DoesNotFitError):
    """A finding (NC401 .. NC406) with its numbers."""

    def __init__(self, diagnostic: Diagnostic, shortfall: Shortfall) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic
        self.shortfall = shortfall


__all__ = ["Shortfall", "ShortfallError"]
