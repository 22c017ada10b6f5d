"""What does not fit: because of which projection, and what would fit. Every proposal has been tried before it is made.

A mapper sees costs, not projections. What a projection takes is what is left without it: the network is lowered again without the
projection's synapses, and what is proposed is lowered (and mapped as far as it failed) as proposed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir.connectivity import FixedInDegree, FixedOutDegree
from neurocompile.ir.errors import DoesNotFitError, InputError, NeurocompileError
from neurocompile.ir.hints import together_labels
from neurocompile.ir.realise import Connections, realise
from neurocompile.machine import Machine, machines_of_family
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.partition import partition
from neurocompile.mapping.place import found_room
from neurocompile.mapping.place.fill import part_costs
from neurocompile.mapping.problem import Int32Array, MappingProblem, Resource
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.types import Partition

MOST_SYNAPSES = 2_000_000
"""Synapses up to which proposals are sought: up to some twenty lowerings and partitions, a second or two each at this size."""
MOST_SYNAPSES_ROUTED = 300_000
"""The same where each proposal must be routed to be tried."""

Lower = Callable[[Mapping[str, Connections], Machine], MappingProblem | None]
Fits = Callable[[MappingProblem, Machine], bool]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """What was compiled. ``trained``: the synapses were given, not those of the description; ``lower``: gives the mapper's problem for
    other synapses or another machine; ``options``: of the mapper."""

    network: Network
    connections: Mapping[str, Connections]
    trained: bool
    machine: Machine
    overrides: Mapping[str, float]
    problem: MappingProblem
    lower: Lower
    options: MapOptions

    def trial(self, connections: Mapping[str, Connections], machine: Machine) -> MappingProblem | None:
        """The problem of other synapses or another machine; None where the target refuses them."""
        try:
            return self.lower(connections, machine)
        except NeurocompileError:
            return None

    def capped(self, names: tuple[str, ...], most: int, *, outgoing: bool = False) -> dict[str, Connections]:
        """The synapses, at most ``most`` of each of the projections onto a neuron (``outgoing``: from a neuron): those of the description
        with this degree where it states one, else those of today, thinned out."""
        found = dict(self.connections)
        for projection in self.network.synaptic_projections:
            c, rule = found[projection.name], projection.connect
            if projection.name not in names:
                continue
            stated = isinstance(rule, FixedOutDegree if outgoing else FixedInDegree) and not self.trained
            if stated and isinstance(rule, FixedInDegree | FixedOutDegree) and 0 < most < rule.degree:
                with contextlib.suppress(InputError):  # weights or delays may be stated synapse by synapse
                    found[projection.name] = realise(self.network, replace(projection, connect=replace(rule, degree=most)))
                    continue
            found[projection.name] = _cap(c, most, outgoing=outgoing)
        return found


def _cap(c: Connections, most: int, *, outgoing: bool) -> Connections:
    """``most`` synapses of each target (source) that has more, evenly spread over them."""
    end = c.pre if outgoing else c.post
    order = np.argsort(end, kind="stable")
    count = np.bincount(end)
    rank = np.arange(len(end)) - (np.cumsum(count) - count)[end[order]]
    of = count[end[order]]
    kept = np.zeros(len(end), bool)
    kept[order] = (of <= most) | ((rank + 1) * most // np.maximum(of, 1) > rank * most // np.maximum(of, 1))
    return replace(c, pre=c.pre[kept], post=c.post[kept], weight=c.weight[kept], delay=c.delay[kept])


def advised(error: ShortfallError, attempt: Attempt) -> ShortfallError:
    """Return the finding with the projection that is to blame and with what would fit, as far as that was found."""
    if sum(map(len, attempt.connections.values())) > MOST_SYNAPSES:
        return error
    code = error.diagnostic.code
    seek = {"NC401": _of_neuron, "NC402": _of_machine, "NC403": _of_chip, "NC404": _of_tables, "NC406": _of_tables}.get(code)
    if seek is None:
        return error
    because, proposals = seek(error.shortfall, attempt)
    message = "; ".join([error.diagnostic.message, *([because] if because else [])])
    ways = [*proposals, *([error.diagnostic.help] if error.diagnostic.help else [])]
    return ShortfallError(replace(error.diagnostic, message=message, help="; or ".join(ways)), error.shortfall)


def largest(fits: Callable[[int], bool], too_many: int, guess: int) -> int | None:
    """The largest number below ``too_many`` (which does not fit) that fits, or one of those 2 % below it; None: not even 0.

    What fits is taken to fit when it is less. Tried from ``guess`` on in growing steps, then between what fits and what does not: two or
    three trials for a good guess. What is returned has been tried.
    """
    low, high, step = -1, too_many, 1
    bracketed_low = bracketed_high = False
    at = guess
    while high - low > max(1, low // 50):
        at = min(max(at, low + 1), high - 1)
        if fits(at):
            low, bracketed_low = at, True
        else:
            high, bracketed_high = at, True
        at = (low + high) // 2 if bracketed_low and bracketed_high and step > 1 else at + step if low == at else at - step
        step *= 2
    return low if low >= 0 else None


# --- one neuron, or neurons that stay together -------------------------------------------------------------------------------------


def _failure(problem: MappingProblem) -> ShortfallError | None:
    """What is wrong with a neuron of the problem, if anything is."""
    try:
        partition(problem, algorithm="sequential")
    except ShortfallError as error:
        return error
    return None


def _of_neuron(short: Shortfall, attempt: Attempt) -> tuple[str, list[str]]:
    assert short.neurons is not None
    problem, network = attempt.problem, attempt.network
    population = int(problem.population[short.neurons[0]])
    name = problem.population_names[population]
    ends = [p for p in network.synaptic_projections if (p.pre if short.outgoing else p.post) == name]

    def fits(changed: MappingProblem | None) -> bool:
        if changed is None:
            return False
        found = _failure(changed)
        return found is None or found.shortfall.neurons is None or int(changed.population[found.shortfall.neurons[0]]) != population

    because, proposals = "", []
    share = {p.name: _share(short, attempt, p.name) for p in ends}
    share = {p: amount for p, amount in share.items() if amount > 0}
    if share:
        worst = max(share, key=lambda p: share[p])
        number = short.neurons - network.offsets[name]
        c = attempt.connections[worst]
        onto = int(np.isin(c.pre if short.outgoing else c.post, number).sum())
        because = f"{share[worst]:g} {short.unit} of that because of projection '{worst}' ({onto} synapses)"
        each = share[worst] / max(onto, 1) * len(short.neurons)
        guess = int((short.available - (short.needed - share[worst])) / each) if each > 0 else 0
        proposals += _degree(attempt, (worst,), tuple(share), guess, fits, outgoing=short.outgoing)
    if len(short.neurons) > 1:
        pieces = _pieces(short.neurons, problem)
        most = -(-len(short.neurons) // pieces) if pieces else 0
        if pieces and _wanted(network, short.neurons):
            proposals.append(f"split the group that must stay together into {pieces} pieces of at most {most} neurons")
        elif pieces and (problem.population[short.neurons] == population).all():  # the target's own wish
            proposals.append(f"population '{name}' must lie on one core of this target: {most} neurons of it fit")
    proposals += _larger(attempt, lambda p, _machine: fits(p))
    return because, proposals


def _share(short: Shortfall, attempt: Attempt, name: str) -> float:
    """How much less the neurons would take without the projection, where they are alone on a core."""
    assert short.neurons is not None
    if short.outgoing:  # each target may lie on a core of its own: as many axons as there are targets
        number = short.neurons - attempt.network.offsets[next(p.pre for p in attempt.network.synaptic_projections if p.name == name)]
        c = attempt.connections[name]
        each = next(r.per_axon_out for r in _resources(attempt.problem) if r.name == short.resource)
        return each * len(np.unique(c.post[np.isin(c.pre, number)]))
    without = attempt.trial(attempt.capped((name,), 0), attempt.machine)
    if without is None:
        return 0.0
    return _alone(attempt.problem, short.resource, short.neurons) - _alone(without, short.resource, short.neurons)


def _resources(problem: MappingProblem) -> tuple[Resource, ...]:
    return (*problem.resources, *problem.chip_resources)


def _alone(problem: MappingProblem, name: str, neurons: Int32Array) -> float:
    """What some neurons take of a resource on a core of their own, with all targets on one core."""
    resource = next(r for r in _resources(problem) if r.name == name)
    inside = np.zeros(problem.n_neurons, bool)
    inside[neurons] = True
    sources = len(np.unique(np.searchsorted(problem.indptr, np.flatnonzero(inside[problem.indices]), side="right")))
    sending = int((np.diff(problem.indptr)[neurons] > 0).sum())
    return float(resource.per_neuron[neurons].sum() + resource.per_axon_in * sources + resource.per_axon_out * sending)


def _wanted(network: Network, neurons: Int32Array) -> bool:
    """Whether the description says that neurons stay together."""
    labels = together_labels(network)
    return labels is not None and bool((neurons < len(labels)).all() and (labels[neurons] >= 0).all())


def _pieces(neurons: Int32Array, problem: MappingProblem) -> int:
    """In how many equal pieces neurons that stay together would fit; 0: in none."""
    assert problem.together is not None
    for k in range(2, min(len(neurons), 64) + 1):
        labels = problem.together.copy()
        labels[neurons] = int(problem.together.max()) + 1 + np.arange(len(neurons)) * k // len(neurons)
        found = _failure(replace(problem, together=labels))
        if found is None or found.shortfall.neurons is None or not np.isin(found.shortfall.neurons, neurons).any():
            return k
    return 0


# --- cores, chips, tables ----------------------------------------------------------------------------------------------------------


def _room(problem: MappingProblem, machine: Machine) -> bool:
    try:
        return found_room(problem, partition(problem, algorithm="sequential"), machine)
    except DoesNotFitError:
        return False


def _of_machine(short: Shortfall, attempt: Attempt) -> tuple[str, list[str]]:
    """NC402: the projection without which fewest parts are needed, or least of the chips' memory."""
    problem, names = attempt.problem, tuple(p.name for p in attempt.network.synaptic_projections)
    chip = next((r for r in problem.chip_resources if r.name == short.resource), None)

    def need(p: MappingProblem | None) -> float:
        try:
            parts = None if p is None else partition(p, algorithm="sequential")
        except DoesNotFitError:
            return np.inf
        if p is None or parts is None:
            return np.inf
        if chip is None:
            return float(_n_parts(parts))
        which = [r.name for r in p.chip_resources].index(chip.name)
        return float(part_costs(p, parts)[which].sum())

    now = need(problem)
    left = {name: need(attempt.trial(attempt.capped((name,), 0), attempt.machine)) for name in names}
    worst = min(left, key=lambda n: left[n], default=None)
    if worst is None or not left[worst] < now < np.inf:
        inside = ~problem.external
        sizes = np.bincount(problem.population[inside], minlength=len(problem.population_names))
        most = int(np.argmax(sizes))
        return f"no projection is to blame: population '{problem.population_names[most]}' has {sizes[most]} neurons", []
    unit = f"{chip.unit} of {chip.name}" if chip is not None else "parts"
    because = f"filled in index order it takes {now:g} {unit}, without projection '{worst}' {left[worst]:g}"
    degree = _degree_now(attempt, (worst,))
    room = chip.limit * attempt.machine.n_chips if chip is not None else short.available * (_n_parts(short.partition) / short.needed)
    guess = int(degree * (room - left[worst]) / (now - left[worst]))
    return because, _degree(attempt, (worst,), names, guess, lambda p: p is not None and _room(p, attempt.machine))


def _n_parts(parts: Partition | None) -> int:
    return 0 if parts is None else int((~parts.external).sum())


def _of_chip(short: Shortfall, attempt: Attempt) -> tuple[str, list[str]]:
    """NC403. Fewer neurons a part need fewer helper cores."""
    assert short.neurons is not None
    problem, machine = attempt.problem, attempt.machine
    population = int(problem.population[short.neurons[0]])
    name, size = problem.population_names[population], int((problem.population == population).sum())
    proposals = []
    if machine.has("core.neurons"):

        def fits(most: int) -> bool:
            if most < 1:
                return False
            smaller = machine.with_overrides({"core.neurons": float(most)})
            changed = attempt.trial(attempt.connections, smaller)
            return changed is not None and _room(changed, smaller)

        most = largest(fits, min(int(machine.value("core.neurons")), size), len(short.neurons) // 2)
        if most is not None:
            pieces = f"{-(-size // most)} pieces or more, of at most {most} neurons"
            proposals.append(f"split '{name}' into {pieces} (--set machine.core.neurons={most})")
    onto = tuple(p.name for p in attempt.network.synaptic_projections if p.post == name)
    heaviest = max(onto, key=lambda n: len(attempt.connections[n]), default=None)
    if heaviest is None:
        return "", proposals
    guess = _degree_now(attempt, (heaviest,)) // 2
    proposals += _degree(attempt, (heaviest,), onto, guess, lambda p: p is not None and _room(p, machine))
    return f"most synapses onto it are of projection '{heaviest}' ({len(attempt.connections[heaviest])})", proposals


def _of_tables(short: Shortfall, attempt: Attempt) -> tuple[str, list[str]]:
    """NC404, NC406: the projection that connects most pairs of cores; the rest is tried by mapping."""
    if short.partition is None:
        return "", []
    part, n_parts = short.partition.part.astype(np.int64), short.partition.n_parts
    pairs = {}
    offsets = attempt.network.offsets
    for p in attempt.network.synaptic_projections:
        c = attempt.connections[p.name]
        pairs[p.name] = len(np.unique(part[c.pre + offsets[p.pre]] * n_parts + part[c.post + offsets[p.post]]))
    if not pairs:
        return "", []
    worst = max(pairs, key=lambda n: pairs[n])
    because = f"projection '{worst}' connects most pairs of cores ({pairs[worst]})"
    if sum(map(len, attempt.connections.values())) > MOST_SYNAPSES_ROUTED:
        return because, []

    def fits(problem: MappingProblem | None, machine: Machine) -> bool:
        try:
            return problem is not None and bool(map_network(problem, machine, attempt.options))
        except DoesNotFitError:
            return False

    degree = _degree_now(attempt, (worst,))
    guess = int(degree * short.available / short.needed)
    proposals = _degree(attempt, (worst,), tuple(pairs), guess, lambda p: fits(p, attempt.machine))
    return because, [*proposals, *_larger(attempt, fits)]


# --- proposals ---------------------------------------------------------------------------------------------------------------------


def _degree_now(attempt: Attempt, names: tuple[str, ...], *, outgoing: bool = False) -> int:
    """The most synapses of one of the projections onto (from) a neuron."""
    ends = (c.pre if outgoing else c.post for c in (attempt.connections[n] for n in names))
    return max((int(np.bincount(e).max(initial=0)) for e in ends), default=0)


def _degree(
    attempt: Attempt,
    names: tuple[str, ...],
    more: tuple[str, ...],
    guess: int,
    fits: Callable[[MappingProblem | None], bool],
    *,
    outgoing: bool = False,
) -> list[str]:
    """The in-degree (out-degree) of a projection, else of all of ``more`` together, with which the network fits."""
    kind = "out-degree" if outgoing else "in-degree"
    for tried in (names, more) if set(more) != set(names) else (names,):
        now = _degree_now(attempt, tried, outgoing=outgoing)

        def with_degree(most: int, tried: tuple[str, ...] = tried) -> bool:
            return fits(attempt.trial(attempt.capped(tried, most, outgoing=outgoing), attempt.machine))

        most = largest(with_degree, now, guess)
        guess = now // 2
        if most is None:
            continue
        which = f"'{tried[0]}'" if len(tried) == 1 else "each of " + ", ".join(f"'{n}'" for n in tried)
        if most == 0:
            return [f"leave out {which.removeprefix('each of ')}: no lower {kind} fits"]
        return [f"lower the {kind} of {which} to at most {most} (now up to {now})"]
    return []


def _larger(attempt: Attempt, fits: Fits) -> list[str]:
    """The smallest larger machine of the family on which it fits."""
    for machine in _larger_machines(attempt):
        problem = attempt.trial(attempt.connections, machine)
        if problem is not None and fits(problem, machine):
            return [f"take {machine.name} (--machine {machine.name}), where it fits"]
    return []


def _larger_machines(attempt: Attempt) -> Iterator[Machine]:
    for machine in machines_of_family(attempt.machine.family):
        if machine.file != attempt.machine.file and machine.n_cores > attempt.machine.n_cores:
            kept = {key: value for key, value in attempt.overrides.items() if machine.has(key)}
            yield machine.with_overrides(kept)


__all__ = ["Attempt", "advised", "largest"]
