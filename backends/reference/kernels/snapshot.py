"""Looking at the traces of synapses without touching them."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels.tables import (
    F8,
    I4,
    I8,
    KAPPA,
    NO_SPIKE,
    PER_NEURON,
    PER_SYNAPSE,
    EpropState,
    Rules,
    Sites,
)


@njit(cache=True, nogil=True)
def traces(target: I4, sites: Sites, rules: Rules, state: EpropState, index: I8, end: int) -> tuple[F8, F8]:
    """Return zbar and ebar of some synapses at the last complete entry (learning step - 2), as a spike that arrives now would find them."""
    zbars, ebars = np.zeros(index.size), np.zeros(index.size)
    for item in range(index.size):
        synapse = index[item]
        if state.last_spike[synapse] == NO_SPIKE:
            continue
        site = target[synapse]
        rule = sites.rule[site]
        alpha, rho, beta, kappa = (
            sites.alpha[site],
            sites.rho[site],
            sites.beta[site],
            rules.kappa[rule],
        )
        per = 0 if sites.is_readout[site] else rules.kappa_per[rule]
        if per == PER_SYNAPSE:
            kappa = state.kappa[synapse, KAPPA]
        first = state.last_spike[synapse] - 1
        stop = min(end, first + rules.cutoff[rule])
        zbar, ebar, epsilon = state.zbar[synapse], state.ebar[synapse], state.epsilon[synapse]
        arriving = float(state.arriving[synapse])
        mask = state.history.shape[1] - 1
        for t in range(int(state.position[synapse]), stop):
            if per == PER_NEURON:
                kappa = state.history[site, t & mask, 3]
            zbar = alpha * zbar + arriving
            arriving = 1.0 if t == first else 0.0
            e = state.history[site, t & mask, 0] * (zbar - beta * epsilon)
            epsilon = rho * epsilon + e
            ebar = kappa * ebar + e
        skipped = end - max(stop, first)
        zbars[item] = zbar * alpha ** max(skipped, 0)
        ebars[item] = ebar * kappa ** max(skipped, 0)
    return zbars, ebars
