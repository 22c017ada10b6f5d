"""Writing one row of what a run records; the same for every engine."""

from __future__ import annotations

from numba import njit

from neurocompile.backends.reference.kernels.eprop import surrogate
from neurocompile.backends.reference.kernels.tables import F8, NeuronState, Probes, Readouts, Rules, Sites


@njit(cache=True, nogil=True)
def record(sites: Sites, rules: Rules, readouts: Readouts, neurons: NeuronState, signal: F8, probes: Probes, row: int) -> None:
    """Write row ``row`` of the probes. signal: learning signals of hidden sites as NEST's recordable shows them in this step, (S,)."""
    for item in range(probes.membrane_ids.size):
        probes.membrane[row, item] = neurons.v[probes.membrane_ids[item]]
    for item in range(probes.adaptation_ids.size):
        probes.adaptation[row, item] = neurons.adaptation[probes.adaptation_ids[item]]
    for item in range(probes.surrogate_ids.size):
        site = probes.surrogate_ids[item]
        rule, distance = sites.rule[site], neurons.distance[sites.neuron[site]]
        probes.surrogate[row, item] = surrogate(rules.surrogate[rule], rules.height[rule], rules.per_width[rule], distance)
    for item in range(probes.signal_ids.size):
        site = probes.signal_ids[item]
        probes.signal[row, item] = neurons.error[sites.neuron[site]] if sites.is_readout[site] else signal[site]
    column = 0
    for readout in range(readouts.start.size):
        for n in range(readouts.start[readout], readouts.stop[readout]):
            probes.output[row, column] = neurons.v[n]
            column += 1
