"""Connectivity rules -> synapses (see docs/connectivity.md). Skeleton: the interface other rooms rely on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import Int32Array
from neurocompile.ir.network import Network, Projection

Weights = npt.NDArray[np.float64] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connections:
    """Synapses of one projection, in their canonical order: as given for ``file:`` and Explicit, else by target, then by source.

    pre, post : int32 (m,); weight : float64 or float32 (m,); delay : uint8 (m,), steps 1 .. 255.
    """

    pre: Int32Array
    post: Int32Array
    weight: Weights
    delay: npt.NDArray[np.uint8]


def realise(network: Network, projection: Projection) -> Connections:
    """Return the synapses of a projection."""
    raise NotImplementedError


def realise_all(network: Network) -> dict[str, Connections]:
    """Return the synapses of every synaptic projection, by name."""
    return {p.name: realise(network, p) for p in network.synaptic_projections}
