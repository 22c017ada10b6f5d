"""The loop over histories (NEST's algorithm): every rule, cost of an event grows with the interval; the oracle of faster engines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.engine import learns_kappa
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.rewiring import Moves, optimizer_steps
from neurocompile.ir import EProp, KappaPer, Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.ir.rewired import rewired_projections

_KEPT = {
    "clock",
    "static_weight",
    "eprop_weight",
    "stdp_weight",
    "collected",
    "optimized",
    "decayed",
    "first_moment",
    "second_moment",
    "site_kappa",
}
_KEPT_OF_KAPPA = (t.KAPPA, t.COLLECTED, t.INFLUENCE, t.SCALE)
_OF_NEURONS = {"site_kappa", "history", "rate", "third", "slope", "eprop_log", "eprop_log_count"}


class LoopEngine:
    """See :class:`neurocompile.backends.reference.engine.Engine`. ``history_steps``: ring length, rounded up to a power of two >= 8."""

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections] | None,
        feedback: Mapping[tuple[str, str], FloatArray] | None,
        history_steps: int,
    ) -> None:
        self.network = network
        self._layout = lay.lay_out(network, realise_all(network) if connections is None else connections, feedback)
        self._state = _initial_state(network, self._layout, max(8, 1 << (history_steps - 1).bit_length()))
        self.site_of = self._layout.site_of
        self.kappa_names = learns_kappa(network)
        placed = self._layout.placed
        self.eprop_names = tuple(name for name, where in placed.items() if where.table == lay.EPROP)
        self._rewired = {p.name for p in rewired_projections(network)}
        self.rewirings = np.zeros((len(self._rewired), 2), np.int64)
        self._place = np.concatenate([np.zeros(0, np.int64), *(placed[name].index for name in self.eprop_names if self._rewired)])
        if self._rewired:  # one array, so that all places change together, in place
            for name, part in self._parts().items():
                placed[name] = lay.Placed(table=lay.EPROP, index=self._place[part])

    @property
    def clock(self) -> IntArray:
        return self._state.clock

    @property
    def n_synapses(self) -> dict[str, int]:
        return {name: len(where.index) for name, where in self._layout.placed.items()}

    def run(self, inputs: t.Inputs, probes: t.Probes, n_steps: int, learn: bool) -> tuple[Int32Array, IntArray]:
        from neurocompile.backends.reference.kernels.loop import run

        found: tuple[Int32Array, IntArray] = run(self._layout.constants, self._state, inputs, probes, n_steps, learn)
        return found

    def _tables(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self._state.static_weight, self._state.eprop.eprop_weight, self._state.stdp.stdp_weight

    def _parts(self) -> dict[str, slice]:
        """Return which synapses of ``_place`` each e-prop projection has."""
        found, taken = {}, 0
        for name in self.eprop_names:
            found[name] = slice(taken, taken := taken + len(self._layout.placed[name].index))
        return found

    def weight(self, name: str) -> FloatArray:
        where = self._layout.placed[name]
        found = self._tables()[where.table][where.index]
        if name in self._rewired:  # a negative synapse at 0 has -0.0: files keep its sign
            found = np.where(found == 0.0, np.copysign(0.0, self._layout.constants.sign[where.index]), found)
        return found

    def _source_and_delay(self) -> tuple[IntArray, npt.NDArray[np.uint8]]:
        """Return source neuron and delay of the synapse at each place of the e-prop table."""
        table, n = self._layout.constants.eprop, self.network.n_neurons
        counts = np.diff(table.pointer, axis=1)
        source = np.repeat(np.tile(np.arange(n), len(table.delay)), counts.ravel())
        return source, np.repeat(table.delay, counts.sum(axis=1)).astype(np.uint8)

    def synapses(self, name: str) -> Connections:
        c, index, projection = self._layout.constants, self._layout.placed[name].index, self.network.projection(name)
        source, delay = self._source_and_delay()
        pre, post = source[index] - self.network.offsets[projection.pre], c.eprop.target[index] - self._first_site(name)
        return Connections(pre=pre.astype(np.int32), post=post.astype(np.int32), weight=self.weight(name), delay=delay[index])

    def _first_site(self, name: str) -> int:
        projection = self.network.projection(name)
        return self.site_of[projection.post, projection.learning or ""]

    def move(self, moves: Mapping[str, Moves]) -> None:
        c, eprop, parts, now = self._layout.constants, self._state.eprop, self._parts(), int(self.clock[t.LEARNING_STEP])
        source, delay = (x[self._place] for x in self._source_and_delay())
        target, done, moved = c.eprop.target[self._place], eprop.optimized[self._place], np.zeros(len(source), bool)
        for name, going in moves.items():
            at, projection = parts[name].start + going.slots, self.network.projection(name)
            source[at] = going.pre + self.network.offsets[projection.pre]
            target[at] = going.post + self._first_site(name)
            done[at] = optimizer_steps(self.network, projection, now)
            moved[at] = True
        order, position = lay.sorted_places(source, delay)
        before = self._place[order]
        fields = [x for name, x in eprop._asdict().items() if name not in _OF_NEURONS and len(x)]
        for array in (*fields, c.sign, c.walk.tag, c.walk.since):
            array[...] = array[before]
        c.eprop.target[:] = target[order]
        c.eprop.pointer[...] = lay.delay_pointers(source[order], delay[order], c.eprop.delay, self.network.n_neurons)
        self._place[:] = position
        lay.follow_moves(c.paths, before)
        at = position[moved]
        for array in fields:
            array[at] = 0
        eprop.last_spike[at] = t.NO_SPIKE
        eprop.optimized[at] = done[moved]
        if len(eprop.kappa):  # learnt kappas begin anew
            eprop.kappa[at, t.KAPPA] = c.rules.kappa[c.sites.rule[c.eprop.target[at]]]
        c.walk.since[at] = ~now
        taken = 0
        for first, projection, row in self._layout.symmetric:
            index = self._layout.placed[projection.name].index
            part = slice(taken, taken := taken + len(index))
            c.feedback.symmetric_index[part] = index
            if projection.name in moves:
                ends = self.synapses(projection.name)
                c.feedback.symmetric_site[part], c.feedback.symmetric_readout[part] = ends.pre + first, ends.post + row

    def set_weight(self, name: str, values: FloatArray) -> None:
        where = self._layout.placed[name]
        table = self._tables()[where.table]
        if where.table == lay.EPROP:
            changed = values != table[where.index]
            self._state.eprop.working_weight[where.index[changed]] = values[changed]
            if self.kappa_names:  # what was set does not depend on kappa
                self._state.eprop.kappa[where.index[changed], t.INFLUENCE] = 0.0
        table[where.index] = values

    def _owner(self, name: str) -> tuple[FloatArray, IntArray | Int32Array]:
        """Return the kappas that hold for a projection (a view), and the place of each synapse's own among them."""
        index, state = self._layout.placed[name].index, self._state.eprop
        sites = self._layout.constants.eprop.target[index]
        if self.owns_kappa(name):
            return state.site_kappa[:, t.VALUE], sites
        return state.kappa[:, t.KAPPA], index

    def owns_kappa(self, name: str) -> bool:
        """Return whether the target neurons of a projection own its kappas, not the synapses."""
        rule = self.network.rule(self.network.projection(name).learning or "")
        return isinstance(rule, EProp) and rule.kappa_learning is not None and rule.kappa_learning.per is KappaPer.NEURON

    def kappa(self, name: str) -> FloatArray:
        """Return a copy of the kappas of a projection that learns them, one for each synapse."""
        table, where = self._owner(name)
        return table[where]

    def set_kappa(self, name: str, values: FloatArray) -> None:
        """Replace the kappas of a projection; they are checked."""
        table, where = self._owner(name)
        table[where] = values

    def traces(self, name: str) -> dict[str, FloatArray]:
        from neurocompile.backends.reference.kernels.snapshot import traces

        c = self._layout.constants
        end = int(self.clock[t.LEARNING_STEP]) - 1
        zbar, ebar = traces(c.eprop.target, c.sites, c.rules, self._state.eprop, self._layout.placed[name].index, end)
        return {"zbar": zbar, "ebar": ebar}

    def flush(self) -> None:
        from neurocompile.backends.reference.kernels import eprop, kappa, stdp

        c, state, now = self._layout.constants, self._state, int(self.clock[t.LEARNING_STEP])
        eprop.visit(c.eprop.target, c.sites, c.rules, c.sign, c.walk, state.eprop, 0, state.eprop.position.size, now, eprop.APPLY)
        if state.eprop.site_kappa.size:
            kappa.settle(c.sites, c.rules, state.eprop, now - 1)
        stdp.settle_all(c.stdp, c.stdp_rules, c.dt_ms * 1e-3, state.stdp, -1, now)

    def arrays(self) -> dict[str, AnyArray]:
        return _flat(self._state) | (self._wiring() if self._rewired else {})

    def _wiring(self) -> dict[str, AnyArray]:
        """Return the arrays that rewiring changes beside the state."""
        c = self._layout.constants
        feedback = {name: array for name, array in c.feedback._asdict().items() if name.startswith("symmetric_")}
        wiring = {"tag": c.walk.tag, "since": c.walk.since, "place": self._place, "sign": c.sign}
        return {
            **wiring,
            "rewirings": self.rewirings,
            "pointer": c.eprop.pointer,
            "target": c.eprop.target,
            "path_index": c.paths.weight_index,
            **feedback,
        }

    def reset_dynamics(self) -> None:
        fresh = _flat(_initial_state(self.network, self._layout, self._state.eprop.history.shape[1]))
        kept = self._state.eprop.kappa[:, _KEPT_OF_KAPPA]
        for name, array in _flat(self._state).items():
            if name not in _KEPT:
                array[...] = fresh[name]
        self._state.eprop.kappa[:, _KEPT_OF_KAPPA] = kept
        self._state.eprop.working_weight[:] = self._state.eprop.eprop_weight
        self._state.stdp.stdp_touch[:] = self.clock[t.LEARNING_STEP]
        since = self._layout.constants.walk.since
        since[...] = np.where(since >= 0, ~since, since)
        self.clock[t.N_PENDING] = 0
        self.clock[t.LEARNED_LAST] = 0

    def bytes_per_plastic_synapse(self) -> float:
        m = self._state.eprop.eprop_weight.size
        if m == 0:
            return 0.0
        c, e = self._layout.constants, self._state.eprop
        parts = [*c.eprop, c.sign, c.walk.tag, c.walk.since, *(x for name, x in e._asdict().items() if name not in _OF_NEURONS)]
        parts += [self._layout.placed[name].index for name in self.eprop_names]
        return float(sum(x.nbytes for x in parts)) / m


def _initial_state(network: Network, layout: lay.Layout, history: int) -> t.State:
    n, m = network.n_neurons, len(layout.weights[lay.EPROP])
    n_sites = layout.constants.sites.neuron.size
    m_stdp, n_rules = len(layout.weights[lay.STDP_TABLE]), layout.constants.stdp_rules.tau_c.size
    slots = int(layout.constants.stdp.delay.max(initial=0)) + 1 if m_stdp else 0
    rules, sites, target = layout.constants.rules, layout.constants.sites, layout.constants.eprop.target
    per = rules.kappa_per.tolist()
    starts = rules.kappa[sites.rule]
    kappa = np.zeros((m if any(per) else 0, t.N_KAPPA))
    kappa[:, t.KAPPA] = starts[target[: len(kappa)]]
    site_kappa = np.zeros((n_sites if t.PER_NEURON in per else 0, t.N_SITE_KAPPA))
    site_kappa[:, t.VALUE] = starts[: len(site_kappa)]
    eprop_slots = int(layout.constants.eprop.delay.max(initial=1))
    neurons = t.NeuronState(
        v=lay.resting(network),
        current=lay.starting_current(network),
        adaptation=np.zeros(n),
        spiked=np.zeros(n, np.uint8),
        refractory=np.zeros(n, np.int32),
        distance=np.full(n, np.inf),
        error=np.zeros(n),
        ring=np.zeros((layout.max_delay + 1, n)),
        pending=np.zeros(n, np.int32),
    )
    eprop = t.EpropState(
        eprop_weight=layout.weights[lay.EPROP].copy(),
        working_weight=layout.weights[lay.EPROP].copy(),
        last_spike=np.full(m, t.NO_SPIKE, np.int32),
        position=np.zeros(m, np.int32),
        arriving=np.zeros(m, np.uint8),
        zbar=np.zeros(m),
        ebar=np.zeros(m),
        ebar_reg=np.zeros(m),
        epsilon=np.zeros(m),
        gradient=np.zeros(m),
        collected=np.zeros(m),
        optimized=np.ones(m, np.int32),
        decayed=np.zeros(m if bool((layout.constants.rules.shrink != 1.0).any()) else 0, np.int32),
        first_moment=np.zeros(m),
        second_moment=np.zeros(m),
        filtered=np.zeros(0 if network.actor_critic is None else m),
        kappa=kappa,
        site_kappa=site_kappa,
        history=np.zeros((n_sites, history, 4 if len(site_kappa) else 3)),
        third=np.zeros(history),
        slope=np.zeros((2, n_sites if bool(layout.constants.paths.relays.any()) else 0)),
        rate=np.zeros(n_sites),
        eprop_log=np.zeros((eprop_slots, n), np.int32),
        eprop_log_count=np.zeros(eprop_slots, np.int64),
    )
    stdp = t.StdpState(
        stdp_weight=layout.weights[lay.STDP_TABLE].copy(),
        stdp_x=np.zeros(m_stdp),
        stdp_x_step=np.full(m_stdp, t.NO_SPIKE, np.int32),
        stdp_y=np.zeros((n_rules, n)),
        stdp_y_step=np.full((n_rules, n), t.NO_SPIKE, np.int32),
        stdp_c=np.zeros(m_stdp),
        stdp_touch=np.zeros(m_stdp, np.int32),
        stdp_d=np.zeros(n_rules),
        stdp_d_step=np.zeros(n_rules, np.int64),
        stdp_log=np.zeros((slots, n), np.int32),
        stdp_log_count=np.zeros(slots, np.int64),
    )
    return t.State(
        clock=np.zeros(8, np.int64),
        neurons=neurons,
        static_weight=layout.weights[lay.STATIC].copy(),
        eprop=eprop,
        stdp=stdp,
        reward=lay.starting_reward(network),
    )


def _flat(state: t.State) -> dict[str, AnyArray]:
    """Return the arrays of a state by name (names are unique over its parts)."""
    parts = (state.neurons, state.eprop, state.stdp, state.reward)
    result: dict[str, AnyArray] = {"clock": state.clock, "static_weight": state.static_weight}
    for part in parts:
        result.update(part._asdict())
    return result
