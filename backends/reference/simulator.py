"""The reference engine's front door: :class:`Simulator`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.engine import Choice, Engine, RewirableEngine, learns_kappa, why_loop
from neurocompile.backends.reference.engine_anchored import LOST_DIGITS, AnchoredEngine, needs_loop
from neurocompile.backends.reference.engine_interval import IntervalEngine
from neurocompile.backends.reference.engine_loop import LoopEngine
from neurocompile.backends.reference.inputs import gather_inputs
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.layout_anchored import Progress
from neurocompile.backends.reference.probes import make_probes, split_probes
from neurocompile.backends.reference.recording import Recording, RecordOptions
from neurocompile.backends.reference.rewiring import Moves, draw
from neurocompile.ir import EProp, Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.errors import InputError, did_you_mean
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections, realise
from neurocompile.ir.rewired import rewired_projections, rewiring_of
from neurocompile.ir.signals import Signal, Spikes

_log = logging.getLogger(__name__)
ALGORITHMS = ("auto", "anchored", "loop")
LAST_STEP = 2**31 - 2**20
"""A run ends before this step: learning steps are int32."""


class Simulator:
    """A network, step by step: every neuron model, any sparse connectivity, event-driven e-prop and STDP.

    Update step t: (1) spikes emitted in step t-1 are delivered, and plastic synapses change before they transmit; (2) every neuron is
    updated with what arrives in step t; (3) readouts are compared with their signals, and the error completes entry t-1 of the hidden
    neurons' histories. docs/eprop.md has all formulas. Results are the same bits on every run: sums go by ascending source neuron
    (numbered through in the network's order of populations), then in the order of projections, then canonically.

    Parameters
    ----------
    network : Network
    connections : mapping projection name -> Connections, optional
        Synapses of every synaptic projection. Default: as described; the anchored form realises them where they are placed, so that no
        list of all synapses exists beside its table.
    feedback : mapping (rule name, hidden population) -> float64 (n_readout, n_hidden), optional
        Replaces a rule's feedback weights B; default ``realise_feedback``. With actor_critic the critic's row comes last.
    algorithm : "auto", "anchored" or "loop"
        How event-driven e-prop is computed (:func:`choose`; docs/eprop.md, "Anchored form").
    precision : "float64" or "float32"
        Of plastic synapses in the anchored form; sums, neurons and static synapses are float64 always.
    threads : int
        1 .. :func:`max_threads`, of the anchored form. Results do not depend on it, bit for bit.
    ranges : int, optional
        Anchored form only: ranges of neurons that have one owner each; default: one a thread. Results do not depend on it, but a
        :meth:`state` belongs to a number of ranges. Threads beyond it have nothing to do and are not started.
    history_steps : int
        Loop only: length of the history ring of each learning neuron (rounded up to a power of two >= 8). A choice of memory and speed
        alone: silent synapses are advanced before their entries are overwritten, and no result changes.
    window_steps : int, optional
        Anchored form only: steps between two anchors, >= 1; default: as many as the decays and the precision allow.
    progress : callable (what, done, in all), optional
        Called while the anchored form places synapses.

    Attributes
    ----------
    algorithm, reason : str
        Which algorithm runs ("anchored", "loop", or "interval" for ``interval_2020``), and why.
    step : int
        Next update step, absolute.
    threads : int
        Threads that work: those asked for, at most one a range.
    ranges : int
        Ranges asked for.
    compile_s : float
        Time spent loading or compiling the kernels.

    Raises
    ------
    InputError
        NC202, NC204, NC209, NC235, NC236: connections, weights or feedback that do not fit the network; NC251: see :func:`choose`.
    """

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, Connections] | None = None,
        *,
        feedback: Mapping[tuple[str, str], FloatArray] | None = None,
        algorithm: str = "auto",
        precision: str = "float64",
        threads: int = 1,
        ranges: int | None = None,
        history_steps: int = 256,
        window_steps: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        self.precision, self.ranges = precision, threads if ranges is None else ranges
        choice = choose(network, algorithm, precision, threads)
        self.algorithm, self.reason = choice.algorithm, choice.reason
        self._engine: Engine
        self._movable: RewirableEngine | None = None
        self._rewired = {p.name: rewiring for p in rewired_projections(network) if (rewiring := rewiring_of(network, p)) is not None}
        self._given = connections
        if network.interval_2020 is not None:
            self._engine = IntervalEngine(network, network.interval_2020, connections, feedback)
        elif self.algorithm == "loop":
            self._engine = self._movable = LoopEngine(network, connections, feedback, history_steps)
        else:
            self._engine = self._movable = AnchoredEngine(
                network,
                connections,
                feedback,
                precision=precision,
                threads=threads,
                ranges=self.ranges,
                window_steps=window_steps,
                progress=progress,
            )
        self.threads = self._engine.threads if isinstance(self._engine, AnchoredEngine) else 1
        self._names = [p.name for p in network.synaptic_projections]
        self.compile_s = self._warm_up()

    @property
    def step(self) -> int:
        return int(self._engine.clock[t.STEP])

    @property
    def range_starts(self) -> tuple[int, ...]:
        """First neuron of each range, and the number of neurons; outside the anchored form there is one range."""
        found = self._engine.ranges if isinstance(self._engine, AnchoredEngine) else [0, self.network.n_neurons]
        return tuple(int(x) for x in found)

    @property
    def n_synaptic_events(self) -> int:
        """Deliveries so far: one for each spike and synapse."""
        return int(self._engine.clock[t.N_EVENTS])

    @property
    def n_synapses(self) -> dict[str, int]:
        """Synapses of every synaptic projection, counted where they lie."""
        found = self._engine.n_synapses
        return {name: found[name] for name in self._names}

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
            Row i belongs to absolute step ``step + i``; without a row (or outside the window) the error is 0. Of a policy (actor_critic):
            the rewards of its actions, and those of an environment. The action of a step follows from the policy and a number that is a
            function of (network seed, readout, absolute step).
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
        if n_steps < 0 or self.step + n_steps > LAST_STEP:
            raise InputError.of("NC238", f"{n_steps} steps from step {self.step} on, must be >= 0 and end before step {LAST_STEP}")
        inputs = gather_inputs(self.network, spikes or {}, signals or {}, self.step, n_steps)
        probes = make_probes(self.network, self._engine, record, n_steps)
        first, events = self.step, int(self._engine.clock[t.N_EVENTS])
        chunk = record.every if record.weights or record.traces else max(n_steps, 1)
        found: list[Int32Array] = []
        counts: list[IntArray] = []
        weights: dict[str, list[FloatArray]] = {name: [] for name in record.weights}
        traces: dict[str, list[dict[str, FloatArray]]] = {name: [] for name in record.traces}
        taken: list[int] = []
        wall = 0.0
        for start in range(0, n_steps, chunk):
            stop = min(start + chunk, n_steps)
            part_inputs, part_probes = _part_of_inputs(inputs, start, stop), _part_of_probes(probes, start, stop)
            began = time.perf_counter()
            for ids, number in self._advance(part_inputs, part_probes, stop - start, bool(learn)):
                found.append(ids)
                counts.append(number)
            wall += time.perf_counter() - began
            if stop - start == chunk and (record.weights or record.traces):
                taken.append(first + stop - 1)
                for name, rows in weights.items():
                    rows.append(self._engine.weight(name))
                for name, items in traces.items():
                    items.append(self._engine.traces(name))
        steps = np.repeat(np.arange(first, first + n_steps), np.concatenate(counts) if counts else 0)
        rewarded = self.network.actor_critic is not None
        by_population = self._split(np.concatenate(found) if found else np.zeros(0, np.int32), steps)
        return Recording(
            first_step=first,
            spikes=by_population,
            n_spikes={name: len(s.step) for name, s in by_population.items()},
            n_synaptic_events=int(self._engine.clock[t.N_EVENTS]) - events,
            weights={name: self._stack(name, rows) for name, rows in weights.items()},
            traces={name: {key: self._stack(name, [i[key] for i in items]) for key in ("zbar", "ebar")} for name, items in traces.items()},
            snapshot_steps=np.array(taken, np.int64),
            actions=probes.outcome[:, 0].astype(np.int32) if rewarded else None,
            rewards=probes.outcome[:, 1].copy() if rewarded else None,
            td_errors=probes.outcome[:, 2].copy() if rewarded else None,
            wall_s=wall,
            **split_probes(self.network, record, probes),
        )

    def _advance(self, inputs: t.Inputs, probes: t.Probes, n_steps: int, learn: bool) -> Iterator[tuple[Int32Array, IntArray]]:
        """Run some steps, rewire between them where it is due."""
        every = {rewiring.every_steps for rewiring in self._rewired.values()} if learn else set()
        start = 0
        while start < n_steps:
            now = int(self._engine.clock[t.LEARNING_STEP])
            self._rewire(now, {e for e in every if now and now % e == 0})
            stop = min([n_steps, *(start + e - now % e for e in every)])
            if start == 0 and stop == n_steps:
                yield self._engine.run(inputs, probes, n_steps, learn)
            else:
                yield self._engine.run(_part_of_inputs(inputs, start, stop), _part_of_probes(probes, start, stop), stop - start, learn)
            start = stop

    def _rewire(self, now: int, due: set[int]) -> None:
        """Move the synapses of weight 0 of all rules whose interval is one of ``due``."""
        moves: dict[str, Moves] = {}
        for row, (name, rewiring) in enumerate(self._rewired.items()):
            if self._movable is None or rewiring.every_steps not in due or self._engine.weight(name).all():
                continue
            synapses = self._movable.synapses(name)
            projection, number = self.network.projection(name), now // rewiring.every_steps
            moves[name], stuck = draw(self.network, projection, number, synapses.weight, synapses.pre, synapses.post)
            self._movable.rewirings[row] += len(moves[name].slots), stuck
        moves = {name: going for name, going in moves.items() if len(going.slots)}
        if moves and self._movable is not None:
            self._movable.move(moves)

    @property
    def rewired(self) -> tuple[str, ...]:
        """Projections whose rule moves synapses, in the network's order."""
        return tuple(self._rewired)

    @property
    def n_rewired(self) -> dict[str, int]:
        """How often a synapse of each rewired projection has moved."""
        return self._counted(0)

    @property
    def n_stuck(self) -> dict[str, int]:
        """How often a synapse of each rewired projection had weight 0 at a rewiring and no pair was free."""
        return self._counted(1)

    def _counted(self, column: int) -> dict[str, int]:
        counts = np.zeros((0, 2), np.int64) if self._movable is None else self._movable.rewirings
        return {name: int(count) for name, count in zip(self._rewired, counts[:, column], strict=True)}

    def connections(self, projection: str) -> Connections:
        """Return the synapses of a projection as they are now, in canonical order (with rewiring: the order of the start, in which a
        synapse keeps its number wherever it moves). A weight of -0.0 belongs to a synapse that stays negative.

        Raises
        ------
        InputError
            NC207: unknown projection.
        """
        self._check_name(projection)
        if projection in self._rewired and self._movable is not None:
            return self._movable.synapses(projection)
        found = realise(self.network, self.network.projection(projection)) if self._given is None else self._given[projection]
        return Connections(pre=found.pre, post=found.post, weight=self._engine.weight(projection), delay=found.delay)

    def set_connections(self, connections: Mapping[str, Connections]) -> None:
        """Put the synapses of some rewired projections where they are said to be, with these weights. Those that join another pair
        begin there as after a rewiring; the others keep their traces.

        Raises
        ------
        InputError
            NC235: a projection that is not rewired, another number of synapses or other delays; NC204: a neuron that does not exist;
            NC203, NC236: weights as in :meth:`set_weights`.
        """
        moves: dict[str, Moves] = {}
        for name, new in connections.items():
            self._check_name(name)
            if name not in self._rewired or self._movable is None:
                raise InputError.of("NC235", f"connections of '{name}': its synapses do not move", help="use set_weights")
            old = self._movable.synapses(name)
            if len(new) != len(old) or not np.array_equal(new.delay, old.delay):
                raise InputError.of("NC235", f"connections of '{name}': {len(new)} synapses, expected {len(old)} with the same delays")
            lay.check_ends(self.network, self.network.projection(name), new)
            slots = np.flatnonzero((new.pre != old.pre) | (new.post != old.post))
            if len(slots):
                moves[name] = Moves(slots=slots, pre=new.pre[slots], post=new.post[slots])
        weights = {name: np.asarray(new.weight, np.float64) for name, new in connections.items()}
        self._check_weights(weights)
        if moves and self._movable is not None:
            self._movable.move(moves)
        for name, values in weights.items():
            self._engine.set_weight(name, values)

    def _check_name(self, projection: str) -> None:
        if projection not in self._names:
            raise InputError.of("NC207", f"projection '{projection}' does not exist", help=did_you_mean(projection, self._names))

    def weights(self) -> dict[str, FloatArray]:
        """Return a copy of the weights of every synaptic projection, in the canonical order of its Connections."""
        return {name: self._engine.weight(name) for name in self._names}

    def weight(self, projection: str) -> FloatArray:
        """Return a copy of the weights of one projection (:meth:`weights` of a large network holds all at once)."""
        return self._engine.weight(projection)

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Set the weights of some projections (canonical order). Optimizer state and traces stay as they are.

        Raises
        ------
        InputError
            NC207 unknown projection, NC202 wrong length, NC203 not finite, NC236 outside a rule's bounds.
        """
        for name, array in self._check_weights(weights).items():
            self._engine.set_weight(name, array)

    def _check_weights(self, weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        new: dict[str, FloatArray] = {}
        for name, values in weights.items():
            if name not in self._names:
                raise InputError.of("NC207", f"weights: projection '{name}' does not exist", help=did_you_mean(name, self._names))
            array, present = np.asarray(values, np.float64), self._engine.weight(name)
            if array.shape != present.shape:
                raise InputError.of("NC202", f"weights of '{name}' have shape {array.shape}, the projection has {present.size} synapses")
            if not np.isfinite(array).all():
                raise InputError.of("NC203", f"weights of '{name}': value {int(np.argmin(np.isfinite(array)))} is not finite")
            projection = self.network.projection(name)
            if projection.learning is not None:
                lay.check_bounds(projection, array, self.network.rule(projection.learning).weight_bounds)
            new[name] = array
        return new

    def kappa(self, projection: str) -> FloatArray:
        """Return a copy of the learnt kappas of one projection, one for each synapse (its target neuron's where neurons own them).

        Raises
        ------
        InputError
            NC207: the projection does not exist or has no learnt kappa (rules without ``kappa_learning``; readouts have no kappa).
        """
        return self._learnt_kappa([projection]).kappa(projection)

    def kappas(self) -> dict[str, FloatArray]:
        """Return a copy of the learnt kappas of every projection that has them (:meth:`kappa`); empty without ``kappa_learning``."""
        return {name: self.kappa(name) for name in learns_kappa(self.network)}

    def set_kappas(self, kappas: Mapping[str, FloatArray]) -> None:
        """Set the learnt kappas of some projections (canonical order): a network that goes on learning needs them beside its weights.

        Raises
        ------
        InputError
            NC207: as :meth:`kappa`; NC202 wrong length, NC236 outside the rule's bounds or different for the synapses of one neuron that
            owns its kappa.
        """
        if not kappas:
            return
        engine = self._learnt_kappa(kappas)
        new = {name: np.asarray(values, np.float64) for name, values in kappas.items()}
        before = {name: engine.kappa(name) for name in learns_kappa(self.network)}
        for name, values in new.items():
            rule = self.network.rule(self.network.projection(name).learning or "")
            if values.shape != before[name].shape:
                raise InputError.of(
                    "NC202", f"kappas of '{name}' have shape {values.shape}, the projection has {before[name].size} synapses"
                )
            low, high = rule.kappa_learning.bounds if isinstance(rule, EProp) and rule.kappa_learning is not None else (0.0, 1.0)
            bad = np.flatnonzero(~((values >= low) & (values <= high)))
            if bad.size:
                raise InputError.of(
                    "NC236",
                    f"projection '{name}': kappa {bad[0]} is {values[bad[0]]:g}, outside the bounds [{low:g}, {high:g}] of rule "
                    f"'{rule.name}'",
                    help="widen the bounds of kappa_learning, or use the kappas that this network has learnt",
                )
        for name, values in new.items():
            engine.set_kappa(name, values)
        for name, values in new.items():
            if not np.array_equal(engine.kappa(name), values):
                for other, old in before.items():
                    engine.set_kappa(other, old)
                raise InputError.of(
                    "NC236",
                    f"projection '{name}': kappas of synapses differ although their neuron owns one for all (per: neuron)",
                    help="give all synapses of a neuron, also those of other projections, the same kappa",
                )

    def _learnt_kappa(self, names: Iterable[str]) -> LoopEngine:
        known = learns_kappa(self.network)
        for name in names:
            if name not in known:
                what = "has no learnt kappa" if name in self._names else "does not exist"
                raise InputError.of("NC207", f"kappas: projection '{name}' {what}", help=did_you_mean(name, known))
        if not isinstance(self._engine, LoopEngine):  # by why_loop no other engine has a network with such a projection
            raise TypeError(type(self._engine))
        return self._engine

    def flush(self) -> None:
        """Apply the pending gradients of all plastic e-prop synapses, as if every source's spike arrived in the next step; nothing is
        delivered, no trace sees a spike. Optimizers that wait for the end of an interval go on waiting. Reward-modulated synapses
        are integrated up to now."""
        self._engine.flush()

    def bytes_per_plastic_synapse(self) -> float:
        """Return the memory of e-prop synapses, state and connectivity, over their number; 0 without any."""
        return self._engine.bytes_per_plastic_synapse()

    def state(self) -> dict[str, AnyArray]:
        """Return a copy of everything that changes (plain numeric arrays, fit for an .npz file), and the ranges that it lies by."""
        return {"range": np.array(self.range_starts, np.int64), **{name: array.copy() for name, array in self.live_state().items()}}

    def live_state(self) -> dict[str, AnyArray]:
        """Return the arrays of :meth:`state` themselves: large networks are written from them and read into them without a copy."""
        return self._engine.arrays()

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go back to a :meth:`state`; the simulator then goes on bit for bit as the saved one did.

        Raises
        ------
        InputError
            NC235: the state is of another network, or lies by other ranges.
        """
        own = self._engine.arrays()
        lies_by = np.asarray(state.get("range", []))
        if not np.array_equal(lies_by, self.range_starts):
            raise InputError.of(
                "NC235",
                f"saved state: it lies by {max(lies_by.size - 1, 0)} ranges of neurons, this simulator has {len(self.range_starts) - 1}"
                + (" others" if lies_by.size == len(self.range_starts) else ""),
                help="make the simulator with the same `ranges` (by default the number of threads)",
            )
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
        self._engine.reset_dynamics()

    def _stack(self, name: str, rows: list[FloatArray]) -> FloatArray:
        return np.array(rows) if rows else np.zeros((0, self._engine.weight(name).size))

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
            inputs = gather_inputs(self.network, {}, {}, 0, 0)
            self._engine.run(inputs, make_probes(self.network, self._engine, RecordOptions(), 0), 0, True)
        finally:
            notice.cancel()
        return time.perf_counter() - began


def _part_of_inputs(inputs: t.Inputs, start: int, stop: int) -> t.Inputs:
    return inputs._replace(
        pointer=inputs.pointer[start : stop + 1],
        target=inputs.target[start:stop],
        window=inputs.window[start:stop],
        reward=inputs.reward[start:stop],
    )


def _part_of_probes(probes: t.Probes, start: int, stop: int) -> t.Probes:
    return t.Probes(*(x[start:stop] if x.ndim == 2 else x for x in probes))  # type: ignore[arg-type]


def max_threads() -> int:
    """Return how many threads make sense here: the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def choose(network: Network, algorithm: str, precision: str, threads: int) -> Choice:
    """Return which engine runs a network.

    Parameters
    ----------
    algorithm
        "auto": the anchored form where it computes the network's rules exactly, else the loop; "interval" is returned for networks that
        learn by the original formulation of e-prop (``interval_2020``), which has one algorithm.

    Raises
    ------
    InputError
        NC251: an algorithm, precision or number of threads that does not exist, or that the network's rules do not allow.
    """
    if algorithm not in ALGORITHMS or precision not in LOST_DIGITS or not 1 <= threads <= max_threads():
        raise InputError.of(
            "NC251",
            f"algorithm '{algorithm}', precision '{precision}', {threads} threads",
            help=f"algorithms: {', '.join(ALGORITHMS)}; precisions: {', '.join(LOST_DIGITS)}; 1 .. {max_threads()} threads on this machine",
        )
    if network.interval_2020 is not None:
        if algorithm != "auto" or precision != "float64" or threads > 1:
            raise InputError.of(
                "NC251",
                f"algorithm '{algorithm}', precision '{precision}', {threads} threads: e-prop in its original formulation (interval_2020) "
                "has an algorithm of its own, in float64 on one thread",
                help="leave out --algorithm, --precision and --threads",
            )
        return Choice(algorithm="interval", reason="rules with update interval_2020: one gradient a synapse and interval")
    reason = why_loop(network) or needs_loop(network, precision)
    if algorithm == "loop" or (algorithm == "auto" and reason is not None):
        if precision != "float64" or threads > 1:
            why = "it was asked for" if algorithm == "loop" else str(reason)
            raise InputError.of(
                "NC251",
                f"the loop over histories (taken because {why}) runs in float64 on one thread, not in {precision} on {threads}",
                help="leave out --precision and --threads",
            )
        return Choice(algorithm="loop", reason="asked for" if algorithm == "loop" else str(reason))
    if reason is not None:
        raise InputError.of("NC251", f"the anchored algorithm cannot run this network: {reason}", help="--algorithm loop or auto")
    return Choice(algorithm="anchored", reason="asked for" if algorithm == "anchored" else "all rules are linear between spikes")
