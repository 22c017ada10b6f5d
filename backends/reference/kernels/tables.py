"""What the kernels work on: named tuples of arrays, so that one compiled signature serves every network.

N = neurons of all populations, numbered through; P = populations; S = learning sites, one for each (neuron, e-prop rule) with a plastic
synapse of that rule; R = e-prop rules; M_x = synapses of table x; H = history ring length (a power of two).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
I4 = npt.NDArray[np.int32]
U1 = npt.NDArray[np.uint8]
U8 = npt.NDArray[np.uint64]

# kinds of population
SOURCE, SUBTRACT, TO_VALUE, READOUT = 0, 1, 2, 3
# how a source population gets its spikes in a run
GIVEN, POISSON = 0, 1
# slots of State.clock
STEP, LEARNING_STEP, N_PENDING, LEARNED_LAST, N_EVENTS = 0, 1, 2, 3, 4
NO_SPIKE = -1
# Rules.kappa_per; 0: kappa is not learnt
PER_SYNAPSE, PER_NEURON = 1, 2
# columns of EpropState.kappa
KAPPA, SENSITIVITY, PENDING, COLLECTED, INFLUENCE, SCALE = 0, 1, 2, 3, 4, 5
"""Kappa of the synapse; s = d ebar / d kappa; h = d gradient / d kappa since the last event, and what was handed over with gradients that
wait for the end of an interval; q = d weight / d kappa by the last change; scale of dE / d kappa."""
N_KAPPA = 6
# columns of EpropState.site_kappa
VALUE, SLOPE, SITE_SCALE = 0, 1, 2
"""Kappa of the neuron; dE / d kappa of the events of this step; its scale."""
N_SITE_KAPPA = 3
# slots of RewardState.reward_last
ESTIMATE, REWARD, KNOWN, THIRD = 0, 1, 2, 3
# table of a path whose B contains no weight
NOWHERE = 3


class Neurons(NamedTuple):
    """Constants of the neurons. start, stop, kind, adaptive, uniform: per population (P,); the others per neuron (N,)."""

    start: I8
    stop: I8
    kind: I8
    adaptive: U1
    uniform: U1  # delta input, no adaptation, the same parameters for all
    decay: F8  # a
    constant: F8  # (1-a) v_leak + bias
    current_decay: F8  # s; 0 for delta input
    threshold: F8
    soft_reset: F8  # v_threshold - v_leak
    v_reset: F8
    v_min: F8
    refractory: I4  # steps
    adapt_beta: F8
    adapt_decay: F8
    probability: F8  # of a Poisson spike in a step


class Rules(NamedTuple):
    """E-prop rules, each field (R,)."""

    kappa: F8
    kappa_reg: F8
    strength: F8
    rate: F8  # f_target dt, spikes per ms times ms, as NEST has it
    surrogate: I8
    height: F8
    per_width: F8  # 1 / width
    adam: U1
    learning_rate: F8
    beta_1: F8
    beta_2: F8
    epsilon: F8
    each_step: U1
    batch: I8
    low: F8
    high: F8
    keep_sign: U1
    cutoff: I8
    kappa_per: U1  # owner of a learnt kappa: PER_SYNAPSE, PER_NEURON; 0: kappa stays
    kappa_rate: F8
    kappa_low: F8
    kappa_high: F8
    shrink: F8  # 1 - weight_decay: what a learning step leaves of a weight


class Sites(NamedTuple):
    """Learning sites: neuron, rule, is_readout (S,); alpha, rho, beta of the neuron (S,); discount (S,): with which gradients are filtered
    before the third factor, -1 where none acts."""

    neuron: I4
    rule: I4
    is_readout: U1
    alpha: F8
    rho: F8
    beta: F8
    discount: F8


class Feedback(NamedTuple):
    """Who hears the errors of the readout neurons ``neuron`` (n,): the task's, and behind them the critic.

    dense: sites (D,) and their rows of B (D, n); symmetric: for each synapse hidden j -> readout k a site of j, k, and where its current
    weight is (table 0 static, 1 e-prop, 2 STDP; index).
    """

    neuron: I4
    site: I4
    matrix: F8
    symmetric_site: I4
    symmetric_readout: I4
    symmetric_table: U1
    symmetric_index: I8


class Paths(NamedTuple):
    """Synapses j -> k along which learning signals go back with weights of their own, or through hidden neurons (docs/eprop.md, "Feedback
    through the chain"), by the site of j.

    pointer (S+1,); target: site of k, or ~neuron of a readout; table (0 static, 1 e-prop, 2 STDP, NOWHERE) and weight_index: where the
    weight is that B contains; offset, decay: B contains offset * decays[decay]^(learning step) besides (both empty if no B does).
    Groups are the sites of a (population, rule). first (G+1,): their sites; level (G,): when their signals are complete, those of a higher
    level after those of all lower ones, -1: no path leads to them; relays (G,): whether paths start there, so that their neurons'
    slopes are asked for.
    """

    pointer: I8
    target: I4
    table: U1
    weight_index: I8
    offset: F8
    decay: U1
    decays: F8
    first: I8
    level: I8
    relays: U1
    n_levels: int


class Readouts(NamedTuple):
    """Readout populations: start, stop (O,), cross_entropy (O,)."""

    start: I8
    stop: I8
    cross_entropy: U1


class Reward(NamedTuple):
    """Learning from reward. policy: its number among the readouts, -1: none; column: its first among the columns of Inputs.target; critic:
    a neuron."""

    policy: int
    column: int
    critic: int
    discount: float
    critic_weight: float


class Synapses(NamedTuple):
    """Static synapses in CSR by source neuron. pointer (N+1,), target neuron (M,), delay in steps (M,)."""

    pointer: I8
    target: I4
    delay: U1


class EpropSynapses(NamedTuple):
    """E-prop synapses sorted by delay, then source. delay: the different delays (G,); pointer (G, N+1) by source; target site (M,)."""

    delay: I8
    pointer: I8
    target: I4


class StdpSynapses(NamedTuple):
    """STDP synapses sorted by delay, then source. delay: the different delays (G,); pointer (G, N+1) by source; target neuron, rule (M,);
    in_pointer (N+1,), in_synapse (M,): the same synapses by target."""

    delay: I8
    pointer: I8
    target: I4
    rule: I4
    in_pointer: I8
    in_synapse: I8


class StdpRules(NamedTuple):
    """STDP rules, each field (Q,). per_tau_*: dt / tau; reward_start .. reward_stop - 1: neurons whose spikes are the reward."""

    per_tau_plus: F8
    per_tau_minus: F8
    a_plus: F8
    a_minus: F8
    low: F8
    high: F8
    multiplicative: U1
    rewarded: U1
    reward_start: I8
    reward_stop: I8
    reward_weight: F8
    tau_c: F8
    tau_d: F8


class Walk(NamedTuple):
    """Rewiring. on, l1, noise: of the e-prop rules (R,); key: of each rewired projection's noise, from row 1 on (P + 1, 2); tag (M_eprop,):
    projection and canonical number of the synapse at each place (``kernels.rewiring``); since (M_eprop,): learning step up to which its
    weight has walked, as ~step until its first spike (-1 at the start). tag and since change, and are empty if no rule rewires."""

    on: U1
    l1: F8
    noise: F8
    key: U8
    tag: I8
    since: I4


class Constants(NamedTuple):
    """Everything that does not change in a run; with rewiring, the arrays of ``eprop``, ``feedback``, ``sign`` and ``walk`` change
    between runs."""

    neurons: Neurons
    rules: Rules
    sites: Sites
    feedback: Feedback
    paths: Paths
    readouts: Readouts
    reward: Reward
    static: Synapses
    eprop: EpropSynapses
    stdp: StdpSynapses
    stdp_rules: StdpRules
    sign: F8  # (M_eprop,) side of 0 on which a weight stays, +1 or -1
    walk: Walk
    dt_ms: float
    seed: int


class NeuronState(NamedTuple):
    """What changes in neurons. ring: (slots, N) input that is under way; pending: neurons that spiked in the last step."""

    v: F8
    current: F8
    adaptation: F8
    spiked: U1
    refractory: I4
    distance: F8  # v - threshold before the reset, inf while refractory
    error: F8
    ring: F8
    pending: I4


class EpropState(NamedTuple):
    """What changes in e-prop synapses (M_eprop,) and learning sites (S,)."""

    eprop_weight: F8
    working_weight: F8  # runs ahead of eprop_weight for optimizers that step at every step
    last_spike: I4  # learning step in which the last spike arrived
    position: I4  # next history index to be read
    arriving: U1  # the spike that enters zbar at that index
    zbar: F8
    ebar: F8
    ebar_reg: F8
    epsilon: F8
    gradient: F8  # summed since the last spike
    collected: F8  # handed to the optimizer, not yet used
    optimized: I4  # NEST's optimization step counter
    decayed: I4  # learning step up to which the weight has decayed; empty without weight decay
    first_moment: F8
    second_moment: F8
    filtered: F8  # gradient filtered with the discount, empty without reward
    kappa: F8  # (M_eprop, 6); (0, 6) where kappa is not learnt
    site_kappa: F8  # (S, 3); (0, 3) where no neuron owns its kappa
    history: F8  # (S, H, 3): psi, L (readout: error), reg; (S, H, 4) with kappa where neurons own it
    third: F8  # (H,) temporal-difference errors by history index
    slope: F8  # (2, S) psi filtered by the membrane, of the last two entries, by parity; (2, 0) where no signal passes through neurons
    rate: F8  # (S,) filtered firing rate, spikes per ms
    eprop_log: I4  # (slots, N) spikes of the last steps
    eprop_log_count: I8


class RewardState(NamedTuple):
    """reward_ring (slots,): rewards under way; reward_last (4,): V and reward of the last step, whether there was one, and the third
    factor that became known in it. Empty without reward."""

    reward_ring: F8
    reward_last: F8


class StdpState(NamedTuple):
    """What changes in STDP synapses (M_stdp,), their targets (Q, N) and rules (Q,)."""

    stdp_weight: F8
    stdp_x: F8  # trace of arrivals, at its last arrival
    stdp_x_step: I4
    stdp_y: F8  # (Q, N) trace of the target's spikes, at its last spike
    stdp_y_step: I4
    stdp_c: F8  # eligibility of reward-modulated synapses, at the last touch
    stdp_touch: I4
    stdp_d: F8  # (Q,) reward trace, at its last change
    stdp_d_step: I8
    stdp_log: I4  # (slots, N) spikes of the last steps
    stdp_log_count: I8


class State(NamedTuple):
    """Everything that changes; ``Simulator.state`` saves exactly these arrays. Kernels take the parts that they need: a named tuple is
    passed field by field, and compile time grows with them."""

    clock: I8  # step, learning step, pending spikes, whether the last step learned, synaptic events
    neurons: NeuronState
    static_weight: F8
    eprop: EpropState
    stdp: StdpState
    reward: RewardState


class Inputs(NamedTuple):
    """What a run is given. Spikes in CSR by step; target (T, sum of readout sizes), window (T, O), reward of an environment (T,)."""

    source_mode: U1  # (P,)
    pointer: I8
    neuron: I4
    target: F8
    window: F8
    reward: F8


class Probes(NamedTuple):
    """What a run records: neurons or sites, and one row a step for each quantity (row 0 only if nothing is asked)."""

    membrane_ids: I4
    membrane: F8
    adaptation_ids: I4
    adaptation: F8
    surrogate_ids: I4
    surrogate: F8
    signal_ids: I4
    signal: F8
    output: F8  # (T, sum of readout sizes)
    outcome: F8  # (T, 3) action, reward, temporal-difference error of the step before; (T, 0) without reward
