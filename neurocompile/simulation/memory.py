"""What a simulation will need, item by item, before anything is allocated.

The figures follow the arrays of the engines (tests compare them with what is allocated); spikes of neurons cannot be known beforehand,
they are watched while the network runs (:func:`watch`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompile.backends.reference import RecordOptions
from neurocompile.backends.reference.kernels.tables import N_KAPPA, N_SITE_KAPPA
from neurocompile.backends.reference.layout import discount_of
from neurocompile.backends.reference.simulator import LAST_STEP
from neurocompile.ir import (
    ALIF,
    AdaptiveFeedback,
    ChainFeedback,
    EProp,
    Explicit,
    FixedOutDegree,
    KappaPer,
    LeakyReadout,
    Network,
    PerInterval,
    Projection,
    Values,
)
from neurocompile.ir.errors import DoesNotFitError
from neurocompile.ir.memory import available_memory
from neurocompile.ir.neurons import LIF, decay
from neurocompile.ir.realise import estimated_synapses
from neurocompile.ir.rewired import rewiring_of
from neurocompile.ir.values import Constant, Normal, Uniform
from neurocompile.ir.verify_learning import chain_projections

GIB = 2.0**30
RESERVE = 64 * 2.0**20
"""Left for the interpreter while recordings grow."""
_CHUNK = 2_000_000
_PATH_BYTES = 90.0
"""22 that stay, and the lists from which they are sorted: ends, table, place, weight, offset (34), joined, and the order (8)."""
_NEURON_BYTES = 165.0
"""Constants 84, state 49, current input and spikes under way 8, a temporary of 24 while the constants are made."""


_REWIRED_BYTES, _MOVING_BYTES = 12.0, 130.0
"""With rewiring: number and clock of every plastic synapse; and while synapses move, first the pairs that are taken (hash table: up to
72) and a projection's synapses (50), then orders, rows and a copy of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One item: what for, and how many bytes."""

    what: str
    n_bytes: float


def check_neurons(network: Network) -> None:
    """Raise DoesNotFitError NC410 if the neurons alone are too many, whatever the algorithm: choosing it looks at each of them."""
    needs = [Need(what=f"{network.n_neurons:,} neurons", n_bytes=_NEURON_BYTES * network.n_neurons)]
    check_fits(f"simulating '{network.name}'", needs)


def network_needs(network: Network, *, algorithm: str, precision: str, ranges: int, given: bool = False) -> list[Need]:
    """Return what the engine needs for a network while it is built and runs.

    Parameters
    ----------
    algorithm
        "anchored", "loop" or "interval".
    ranges
        Ranges of neurons of the anchored form: its threads, or those of the run that is resumed.
    given
        Whether all synapses are in memory already, and stay there.
    """
    n = network.n_neurons
    counts = {p.name: estimated_synapses(network, p) for p in network.synaptic_projections}
    kinds: dict[str, list[Projection]] = {"static": [], "eprop": [], "stdp": []}
    for p in network.synaptic_projections:
        rule = None if p.learning is None else network.rule(p.learning)
        kinds["static" if rule is None else "eprop" if isinstance(rule, EProp) else "stdp"].append(p)
    m = {kind: sum(counts[p.name] for p in projections) for kind, projections in kinds.items()}
    groups = {(p.post, p.learning or "") for p in kinds["eprop"]}
    n_sites = sum(network.population(post).size for post, _ in groups)
    slots = max((delay_range(p)[1] for p in kinds["static"]), default=1) + 1
    neurons = n * (_NEURON_BYTES + 8.0 * slots)
    if algorithm == "loop":
        rules = [rule for name in {name for _, name in groups} if isinstance(rule := network.rule(name), EProp)]
        learnt = {rule.kappa_learning.per for rule in rules if rule.kappa_learning is not None}
        owned = KappaPer.NEURON in learnt  # kappa of the neuron, and in each entry of its history
        neurons += n_sites * (2 * 33 + 8 + 256 * 24 + (8 * N_SITE_KAPPA + 256 * 8) * owned) + 8.0 * n * (3 + 2 * len(kinds["stdp"]))
        plastic = 122.0 + 8 * N_KAPPA * bool(learnt) + 8 * (network.actor_critic is not None)
        synapses = [80.0 * m["static"], plastic * m["eprop"], 100.0 * m["stdp"]]
        synapses.append(17.0 * sum(m.values()))  # as they are realised, or as they were given
    elif network.interval_2020 is not None:
        steps, words = network.interval_2020.interval_steps, -(-network.interval_2020.interval_steps // 64)
        neurons += n_sites * (16.0 * steps + 2 * 33 + 28) + n * (8.0 * words + 57)
        # what is used later, at most 68, is less than what sorting takes, which comes after the static ones are in place
        synapses = [max(75.0 * m["static"], 21.0 * m["static"] + 75.0 * m["eprop"]), 17.0 * sum(m.values())]
    else:
        columns, row = n_columns(network)
        width = 4 + columns * (8 if precision == "float64" else 4)
        neurons += n_sites * (2 * 33 + 8 * row + 48 + 32 + 24 + 16 + (24 if network.actor_critic is not None else 0))
        neurons += 16.0 * ranges * n if kinds["static"] else 0.0
        for group in groups:
            members = [p for p in kinds["eprop"] if (p.post, p.learning) == group]
            delays = range(min(delay_range(p)[0] for p in members), max(delay_range(p)[1] for p in members) + 1)
            first = min(network.offsets[p.pre] for p in members)
            last = max(network.offsets[p.pre] + network.population(p.pre).size for p in members)
            neurons += (last - first) * len(delays) * (16.0 * ranges + 17.0)
        synapses = [21.0 * m["static"], width * m["eprop"], 17.0 * sum(m.values()) if given else 0.0]
        synapses.append(
            0.0 if given else max((_while_drawn(p, counts[p.name], ranges) for p in kinds["static"] + kinds["eprop"]), default=0)
        )
    if any(rewiring_of(network, p) for p in kinds["eprop"]):
        synapses.append((_REWIRED_BYTES + _MOVING_BYTES) * m["eprop"])
    learning = sum(m[kind] for kind in ("eprop", "stdp"))
    readout = sum(p.size for p in network.feedback_readouts)
    hidden = sum(network.population(post).size for post, _ in groups if not isinstance(network.population(post).model, LeakyReadout))
    return [
        Need(what=f"{learning:,.0f} plastic and {m['static']:,.0f} static synapses", n_bytes=sum(synapses)),
        Need(what=f"{n:,} neurons", n_bytes=neurons),
        Need(what="feedback weights", n_bytes=32.0 * readout * hidden + _PATH_BYTES * _paths(network, counts)),
    ]


def _paths(network: Network, counts: Mapping[str, float]) -> float:
    """Return how many synapses carry learning signals back on their own, once for each rule."""
    found = 0.0
    for population, name in {(p.post, p.learning) for p in network.synaptic_projections if p.learning is not None}:
        rule = network.rule(name)
        if isinstance(rule, EProp) and isinstance(rule.feedback, AdaptiveFeedback | ChainFeedback):
            found += sum(counts[p.name] for p in chain_projections(network, population))
    return found


def delay_range(projection: Projection) -> tuple[int, int]:
    """Return the shortest and longest delay that a projection can have, steps."""
    if isinstance(projection.connect, Explicit) and projection.connect.delay is not None:
        found = projection.connect.delay
        return (int(found.min()), int(found.max())) if found.size else (1, 1)
    delay = projection.delay
    if isinstance(delay, Constant):
        return int(delay.value), int(delay.value)
    if isinstance(delay, Uniform):
        return int(delay.low), int(delay.high)
    if isinstance(delay, Values):
        return (int(delay.values.min()), int(delay.values.max())) if delay.values.size else (1, 1)
    if isinstance(delay, Normal):
        return tuple(int(x) for x in np.clip(np.rint(delay.mean + np.array([-9.0, 9.0]) * delay.std), 1, 255))  # type: ignore[return-value]
    return 1, 255


def n_columns(network: Network) -> tuple[int, int]:
    """Return the numbers that the anchored engine keeps of a plastic synapse, and of a neuron's row (its ``Columns``)."""
    double = adaptive = several = intervals = rewarded = False
    for p in network.synaptic_projections:
        rule = None if p.learning is None else network.rule(p.learning)
        if not isinstance(rule, EProp):
            continue
        model, size = network.population(p.post).model, network.population(p.post).size
        intervals |= isinstance(rule.update, PerInterval)
        rewarded |= discount_of(network, p.post) >= 0.0
        several |= rule.rewiring is not None
        adaptive |= isinstance(model, ALIF)
        double |= not isinstance(model, LeakyReadout) and rule.regularization is not None and rule.kappa != rule.kappa_reg
        if isinstance(model, LIF | LeakyReadout) and np.ndim(model.tau_mem) > 0:
            several |= np.unique(decay(model.tau_mem, network.dt, model.integration, size)).size > 1
    return 3 + double + adaptive + several + intervals + rewarded, 4 + 2 * double + 2 * adaptive + several + rewarded


def _while_drawn(projection: Projection, count: float, ranges: int) -> float:
    """Return what drawing the synapses of a projection takes at most beside the table, chunk by chunk of a range.

    60 bytes a synapse: 36 while a chunk is drawn, 17 of the one before, 7 of what is checked. The chunk's own part of the table is written
    only afterwards, so a projection of one chunk and one delay takes about 20 beside the whole table.
    """
    connect = projection.connect
    whole = isinstance(connect, FixedOutDegree | Explicit) or isinstance(projection.weight, Values) or isinstance(projection.delay, Values)
    return 60.0 * (count / ranges if whole else min(count / ranges, _CHUNK))


def recording_needs(network: Network, record: RecordOptions, n_steps: int, *, kept: bool) -> list[Need]:
    """Return what outputs and recorded quantities need; without ``kept``, a slice at a time: nothing worth to be counted."""
    if not kept:
        return []
    outputs = 8.0 * n_steps * (sum(r.size for r in network.readouts) + (6 if network.actor_critic is not None else 0))
    rows = 0
    for asked in (record.membrane, record.adaptation, record.surrogate, record.learning_signal):
        rows += sum(network.population(name).size if neurons is None else len(np.asarray(neurons)) for name, neurons in asked.items())
    wanted = [*record.weights, *record.traces, *record.traces]
    snapshots = 8.0 * (n_steps // record.every) * sum(estimated_synapses(network, network.projection(name)) for name in wanted)
    biggest = max([8.0 * n_steps * r.size for r in network.readouts], default=0.0)  # joined, one array at a time
    found = [Need(what=f"outputs of {n_steps:,} steps", n_bytes=outputs + biggest)]
    found.append(Need(what=f"recorded quantities of {n_steps:,} steps", n_bytes=(8.0 * n_steps * rows + snapshots) * 2))
    return found


def saving_needs(network: Network, *, given: bool) -> list[Need]:
    """Return what writing weights and synapses takes, one projection at a time."""
    largest = max((estimated_synapses(network, p) for p in network.synaptic_projections), default=0.0)
    return [Need(what="writing the largest projection", n_bytes=(16.0 if given else 25.0) * largest)]


def file_needs(files: Iterable[Path]) -> list[Need]:
    """Return what reading spikes and signals takes, from what the archives say that they hold."""
    found = []
    for path in files:
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
        except (OSError, zipfile.BadZipFile, ValueError, RuntimeError):
            continue  # its reader says what is wrong with it
        found.append(Need(what=f"the arrays of {path.name}", n_bytes=4.0 * size))  # as read, sorted, and the order
    return found


def check_fits(subject: str, needs: Iterable[Need], *, ways_out: Mapping[str, float] | None = None) -> None:
    """Raise DoesNotFitError NC410 if a simulation needs more memory than there is.

    Parameters
    ----------
    ways_out
        What could be done -> bytes that would then be needed; those that are enough are named.
    """
    listed = sorted((x for x in needs if x.n_bytes > 0.0), key=lambda x: -x.n_bytes)
    total, there = sum(x.n_bytes for x in listed), available_memory()
    if total <= there:
        return
    enough = [f"{what} ({size(n_bytes)})" for what, n_bytes in (ways_out or {}).items() if n_bytes <= there]
    raise DoesNotFitError.of(
        "NC410",
        f"{subject} needs {size(total)} of memory, {size(there)} are available: "
        + "; ".join(f"{x.what} {size(x.n_bytes)}" for x in listed),
        help="this would fit: " + ", or ".join(enough) if enough else "make the network smaller, record less, or take fewer steps",
    )


def check_steps(n_steps: int, outputs: int) -> None:
    """Raise DoesNotFitError NC410 if the engine cannot count so many steps."""
    if n_steps >= LAST_STEP:
        raise DoesNotFitError.of(
            "NC410",
            f"{n_steps:,} steps: the engine counts fewer than {LAST_STEP:,}; "
            f"the outputs of so many would need {size(8.0 * n_steps * outputs)} of memory",
            help="take fewer steps, or start the next run from the weights that --save wrote (--weights)",
        )


def watch(done: int, n_steps: int, recorded: float, to_come: float) -> None:
    """Raise DoesNotFitError NC410 if what is being recorded is about to use up the memory, before the system ends the process.

    Parameters
    ----------
    recorded
        Bytes of spikes and recordings so far.
    to_come
        Bytes that writing them will take at the end.
    """
    there = available_memory()
    if there < RESERVE + to_come:
        raise DoesNotFitError.of(
            "NC410",
            f"after {done:,} of {n_steps:,} steps spikes and recordings have {size(recorded)}, writing them takes {size(to_come)} more, "
            f"and {size(there)} of memory are left; all steps would have needed {size((recorded + to_come) / max(done, 1) * n_steps)}",
            help="take fewer steps, record less, or leave out --save",
        )


def size(n_bytes: float) -> str:
    """Return a number of bytes as text."""
    return f"{n_bytes / GIB:,.1f} GiB" if n_bytes >= GIB / 10 else f"{n_bytes / 2**20:,.1f} MiB"
