"""The reference engine's front door: :class:`Simulator`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import numpy as np

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.inputs import gather_inputs
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.probes import make_probes, snapshot_traces, split_probes
from neurocompile.backends.reference.recording import Recording, RecordOptions
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.errors import InputError, did_you_mean
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.ir.signals import Signal, Spikes

_log = logging.getLogger(__name__)
_LAST_STEP = 2**31 - 2**20  # learning steps are int32


class Simulator:
    """A network in float64, step by step: every neuron model, any sparse connectivity, event-driven e-prop and STDP.

    Update step t: (1) spikes emitted in step t-1 are delivered, and plastic synapses change before they transmit; (2) every neuron is
    updated with what arrives in step t; (3) readouts are compared with their signals, and the error completes entry t-1 of the hidden
    neurons' histories. docs/eprop.md has all formulas. Results are the same bits on every run: sums go by ascending source neuron
    (numbered through in the network's order of populations), then in the order of projections, then canonically.

    Parameters
    ----------
    network : Network
    connections : mapping projection name -> Connections, optional
        Synapses of every synaptic projection; default ``realise_all(network)``.
    feedback : mapping (rule name, hidden population) -> float64 (n_readout, n_hidden), optional
        Replaces a rule's feedback weights B; default ``realise_feedback``.
    history_steps : int
        Length of the history ring of each learning neuron (rounded up to a power of two >= 8). A choice of memory and speed alone:
        silent synapses are advanced before their entries are overwritten, and no result changes.

    Attributes
    ----------
    step : int
        Next update step, absolute.
    compile_s : float
        Time spent loading or compiling the kernels.

    Raises
    ------
    InputError
        NC202, NC204, NC209, NC235, NC236: connections, weights or feedback that do not fit the network.
    """

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections] | None = None,
        *,
        feedback: Mapping[tuple[str, str], FloatArray] | None = None,
        history_steps: int = 256,
    ) -> None:
        self.network = network
        if connections is None:
            connections = realise_all(network)
        self._layout = lay.lay_out(network, connections, feedback)
        self._constants = self._layout.constants
        self._state = _initial_state(network, self._layout, max(8, 1 << (history_steps - 1).bit_length()))
        self.compile_s = self._warm_up()

    @property
    def step(self) -> int:
        return int(self._state.clock[t.STEP])

    def run(
        self,
        n_steps: int,
        *,
        spikes: Mapping[str, Spikes] | None = None,
        signals: Mapping[str, Signal] | None = None,
        learn: bool = True,
        record: RecordOptions | None = None,
    ) -> Recording:
        """Run update steps ``step`` .. ``step + n_steps - 1``. Several runs in a row equal one long run, bit for bit.

        Parameters
        ----------
        n_steps : int
            >= 0.
        spikes : mapping spike source -> Spikes, optional
            Absolute steps; those outside this run are ignored. A source with ``rate`` > 0 that is not named is Poisson, its spikes a
            function of (network seed, neuron, absolute step).
        signals : mapping readout -> Signal, optional
            Row i belongs to absolute step ``step + i``; without a row (or outside the window) the error is 0.
        learn : bool
            False: weights are static and learning stands still. Traces, histories, pending gradients and the learning clock (which the
            optimizers count) are frozen and go on, as if the pause had not been, in the next run that learns.
        record : RecordOptions, optional

        Raises
        ------
        InputError
            NC207 unknown population, NC204 index, NC202 shape, NC237 a neuron that spikes twice in a step, NC238 number of steps,
            NC239 something that cannot be recorded.
        """
        record = record or RecordOptions()
        if n_steps < 0 or self.step + n_steps > _LAST_STEP:
            raise InputError.of("NC238", f"{n_steps} steps from step {self.step} on, must be >= 0 and end before step {_LAST_STEP}")
        inputs = gather_inputs(self.network, spikes or {}, signals or {}, self.step, n_steps)
        probes = make_probes(self.network, self._layout, record, n_steps)
        from neurocompile.backends.reference.kernels.loop import run

        first, events = self.step, int(self._state.clock[t.N_EVENTS])
        chunk = record.every if record.weights or record.traces else max(n_steps, 1)
        found: list[Int32Array] = []
        counts: list[IntArray] = []
        weights: dict[str, list[FloatArray]] = {name: [] for name in record.weights}
        traces: dict[str, list[dict[str, FloatArray]]] = {name: [] for name in record.traces}
        taken: list[int] = []
        wall = 0.0
        for start in range(0, n_steps, chunk):
            stop = min(start + chunk, n_steps)
            part_inputs = inputs._replace(
                pointer=inputs.pointer[start : stop + 1], target=inputs.target[start:stop], window=inputs.window[start:stop]
            )
            part_probes = t.Probes(*(x[start:stop] if x.ndim == 2 else x for x in probes))  # type: ignore[arg-type]
            began = time.perf_counter()
            ids, number = run(self._constants, self._state, part_inputs, part_probes, stop - start, bool(learn))
            wall += time.perf_counter() - began
            found.append(ids)
            counts.append(number)
            if stop - start == chunk and (record.weights or record.traces):
                taken.append(first + stop - 1)
                for name, rows in weights.items():
                    rows.append(self._weight(name))
                for name, items in traces.items():
                    items.append(snapshot_traces(self._constants, self._state, self._layout.placed[name].index))
        steps = np.repeat(np.arange(first, first + n_steps), np.concatenate(counts) if counts else 0)
        by_population = self._split(np.concatenate(found) if found else np.zeros(0, np.int32), steps)
        return Recording(
            first_step=first,
            spikes=by_population,
            n_spikes={name: len(s.step) for name, s in by_population.items()},
            n_synaptic_events=int(self._state.clock[t.N_EVENTS]) - events,
            weights={name: _stack(rows, self._layout.placed[name].index.size) for name, rows in weights.items()},
            traces={
                name: {key: _stack([i[key] for i in items], self._layout.placed[name].index.size) for key in ("zbar", "ebar")}
                for name, items in traces.items()
            },
            snapshot_steps=np.array(taken, np.int64),
            wall_s=wall,
            **split_probes(self.network, record, probes),
        )

    def weights(self) -> dict[str, FloatArray]:
        """Return a copy of the weights of every synaptic projection, in the canonical order of its Connections."""
        return {name: self._weight(name) for name in self._layout.placed}

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Set the weights of some projections (canonical order). Optimizer state and traces stay as they are.

        Raises
        ------
        InputError
            NC207 unknown projection, NC202 wrong length, NC203 not finite, NC236 outside a rule's bounds.
        """
        new = [table.copy() for table in self._tables()]
        for name, values in weights.items():
            where = self._layout.placed.get(name)
            if where is None:
                raise InputError.of("NC207", f"weights: projection '{name}' does not exist", help=did_you_mean(name, self._layout.placed))
            array = np.asarray(values, np.float64)
            if array.shape != where.index.shape:
                raise InputError.of(
                    "NC202", f"weights of '{name}' have shape {array.shape}, the projection has {where.index.size} synapses"
                )
            if not np.isfinite(array).all():
                raise InputError.of("NC203", f"weights of '{name}': value {int(np.argmin(np.isfinite(array)))} is not finite")
            new[where.table][where.index] = array
        for table in (lay.EPROP, lay.STDP_TABLE):
            lay.check_weights(self.network, self._layout.placed, table, new[table])
        changed = new[lay.EPROP] != self._state.eprop.eprop_weight
        self._state.eprop.working_weight[changed] = new[lay.EPROP][changed]
        for current, replacement in zip(self._tables(), new, strict=True):
            current[:] = replacement

    def flush(self) -> None:
        """Apply the pending gradients of all plastic e-prop synapses, as if every source's spike arrived in the next step; nothing is
        delivered, no trace sees a spike. Optimizers that wait for the end of an interval go on waiting. Reward-modulated synapses
        are integrated up to now."""
        from neurocompile.backends.reference.kernels import eprop, stdp

        c, state, now = self._constants, self._state, int(self._state.clock[t.LEARNING_STEP])
        eprop.visit(c.eprop.target, c.sites, c.rules, c.sign, state.eprop, 0, state.eprop.position.size, now, eprop.APPLY)
        stdp.settle_all(c.stdp, c.stdp_rules, c.dt_ms * 1e-3, state.stdp, -1, now)

    def state(self) -> dict[str, AnyArray]:
        """Return a copy of everything that changes (plain numeric arrays, fit for an .npz file)."""
        return {name: array.copy() for name, array in _flat(self._state).items()}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go back to a :meth:`state`; the simulator then goes on bit for bit as the saved one did.

        Raises
        ------
        InputError
            NC235: the state is of another network.
        """
        own = _flat(self._state)
        for name, array in own.items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                what = "is missing" if given is None else f"has shape {given.shape}, expected {array.shape}"
                raise InputError.of(
                    "NC235", f"saved state: array '{name}' {what}", help="restore it into the network that it was saved from"
                )
        for name, array in own.items():
            array[...] = state[name]

    def reset_dynamics(self) -> None:
        """Bring neurons, spikes under way, traces, histories and pending gradients back to the start.

        Weights, optimizer state (with gradients already handed to it) and the step counters stay. Call :meth:`flush` before to keep
        what pending gradients would have done.
        """
        fresh = _flat(_initial_state(self.network, self._layout, self._state.eprop.history.shape[1]))
        kept = {"clock", "static_weight", "eprop_weight", "stdp_weight", "collected", "optimized", "first_moment", "second_moment"}
        for name, array in _flat(self._state).items():
            if name not in kept:
                array[...] = fresh[name]
        self._state.eprop.working_weight[:] = self._state.eprop.eprop_weight
        self._state.stdp.stdp_touch[:] = self._state.clock[t.LEARNING_STEP]
        self._state.clock[t.N_PENDING] = 0
        self._state.clock[t.LEARNED_LAST] = 0

    def _tables(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self._state.static_weight, self._state.eprop.eprop_weight, self._state.stdp.stdp_weight

    def _weight(self, name: str) -> FloatArray:
        where = self._layout.placed[name]
        return self._tables()[where.table][where.index]

    def _split(self, ids: Int32Array, steps: IntArray) -> dict[str, Spikes]:
        result = {}
        for population in self.network.populations:
            if population.model.spikes:
                start = self.network.offsets[population.name]
                mine = (ids >= start) & (ids < start + population.size)
                result[population.name] = Spikes(neuron=(ids[mine] - start).astype(np.int32), step=steps[mine])
        return result

    def _warm_up(self) -> float:
        """Load or compile the kernels with a run of no steps; say so if it takes longer than loading from the cache does."""
        began = time.perf_counter()
        notice = threading.Timer(1.5, _log.info, ["compiling kernels (once; later runs load them from the cache)"])
        notice.daemon = True
        notice.start()
        try:
            from neurocompile.backends.reference.kernels.loop import run

            inputs = gather_inputs(self.network, {}, {}, 0, 0)
            run(self._constants, self._state, inputs, make_probes(self.network, self._layout, RecordOptions(), 0), 0, True)
        finally:
            notice.cancel()
        return time.perf_counter() - began


def _stack(rows: list[FloatArray], width: int) -> FloatArray:
    return np.array(rows) if rows else np.zeros((0, width))


def _initial_state(network: Network, layout: lay.Layout, history: int) -> t.State:
    n, m = network.n_neurons, len(layout.weights[lay.EPROP])
    n_sites = layout.constants.sites.neuron.size
    m_stdp, n_rules = len(layout.weights[lay.STDP_TABLE]), layout.constants.stdp_rules.tau_c.size
    slots = int(layout.constants.stdp.delay.max(initial=0)) + 1 if m_stdp else 0
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
        first_moment=np.zeros(m),
        second_moment=np.zeros(m),
        history=np.zeros((n_sites, history, 3)),
        rate=np.zeros(n_sites),
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
    return t.State(clock=np.zeros(8, np.int64), neurons=neurons, static_weight=layout.weights[lay.STATIC].copy(), eprop=eprop, stdp=stdp)


def _flat(state: t.State) -> dict[str, AnyArray]:
    """Return the arrays of a state by name (names are unique over its parts)."""
    parts = (state.neurons, state.eprop, state.stdp)
    result: dict[str, AnyArray] = {"clock": state.clock, "static_weight": state.static_weight}
    for part in parts:
        result.update(part._asdict())
    return result
