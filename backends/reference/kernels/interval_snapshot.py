"""Looking at the traces of synapses in the running interval without touching them."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from neurocompile.backends.reference.kernels.interval_tables import WORD, Interval, IntervalState
from neurocompile.backends.reference.kernels.tables import F8, I8, Constants, Synapses


@njit(cache=True, nogil=True)
def traces(
    constants: Constants, table: Synapses, interval: Interval, state: IntervalState, source: I8, index: I8, step: int
) -> tuple[F8, F8]:
    """Return zbar and ebar of some synapses after update step ``step``: of hidden targets at the entry of the step before, whose learning
    signal is known, of readouts at this step's; 0 if that belongs to the interval before."""
    sites, rules = constants.sites, constants.rules
    zbars, ebars = np.zeros(index.size), np.zeros(index.size)
    if step < 2:
        return zbars, ebars
    phase = (step - 2) % interval.steps
    if phase == interval.steps - 1:
        return zbars, ebars
    for item in range(index.size):
        site = table.target[index[item]]
        readout = sites.is_readout[site] != 0
        alpha, gain, kappa = sites.alpha[site], interval.gain[sites.neuron[site]], rules.kappa[sites.rule[site]]
        rho, beta = sites.rho[site], sites.beta[site]
        zbar = ebar = epsilon = 0.0
        first = int(state.unlearned[source[item]]) if readout else -1
        for entry in range(phase + 1):  # a readout's entry is the step of arrival, a hidden neuron's one behind
            arrival = entry if readout else entry - 1
            zbar *= alpha
            if arrival >= max(first, 0):
                word, bit = arrival // WORD, uint64(arrival % WORD)
                if (state.arrivals[source[item], word] >> bit) & uint64(1):
                    zbar += gain
            if not readout:
                e = state.psi[site, entry] * (zbar - beta * epsilon)
                epsilon = rho * epsilon + e
                ebar = kappa * ebar + (1.0 - kappa) * e
        zbars[item], ebars[item] = zbar, ebar
    return zbars, ebars
