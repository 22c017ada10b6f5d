"""Connectivity rules -> synapses, whole or in parts, the same whatever the parts (docs/connectivity.md defines the streams)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.connectivity import AllToAll, DistanceDependent, Explicit, FixedInDegree, FixedOutDegree, FixedProbability, OneToOne
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.feedback import AdaptiveFeedback, ChainFeedback, ExplicitFeedback, RandomFeedback, SymmetricFeedback
from neurocompile.ir.learning import EProp
from neurocompile.ir.memory import available_memory
from neurocompile.ir.network import Network, Projection
from neurocompile.ir.sampling import counting_sort
from neurocompile.ir.shards import IN_TURN, SYNAPSES, Shards, Shared
from neurocompile.ir.value_draws import Weights, WeightType, draw_values, rounded, whole_steps
from neurocompile.ir.values import Uniform, Values, ValueSpec
from neurocompile.ir.wiring import NO_LIMIT, draw_rows, leaves_out_self, sources_of

_CHUNK = 4_000_000
_ENDS_BYTES, _DRAWN_BYTES = 9, 19
"""Of a synapse: pre, post and delay; and what its drawing takes at its peak beside the result (uniform and normal draws in float64)."""
BYTES_PER_SYNAPSE = _ENDS_BYTES + 8
"""Of realised synapses with float64 weights."""
_FEEDBACK_COPIES = 2
"""Of a matrix of feedback weights while it is made."""
_SAMPLED_PAIRS, _SAMPLED_TARGETS = 2e7, (64, 1024)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CSR:
    """Synapses grouped by one end: those of neuron i are entries indptr[i] .. indptr[i+1]-1.

    indptr : int64 (n+1,); indices : int32 (m,), the neuron at the other end; synapse : int64 (m,), its number in canonical order,
    rising within a neuron.
    """

    indptr: IntArray
    indices: Int32Array
    synapse: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connections:
    """Synapses of one projection, in their canonical order: as given for ``file:`` and Explicit, else by target, then by source.

    pre, post : int32 (m,); weight : float64 or float32 (m,); delay : uint8 (m,), steps 1 .. 255.
    """

    pre: Int32Array
    post: Int32Array
    weight: Weights
    delay: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        for name in ("pre", "post", "weight", "delay"):
            getattr(self, name).setflags(write=False)

    def __len__(self) -> int:
        """Number of synapses."""
        return len(self.pre)

    def csr_by_pre(self, n_pre: int) -> CSR:
        """Return the synapses grouped by source (indices: targets); O(synapses)."""
        return _csr(self.pre, self.post, n_pre)

    def csr_by_post(self, n_post: int) -> CSR:
        """Return the synapses grouped by target (indices: sources); O(synapses)."""
        return _csr(self.post, self.pre, n_post)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """A consecutive part of the canonical order.

    Attributes
    ----------
    first_synapse : int
        Number of its first synapse in the whole projection.
    start, stop : int
        It holds all synapses of the targets start .. stop-1; for Explicit, whose order is free, some synapses of all targets.
    indptr : int64 array, shape (stop - start + 1,), optional
        Synapses of target start + i: indptr[i] .. indptr[i+1]-1 of this chunk; None for Explicit.
    connections : Connections
    """

    first_synapse: int
    start: int
    stop: int
    indptr: IntArray | None
    connections: Connections


def _csr(keys: Int32Array, values: Int32Array, n: int) -> CSR:
    indptr, indices, synapse = counting_sort(keys, values, n)
    for array in (indptr, indices, synapse):
        array.setflags(write=False)
    return CSR(indptr=indptr, indices=indices, synapse=synapse)


def realise(network: Network, projection: Projection, *, dtype: WeightType = np.float64) -> Connections:
    """Return the synapses of a projection.

    Parameters
    ----------
    dtype : float64 or float32
        Of the weights; float32 weights are the float64 ones, rounded.

    Raises
    ------
    InputError
        NC202: an array of weights or delays has not one value per synapse.
    DoesNotFitError
        NC230: more synapses than there is memory for.
    """
    require_memory(network, [projection], dtype=dtype)
    try:
        return _realise_range(network, projection, 0, network.population(projection.post).size, dtype)
    except MemoryError:
        raise _too_many(network, [projection], "realising them", dtype=dtype) from None


def realise_all(network: Network, *, dtype: WeightType = np.float64, shards: Shards = IN_TURN) -> dict[str, Connections]:
    """Return the synapses of every synaptic projection, by name; DoesNotFitError NC230 if all together need too much memory.

    ``shards`` draws ranges of target neurons of about :data:`SYNAPSES` synapses; the result does not depend on it.
    """
    require_memory(network, network.synaptic_projections, dtype=dtype)
    lists = [p for p in network.synaptic_projections if isinstance(p.connect, Explicit)]
    cut = {p.name: _ranges(network, p) for p in network.synaptic_projections if p not in lists}
    drawn = shards.map(
        _realise_shard,
        (
            (alone, start, stop, dtype)
            for name, ranges in cut.items()
            for alone in [Shared(_alone(network, network.projection(name)))]
            for start, stop in ranges
        ),
    )
    return {
        p.name: realise(network, p, dtype=dtype) if p in lists else _joined(list(islice(drawn, len(cut[p.name]))))
        for p in network.synaptic_projections
    }


def _ranges(network: Network, projection: Projection) -> list[tuple[int, int]]:
    """Cut a projection into ranges of target neurons that cost as much as their synapses; whole where they would cost more:
    ``fixed_outdegree`` is drawn source by source, and a place in ``Values`` needs all synapses before it."""
    n_post = network.population(projection.post).size
    if isinstance(projection.connect, FixedOutDegree) or _has_values(projection):
        return [(0, n_post)]
    step = max(1, int(SYNAPSES * n_post / max(estimated_synapses(network, projection), 1.0)))
    return [(start, min(start + step, n_post)) for start in range(0, n_post, step)]


def _alone(network: Network, projection: Projection) -> Network:
    """Return a network of one projection, with the same synapses: all that a machine that draws them needs to know."""
    ends = tuple(p for p in network.populations if p.name in {projection.pre, projection.post})
    return Network(name=network.name, dt=network.dt, seed=network.seed, populations=ends, projections=(replace(projection, learning=None),))


def _realise_shard(alone: Network, start: int, stop: int, dtype: WeightType) -> Connections:
    (projection,) = alone.projections
    try:
        return _realise_range(alone, projection, start, stop, dtype)
    except MemoryError:
        raise _too_many(alone, [projection], "realising them", dtype=dtype) from None


def _joined(parts: list[Connections]) -> Connections:
    """Return the synapses of consecutive ranges as one; field by field, so that no more than one of them is there twice."""
    if len(parts) == 1:
        return parts[0]
    columns: list[list[Any]] = [[getattr(part, name) for part in parts] for name in ("pre", "post", "weight", "delay")]
    parts.clear()
    fields = []
    for column in columns:
        fields.append(np.concatenate(column))
        column.clear()
    pre, post, weight, delay = fields
    return Connections(pre=pre, post=post, weight=weight, delay=delay)


def require_memory(
    network: Network,
    projections: Sequence[Projection],
    *,
    beside: float = 0.0,
    doing: str = "realising them",
    dtype: WeightType = np.float64,
    realised: bool = False,
) -> None:
    """Raise DoesNotFitError NC230 unless there is memory for the synapses of some projections and for what is done with them.

    Parameters
    ----------
    beside
        Bytes that each synapse takes then, beside the realised synapses.
    doing
        What is done, for the message.
    realised
        The synapses are in memory already.
    """
    if _needed(network, projections, beside, dtype, realised) > available_memory():
        raise _too_many(network, projections, doing, beside=beside, dtype=dtype, realised=realised)


def realise_targets(network: Network, projection: Projection, start: int, stop: int, *, dtype: WeightType = np.float64) -> Connections:
    """Return the synapses of the target neurons start .. stop-1 alone: a slice of :func:`realise`'s (for Explicit: a selection, in order).

    Costs as much as the part, with two exceptions: ``fixed_outdegree`` is drawn source by source, so every part draws
    n_pre * degree numbers (its memory is still the part's); ``Values`` weights or delays need all synapses to be counted.
    """
    n_post = network.population(projection.post).size
    if not 0 <= start <= stop <= n_post:
        raise InputError.of("NC231", f"projection '{projection.name}': targets {start} .. {stop} of a population of {n_post}")
    return _realise_range(network, projection, start, stop, dtype)


def iter_chunks(network: Network, projection: Projection, *, max_synapses: int = _CHUNK, dtype: WeightType = np.float64) -> Iterator[Chunk]:
    """Yield the projection in parts of at most ``max_synapses`` (>= 1) synapses, in canonical order; see :class:`Chunk`.

    A target with more synapses than that is a chunk of its own. Joined, the chunks equal :func:`realise`'s result bit for bit.
    """
    if max_synapses < 1:
        raise InputError.of("NC231", f"projection '{projection.name}': max_synapses is {max_synapses}, must be >= 1")
    n_post = network.population(projection.post).size
    connect = projection.connect
    if isinstance(connect, Explicit):
        whole = _realise_explicit(network, projection, connect, slice(None), dtype)  # a list is in memory anyway
        for low in range(0, len(connect.pre), max_synapses):
            slices = {name: getattr(whole, name)[low : low + max_synapses] for name in ("pre", "post", "weight", "delay")}
            part = Connections(**slices)
            yield Chunk(first_synapse=low, start=0, stop=n_post, indptr=None, connections=part)
        return
    total = _count(network, projection, 0, n_post) if _has_values(projection) else None
    start = first = 0
    while start < n_post:
        sources, counts = draw_rows(network, projection, start, n_post, max_synapses)
        stop = start + len(counts)
        part = _complete(network, projection, start, sources, counts, first, total, dtype)
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        yield Chunk(first_synapse=first, start=start, stop=stop, indptr=indptr, connections=part)
        first += len(sources)
        start = stop


def expected_synapses(network: Network, projection: Projection) -> float:
    """Return the (expected) number of synapses without realising them; distance_dependent: 0, as it depends on the
    positions (:func:`estimated_synapses`)."""
    n_pre, n_post = network.population(projection.pre).size, network.population(projection.post).size
    connect = projection.connect
    if isinstance(connect, AllToAll | FixedProbability):
        pairs = float(n_pre) * n_post - (min(n_pre, n_post) if leaves_out_self(projection) else 0)
        return pairs * (connect.probability if isinstance(connect, FixedProbability) else 1.0)
    if isinstance(connect, FixedInDegree | FixedOutDegree):
        return float(connect.degree) * (n_post if isinstance(connect, FixedInDegree) else n_pre)
    if isinstance(connect, Explicit):
        return float(len(connect.pre))
    return float(n_post) if isinstance(connect, OneToOne) else 0.0


def estimated_synapses(network: Network, projection: Projection) -> float:
    """Return the (expected) number of synapses of any rule. distance_dependent: that of evenly spaced targets, drawn as they will be, times
    what they stand for (all of few targets: exact)."""
    connect = projection.connect
    if not isinstance(connect, DistanceDependent):
        return expected_synapses(network, projection)
    n_pre, n_post = network.population(projection.pre).size, network.population(projection.post).size
    few, many = _SAMPLED_TARGETS
    n = min(n_post, int(np.clip(_SAMPLED_PAIRS / n_pre, few, many)))
    targets = np.unique(np.linspace(0, n_post - 1, n).round().astype(np.int64))
    return sum(len(sources) for sources in sources_of(network, projection, targets)) * n_post / len(targets)


def count_synapses(network: Network, projection: Projection, start: int, stop: int) -> int:
    """Return how many synapses the targets start .. stop-1 have. Rules with a fixed number cost nothing, the others a draw of their
    wiring."""
    n_pre, connect = network.population(projection.pre).size, projection.connect
    if isinstance(connect, Explicit):
        return int(np.count_nonzero((connect.post >= start) & (connect.post < stop)))
    if isinstance(connect, FixedInDegree):
        return (stop - start) * connect.degree
    if isinstance(connect, OneToOne):
        return stop - start
    if isinstance(connect, AllToAll) and not leaves_out_self(projection):
        return (stop - start) * n_pre
    return _count(network, projection, start, stop)


def realise_feedback(network: Network, rule: EProp, hidden_name: str) -> FloatArray | None:
    """Return the feedback weights B of a rule for one hidden population, float64 (n_readout, n_hidden); None: they follow synapses
    (symmetric, adaptive, chain), in the engine. With ``actor_critic`` there is one more row, the last: the critic's.

    Repeated pairs of a list or projection add up; the matrix is full however short the list is. Random weights are drawn from the stream
    (seed, rule, hidden population): row = hidden neuron, draw = readout neuron. A projection leads from the task's
    readout, so the critic's row is 0 then.

    Raises
    ------
    InputError
        NC207: no task, so no readout; NC210: the feedback leads to another population; NC202: wrong number of values.
    DoesNotFitError
        NC230: the matrix needs more memory than is available.
    """
    if isinstance(rule.feedback, SymmetricFeedback | AdaptiveFeedback | ChainFeedback):
        return None
    if network.task is None:
        raise InputError.of("NC207", f"rule '{rule.name}': feedback needs a task that names the readout")
    n_readout, n_hidden = sum(p.size for p in network.feedback_readouts), network.population(hidden_name).size
    needed = 8.0 * _FEEDBACK_COPIES * n_readout * n_hidden
    if needed > available_memory():
        found = DoesNotFitError.of(
            "NC230",
            f"rule '{rule.name}': the feedback weights of {n_readout:,} readouts for {n_hidden:,} neurons of '{hidden_name}' need "
            f"{needed / 2**30:.1f} GiB of memory, {available_memory() / 2**30:.1f} GiB are available",
            help="use symmetric feedback, which follows the synapses to the readout, or a smaller readout",
        )
        raise DoesNotFitError(found.diagnostics)
    if isinstance(rule.feedback, RandomFeedback):
        counts = np.full(n_hidden, n_readout, dtype=np.int64)
        key = stream_key(network.seed, "feedback", rule.name, hidden_name)
        values = draw_values(rule.feedback.weight, key, 0, counts, 0, n_readout * n_hidden, f"feedback of rule '{rule.name}'")
        result = np.ascontiguousarray(values.reshape(n_hidden, n_readout).T)
    else:
        weight: Any
        if isinstance(rule.feedback, ExplicitFeedback):
            pre, post, weight = rule.feedback.connections.pre, rule.feedback.connections.post, rule.feedback.connections.weight
        else:
            projection = network.projection(rule.feedback.projection)
            if projection.post != hidden_name:
                raise InputError.of(
                    "NC210",
                    f"rule '{rule.name}': feedback projection '{projection.name}' leads to '{projection.post}', not to '{hidden_name}'",
                    help="define one rule per hidden population",
                )
            synapses = realise(network, projection)
            pre, post, weight = synapses.pre, synapses.post, synapses.weight.astype(np.float64)
        result = np.zeros((n_readout, n_hidden))
        np.add.at(result, (pre, post), weight)
    result.setflags(write=False)
    return result


def realise_synapse_feedback(
    network: Network, rule: EProp, weights: RandomFeedback | AdaptiveFeedback, projection: Projection, n_synapses: int
) -> FloatArray:
    """Return one feedback weight for every synapse of a projection, float64 (n_synapses,), in canonical order: those of random feedback
    through the chain, or with which adaptive feedback begins.

    They are drawn from the stream (seed, rule, projection): row 0, draw = the synapse's number in canonical order.

    Raises
    ------
    InputError
        NC202: wrong number of values.
    """
    key = stream_key(network.seed, "synapse_feedback", rule.name, projection.name)
    what = f"feedback of rule '{rule.name}' along '{projection.name}'"
    return draw_values(weights.weight, key, 0, np.array([n_synapses], np.int64), 0, n_synapses, what)


def _needed(network: Network, projections: Sequence[Projection], beside: float, dtype: WeightType, realised: bool) -> float:
    """Return the bytes at the peak: while the largest projection is drawn, or when all are used."""
    counts = [estimated_synapses(network, p) for p in projections]
    held = 0.0 if realised else sum(counts) * (np.dtype(dtype).itemsize + _ENDS_BYTES)
    return held + max(0.0 if realised else max(counts, default=0.0) * _DRAWN_BYTES, sum(counts) * beside)


def _too_many(
    network: Network,
    projections: Sequence[Projection],
    doing: str,
    *,
    beside: float = 0.0,
    dtype: WeightType = np.float64,
    realised: bool = False,
) -> DoesNotFitError:
    counts = {p.name: estimated_synapses(network, p) for p in projections}
    largest = max(counts, key=lambda name: counts[name])
    total, needed = sum(counts.values()), _needed(network, projections, beside, dtype, realised)
    who = f"projection '{largest}'" if len(counts) == 1 else f"network '{network.name}'"
    most = "" if len(counts) == 1 else f" (most in projection '{largest}': {counts[largest]:.3g})"
    found = DoesNotFitError.of(
        "NC230",
        f"{who}: {total:.3g} synapses{most}; {doing} needs {needed / 2**30:.1f} GiB of memory, {available_memory() / 2**30:.1f} GiB are "
        "available",
        help="lower the probability, degree or radius, use a machine with more memory, or take the synapses in parts (realise_targets, "
        "iter_chunks in the Python API)",
    )
    return DoesNotFitError(found.diagnostics)


def _has_values(projection: Projection) -> bool:
    return isinstance(projection.weight, Values) or isinstance(projection.delay, Values)


def _realise_range(network: Network, projection: Projection, start: int, stop: int, dtype: WeightType) -> Connections:
    connect = projection.connect
    n_post = network.population(projection.post).size
    if isinstance(connect, Explicit):
        whole = start == 0 and stop == n_post
        chosen = slice(None) if whole else np.flatnonzero((connect.post >= start) & (connect.post < stop))
        return _realise_explicit(network, projection, connect, chosen, dtype)
    first, total = 0, None
    if _has_values(projection) and (start > 0 or stop < n_post):
        first = _count(network, projection, 0, start)
        total = first + _count(network, projection, start, n_post)
    sources, counts = draw_rows(network, projection, start, stop, NO_LIMIT)
    return _complete(network, projection, start, sources, counts, first, len(sources) if total is None else total, dtype)


def _count(network: Network, projection: Projection, start: int, stop: int) -> int:
    total = 0
    while start < stop:
        sources, counts = draw_rows(network, projection, start, stop, _CHUNK)
        total += len(sources)
        start += len(counts)
    return total


def _complete(
    network: Network,
    projection: Projection,
    start: int,
    sources: Int32Array,
    counts: IntArray,
    first: int,
    total: int | None,
    dtype: WeightType,
) -> Connections:
    """Add targets, weights and delays to the drawn sources of targets ``start`` onwards."""
    whole = first + len(sources) if total is None else total
    weight = rounded(_drawn(network, projection, "weight", start, counts, first, whole), dtype)
    delay = whole_steps(projection.delay, _drawn(network, projection, "delay", start, counts, first, whole))
    post = np.repeat(np.arange(start, start + len(counts), dtype=np.int32), counts)
    return Connections(pre=sources, post=post, weight=weight, delay=delay)


def _realise_explicit(
    network: Network, projection: Projection, connect: Explicit, chosen: IntArray | slice, dtype: WeightType
) -> Connections:
    """Synapses number ``chosen`` of a list (a slice: without copying it); what the list leaves open is drawn in row 0, draw = number of the
    synapse."""
    m = len(connect.pre)
    every = np.array([m], dtype=np.int64)
    weight: FloatArray = connect.weight if connect.weight is not None else _drawn(network, projection, "weight", 0, every, 0, m)
    if connect.delay is not None:
        delay = connect.delay[chosen].astype(np.uint8)
    else:
        delay = whole_steps(projection.delay, _drawn(network, projection, "delay", 0, every, 0, m))[chosen]
    return Connections(pre=connect.pre[chosen], post=connect.post[chosen], weight=rounded(weight[chosen], dtype), delay=delay)


def _drawn(network: Network, projection: Projection, purpose: str, start: int, counts: IntArray, first: int, total: int) -> FloatArray:
    spec: ValueSpec = getattr(projection, purpose)
    if purpose == "delay" and isinstance(spec, Uniform):  # both ends included, whole steps: see whole_steps
        spec = Uniform(low=spec.low, high=spec.high + 1.0)
    key = stream_key(network.seed, purpose, projection.name)
    return draw_values(spec, key, start, counts, first, total, f"{purpose} of projection '{projection.name}'")


__all__ = [
    "BYTES_PER_SYNAPSE",
    "CSR",
    "Chunk",
    "Connections",
    "WeightType",
    "Weights",
    "count_synapses",
    "estimated_synapses",
    "expected_synapses",
    "iter_chunks",
    "realise",
    "realise_all",
    "realise_feedback",
    "realise_synapse_feedback",
    "realise_targets",
    "require_memory",
]
