"""The original formulation of e-prop (``update: interval_2020``, NEST's ``*_bsshslm_2020`` models): see kernels/interval.py."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.kernels import interval_tables as it
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.ir import LIF, Adam, EProp, Interval2020, LeakyReadout, Network
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.memory import available_memory
from neurocompile.ir.neurons import decay
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections, realise_all

_KEPT = {"clock", "static_weight", "eprop_weight", "collected", "first_moment", "second_moment", "updated"}


class IntervalEngine:
    """See :class:`neurocompile.backends.reference.engine.Engine`."""

    def __init__(
        self,
        network: Network,
        update: Interval2020,
        connections: Mapping[str, Connections] | None,
        feedback: Mapping[tuple[str, str], FloatArray] | None,
    ) -> None:
        self.network, self._update = network, update
        layout = lay.lay_out(network, realise_all(network) if connections is None else connections, feedback)
        rules = layout.constants.rules
        self._layout = layout
        self._synapses = _by_source(layout.constants.eprop, network.n_neurons)
        self._constants = layout.constants._replace(rules=rules._replace(batch=np.full_like(rules.batch, update.batch_size)))
        self._interval = it.Interval(
            steps=update.interval_steps,
            window=update.window_steps,
            reset=update.reset_neurons,
            scale=1.0 / update.window_steps if update.average_gradient else 1.0,
            batch=update.batch_size,
            gain=_gains(network, update),
            rest=lay.resting(network),
        )
        n_sites = layout.constants.sites.neuron.size
        _check_memory(update, n_sites, network.n_neurons)
        self._state = self._initial_state()
        self.site_of = layout.site_of
        self.eprop_names = tuple(name for name, where in layout.placed.items() if where.table == lay.EPROP)

    def _initial_state(self) -> it.FullState:
        layout, n, steps = self._layout, self.network.n_neurons, self._interval.steps
        weight, n_sites = layout.weights[lay.EPROP], layout.constants.sites.neuron.size
        m = len(weight)
        adam = m if any(isinstance(r, EProp) and isinstance(r.optimizer, Adam) for r in self.network.rules) else 0
        learning = it.IntervalState(
            eprop_weight=weight.copy(),
            gradient=np.zeros(m),
            collected=np.zeros(m if self._interval.batch > 1 else 0),
            first_moment=np.zeros(adam),
            second_moment=np.zeros(adam),
            psi=np.zeros((n_sites, steps)),
            signal=np.zeros((n_sites, steps)),
            heard=np.zeros((2, n_sites)),
            n_spikes=np.zeros(n_sites, np.int32),
            reg=np.zeros(n_sites),
            arrivals=np.zeros((n, -(-steps // it.WORD)), np.uint64),
            unlearned=np.zeros(n, np.uint8),
            updated=np.zeros((n, 2), np.int32),
        )
        neurons = t.NeuronState(
            v=lay.resting(self.network),
            current=np.zeros(n),
            adaptation=np.zeros(n),
            spiked=np.zeros(n, np.uint8),
            refractory=np.zeros(n, np.int32),
            distance=np.full(n, np.inf),
            error=np.zeros(n),
            ring=np.zeros((layout.max_delay + 1, n)),
            pending=np.zeros(n, np.int32),
        )
        static = layout.weights[lay.STATIC].copy()
        return it.FullState(clock=np.zeros(8, np.int64), neurons=neurons, static_weight=static, learning=learning)

    @property
    def clock(self) -> IntArray:
        return self._state.clock

    @property
    def n_synapses(self) -> dict[str, int]:
        return {name: len(where.index) for name, where in self._layout.placed.items()}

    def run(self, inputs: t.Inputs, probes: t.Probes, n_steps: int, learn: bool) -> tuple[Int32Array, IntArray]:
        from neurocompile.backends.reference.kernels.interval_loop import run

        found: tuple[Int32Array, IntArray] = run(
            self._constants, self._synapses, self._interval, self._state, inputs, probes, n_steps, learn
        )
        return found

    def _table(self, name: str) -> FloatArray:
        plastic = self._layout.placed[name].table == lay.EPROP
        return self._state.learning.eprop_weight if plastic else self._state.static_weight

    def weight(self, name: str) -> FloatArray:
        return self._table(name)[self._layout.placed[name].index]

    def set_weight(self, name: str, values: FloatArray) -> None:
        self._table(name)[self._layout.placed[name].index] = values

    def traces(self, name: str) -> dict[str, FloatArray]:
        """Return zbar and ebar at the last complete entry of the running interval; 0 where it has none yet."""
        from neurocompile.backends.reference.kernels.interval_snapshot import traces

        step = int(self.clock[t.STEP]) - 1
        index = self._layout.placed[name].index
        zbar, ebar = traces(self._constants, self._synapses, self._interval, self._state.learning, self._sources(index), index, step)
        return {"zbar": zbar, "ebar": ebar}

    def _sources(self, index: IntArray) -> IntArray:
        found: IntArray = np.searchsorted(self._synapses.pointer, index, side="right") - 1
        return found

    def flush(self) -> None:
        """Apply the gradients of complete intervals; the running interval goes on."""
        from neurocompile.backends.reference.kernels.interval import apply_all

        c = self._constants
        apply_all(self._synapses, c.sites, c.rules, c.sign, self._interval, self._state.learning, int(self.clock[it.INTERVAL]))

    def arrays(self) -> dict[str, AnyArray]:
        state = self._state
        return {"clock": state.clock, "static_weight": state.static_weight, **state.neurons._asdict(), **state.learning._asdict()}

    def reset_dynamics(self) -> None:
        neurons = self._state.neurons
        for name, array in (*neurons._asdict().items(), *self._state.learning._asdict().items()):
            if name not in _KEPT:
                array[...] = 0
        neurons.v[:] = self._interval.rest
        neurons.distance[:] = np.inf
        self.clock[t.N_PENDING] = self.clock[t.LEARNED_LAST] = 0

    def bytes_per_plastic_synapse(self) -> float:
        c, e = self._constants, self._state.learning
        m = e.eprop_weight.size
        table = self._synapses
        parts: list[AnyArray] = [
            table.pointer,
            table.target,
            c.sign,
            e.eprop_weight,
            e.gradient,
            e.collected,
            e.first_moment,
            e.second_moment,
        ]
        parts += [self._layout.placed[name].index for name in self.eprop_names]
        return float(sum(x.nbytes for x in parts)) / m if m else 0.0


def _by_source(table: t.EpropSynapses, n_neurons: int) -> t.Synapses:
    """Return the plastic synapses by source; InputError NC209 if one has another delay than a step (the reader knows only lists)."""
    if np.any(table.delay != 1):
        raise InputError.of(
            "NC209",
            f"plastic synapses have delays of up to {int(table.delay.max())} steps, in the original formulation of e-prop (interval_2020) "
            "they have one",
            help="give all plastic synapses a delay of one step",
        )
    pointer = table.pointer[0] if len(table.pointer) else np.zeros(n_neurons + 1, np.int64)
    return t.Synapses(pointer=np.ascontiguousarray(pointer), target=table.target, delay=np.zeros(0, np.uint8))


def _gains(network: Network, update: Interval2020) -> FloatArray:
    """Return what the input of every neuron is multiplied by: 1, or without regular spike arrival 1 - alpha."""
    gains = np.ones(network.n_neurons)
    if not update.regular_spike_arrival:
        for population in network.populations:
            model, start = population.model, network.offsets[population.name]
            if isinstance(model, LIF | LeakyReadout):
                alpha = decay(model.tau_mem, network.dt, model.integration, population.size)
                gains[start : start + population.size] = 1.0 - alpha
    return gains


def _check_memory(update: Interval2020, n_sites: int, n_neurons: int) -> None:
    needed = 16.0 * n_sites * update.interval_steps + n_neurons * update.interval_steps / 8.0
    free = available_memory()
    if needed > free:
        raise DoesNotFitError.of(
            "NC410",
            f"the histories of {n_sites} learning neurons over an interval of {update.interval_steps} steps need {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free",
            help="shorten the interval (interval_2020), or use update: per_event, which keeps no history",
        )
