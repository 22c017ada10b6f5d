"""The anchored form of event-driven e-prop: constant time per synaptic event and no history (kernels/anchored.py has the mathematics)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.engine import MIN_WINDOW
from neurocompile.backends.reference.kernels import anchored_tables as at
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.layout_anchored import Progress, lay_out_anchored, symmetric_feedback
from neurocompile.backends.reference.rewiring import Moves
from neurocompile.ir import ALIF, LIF, EProp, LeakyReadout, Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.neurons import decay
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.rewired import rewired_projections

LOST_DIGITS = {"float64": 1e4, "float32": 20.0}
"""How far the powers of 1/alpha, 1/kappa and 1/kappa_reg may grow before a new anchor: what rounding errors are multiplied by at worst."""
NEGLIGIBLE = {"float64": 1e-14, "float32": 1e-8}
"""Traces below this part of their size after the last spike are finished."""
MAX_WINDOW = 4096
_KEPT = {"clock", "static_weight", "synapse", "done", "decayed"}


def decays(network: Network) -> list[float]:
    """Return every factor by which a trace of a plastic synapse decays in a step."""
    found = []
    for projection in network.synaptic_projections:
        rule = None if projection.learning is None else network.rule(projection.learning)
        if not isinstance(rule, EProp):
            continue
        model, size = network.population(projection.post).model, network.population(projection.post).size
        discount = lay.discount_of(network, projection.post)
        found += [discount] if discount >= 0.0 else []
        if isinstance(model, LIF | LeakyReadout):
            found += np.unique(decay(model.tau_mem, network.dt, model.integration, size if np.ndim(model.tau_mem) else 1)).tolist()
        if isinstance(model, LIF):
            found += [rule.kappa] if rule.regularization is None else [rule.kappa, rule.kappa_reg]
        if isinstance(model, ALIF):
            found += np.unique(decay(model.adapt_tau, network.dt, model.integration, size if np.ndim(model.adapt_tau) else 1)).tolist()
    return found


def window(network: Network, precision: str) -> int:
    """Return the steps between two anchors: as many as the fastest decay allows within the precision; 0 if that is impossible."""
    smallest = min(decays(network), default=1.0)
    if smallest <= 0.0:
        return 0
    return MAX_WINDOW if smallest >= 1.0 else min(MAX_WINDOW, int(math.log(LOST_DIGITS[precision]) / -math.log(smallest)))


def silence(network: Network, precision: str) -> int:
    """Return the steps without a spike after which a synapse's traces are negligible."""
    slowest = max((d for d in decays(network) if d < 1.0), default=0.0)
    if slowest <= 0.0 or max(decays(network), default=0.0) >= 1.0:
        return 2**40
    return math.ceil(math.log(NEGLIGIBLE[precision]) / math.log(slowest)) + 1


def needs_loop(network: Network, precision: str) -> str | None:
    """Return why a network's time constants are too short for anchors, None if they are not."""
    steps = window(network, precision)
    if steps >= MIN_WINDOW:
        return None
    return f"the fastest decay of a trace, {min(decays(network)):g} a step, needs a new anchor every {steps} steps"


class AnchoredEngine:
    """See :class:`neurocompile.backends.reference.engine.Engine`."""

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections] | None,
        feedback: Mapping[tuple[str, str], FloatArray] | None,
        *,
        precision: str,
        threads: int,
        ranges: int,
        window_steps: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        dtype = np.float64 if precision == "float64" else np.float32
        self._layout = lay_out_anchored(network, connections, feedback, n_ranges=ranges, dtype=dtype, progress=progress)
        self.ranges = self._layout.constants.range
        self.threads = min(threads, len(self.ranges) - 1)
        self.window = window(network, precision) if window_steps is None else window_steps
        self.window = max(self.window, 1)
        self._silence = silence(network, precision)
        self._rewired = {p.name for p in rewired_projections(network)}
        self.rewirings = np.zeros((len(self._rewired), 2), np.int64)
        self._state = self._initial_state(self._layout.synapse, self._layout.static_weight)
        self.site_of = self._layout.site_of
        self.eprop_names = tuple(
            p.name for p in network.synaptic_projections if p.learning is not None and isinstance(network.rule(p.learning), EProp)
        )

    def _initial_state(self, synapse: at.Synapses, static_weight: FloatArray) -> at.FullState:
        network, layout = self.network, self._layout
        n, constants = network.n_neurons, layout.constants
        s = len(constants.sites.neuron)
        columns = constants.columns
        width = 4 + sum(x >= 0 for x in columns[at.N_SYNAPSE_COLUMNS :])
        row = np.full((s, width), 0.0)  # `full`: see layout_anchored
        if columns.rise >= 0:
            row[:, columns.rise] = 1.0 / constants.sites.alpha
        trace = np.full((s, 6), 0.0)
        trace[:, 5] = 1.0
        neurons = t.NeuronState(
            v=lay.resting(network),
            current=lay.starting_current(network),
            adaptation=np.zeros(n),
            spiked=np.zeros(n, np.uint8),
            refractory=np.zeros(n, np.int32),
            distance=np.full(n, np.inf),
            error=np.zeros(n),
            ring=np.zeros((layout.max_delay + 1 if len(static_weight) else 1, n)),
            pending=np.zeros(n, np.int32),
        )
        learning = at.AnchoredState(
            synapse=synapse,
            row=row,
            trace=trace,
            filter=np.full((s if columns.filtered >= 0 else 0, 3), 0.0),
            reach=np.zeros(len(constants.groups.kind)),
            before=np.full((s, 4), 0.0),
            rise=np.ones(s),
            rate=np.zeros(s),
            reg=np.zeros(s),
            signal=np.zeros((2, s)),
            zbar=np.zeros(layout.n_axons),
            last=np.full(layout.n_axons, t.NO_SPIKE, np.int32),
            alive=np.zeros(layout.n_axons, np.uint8),
            done=np.ones(layout.n_axons, np.int32),
            decayed=np.zeros(layout.n_axons if bool((constants.rules.shrink != 1.0).any()) else 0, np.int32),
            relay=np.zeros((2, s if bool(constants.paths.relays.any()) else 0)),
            log=np.zeros((layout.n_log_slots, n), np.int32),
            log_count=np.zeros(layout.n_log_slots, np.int64),
        )
        clock = np.zeros(at.N_CLOCK, np.int64)
        clock[at.WINDOW], clock[at.SILENT_AFTER] = self.window, self._silence
        past = lay.starting_reward(network)
        return at.FullState(clock=clock, neurons=neurons, static_weight=static_weight, learning=learning, reward=past)

    @property
    def clock(self) -> IntArray:
        return self._state.clock

    @property
    def n_synapses(self) -> dict[str, int]:
        return self._layout.n_synapses

    def run(self, inputs: t.Inputs, probes: t.Probes, n_steps: int, learn: bool) -> tuple[Int32Array, IntArray]:
        from neurocompile.backends.reference.kernels.anchored_loop import run
        from neurocompile.backends.reference.kernels.intrinsics import LINE

        n_parts, threads = len(self.ranges) - 1, self.threads
        shared = (np.zeros(threads * LINE, np.int64), np.empty(self.network.n_neurons, np.int32), np.zeros((n_parts, 8), np.int64))

        def work(thread: int) -> tuple[Int32Array, IntArray]:
            found: tuple[Int32Array, IntArray] = run(
                self._layout.constants, self._state, inputs, probes, n_steps, learn, thread, threads, *shared
            )
            return found

        if threads == 1:
            return work(0)
        with ThreadPoolExecutor(threads - 1, thread_name_prefix="neurocompile") as pool:
            others = [pool.submit(work, thread) for thread in range(1, threads)]
            result = work(0)
            for other in others:
                other.result()
        return result

    def _index(self, name: str) -> IntArray:
        return self._layout.placement.index(name, self._layout.n_synapses[name])

    def weight(self, name: str) -> FloatArray:
        if self._layout.placement.static[name]:
            return self._state.static_weight[self._index(name)]
        index = self._index(name)
        found: FloatArray = self._state.learning.synapse[index, at.W].astype(np.float64)
        if name in self._rewired:  # a negative synapse at 0 has -0.0: files keep its sign
            found[found == 0.0] = np.where(self._layout.constants.target[index[found == 0.0]] < 0, -0.0, 0.0)
        return found

    def _row_of(self) -> IntArray:
        """Return the row of each place of the table: which entry of the row pointers it belongs to."""
        pointer = self._layout.constants.bundles.pointer
        return np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))

    def _first_site(self, name: str) -> int:
        projection = self.network.projection(name)
        return self.site_of[projection.post, projection.learning or ""]

    def synapses(self, name: str) -> Connections:
        c, index, projection = self._layout.constants, self._index(name), self.network.projection(name)
        row, post = self._row_of()[index], c.target[index]
        post = np.where(post < 0, ~post, post) - self._first_site(name)
        block, bundle = self._blocks(row)
        pre = row - c.bundles.row.ravel()[block] + c.bundles.first_source[bundle] - self.network.offsets[projection.pre]
        delay = c.bundles.delay[bundle].astype(np.uint8)
        return Connections(pre=pre.astype(np.int32), post=post.astype(np.int32), weight=self.weight(name), delay=delay)

    def _blocks(self, row: IntArray) -> tuple[IntArray, IntArray]:
        """Return the block (number in ``bundles.row``) and the bundle of each row."""
        first = self._layout.constants.bundles.row
        order = np.argsort(first.ravel())
        block = order[np.searchsorted(first.ravel()[order], row, side="right") - 1]
        return block, block // first.shape[1]

    def move(self, moves: Mapping[str, Moves]) -> None:
        c, state, now = self._layout.constants, self._state.learning, int(self.clock[t.LEARNING_STEP])
        walk, bundles, m = c.walk, c.bundles, len(state.synapse)
        row = self._row_of()
        for name, going in moves.items():
            places, projection = self._index(name)[going.slots], self.network.projection(name)
            _, bundle = self._blocks(row[places])
            part = np.searchsorted(c.range, going.post + self.network.offsets[projection.post], side="right") - 1
            source = going.pre + self.network.offsets[projection.pre] - bundles.first_source[bundle]
            row[places] = bundles.row[bundle, part] + source
            site = going.post + self._first_site(name)
            c.target[places] = np.where(c.target[places] < 0, ~site, site)
            state.synapse[places] = 0.0
            walk.since[places] = ~now
        order = np.lexsort((walk.tag, row))  # synapses without a tag keep their order
        for array in (state.synapse, c.target[:m], walk.tag, walk.since):
            array[...] = array[order]
        bundles.pointer[1:] = np.cumsum(np.bincount(row, minlength=len(bundles.pointer) - 1))
        lay.follow_moves(c.paths, order)
        self._follow()

    def _follow(self) -> None:
        """Let symmetric feedback find the weights where they are now."""
        c = self._layout.constants
        paths, indices, tables = [], [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
        for path in self._layout.paths:
            name = path.projection
            if name in self._rewired:
                ends = self.synapses(name)
                paths.append(replace(path, site=ends.pre.astype(np.int64) + path.first_site, readout=ends.post.astype(np.int64) + path.row))
            else:
                paths.append(path)
            indices.append(self._index(name))
            tables.append(np.full(len(indices[-1]), lay.STATIC if self._layout.placement.static[name] else lay.EPROP, np.uint8))
        new = symmetric_feedback(paths, np.concatenate(tables), np.concatenate(indices), len(c.sites.neuron))
        changing: tuple[tuple[AnyArray, AnyArray], ...] = tuple(zip(c.symmetric, new, strict=True))
        for old, array in changing:
            old[...] = array

    def set_weight(self, name: str, values: FloatArray) -> None:
        if self._layout.placement.static[name]:
            self._state.static_weight[self._index(name)] = values
        else:
            self._state.learning.synapse[self._index(name), at.W] = values

    def traces(self, name: str) -> dict[str, FloatArray]:
        from neurocompile.backends.reference.kernels.eprop import surrogate

        c, state, index = self._layout.constants, self._state.learning, self._index(name)
        projection = self.network.projection(name)
        n = int(self.clock[t.LEARNING_STEP] - self.clock[at.ANCHOR])
        target = c.target[index]
        site = np.where(target < 0, ~target, target)
        axon, group = self._axons(index)
        rule = self.network.rule(projection.learning or "")
        assert isinstance(rule, EProp)
        alpha, columns = c.sites.alpha[site], c.columns
        shared = c.groups.shared[group] != 0
        z = state.zbar[axon] if shared else state.synapse[index, columns.zbar].astype(np.float64)
        late, window = state.alive[axon] == at.LATE, int(self.clock[at.BEFORE])
        ebar_at_anchor = state.synapse[index, at.EBAR].astype(np.float64)
        ebar_at_anchor = np.where(late, ebar_at_anchor * rule.kappa**window + z * state.before[site, at.JUMP], ebar_at_anchor)
        z = np.where(late, z * alpha**window, z)
        zbar = z * alpha**n  # after the last index; a spike that arrived in the last step has entered
        just = (state.last[axon] == self.clock[t.LEARNING_STEP] - 1).astype(np.float64)
        if projection.name in self._rewired:
            just *= c.walk.since[index] >= 0  # a synapse that has just moved did not see that spike
        if isinstance(self.network.population(projection.post).model, LeakyReadout):
            return {"zbar": (zbar - just) / alpha, "ebar": np.zeros(len(index))}
        q = state.synapse[index, columns.epsilon].astype(np.float64) if columns.epsilon >= 0 else np.zeros(len(index))
        ebar = ebar_at_anchor * rule.kappa**n + z * state.trace[site, 0] + q * state.trace[site, 3]
        eps = q * state.trace[site, 5] + z * state.trace[site, 2]
        rho, beta = c.sites.rho[site], c.sites.beta[site]
        r, shape = c.sites.rule[site[0]] if len(site) else 0, surrogate
        distance = self._state.neurons.distance[c.sites.neuron[site]]
        psi = np.array([shape(c.rules.surrogate[r], c.rules.height[r], c.rules.per_width[r], d) for d in distance])
        with np.errstate(divide="ignore", invalid="ignore"):
            before = np.where(beta == 0.0, 0.0, (eps - psi * zbar) / (rho - beta * psi))
        e = psi * (zbar - beta * before)
        return {"zbar": (zbar - just) / alpha, "ebar": (ebar - e) / rule.kappa}

    def _axons(self, index: IntArray) -> tuple[IntArray, int]:
        """Return the axons of synapses of one group, and the group."""
        bundles, found, group = self._layout.constants.bundles, np.zeros(len(index), np.int64), 0
        for bundle in range(len(bundles.group)):
            for part in range(bundles.row.shape[1]):
                first, n = int(bundles.row[bundle, part]), int(bundles.n_sources[bundle])
                pointer = bundles.pointer[first : first + n + 1]
                mine = (index >= pointer[0]) & (index < pointer[-1])
                if mine.any():
                    found[mine] = bundles.axon[bundle] + np.searchsorted(pointer, index[mine], side="right") - 1
                    group = int(bundles.group[bundle])
        return found, group

    def flush(self) -> None:
        from neurocompile.backends.reference.kernels import anchored

        now = int(self.clock[t.LEARNING_STEP])
        anchored.settle(self._layout.constants, self._state.learning, self.clock, now)
        anchored.flush(self._layout.constants, self._state.learning, now)

    def arrays(self) -> dict[str, AnyArray]:
        state = self._state
        found: dict[str, AnyArray] = {"clock": state.clock, "static_weight": state.static_weight}
        for part in (state.neurons, state.learning, state.reward):
            found |= part._asdict()
        if self._rewired:
            c = self._layout.constants
            found |= {"tag": c.walk.tag, "since": c.walk.since, "target": c.target, "pointer": c.bundles.pointer}
            found |= {f"symmetric_{name}": array for name, array in c.symmetric._asdict().items()}
            found |= {"rewirings": self.rewirings, "path_index": c.paths.weight_index}
        return found

    def reset_dynamics(self) -> None:
        learning = self._state.learning
        collected = self._layout.constants.columns.collected
        fresh = self._initial_state(learning.synapse, self._state.static_weight)
        for part, new in ((self._state.neurons, fresh.neurons), (learning, fresh.learning), (self._state.reward, fresh.reward)):
            for name, array in part._asdict().items():
                if name not in _KEPT:
                    array[...] = getattr(new, name)
        for column in range(1, learning.synapse.shape[1]):
            if column != collected:
                learning.synapse[:, column] = 0.0
        since = self._layout.constants.walk.since
        since[...] = np.where(since >= 0, ~since, since)
        self.clock[t.N_PENDING] = self.clock[t.LEARNED_LAST] = self.clock[at.DUE] = 0
        self.clock[at.ANCHOR] = self.clock[t.LEARNING_STEP]

    def bytes_per_plastic_synapse(self) -> float:
        c, state = self._layout.constants, self._state.learning
        m = len(state.synapse)
        tables = (state.synapse, c.target, c.bundles.pointer, c.bundles.row, c.walk.tag, c.walk.since)
        parts = (*tables, state.zbar, state.last, state.alive, state.done, state.decayed)
        return float(sum(x.nbytes for x in parts)) / m if m else 0.0
