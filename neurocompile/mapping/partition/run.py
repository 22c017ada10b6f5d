"""``partition``: choose an algorithm, make its answer keep every limit and improve it, compare, number the parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.mapping.partition import graph, hypergraph, sequential, streaming
from neurocompile.mapping.partition.anneal import FEWEST_ROUNDS, MOST_ROUNDS, anneal
from neurocompile.mapping.partition.bounds import Bounds, bounds_of
from neurocompile.mapping.partition.growth import grown_axons
from neurocompile.mapping.partition.improve import LEAST_GAIN, improve
from neurocompile.mapping.partition.loads import Axons, axons_like, parts_needed, parts_of_classes, shares
from neurocompile.mapping.partition.metrics import measure
from neurocompile.mapping.partition.shared import with_shared_sources
from neurocompile.mapping.partition.squeeze import squeeze
from neurocompile.mapping.partition.structure import is_structured
from neurocompile.mapping.partition.units import Units, prepare
from neurocompile.mapping.problem import Int32Array, MappingProblem
from neurocompile.mapping.types import Partition, PartitionQuality

ALGORITHMS = ("auto", "sequential", "refined", "streaming", "graph", "hypergraph")
_TINY_PINS = 100_000  # auto: synapses up to which all is tried that may win, whatever the network looks like: seconds
_SMALL_PINS = 2_000_000  # auto: synapses up to which the hypergraph partitioner may be tried on any network (about 20 CPU-s a million)
_COARSE = 2e-3  # least gain of a round of refining where a network has no structure (0.3 % of the microcircuit, for half the time)
_FLAT_ROUNDS = 20  # of annealing where a network has no structure (uniform 10k: 1.3 % of the packets for 6 CPU-s)
_HYPERGRAPH_PINS = 12_000_000  # auto: synapses up to which it is tried on layered networks, where it is far better (and faster)
_LAYERED = 0.5  # a network with fewer of its synapses on cycles is layered
_WORTH_REFINING = 2.0  # auto: sequential fill is refined if its packets are fewer than so many times those of the best
_GRAPH_PINS = 250_000_000  # auto: synapses up to which the graph partitioner is tried (about 30 bytes each)
_ANNEAL_PINS = 12_000_000  # auto: synapses up to which the best is annealed (1 to 3 CPU-s a million)
_FULL = 1.01  # auto: parts, as a multiple of the lower bound, with which the graph partitioner runs once more
_FAR = 1.1  # parts, as a multiple of what is allowed, from which the next algorithm begins where the last one ended
_MOST_TRIES = 5  # numbers of parts tried with one algorithm
_RETRY_PINS = 50_000_000  # synapses beyond which one number is tried, with axons as of cores that were grown: minutes each
_GROWN_FILL = 0.96  # of a part, then: cores of a partition are not as good as those that grow freely
_EVEN = 0.98  # mean over largest share of a part, then: nearer to 1, the graph partitioner takes several times the time and memory


@dataclass(frozen=True, slots=True)
class _Plan:
    """Algorithms to run; whether the graph partitioner runs once more with fewer and fuller parts; least gain of a round of refining; most
    rounds of annealing (0: none)."""

    names: tuple[str, ...]
    fuller: bool = False
    least: float = LEAST_GAIN
    anneal: int = 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    part: Int32Array  # (n_units,)
    n_parts: int
    km1: int
    weighted_km1: float


def partition(
    problem: MappingProblem,
    *,
    algorithm: str = "auto",
    seed: int = 1,
    n_parts: int | None = None,
    slack: float = 0.05,
    effort: str = "normal",
    progress: Callable[[str], None] | None = None,
) -> Partition:
    """Return a partition that honours every limit of a core exactly.

    Neurons of populations with another ``core_width``, or of other chips, do not share a part, neurons that belong together do; external
    neurons form one part for each population. A part also stays within every chip limit, so that it can be placed.

    Parameters
    ----------
    algorithm
        ``sequential`` (index order, nothing else), ``refined`` (sequential, then improved), ``streaming``, ``graph``, ``hypergraph``, or
        ``auto``: those that suit the network, the best wins.
    seed
        Of everything random. Same problem and seed: same parts.
    n_parts
        No more parts than this (external ones not counted); None: as few as the limits allow, or up to ``slack`` more.
    slack
        Parts beyond the lower bound, as a share of it, that may be spent to lower the traffic.
    effort
        ``fast``: one cheap algorithm and one round of refining; ``normal``: ``auto`` leaves out what rarely wins; ``high``: it does not.
    progress
        Called with the name of each algorithm as it begins.

    Of several partitions the best has the fewest parts beyond (1 + slack) x lower bound, then the lowest rate-weighted km1; ``auto`` takes
    none that has a higher one than sequential fill.

    Raises
    ------
    DoesNotFitError
        NC401: a neuron exceeds a limit alone; NC402: no partition into ``n_parts`` was found.
    ValueError
        There is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"no partitioner '{algorithm}'; there are {', '.join(ALGORITHMS)}")
    say = progress or (lambda _stage: None)
    units = prepare(problem)
    bounds = bounds_of(units)
    notes: list[str] = []
    refusal: DoesNotFitError | None = None
    start: _Candidate | None = None
    try:
        start = _candidate(units, "sequential", sequential.assign(units))
    except DoesNotFitError as error:
        if algorithm == "sequential":
            raise
        refusal = error
    allowed = n_parts if n_parts is not None else _allowed(bounds, slack)
    candidates = [start] if start is not None else []
    enough = start is not None and start.n_parts <= 1
    plan = _plan(units, algorithm, effort, start, allowed, seed) if algorithm != "sequential" and not enough else _Plan(())
    for name in plan.names:
        if name == "refined" and algorithm == "auto" and not _worth_refining(start, candidates):
            continue
        if name == "hypergraph" and algorithm == "auto" and _axons_bind(units, _fewest(candidates, start, _FAR * allowed)):
            continue
        say(f"partition: {name}")
        try:
            known = _fewest(candidates, start, allowed)
            candidates += _run(units, bounds, name, start, allowed, n_parts, seed, known=known, least=plan.least)
            fuller = math.ceil(bounds.cores * _FULL)
            if plan.fuller and name == "graph" and fuller < 0.99 * allowed and _fewest(candidates, start, allowed) is None:
                candidates += _run(units, bounds, name, start, allowed, n_parts, seed, target=fuller, least=plan.least)
        except ImportError as error:
            notes.append(f"{name}: {error.name or error} is not installed")
    if plan.names and algorithm not in {"auto", "refined"} and not any(c.name == algorithm for c in candidates):
        say("partition: refined")  # what was asked for found nothing
        candidates += _run(units, bounds, "refined", start, allowed, n_parts, seed, least=plan.least)
    elif plan.names and algorithm != "auto":
        candidates = [c for c in candidates if c.name == algorithm]
    if not candidates:
        assert refusal is not None
        raise refusal
    best = _best(candidates, start, allowed, compare=algorithm == "auto")
    if plan.anneal and n_parts is None and best.n_parts > allowed:
        say("partition: lower bound")
        bounds = with_shared_sources(units, bounds)
        allowed = _allowed(bounds, slack)
    if plan.anneal and best.n_parts > 1:
        best = _anneal(units, bounds, best, start, allowed, seed, plan.anneal, say)
    if n_parts is not None and best.n_parts > n_parts:
        refused = DoesNotFitError.of(
            "NC402",
            f"no partition into {n_parts} cores was found: the best has {best.n_parts}, and {bounds.cores} is the least that "
            f"'{bounds.name}' allows",
            help="ask for more cores, or for more room on each (--slack)",
        )
        assert isinstance(refused, DoesNotFitError)
        raise refused
    return _finish(units, best, start, bounds, tuple(notes))


def _allowed(bounds: Bounds, slack: float) -> int:
    """Most parts that are no fault."""
    return max(bounds.cores, math.floor(bounds.cores * (1.0 + slack) * (1 + 1e-12)))


def _anneal(
    units: Units,
    bounds: Bounds,
    best: _Candidate,
    start: _Candidate | None,
    allowed: int,
    seed: int,
    rounds: int,
    say: Callable[[str], None],
) -> _Candidate:
    """The best annealed; where it has more parts than allowed, squeezed, and annealed again if that left fewer."""
    say("partition: anneal")
    name = f"{best.name}, annealed"
    best = _best([best, _candidate(units, name, anneal(units, best.part, seed=seed, most_rounds=rounds))], start, allowed, compare=True)
    if best.n_parts > allowed:
        say("partition: squeeze")
        share = shares(units, parts_of_classes(bounds, best.n_parts), axons_like(units, best.part))
        part = squeeze(units, best.part, wanted=allowed, share=share, seed=seed)
        if int(part.max(initial=-1)) + 1 < best.n_parts:
            part = anneal(units, part, seed=seed, most_rounds=rounds)
            best = _best([best, _candidate(units, f"{name}, squeezed", part)], start, allowed, compare=True)
    return best


def _plan(units: Units, algorithm: str, effort: str, start: _Candidate | None, allowed: int, seed: int) -> _Plan:
    """What to run for a request."""
    least = 1.0 if effort == "fast" else LEAST_GAIN
    if algorithm != "auto":
        return _Plan((algorithm,), least=least)
    pins = len(units.net.out_units)
    few = start is not None and start.n_parts <= allowed  # sequential fill has few enough parts: only traffic is to be lowered
    structured = effort == "high" or (effort == "normal" and pins <= _TINY_PINS) or is_structured(units, seed=seed)
    if effort == "fast":
        if start is None:
            return _Plan(("streaming", "refined"), least=least)
        return _Plan(() if few and not structured else ("streaming",), least=least)
    if few and not structured:
        return _Plan(("refined",), least=_COARSE, anneal=_FLAT_ROUNDS if pins <= _ANNEAL_PINS else 0)
    chosen = ["graph" if pins <= _GRAPH_PINS else "streaming"]
    small = pins <= _SMALL_PINS and (effort == "high" or not few or pins <= _TINY_PINS)
    if small or (pins <= _HYPERGRAPH_PINS and _is_layered(units.problem)):
        chosen.append("hypergraph")
    rounds = (MOST_ROUNDS if effort == "high" else FEWEST_ROUNDS) if pins <= _ANNEAL_PINS else 0
    return _Plan((*chosen, "refined"), fuller=pins <= _ANNEAL_PINS, least=least, anneal=rounds)


def _is_layered(problem: MappingProblem) -> bool:
    """Whether there are synapses, most of which lie on no cycle."""
    if not len(problem.indices):
        return False
    graph = csr_array((np.ones(len(problem.indices), np.int8), problem.indices, problem.indptr), (problem.n_neurons,) * 2)
    _, component = connected_components(graph, connection="strong")
    inside = np.repeat(component, np.diff(problem.indptr)) == component[problem.indices]
    return float(inside.mean()) < _LAYERED


def _axons_bind(units: Units, fewest: _Candidate | None) -> bool:
    """Whether axons make the graph partitioner's answer have far too many parts: squeezing does more than another start then."""
    return fewest is not None and bool((units.net.axon_in + units.net.axon_out > 0).any()) and not _is_layered(units.problem)


def _worth_refining(start: _Candidate | None, candidates: list[_Candidate]) -> bool:
    """Whether sequential fill is so near to the best that improving it may win; always if there is nothing else."""
    others = [c for c in candidates if c is not start]
    return not others or (start is not None and start.weighted_km1 <= _WORTH_REFINING * min(c.weighted_km1 for c in others))


def _fewest(candidates: list[_Candidate], start: _Candidate | None, allowed: float) -> _Candidate | None:
    """The candidate with the fewest parts if all of them, but for ``start``, have more than allowed."""
    others = [c for c in candidates if c is not start]
    fewest = min(others, key=lambda c: c.n_parts, default=None)
    return fewest if fewest is not None and fewest.n_parts > allowed else None


def _run(
    units: Units,
    bounds: Bounds,
    name: str,
    start: _Candidate | None,
    allowed: int,
    most: int | None,
    seed: int,
    target: int | None = None,
    known: _Candidate | None = None,
    least: float = LEAST_GAIN,
) -> list[_Candidate]:
    """Candidates of one algorithm: with ``target`` parts (None: all that are allowed); where that ends with more than allowed, again with
    as many as it ended with, or half-way between the most that was too few and the fewest that came out. After the first time the axons of
    the last assignment belong to the costs. ``known``: the best so far if all have more parts than allowed; if far more, it is where to
    begin."""
    if name == "refined" and start is not None:
        share = shares(units, parts_of_classes(bounds, start.n_parts))
        made = improve(units, start.part, share=share, wanted=allowed, seed=seed, least=least)
        return [] if made is None else [_candidate(units, name, made)]
    if name == "refined":
        nowhere = np.full(units.n_units, -1, np.int32)
        made = improve(units, nowhere, share=shares(units, bounds.by_class), wanted=allowed, most=most, seed=seed, least=least)
        return [] if made is None else [_candidate(units, name, made)]
    found: list[_Candidate] = []
    axons: Axons | None = None
    large = len(units.net.out_units) > _RETRY_PINS
    if target is None:
        target = max(allowed, bounds.cores)
        if known is not None and known.n_parts > _FAR * allowed:
            target, axons = known.n_parts, axons_like(units, known.part)
        elif large and (units.net.axon_in + units.net.axon_out > 0).any():
            axons = grown_axons(units, seed=seed)
            target = max(target, parts_needed(units, axons, _GROWN_FILL))
    tried: set[int] = set()
    too_few = target - 1
    for _ in range(1 if large else _MOST_TRIES):
        tried.add(target)
        parts = np.minimum(parts_of_classes(bounds, target), np.bincount(units.net.unit_class[units.order], minlength=units.n_classes))
        assign = {"graph": graph.assign, "hypergraph": hypergraph.assign, "streaming": streaming.assign}[name]
        share = shares(units, parts, axons)
        if large and axons is not None:
            share *= parts.sum() * _EVEN / share.sum()  # else parts are filled to the brim, and one is left empty
        assigned = assign(units, parts, share=share, seed=seed)
        axons = None if large else axons_like(units, assigned)
        made = improve(units, assigned, share=share, wanted=allowed, seed=seed, least=least)
        if made is not None:
            found.append(_candidate(units, name, made))
            if found[-1].n_parts <= allowed:
                break
        opened = min((c.n_parts for c in found), default=2 * target if start is None else max(start.n_parts, target + 1))
        if made is None or found[-1].n_parts > target:
            too_few = max(too_few, target)
        target = opened if opened not in tried and made is not None else math.ceil(math.sqrt(too_few * opened))
        if target in tried:
            break
    return found


def _candidate(units: Units, name: str, part: Int32Array) -> _Candidate:
    n_parts = int(part.max(initial=-1)) + 1
    use = measure(units.problem, *_whole(units, part))
    return _Candidate(name, part, n_parts, use.km1, use.weighted_km1)


def _best(candidates: list[_Candidate], start: _Candidate | None, allowed: int, *, compare: bool) -> _Candidate:
    if compare and start is not None:
        candidates = [c for c in candidates if c.weighted_km1 <= start.weighted_km1]
    return min(candidates, key=lambda c: (max(c.n_parts, allowed), c.weighted_km1, c.n_parts))


def _whole(units: Units, part: Int32Array) -> tuple[Int32Array, int]:
    """Part of each neuron, external populations as parts of their own, numbered by their first neuron; number of parts."""
    problem = units.problem
    whole = part[units.net.unit_of]
    n_parts = int(part.max(initial=-1)) + 1
    for population in np.unique(problem.population[problem.external]):
        whole[problem.external & (problem.population == population)] = n_parts
        n_parts += 1
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse].astype(np.int32), len(first)


def _finish(units: Units, best: _Candidate, start: _Candidate | None, bounds: Bounds, notes: tuple[str, ...]) -> Partition:
    part, n_parts = _whole(units, best.part)
    external = np.zeros(n_parts, bool)
    external[part[units.problem.external]] = True
    for array in (part, external):
        array.setflags(write=False)
    return Partition(
        part=part,
        n_parts=n_parts,
        external=external,
        quality=PartitionQuality(
            algorithm=best.name,
            cores=best.n_parts,
            lower_bound=bounds.cores,
            bound_by=bounds.name,
            bounds=bounds.by_limit,
            km1=best.km1,
            weighted_km1=best.weighted_km1,
            sequential_cores=start.n_parts if start is not None else None,
            sequential_km1=start.km1 if start is not None else None,
            sequential_weighted_km1=start.weighted_km1 if start is not None else None,
            notes=notes,
        ),
    )


__all__ = ["ALGORITHMS", "partition"]
