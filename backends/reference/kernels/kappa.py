"""Learnt kappa: how a synapse's gradient depends on kappa, and kappa's own descent (docs/eprop.md, "Learnt kappa").

``EpropState.kappa`` has a row for each synapse, ``EpropState.site_kappa`` one for each learning site where neurons own kappa; the history
of a neuron that owns its kappa has it in column 3, so that no result depends on when a synapse reads.
"""

from __future__ import annotations

from numba import njit

from neurocompile.backends.reference.kernels.tables import EpropState, Rules, Sites

PER_SYNAPSE, PER_NEURON = 1, 2  # Rules.kappa_per; 0: kappa is not learnt
KAPPA, SENSITIVITY, PENDING, COLLECTED, INFLUENCE = 0, 1, 2, 3, 4
"""Columns of ``EpropState.kappa``: kappa of the synapse; s = d ebar / d kappa; h = d gradient / d kappa since the last event, and what was
handed over with gradients that wait for the end of an interval; q = d weight / d kappa by the last change."""
N_COLUMNS = 5
VALUE, CHANGE = 0, 1
"""Columns of ``EpropState.site_kappa``: kappa of the neuron, and what the events of this step have asked for."""


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
def adapt(state: EpropState, rules: Rules, synapse: int, site: int, rule: int, gradient: float, stepped: bool, clipped: bool) -> None:
    """After a synapse's event: if its optimizer ``stepped`` with ``gradient`` (the mean over the interval), kappa descends, and q becomes
    that of the new weight; else h waits with the gradient. ``clipped``: the weight has ended at a bound, where kappa cannot move it."""
    own = state.kappa
    own[synapse, COLLECTED] += own[synapse, PENDING]
    own[synapse, PENDING] = 0.0
    if not stepped:
        return
    change = rules.kappa_rate[rule] * gradient * own[synapse, INFLUENCE]
    if rules.kappa_per[rule] == PER_NEURON:
        state.site_kappa[site, CHANGE] += change
    else:
        own[synapse, KAPPA] = min(max(own[synapse, KAPPA] - change, rules.kappa_low[rule]), rules.kappa_high[rule])
    own[synapse, INFLUENCE] = 0.0 if clipped else -rules.learning_rate[rule] * own[synapse, COLLECTED] / rules.batch[rule]
    own[synapse, COLLECTED] = 0.0


@njit(cache=True, nogil=True)
def settle(sites: Sites, rules: Rules, state: EpropState, index: int) -> None:
    """After the deliveries of step ``index`` + 1: neurons that own kappa take what their synapses' events ask for, from entry ``index`` on."""
    slot = index & (state.history.shape[1] - 1)
    for site in range(sites.rule.size):
        rule = sites.rule[site]
        if rules.kappa_per[rule] == PER_NEURON:
            wanted = state.site_kappa[site, VALUE] - state.site_kappa[site, CHANGE]
            state.site_kappa[site, VALUE] = min(max(wanted, rules.kappa_low[rule]), rules.kappa_high[rule])
            state.site_kappa[site, CHANGE] = 0.0
            state.history[site, slot, 3] = state.site_kappa[site, VALUE]
