"""Network -> the arrays of the anchored engine, block by block: no list of all synapses ever exists beside the table itself.

Synapses are grouped by target population and rule (group), delay (bundle) and range of neurons (block); within a block they go by
source, then by projection, then in canonical order. A block is filled in two passes over chunks of its projections: count by source, then
place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from neurocompile.backends.reference import layout as lay
from neurocompile.backends.reference.kernels import anchored_tables as at
from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.kernels.anchored import AHEAD
from neurocompile.backends.reference.layout_paths import Carrier
from neurocompile.backends.reference.layout_paths import paths as make_paths
from neurocompile.backends.reference.rewiring import make_walk, table_places
from neurocompile.ir import ALIF, EProp, Explicit, FixedOutDegree, LeakyReadout, Network, PerInterval, Projection, Values
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.realise import Connections, count_synapses, expected_synapses, realise_targets
from neurocompile.ir.rewired import rewired_projections
from neurocompile.ir.values import Constant

Progress = Callable[[str, int, int], None]
"""Called with (what, synapses done, synapses in all)."""
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnchoredLayout:
    """All that the anchored engine needs of a network, as arrays.

    synapse : the e-prop table with its initial weights; static_weight : of the static table; site_of : as in Layout; ranges : first neuron
    of each range and the end; n_synapses : of every synaptic projection.
    """

    constants: at.AnchoredConstants
    synapse: at.Synapses
    static_weight: FloatArray
    site_of: dict[tuple[str, str], int]
    max_delay: int
    n_axons: int
    n_log_slots: int
    n_synapses: dict[str, int]
    placement: Placement
    paths: tuple[FeedbackPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeedbackPath:
    """Readout synapses that carry symmetric feedback, in canonical order: site and row of B. first_site, row: of the first hidden and
    readout neuron."""

    projection: str
    first_site: int
    row: int
    site: IntArray
    readout: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bundle:
    projections: tuple[Projection, ...]
    site: int
    """first site of the group, or first neuron of the population in the static table"""
    delay: int | None
    """steps; None: all delays (static table)"""
    first_source: int
    n_sources: int


class Placement:
    """Where the synapses of a projection are: found anew when it is asked for, since an index of 8 bytes a synapse would cost a third of
    the table; kept for small networks."""

    def __init__(self, network: Network, given: Mapping[str, Connections] | None, ranges: IntArray) -> None:
        self.network, self.given, self.ranges = network, given, ranges
        self.blocks: dict[str, list[tuple[_Bundle, int, IntArray]]] = {}
        self.static: dict[str, bool] = {}
        self.walk: t.Walk | None = None
        self._numbers = {p.name: number for number, p in enumerate(rewired_projections(network), start=1)}
        self._kept: dict[str, IntArray] = {}

    def follow(self, walk: t.Walk, blocks: list[tuple[_Bundle, int, IntArray]]) -> None:
        """From now on find synapses in a table that rewiring changes. ``blocks``: with row pointers that are views of the table's."""
        self.walk = walk
        self._kept.clear()
        for name in (name for name, static in self.static.items() if not static):
            self.blocks[name] = [block for block in blocks if any(p.name == name for p in block[0].projections)]

    def index(self, name: str, n_synapses: int) -> IntArray:
        """Return int64 (n_synapses,): number in its table of each synapse of a projection in canonical order."""
        if self.walk is not None and name in self._numbers:
            return table_places(self.walk, self._numbers[name], n_synapses)
        if name not in self._kept:
            found = np.empty(n_synapses, np.int64)
            for bundle, part, pointer in self.blocks[name]:
                cursor = pointer[:-1].copy()
                for projection, numbers, chunk in _chunks(self.network, self.given, bundle, self.ranges, part):
                    places = np.empty(len(chunk), np.int64)
                    _find(chunk.pre, self.network.offsets[projection.pre] - bundle.first_source, cursor, places)
                    if projection.name == name:
                        found[numbers] = places
            if n_synapses > _CHUNK or (self.walk is not None and not self.static[name]):
                return found
            self._kept[name] = found
        return self._kept[name]


@njit(cache=True, nogil=True)
def _count(pre: t.I4, shift: int, counts: t.I8) -> None:
    for synapse in range(pre.size):
        counts[pre[synapse] + shift] += 1


@njit(cache=True, nogil=True)
def _find(pre: t.I4, shift: int, cursor: t.I8, places: t.I8) -> None:
    for synapse in range(pre.size):
        source = pre[synapse] + shift
        places[synapse] = cursor[source]
        cursor[source] += 1


@njit(cache=True, nogil=True)
def _place(
    pre: t.I4,
    post: t.I4,
    weight: t.F8,
    shift: int,
    site: int,
    keep_sign: bool,
    signed_zero: bool,
    cursor: t.I8,
    target: t.I4,
    synapse: t.F8,
) -> None:
    for i in range(pre.size):
        source = pre[i] + shift
        place = cursor[source]
        cursor[source] += 1
        negative = weight[i] < 0.0 or (signed_zero and math.copysign(1.0, weight[i]) < 0.0)
        target[place] = ~(post[i] + site) if keep_sign and negative else post[i] + site
        synapse[place, 0] = weight[i]
        synapse[place, 1:] = 0.0


@njit(cache=True, nogil=True)
def _place_static(
    pre: t.I4, post: t.I4, weight: t.F8, delay: t.U1, shift: int, site: int, cursor: t.I8, target: t.I4, delays: t.U1, weights: t.F8
) -> None:
    for i in range(pre.size):
        source = pre[i] + shift
        place = cursor[source]
        cursor[source] += 1
        target[place], delays[place], weights[place] = post[i] + site, delay[i], weight[i]


def _chunks(
    network: Network, given: Mapping[str, Connections] | None, bundle: _Bundle, ranges: IntArray, part: int
) -> Iterator[tuple[Projection, IntArray | slice, Connections]]:
    """Yield (projection, canonical numbers, synapses) of one block, at most about ``_CHUNK`` synapses at a time, in canonical order."""
    for projection in bundle.projections:
        post = network.population(projection.post)
        offset = network.offsets[projection.post]
        low, high = (int(np.clip(ranges[part + i] - offset, 0, post.size)) for i in (0, 1))
        if low == high:
            continue
        for numbers, chunk in _part(network, given, projection, low, high):
            if bundle.delay is None or bool((chunk.delay == bundle.delay).all()):
                yield projection, numbers, chunk
                continue
            mine = np.flatnonzero(chunk.delay == bundle.delay)
            listed = np.arange(numbers.start, numbers.stop)[mine] if isinstance(numbers, slice) else numbers[mine]
            yield (
                projection,
                listed,
                Connections(pre=chunk.pre[mine], post=chunk.post[mine], weight=chunk.weight[mine], delay=chunk.delay[mine]),
            )


def _part(
    network: Network, given: Mapping[str, Connections] | None, projection: Projection, low: int, high: int
) -> Iterator[tuple[IntArray | slice, Connections]]:
    n_post = network.population(projection.post).size
    if given is not None:
        whole = given[projection.name]
        if low == 0 and high == n_post:
            yield slice(0, len(whole)), whole
            return
        if bool((np.diff(whole.post) >= 0).all()):
            first, last = (int(x) for x in np.searchsorted(whole.post, [low, high]))
            numbers: IntArray | slice = slice(first, last)
        else:
            numbers = np.flatnonzero((whole.post >= low) & (whole.post < high))
        yield numbers, Connections(**{name: getattr(whole, name)[numbers] for name in ("pre", "post", "weight", "delay")})
        return
    connect = projection.connect
    if isinstance(connect, Explicit):
        yield np.flatnonzero((connect.post >= low) & (connect.post < high)), realise_targets(network, projection, low, high)
        return
    first = count_synapses(network, projection, 0, low)
    per_target = max(expected_synapses(network, projection) / n_post, 1.0)
    at_once = isinstance(connect, FixedOutDegree) or isinstance(projection.weight, Values) or isinstance(projection.delay, Values)
    stride = high - low if at_once else max(1, int(_CHUNK / per_target))
    for start in range(low, high, stride):
        chunk = realise_targets(network, projection, start, min(start + stride, high))
        yield slice(first, first + len(chunk)), chunk
        first += len(chunk)


def _delays(network: Network, given: Mapping[str, Connections] | None, projections: tuple[Projection, ...]) -> list[int]:
    found = np.zeros(256, np.int64)
    for projection in projections:
        if given is not None:
            found += np.bincount(given[projection.name].delay, minlength=256)
        elif isinstance(projection.delay, Constant) and not isinstance(projection.connect, Explicit):
            found[int(projection.delay.value)] = 1
        else:
            for _, chunk in _part(network, None, projection, 0, network.population(projection.post).size):
                found += np.bincount(chunk.delay, minlength=256)
    return [int(d) for d in np.flatnonzero(found)]


def _ranges(network: Network, given: Mapping[str, Connections] | None, n: int) -> IntArray:
    """Split the neurons into n ranges of about the same cost: one for the neuron, and one for every ten synapses."""
    cost = np.ones(network.n_neurons)
    for projection in network.synaptic_projections:
        post = network.population(projection.post)
        start = network.offsets[post.name]
        if given is not None:
            cost[start : start + post.size] += np.bincount(given[projection.name].post, minlength=post.size) / 10
        elif isinstance(projection.connect, Explicit):
            cost[start : start + post.size] += np.bincount(projection.connect.post, minlength=post.size) / 10
        else:
            cost[start : start + post.size] += expected_synapses(network, projection) / post.size / 10
    total = np.cumsum(cost)
    inner = np.searchsorted(total, total[-1] * np.arange(1, n) / n)
    starts: IntArray = np.unique(np.concatenate([[0], inner, [network.n_neurons]])).astype(np.int64)
    return starts


def lay_out_anchored(
    network: Network,
    connections: Mapping[str, Connections] | None,
    feedback: Mapping[tuple[str, str], FloatArray] | None,
    *,
    n_ranges: int,
    dtype: npt.DTypeLike,
    progress: Progress | None = None,
) -> AnchoredLayout:
    """Return a network as arrays of the anchored engine.

    Parameters
    ----------
    connections
        Realised synapses; None: each block is realised where it is placed.
    n_ranges
        Ranges of neurons, at least one for each thread.
    dtype
        Of the synapses: float64 or float32.

    Raises
    ------
    InputError
        As ``lay_out``.
    """
    if connections is not None:
        lay.check_connections(network, connections)
    ranges = _ranges(network, connections, n_ranges)
    n_parts = len(ranges) - 1
    sites, site_of, rules = lay.sites(network)
    placement = Placement(network, connections, ranges)
    groups, members = _groups(network, site_of, rules, sites, ranges)
    columns, n_columns, _ = _columns(network, groups, rules)
    bundles = []
    for number, projections in enumerate(members):
        first, last = _sources(network, projections)
        bundles += [
            (
                number,
                _Bundle(projections=projections, site=int(groups.site[number, 0]), delay=d, first_source=first, n_sources=last - first),
            )
            for d in _delays(network, connections, projections)
        ]
    plastic = [p for projections in members for p in projections]
    table = _Table(network, connections, placement, ranges, plastic, n_columns, dtype, progress)
    row, pointer, axon = np.zeros((len(bundles), n_parts), np.int64), [np.zeros(0, np.int64)], np.zeros(len(bundles), np.int64)
    taken = n_axons = 0
    # range by range, so that what a thread touches lies together
    for part in range(n_parts):
        for number, (group, bundle) in enumerate(bundles):
            row[number, part] = taken
            rule = _rule(network, rules[groups.rule[group]])
            pointer.append(table.fill(bundle, part, keep_sign=rule.sign_constraint, signed_zero=rule.rewiring is not None))
            taken += len(pointer[-1])
    for number, (_, bundle) in enumerate(bundles):
        axon[number] = n_axons
        n_axons += bundle.n_sources
    target, synapse, counts = table.finish()
    static, static_weight, static_counts, max_static = _static(network, connections, placement, ranges)
    feedback_table, symmetric, matrix_row, paths = _feedback(
        network, connections, placement, site_of, feedback, sites, counts, static_counts
    )
    pointers = np.concatenate(pointer)
    index_of = {p.name: placement.index(p.name, counts[p.name]) for p in rewired_projections(network)}
    walk = make_walk(network, rules, index_of, len(synapse))
    if index_of:
        blocks = [(b, p, row[n, p]) for p in range(n_parts) for n, (_, b) in enumerate(bundles)]
        placement.follow(walk, [(b, p, pointers[first : first + b.n_sources + 1]) for b, p, first in blocks])

    def carrier(projection: Projection) -> Carrier:
        pieces = [chunk for _, chunk in _part(network, connections, projection, 0, network.population(projection.post).size)]
        pre, post = (np.concatenate([np.zeros(0, np.int32), *(getattr(c, end) for c in pieces)]) for end in ("pre", "post"))
        plastic = not placement.static[projection.name]
        index = placement.index(projection.name, len(pre))
        weight = synapse[index, at.W].astype(np.float64) if plastic else static_weight[index]
        return Carrier(pre, post, lay.EPROP if plastic else lay.STATIC, index, weight)

    constants = at.AnchoredConstants(
        neurons=lay.neurons(network),
        rules=lay.rules(network, rules),
        sites=sites,
        feedback=feedback_table,
        matrix_row=matrix_row,
        symmetric=symmetric,
        paths=make_paths(network, site_of, feedback, carrier),
        readouts=lay.readouts(network),
        reward=lay.reward(network),
        columns=columns,
        groups=groups,
        bundles=at.Bundles(
            group=np.array([g for g, _ in bundles], np.int64),
            delay=np.array([b.delay for _, b in bundles], np.int64),
            first_source=np.array([b.first_source for _, b in bundles], np.int64),
            n_sources=np.array([b.n_sources for _, b in bundles], np.int64),
            axon=axon,
            row=row,
            pointer=pointers,
        ),
        static=static,
        target=target,
        range=ranges,
        walk=walk,
        dt_ms=network.dt * 1e3,
        seed=network.seed,
    )
    slots = max((int(b.delay or 1) for _, b in bundles), default=1)
    return AnchoredLayout(
        constants=constants,
        synapse=synapse,
        static_weight=static_weight,
        site_of=site_of,
        max_delay=max_static,
        n_axons=n_axons,
        n_log_slots=slots,
        n_synapses=counts | static_counts,
        placement=placement,
        paths=paths if index_of else (),
    )


def _rule(network: Network, name: str) -> EProp:
    rule = network.rule(name)
    if not isinstance(rule, EProp):
        raise TypeError(name)
    return rule


def _groups(
    network: Network, site_of: Mapping[tuple[str, str], int], rules: list[str], sites: t.Sites, ranges: IntArray
) -> tuple[at.Groups, list[tuple[Projection, ...]]]:
    kind, rule, alpha, shared, site, discount, members = [], [], [], [], [], [], []
    for (name, rule_name), first in site_of.items():
        population = network.population(name)
        model = population.model
        kind.append(at.READOUT if isinstance(model, LeakyReadout) else at.ALIF if isinstance(model, ALIF) else at.LIF)
        rule.append(rules.index(rule_name))
        values = sites.alpha[first : first + population.size]
        rewired = _rule(network, rule_name).rewiring is not None  # a synapse that moves has no part in its new source's past
        shared.append(bool((values == values[0]).all()) and not rewired)
        alpha.append(values[0] if shared[-1] else 0.0)
        discount.append(lay.discount_of(network, name))
        site.append(first + np.clip(ranges - network.offsets[name], 0, population.size))
        members.append(tuple(p for p in network.synaptic_projections if (p.post, p.learning) == (name, rule_name)))
    groups = at.Groups(
        kind=np.array(kind, np.int64),
        rule=np.array(rule, np.int64),
        alpha=np.array(alpha, np.float64),
        shared=np.array(shared, np.uint8),
        site=np.array(site, np.int64).reshape(len(kind), len(ranges)),
        discount=np.array(discount, np.float64),
    )
    return groups, members


def _columns(network: Network, groups: at.Groups, rules: list[str]) -> tuple[at.Columns, int, int]:
    """Return the columns, and how many a synapse and a row have."""
    of_hidden = [_rule(network, rules[r]) for r, k in zip(groups.rule, groups.kind, strict=True) if k != at.READOUT]
    double = any(r.regularization is not None and r.kappa != r.kappa_reg for r in of_hidden)
    adaptive, single_alpha = bool((groups.kind == at.ALIF).any()), bool(groups.shared.all())
    rewarded = bool((groups.discount >= 0.0).any())
    intervals = any(isinstance(_rule(network, rules[r]).update, PerInterval) for r in groups.rule)
    n, m = 3, 4

    def synapse(wanted: bool) -> int:
        nonlocal n
        n += wanted
        return n - 1 if wanted else -1

    def row(wanted: bool) -> int:
        nonlocal m
        m += wanted
        return m - 1 if wanted else -1

    columns = at.Columns(
        ebar_reg=synapse(double),
        epsilon=synapse(adaptive),
        zbar=synapse(not single_alpha),
        collected=synapse(intervals),
        filtered=synapse(rewarded),
        d=row(double),
        jump_reg=row(double),
        eq=row(adaptive),
        jump_eps=row(adaptive),
        rise=row(not single_alpha),
        jump_filtered=row(rewarded),
    )
    return columns, n, m


def _sources(network: Network, projections: tuple[Projection, ...]) -> tuple[int, int]:
    starts = [network.offsets[p.pre] for p in projections]
    stops = [network.offsets[p.pre] + network.population(p.pre).size for p in projections]
    return min(starts), max(stops)


class _Table:
    """The e-prop table while it is being filled."""

    def __init__(
        self,
        network: Network,
        given: Mapping[str, Connections] | None,
        placement: Placement,
        ranges: IntArray,
        projections: list[Projection],
        n_columns: int,
        dtype: npt.DTypeLike,
        progress: Progress | None,
    ) -> None:
        self.network, self.given, self.placement, self.ranges, self.progress = network, given, placement, ranges, progress
        self.counts = {p.name: 0 for p in projections}
        for p in projections:
            placement.blocks[p.name], placement.static[p.name] = [], False
        self.total = sum(len(given[p.name]) if given is not None else _at_most(network, p) for p in projections)
        # `empty`: pages cost nothing until they are written, and NumPy asks the system for huge ones (in `zeros` it does not).
        self.target, self.synapse = np.empty(self.total + AHEAD, np.int32), np.empty((self.total, n_columns), dtype)
        self.taken = 0

    def fill(self, bundle: _Bundle, part: int, *, keep_sign: bool, signed_zero: bool) -> IntArray:
        """Place one block; return its row pointers. ``signed_zero``: -0.0 is a negative weight."""
        network = self.network
        counts = np.zeros(bundle.n_sources + 1, np.int64)
        for projection, _, chunk in _chunks(network, self.given, bundle, self.ranges, part):
            _count(chunk.pre, network.offsets[projection.pre] - bundle.first_source + 1, counts)
        counts[0] = self.taken
        pointer: IntArray = np.cumsum(counts)
        cursor = pointer[:-1].copy()
        if pointer[-1] > self.total:
            raise RuntimeError(f"{pointer[-1]} synapses, expected at most {self.total}")
        for projection, numbers, chunk in _chunks(network, self.given, bundle, self.ranges, part):
            shift = network.offsets[projection.pre] - bundle.first_source
            weight = chunk.weight.astype(np.float64, copy=False)
            _check(network, projection, weight, numbers)
            _place(chunk.pre, chunk.post, weight, shift, bundle.site, keep_sign, signed_zero, cursor, self.target, self.synapse)
            self.counts[projection.name] += len(chunk)
            if self.progress is not None:
                self.progress("synapses", sum(self.counts.values()), self.total)
        for projection in bundle.projections:
            self.placement.blocks[projection.name].append((bundle, part, pointer))
        self.taken = int(pointer[-1])
        return pointer

    def finish(self) -> tuple[t.I4, at.Synapses, dict[str, int]]:
        self.target[self.taken : self.taken + AHEAD] = 0  # the kernels look ahead
        return self.target[: self.taken + AHEAD], self.synapse[: self.taken], self.counts


def _at_most(network: Network, projection: Projection) -> int:
    """Return a number of synapses that a projection does not exceed (but once in 1e20)."""
    expected = expected_synapses(network, projection)
    if expected == 0.0:
        return count_synapses(network, projection, 0, network.population(projection.post).size)
    return int(expected + 10 * np.sqrt(expected)) + 100


def _check(network: Network, projection: Projection, weight: FloatArray, numbers: IntArray | slice) -> None:
    if projection.learning is None:
        return
    low, high = network.rule(projection.learning).weight_bounds
    bad = np.flatnonzero(~((weight >= low) & (weight <= high)))
    if bad.size:
        number = int(bad[0]) + numbers.start if isinstance(numbers, slice) else int(numbers[bad[0]])
        raise lay.outside_bounds(projection, number, float(weight[bad[0]]), low, high)


def _static(
    network: Network, given: Mapping[str, Connections] | None, placement: Placement, ranges: IntArray
) -> tuple[at.StaticBlocks, FloatArray, dict[str, int], int]:
    """Return the static table by range, its weights, how many synapses each projection has, and the longest delay."""
    projections = tuple(p for p in network.synaptic_projections if p.learning is None)
    total = sum(len(given[p.name]) if given is not None else _at_most(network, p) for p in projections)
    n, n_parts = network.n_neurons, len(ranges) - 1
    pointer = np.zeros((n_parts, n + 1 if projections else 0), np.int64)
    target, delay, weights = np.empty(total, np.int32), np.empty(total, np.uint8), np.empty(total)
    counts = {p.name: 0 for p in projections}
    for p in projections:
        placement.blocks[p.name], placement.static[p.name] = [], True
    bundle = _Bundle(projections=projections, site=0, delay=None, first_source=0, n_sources=n)
    taken = 0
    for part in range(n_parts if projections else 0):
        found = np.zeros(n + 1, np.int64)
        for projection, _, chunk in _chunks(network, given, bundle, ranges, part):
            _count(chunk.pre, network.offsets[projection.pre] + 1, found)
        found[0] = taken
        pointer[part] = np.cumsum(found)
        cursor = pointer[part, :-1].copy()
        for projection, _, chunk in _chunks(network, given, bundle, ranges, part):
            shift, site = network.offsets[projection.pre], network.offsets[projection.post]
            weight = chunk.weight.astype(np.float64, copy=False)
            _place_static(chunk.pre, chunk.post, weight, chunk.delay, shift, site, cursor, target, delay, weights)
            counts[projection.name] += len(chunk)
        for projection in projections:
            placement.blocks[projection.name].append((bundle, part, pointer[part]))
        taken = int(pointer[part, -1])
    longest = int(delay[:taken].max(initial=1))
    return at.StaticBlocks(pointer=pointer, target=target[:taken], delay=delay[:taken]), weights[:taken].copy(), counts, longest


def _feedback(
    network: Network,
    given: Mapping[str, Connections] | None,
    placement: Placement,
    site_of: Mapping[tuple[str, str], int],
    matrices: Mapping[tuple[str, str], FloatArray] | None,
    sites: t.Sites,
    counts: Mapping[str, int],
    static_counts: Mapping[str, int],
) -> tuple[t.Feedback, at.SymmetricFeedback, IntArray, tuple[FeedbackPath, ...]]:
    site, matrix, symmetric = lay.feedback_sources(network, site_of, matrices)
    n_sites = len(sites.neuron)
    firsts = np.array(list(site_of.values()), np.int64)
    at_place = np.searchsorted(site, firsts)  # sites of a population are consecutive, and so are their rows
    present = (at_place < len(site)) & (site[np.minimum(at_place, len(site) - 1)] == firsts) if len(site) else np.zeros(len(firsts), bool)
    matrix_row = np.where(present, at_place, -1).astype(np.int64)
    paths, tables, indices = [], [np.zeros(0, np.uint8)], [np.zeros(0, np.int64)]
    for first, projection, row in symmetric:
        n = network.population(projection.post).size
        pieces = [chunk for _, chunk in _part(network, given, projection, 0, n)]
        pre, post = (np.concatenate([getattr(c, end) for c in pieces]).astype(np.int64) for end in ("pre", "post"))
        m = counts[projection.name] if projection.name in counts else static_counts[projection.name]
        paths.append(FeedbackPath(projection=projection.name, first_site=first, row=row, site=pre + first, readout=post + row))
        tables.append(np.full(m, lay.STATIC if placement.static[projection.name] else lay.EPROP, np.uint8))
        indices.append(placement.index(projection.name, m))
    none = np.zeros(0, np.int32)
    feedback = t.Feedback(
        lay.feedback_readout(network), site, np.ascontiguousarray(matrix.T), none, none, np.zeros(0, np.uint8), np.zeros(0, np.int64)
    )
    return feedback, symmetric_feedback(paths, np.concatenate(tables), np.concatenate(indices), n_sites), matrix_row, tuple(paths)


def symmetric_feedback(
    paths: list[FeedbackPath], table: npt.NDArray[np.uint8], weight_index: IntArray, n_sites: int
) -> at.SymmetricFeedback:
    """Return the synapses of all paths by site, then by path, then in canonical order."""
    of_site = np.concatenate([np.zeros(0, np.int64), *(path.site for path in paths)])
    readout = np.concatenate([np.zeros(0, np.int64), *(path.readout for path in paths)])
    order = np.argsort(of_site, kind="stable")
    return at.SymmetricFeedback(
        pointer=np.concatenate([[0], np.cumsum(np.bincount(of_site, minlength=n_sites))]).astype(np.int64),
        readout=readout[order].astype(np.int32),
        table=table[order],
        weight_index=weight_index[order],
    )
