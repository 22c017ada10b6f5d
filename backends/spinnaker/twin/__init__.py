"""The target's program in the integers of SpiNNaker's cores, here: what sPyNNaker 1!7.4.1's binaries compute, bit for bit.

:mod:`.network` runs all populations; :mod:`.cores` is what it asks of each, so that a population can be computed in another way.
"""

from neurocompile.backends.spinnaker.twin.cores import Cores, Packets
from neurocompile.backends.spinnaker.twin.network import Replacement, Twin

__all__ = ["Cores", "Packets", "Replacement", "Twin"]
