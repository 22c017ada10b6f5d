"""Event-driven STDP and reward-modulated STDP (docs/eprop.md, section "STDP").

A synapse is touched when a spike arrives at it (depression, before the spike is transmitted), when its target spikes (potentiation) and,
with reward, in steps in which reward arrives. Between these moments traces decay and c d is integrated in closed form.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels.tables import F8, I4, NO_SPIKE, StdpRules, StdpState, StdpSynapses


@njit(cache=True, nogil=True)
def _settle(rules: StdpRules, dt: float, state: StdpState, synapse: int, rule: int, now: int) -> None:
    """Integrate dw/dt = c d of a reward-modulated synapse from its last touch to ``now``; d has not changed in between but by decay."""
    c = state.stdp_c[synapse]
    since = state.stdp_touch[synapse]
    state.stdp_touch[synapse] = now
    if c == 0.0 or since >= now:
        return
    d = state.stdp_d[rule] * np.exp(-(since - state.stdp_d_step[rule]) * dt / rules.tau_d[rule])
    speed = 1.0 / rules.tau_c[rule] + 1.0 / rules.tau_d[rule]
    span = (now - since) * dt
    weight = state.stdp_weight[synapse] - c * d * np.expm1(-span * speed) / speed
    state.stdp_weight[synapse] = min(max(weight, rules.low[rule]), rules.high[rule])
    state.stdp_c[synapse] = c * np.exp(-span / rules.tau_c[rule])


@njit(cache=True, nogil=True)
def _change(rules: StdpRules, dt: float, state: StdpState, synapse: int, rule: int, amount: float, up: bool, now: int) -> None:
    """Let a spike pair act: on the weight, or on the eligibility c of a reward-modulated synapse."""
    low, high = rules.low[rule], rules.high[rule]
    if rules.rewarded[rule]:
        _settle(rules, dt, state, synapse, rule, now)
    weight = state.stdp_weight[synapse]
    if rules.multiplicative[rule]:
        amount *= high - weight if up else weight - low
    else:
        amount *= high
    amount = amount if up else -amount
    if rules.rewarded[rule]:
        state.stdp_c[synapse] += amount
    else:
        state.stdp_weight[synapse] = min(max(weight + amount, low), high)


@njit(cache=True, nogil=True)
def settle_all(table: StdpSynapses, rules: StdpRules, dt: float, state: StdpState, rule: int, now: int) -> None:
    """Settle every synapse of a rule (any rule: -1)."""
    for synapse in range(state.stdp_weight.size):
        mine = int(table.rule[synapse])
        if (rule < 0 or rule == mine) and rules.rewarded[mine]:
            _settle(rules, dt, state, synapse, mine, now)


@njit(cache=True, nogil=True)
def deliver(
    table: StdpSynapses,
    rules: StdpRules,
    dt: float,
    state: StdpState,
    ring: F8,
    pending: I4,
    count: int,
    step: int,
    now: int,
    learn: bool,
) -> int:
    """Note the spikes of the last step, take in reward, and let arrive what has travelled long enough; return how many synapses that is."""
    events = 0
    slots = state.stdp_log_count.size
    slot = (step - 1) % slots
    state.stdp_log_count[slot] = count
    state.stdp_log[slot, :count] = pending[:count]
    if learn:
        for rule in range(rules.rewarded.size):
            reward = 0.0
            for item in range(count):
                if rules.reward_start[rule] <= pending[item] < rules.reward_stop[rule]:
                    reward += rules.reward_weight[rule]
            if reward != 0.0:
                settle_all(table, rules, dt, state, rule, now)
                passed = (now - state.stdp_d_step[rule]) * dt
                state.stdp_d[rule] = state.stdp_d[rule] * np.exp(-passed / rules.tau_d[rule]) + reward
                state.stdp_d_step[rule] = now
    for group in range(table.delay.size):
        slot = (step - table.delay[group]) % slots
        for item in range(state.stdp_log_count[slot]):
            source = state.stdp_log[slot, item]
            first, last = table.pointer[group, source], table.pointer[group, source + 1]
            events += last - first
            for synapse in range(first, last):
                target = table.target[synapse]
                if learn:
                    rule = int(table.rule[synapse])
                    y, y_step = state.stdp_y[rule, target], state.stdp_y_step[rule, target]
                    if y_step != NO_SPIKE:
                        y *= np.exp(-(now - y_step) * rules.per_tau_minus[rule])
                        _change(rules, dt, state, synapse, rule, rules.a_minus[rule] * y, False, now)
                    x_step = state.stdp_x_step[synapse]
                    x = 0.0 if x_step == NO_SPIKE else state.stdp_x[synapse] * np.exp(-(now - x_step) * rules.per_tau_plus[rule])
                    state.stdp_x[synapse] = x + 1.0
                    state.stdp_x_step[synapse] = now
                    if rules.rewarded[rule]:
                        _settle(rules, dt, state, synapse, rule, now)
                ring[target] += state.stdp_weight[synapse]
    return events


@njit(cache=True, nogil=True)
def potentiate(table: StdpSynapses, rules: StdpRules, dt: float, state: StdpState, spikes: I4, count: int, now: int) -> None:
    """Let the spikes of this step act on the incoming synapses of the neurons that sent them."""
    for item in range(count):
        n = spikes[item]
        for place in range(table.in_pointer[n], table.in_pointer[n + 1]):
            synapse = table.in_synapse[place]
            x_step = state.stdp_x_step[synapse]
            if x_step == NO_SPIKE:
                continue
            rule = int(table.rule[synapse])
            x = state.stdp_x[synapse]
            x = x - 1.0 if x_step == now else x * np.exp(-(now - x_step) * rules.per_tau_plus[rule])  # this step's arrival is not seen
            if x > 0.0:
                _change(rules, dt, state, synapse, rule, rules.a_plus[rule] * x, True, now)
        if table.in_pointer[n + 1] > table.in_pointer[n]:
            for rule in range(rules.rewarded.size):
                y, y_step = state.stdp_y[rule, n], state.stdp_y_step[rule, n]
                y = 0.0 if y_step == NO_SPIKE else y * np.exp(-(now - y_step) * rules.per_tau_minus[rule])
                state.stdp_y[rule, n] = y + 1.0
                state.stdp_y_step[rule, n] = now
