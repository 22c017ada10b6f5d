"""Learnt kappa: how a synapse's gradient depends on kappa, and kappa's own descent (docs/eprop.md, "Learnt kappa").

``EpropState.kappa`` has a row for each synapse, ``EpropState.site_kappa`` one for each learning site where neurons own kappa; the history
of a neuron that owns its kappa has it in column 3, so that no result depends on when a synapse reads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels.tables import (
    COLLECTED,
    INFLUENCE,
    KAPPA,
    PENDING,
    PER_NEURON,
    SCALE,
    SENSITIVITY,
    SITE_SCALE,
    SLOPE,
    VALUE,
    EpropState,
    Rules,
    Sites,
)

FADING = 0.01
"""How fast a scale forgets, an event: 1 / 100 events."""


@njit(cache=True, nogil=True)
def replay(
    state: EpropState,
    synapse: int,
    site: int,
    per: int,
    alpha: float,
    rho: float,
    beta: float,
    kappa_reg: float,
    first: int,
    begin: int,
    stop: int,
) -> None:
    """Read history indices begin .. stop-1 as ``eprop.visit`` does, and the derivatives by kappa with them."""
    history, own = state.history, state.kappa
    mask = history.shape[1] - 1
    gain_reg = 1.0 - kappa_reg
    zbar, epsilon, ebar, ebar_reg = state.zbar[synapse], state.epsilon[synapse], state.ebar[synapse], state.ebar_reg[synapse]
    gradient, arriving = state.gradient[synapse], float(state.arriving[synapse])
    kappa, s, h = own[synapse, KAPPA], own[synapse, SENSITIVITY], own[synapse, PENDING]
    for index in range(begin, stop):
        slot = index & mask
        if per == PER_NEURON:
            kappa = history[site, slot, 3]
        zbar = alpha * zbar + arriving
        arriving = 1.0 if index == first else 0.0
        e = history[site, slot, 0] * (zbar - beta * epsilon)
        epsilon = rho * epsilon + e
        s = kappa * s + ebar  # before ebar moves on
        ebar = kappa * ebar + e
        ebar_reg = kappa_reg * ebar_reg + gain_reg * e
        h += history[site, slot, 1] * s
        gradient += history[site, slot, 1] * ebar + history[site, slot, 2] * ebar_reg
    state.zbar[synapse], state.epsilon[synapse], state.ebar[synapse], state.ebar_reg[synapse] = zbar, epsilon, ebar, ebar_reg
    state.gradient[synapse], state.arriving[synapse] = gradient, arriving
    own[synapse, SENSITIVITY], own[synapse, PENDING] = s, h


@njit(cache=True, nogil=True)
def descend(kappa: float, slope: float, scale: float, rate: float, low: float, high: float) -> tuple[float, float]:
    """Return kappa after a step down ``slope`` = dE/dkappa, and the new scale of such slopes.

    The step is one of log(1 - kappa), the logarithm of the filter's time constant, and at most ``rate``: slopes are divided by their
    running maximum.
    """
    size = abs(slope)
    if size == 0.0:
        return kappa, scale
    scale = max(size, scale + FADING * (size - scale))
    return min(max(1.0 - (1.0 - kappa) * np.exp(rate * slope / scale), low), high), scale


@njit(cache=True, nogil=True)
def adapt(state: EpropState, rules: Rules, synapse: int, site: int, rule: int, gradient: float, stepped: bool, clipped: bool) -> None:
    """After a synapse's event: if its optimizer ``stepped`` with ``gradient`` (the mean over the interval), kappa descends, and q becomes
    that of the new weight; else h waits with the gradient. ``clipped``: the weight has ended at a bound, where kappa cannot move it."""
    own = state.kappa
    own[synapse, COLLECTED] += own[synapse, PENDING]
    own[synapse, PENDING] = 0.0
    if not stepped:
        return
    slope = gradient * own[synapse, INFLUENCE]
    if rules.kappa_per[rule] == PER_NEURON:
        state.site_kappa[site, SLOPE] += slope
    else:
        own[synapse, KAPPA], own[synapse, SCALE] = descend(
            own[synapse, KAPPA], slope, own[synapse, SCALE], rules.kappa_rate[rule], rules.kappa_low[rule], rules.kappa_high[rule]
        )
    own[synapse, INFLUENCE] = 0.0 if clipped else -rules.learning_rate[rule] * own[synapse, COLLECTED] / rules.batch[rule]
    own[synapse, COLLECTED] = 0.0


@njit(cache=True, nogil=True)
def settle(sites: Sites, rules: Rules, state: EpropState, index: int) -> None:
    """After the deliveries of step ``index`` + 1: neurons that own kappa take what their synapses' events ask for; it holds from entry
    ``index`` on."""
    slot = index & (state.history.shape[1] - 1)
    for site in range(sites.rule.size):
        rule = sites.rule[site]
        if rules.kappa_per[rule] == PER_NEURON:
            own = state.site_kappa[site]
            own[VALUE], own[SITE_SCALE] = descend(
                own[VALUE], own[SLOPE], own[SITE_SCALE], rules.kappa_rate[rule], rules.kappa_low[rule], rules.kappa_high[rule]
            )
            own[SLOPE] = 0.0
            state.history[site, slot, 3] = own[VALUE]
