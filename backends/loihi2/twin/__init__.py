"""Twin of an emitted program in fixed point: the same spikes, states, weights and tags as Lava, bit for bit, and much faster.

Written from Lava's equations (docs/loihi2.md), not from its classes; it reads what is emitted (network.json, network.npz), so that an
error of emission shows as a difference too.
"""

from neurocompile.backends.loihi2.twin.network import Twin, TwinResult, run_twin

__all__ = ["Twin", "TwinResult", "run_twin"]
