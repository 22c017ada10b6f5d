"""What the anchored kernels work on (docs/eprop.md, section "Anchored form"). Letters as in ``tables``; besides

G = groups: the targets of one (population, e-prop rule); B = bundles: the synapses of one group that share a delay; R = ranges of neurons,
each of which one thread owns; a block is the part of a bundle whose targets lie in one range; X = axons, one for each (bundle, source).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference.kernels.tables import (
    F8,
    I4,
    I8,
    U1,
    Feedback,
    Neurons,
    NeuronState,
    Paths,
    Readouts,
    Reward,
    RewardState,
    Rules,
    Sites,
    Walk,
)

LIF, ALIF, READOUT = 0, 1, 2
"""Kinds of group."""
ANCHOR, DUE, SILENT_AFTER, WINDOW, BEFORE = 5, 6, 7, 8, 9
"""Further slots of the clock: learning step of the anchor; 1 if a neuron asks for a new anchor; steps after which a silent source's traces
are below the precision; steps between anchors; steps from the anchor before to the present one."""
N_CLOCK = 10
CURRENT, LATE = 1, 2
"""Axons that are alive: their synapses' state belongs to the present anchor, or still to the one before."""

W, GRADIENT, EBAR = 0, 1, 2
"""Columns of a synapse that every network has; the others are in :class:`Columns`."""
INPUT, C, E, JUMP = 0, 1, 2, 3
"""Columns of a site's row that every network has."""


Synapses = npt.NDArray[np.float64] | npt.NDArray[np.float32]


class Columns(NamedTuple):
    """Where a synapse's and a row's further columns are, -1: none. ebar_reg / D, JUMP_REG: kappa_reg differs from kappa; epsilon / EQ,
    JUMP_EPS: adaptive; zbar / RISE: a group whose neurons differ in alpha; collected: update intervals; filtered /
    JUMP_FILTERED: reward."""

    ebar_reg: int
    epsilon: int
    zbar: int
    collected: int
    filtered: int
    d: int
    jump_reg: int
    eq: int
    jump_eps: int
    rise: int
    jump_filtered: int


N_SYNAPSE_COLUMNS = 5
"""So many of the fields above are columns of a synapse."""


class Groups(NamedTuple):
    """kind, rule (G,); alpha of its neurons where all have the same (shared), else 0 (G,); site (G, R+1): its sites by range; discount (G,)
    of the filtered gradient, -1 where no third factor acts."""

    kind: I8
    rule: I8
    alpha: F8
    shared: U1
    site: I8
    discount: F8


class Bundles(NamedTuple):
    """group, delay, first_source, n_sources, axon: number of its first axon (B,); row (B, R): where the block's n_sources + 1 row pointers
    begin in ``pointer``; pointer: synapse numbers."""

    group: I8
    delay: I8
    first_source: I8
    n_sources: I8
    axon: I8
    row: I8
    pointer: I8


class StaticBlocks(NamedTuple):
    """Static synapses by range: pointer (R, N+1), target neuron, delay (M_static,)."""

    pointer: I8
    target: I4
    delay: U1


class SymmetricFeedback(NamedTuple):
    """Readout synapses j -> k by the site of j: pointer (S+1,), readout k, table (0 static, 1 e-prop), and where its weight is."""

    pointer: I8
    readout: I4
    table: U1
    weight_index: I8


class AnchoredConstants(NamedTuple):
    """Everything that does not change in a run; with rewiring ``target``, ``bundles.pointer``, ``symmetric`` and ``walk`` change between
    runs. range (R+1,): neurons of the ranges; matrix_row (G,): column of a group's first site in
    ``feedback.matrix`` (here n_readout, D), or -1;
    target (M + AHEAD,): site, or ~site where the sign constraint keeps the weight negative."""

    neurons: Neurons
    rules: Rules
    sites: Sites
    feedback: Feedback
    matrix_row: I8
    symmetric: SymmetricFeedback
    paths: Paths
    readouts: Readouts
    reward: Reward
    columns: Columns
    groups: Groups
    bundles: Bundles
    static: StaticBlocks
    target: I4
    range: I8
    walk: Walk
    dt_ms: float
    seed: int


class AnchoredState(NamedTuple):
    """What changes. synapse (M, 3 ..): one row a synapse; row (S, 4 ..): what a spike needs to know of its target, one or two cache lines;
    trace (S, 6): A, B, Aq, Ae, Be, m; filter (S, 3): P, Q, Qe, (0, 3) without reward; reach (G,): X; before (S, 4): C, E and A (as JUMP) at
    the end of the window before; the others as named."""

    synapse: Synapses
    row: F8
    trace: F8
    filter: F8
    reach: F8
    before: F8
    rise: F8  # (S,) alpha^(steps since the anchor) of groups whose neurons differ in alpha
    rate: F8  # (S,) filtered firing rate, spikes per ms
    reg: F8  # (S,) regularisation (a readout's error) of the last learning step, not yet in the row
    signal: F8  # (2, S) learning signals of the last two steps, by parity
    zbar: F8  # (X,) extrapolated to the anchor; of groups whose neurons share alpha
    last: I4  # (X,) learning step in which the last spike arrived, NO_SPIKE: none yet
    alive: U1  # (X,) 0: its synapses' traces are below the precision; CURRENT, LATE
    done: I4  # (X,) the optimizer's step counter, from 1
    decayed: I4  # (X,) learning step up to which the weights have decayed; empty without weight decay
    relay: F8  # (2, S) psi filtered by the membrane, and that times L, until L is passed on; (2, 0) where none is
    log: I4  # (slots, N) spikes of the last steps
    log_count: I8


class FullState(NamedTuple):
    """Everything that changes in a run of the anchored engine."""

    clock: I8
    neurons: NeuronState
    static_weight: F8
    learning: AnchoredState
    reward: RewardState
