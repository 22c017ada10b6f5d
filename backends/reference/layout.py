"""Network -> the arrays that the kernels work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.layout_paths import Carrier, follows_paths, paths
from neurocompile.backends.reference.layout_stdp import lay_out_stdp
from neurocompile.backends.reference.rewiring import make_walk
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    CubaLIF,
    EProp,
    KappaPer,
    LeakyReadout,
    Loss,
    Network,
    PerInterval,
    Population,
    Projection,
    ProjectionFeedback,
    Reset,
    SpikeSource,
    SurrogateKind,
)
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.errors import InputError
from neurocompile.ir.neurons import decay, expand
from neurocompile.ir.realise import Connections, realise_feedback
from neurocompile.ir.rewired import rewired_projections

STATIC, EPROP, STDP_TABLE = 0, 1, 2
_NO_CUTOFF = 2**40
_SURROGATES = list(SurrogateKind)
_KAPPA_PER = {KappaPer.SYNAPSE: t.PER_SYNAPSE, KappaPer.NEURON: t.PER_NEURON}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """Where a projection's synapses are: table (0 static, 1 e-prop, 2 STDP) and index in the table, in canonical order."""

    table: int
    index: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """All that :class:`Simulator` needs of a network, as arrays.

    site_of : (population, rule) -> first learning site; sites of a population are consecutive. symmetric : (first site of a hidden
    population, projection from it to a readout, row of B), in the order of the entries of the symmetric feedback.
    """

    constants: t.Constants
    placed: dict[str, Placed]
    weights: tuple[FloatArray, FloatArray, FloatArray]
    site_of: dict[tuple[str, str], int]
    symmetric: list[tuple[int, Projection, int]]
    max_delay: int


def lay_out(network: Network, connections: Mapping[str, Connections], feedback: Mapping[tuple[str, str], FloatArray] | None) -> Layout:
    """Return the arrays of a network. ``connections``: one entry for each synaptic projection.

    Raises
    ------
    InputError
        NC235: connections missing or not of the network; NC236: an initial weight outside the rule's bounds; NC202: shape of feedback.
    """
    check_connections(network, connections)
    site_table, site_of, rule_names = sites(network)
    tables: list[list[str]] = [[], [], []]
    for projection in network.synaptic_projections:
        rule = None if projection.learning is None else network.rule(projection.learning)
        tables[STATIC if rule is None else EPROP if isinstance(rule, EProp) else STDP_TABLE].append(projection.name)
    placed: dict[str, Placed] = {}
    static, static_weight = _static(network, connections, tables[STATIC], placed)
    eprop, eprop_weight = _eprop(network, connections, tables[EPROP], site_of, placed)
    weights = [static_weight, eprop_weight]
    stdp, stdp_rules, weight, index = lay_out_stdp(network, connections, tables[STDP_TABLE])
    placed.update({name: Placed(table=STDP_TABLE, index=where) for name, where in index.items()})
    weights.append(weight)
    sign = np.where(weights[EPROP] < 0.0, -1.0, 1.0)
    index_of = {p.name: placed[p.name].index for p in rewired_projections(network)}
    for where in index_of.values():
        sign[where] = np.where(np.signbit(weights[EPROP][where]), -1.0, 1.0)
    feedback_table, symmetric = _feedback(network, connections, placed, site_of, feedback)

    def carrier(projection: Projection) -> Carrier:
        ends, where = connections[projection.name], placed[projection.name]
        return Carrier(ends.pre, ends.post, where.table, where.index, weights[where.table][where.index])

    constants = t.Constants(
        neurons=neurons(network),
        rules=rules(network, rule_names),
        sites=site_table,
        feedback=feedback_table,
        paths=paths(network, site_of, feedback, carrier),
        readouts=readouts(network),
        reward=reward(network),
        static=static,
        eprop=eprop,
        stdp=stdp,
        stdp_rules=stdp_rules,
        sign=sign,
        walk=make_walk(network, rule_names, index_of, len(weights[EPROP])),
        dt_ms=network.dt * 1e3,
        seed=network.seed,
    )
    for table in (EPROP, STDP_TABLE):
        check_weights(network, placed, table, weights[table])
    delays = [int(c.delay.max()) for c in connections.values() if len(c.delay)]
    return Layout(
        constants=constants,
        placed=placed,
        weights=(weights[0], weights[1], weights[2]),
        site_of=site_of,
        symmetric=symmetric,
        max_delay=max(delays, default=1),
    )


def check_connections(network: Network, connections: Mapping[str, Connections]) -> None:
    """Raise InputError NC204, NC209 or NC235 if connections do not fit the network."""
    for projection in network.synaptic_projections:
        given = connections.get(projection.name)
        if given is None:
            raise InputError.of("NC235", f"projection '{projection.name}' has no connections")
        check_ends(network, projection, given)
        if len(given.delay) and given.delay.min() < 1:
            raise InputError.of("NC209", f"projection '{projection.name}': delay {given.delay.min()}, must be at least 1 step")


def check_ends(network: Network, projection: Projection, given: Connections) -> None:
    """Raise InputError NC204 if a synapse begins or ends at a neuron that does not exist."""
    for end in ("pre", "post"):
        size = network.population(getattr(projection, end)).size
        ids = getattr(given, end)
        if len(ids) and (ids.min() < 0 or ids.max() >= size):
            message = f"projection '{projection.name}': {end} index {ids.max()}, '{getattr(projection, end)}' has {size}"
            raise InputError.of("NC204", message)


def check_weights(network: Network, placed: Mapping[str, Placed], table: int, weights: FloatArray) -> None:
    """Raise InputError NC236 if a plastic weight is outside its rule's bounds."""
    for projection in network.synaptic_projections:
        where = placed[projection.name]
        if where.table != table or projection.learning is None:
            continue
        check_bounds(projection, weights[where.index], network.rule(projection.learning).weight_bounds)


def check_bounds(projection: Projection, weights: FloatArray, bounds: tuple[float, float]) -> None:
    """Raise InputError NC236 if a plastic weight of a projection is outside its rule's bounds."""
    low, high = bounds
    bad = np.flatnonzero(~((weights >= low) & (weights <= high)))
    if bad.size:
        raise outside_bounds(projection, int(bad[0]), float(weights[bad[0]]), low, high)


def outside_bounds(projection: Projection, number: int, weight: float, low: float, high: float) -> InputError:
    """Return the error NC236 of a plastic weight outside its rule's bounds."""
    found = InputError.of(
        "NC236",
        f"projection '{projection.name}': weight {number} is {weight:g}, outside the bounds [{low:g}, {high:g}] of "
        f"rule '{projection.learning}'",
        help="widen weight_bounds or change the initial weights",
    )
    return InputError(found.diagnostics)


def neurons(network: Network) -> t.Neurons:
    """Return the constants of all neurons."""
    n, dt = network.n_neurons, network.dt
    arrays = {name: np.zeros(n) for name in t.Neurons._fields[5:]}
    arrays["v_min"][:] = -np.inf
    refractory = np.zeros(n, np.int32)
    kinds, adaptive = [], []
    for population in network.populations:
        start = network.offsets[population.name]
        part, m, model = slice(start, start + population.size), population.size, population.model
        kinds.append(_kind(population))
        adaptive.append(isinstance(model, ALIF))
        if isinstance(model, SpikeSource):
            arrays["probability"][part] = np.minimum(expand(model.rate, m) * dt, 1.0)
        if isinstance(model, LIF | LeakyReadout):
            a = decay(model.tau_mem, dt, model.integration, m)
            arrays["decay"][part] = a
            arrays["constant"][part] = (1.0 - a) * expand(model.v_leak, m) + expand(model.bias, m)
            arrays["v_min"][part] = expand(model.v_min, m)
        if isinstance(model, CubaLIF | LeakyReadout):
            arrays["current_decay"][part] = decay(model.tau_syn, dt, model.integration, m)
        if isinstance(model, LIF):
            arrays["threshold"][part] = expand(model.v_threshold, m)
            arrays["soft_reset"][part] = expand(model.v_threshold, m) - expand(model.v_leak, m)
            arrays["v_reset"][part] = expand(model.v_reset, m)
            refractory[part] = np.rint(expand(model.t_ref, m) / dt)
        if isinstance(model, ALIF):
            arrays["adapt_beta"][part] = expand(model.adapt_beta, m)
            arrays["adapt_decay"][part] = decay(model.adapt_tau, dt, model.integration, m)
    arrays["refractory"] = refractory  # type: ignore[assignment]
    starts = np.array([network.offsets[p.name] for p in network.populations], np.int64)
    sizes = np.array([p.size for p in network.populations], np.int64)
    same = ("decay", "constant", "threshold", "soft_reset", "v_reset", "v_min", "refractory")
    uniform = [
        isinstance(p.model, LIF)
        and not isinstance(p.model, ALIF | CubaLIF)
        and all(len(np.unique(arrays[name][start : start + p.size])) == 1 for name in same)
        for p, start in zip(network.populations, starts.tolist(), strict=True)
    ]
    return t.Neurons(
        start=starts,
        stop=starts + sizes,
        kind=np.array(kinds, np.int64),
        adaptive=np.array(adaptive, np.uint8),
        uniform=np.array(uniform, np.uint8),
        **arrays,  # type: ignore[arg-type]
    )


def _kind(population: Population) -> int:
    model = population.model
    if isinstance(model, SpikeSource):
        return t.SOURCE
    if isinstance(model, LIF):
        return t.SUBTRACT if model.reset is Reset.SUBTRACT else t.TO_VALUE
    if isinstance(model, LeakyReadout):
        return t.READOUT
    raise InputError.of("NC235", f"population '{population.name}': the engine has no model '{model.kind}'")


def resting(network: Network) -> FloatArray:
    """Return the membranes at the start, (N,): every neuron at its v_leak."""
    parts = [expand(getattr(p.model, "v_leak", 0.0), p.size) for p in network.populations]
    return np.concatenate(parts)


def starting_current(network: Network) -> FloatArray:
    """Return the synaptic currents before step 0, (N,): ``i_init`` of models that have one."""
    parts = [expand(getattr(p.model, "i_init", 0.0), p.size) for p in network.populations]
    return np.concatenate(parts)


def rules(network: Network, names: list[str]) -> t.Rules:
    """Return the e-prop rules of these names, in their order."""
    rows: list[dict[str, float]] = []
    for name in names:
        rule = network.rule(name)
        if not isinstance(rule, EProp):
            raise TypeError(name)
        optimizer, reg, dt_ms = rule.optimizer, rule.regularization, network.dt * 1e3
        adam, learnt = optimizer if isinstance(optimizer, Adam) else Adam(), rule.kappa_learning
        rows.append(
            {
                "kappa": rule.kappa,
                "kappa_reg": rule.kappa_reg,
                "strength": 0.0 if reg is None else reg.strength,
                "rate": 0.0 if reg is None else reg.rate / 1000.0 * dt_ms,
                "surrogate": _SURROGATES.index(rule.surrogate.kind),
                "height": rule.surrogate.height,
                "per_width": 1.0 / rule.surrogate.width,
                "adam": isinstance(optimizer, Adam),
                "learning_rate": optimizer.learning_rate,
                "beta_1": adam.beta_1,
                "beta_2": adam.beta_2,
                "epsilon": adam.epsilon,
                "each_step": optimizer.each_step,
                "batch": rule.update.steps if isinstance(rule.update, PerInterval) else 1,
                "low": rule.weight_bounds[0],
                "high": rule.weight_bounds[1],
                "keep_sign": rule.sign_constraint,
                "cutoff": _NO_CUTOFF if rule.trace_cutoff_steps is None else rule.trace_cutoff_steps,
                "kappa_per": 0 if learnt is None else _KAPPA_PER[learnt.per],
                "kappa_rate": 0.0 if learnt is None else learnt.learning_rate,
                "kappa_low": 0.0 if learnt is None else learnt.bounds[0],
                "kappa_high": 1.0 if learnt is None else learnt.bounds[1],
                "shrink": 1.0 - rule.weight_decay,
            }
        )
    dtypes = {"surrogate": np.int64, "batch": np.int64, "cutoff": np.int64, "adam": np.uint8, "each_step": np.uint8, "keep_sign": np.uint8}
    dtypes["kappa_per"] = np.uint8
    return t.Rules(**{f: np.array([row[f] for row in rows], dtypes.get(f, np.float64)) for f in t.Rules._fields})


def sites(network: Network) -> tuple[t.Sites, dict[tuple[str, str], int], list[str]]:
    """Return the learning sites, (population, rule) -> the first of its consecutive sites, and the names of the e-prop rules in use."""
    site_of: dict[tuple[str, str], int] = {}
    rules: list[str] = []
    fields: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in t.Sites._fields}
    count = 0
    for projection in network.synaptic_projections:
        name = projection.learning
        if name is None or not isinstance(network.rule(name), EProp) or (projection.post, name) in site_of:
            continue
        if name not in rules:
            rules.append(name)
        population = network.population(projection.post)
        model, size = population.model, population.size
        if not isinstance(model, LIF | LeakyReadout):
            raise InputError.of("NC210", f"projection '{projection.name}': e-prop does not apply to a {model.kind} target")
        site_of[projection.post, name] = count
        count += size
        start = network.offsets[population.name]
        adaptive = isinstance(model, ALIF)
        fields["neuron"].append(np.arange(start, start + size, dtype=np.int32))
        fields["rule"].append(np.full(size, rules.index(name), np.int32))
        fields["is_readout"].append(np.full(size, isinstance(model, LeakyReadout), np.uint8))
        fields["alpha"].append(decay(model.tau_mem, network.dt, model.integration, size))
        fields["rho"].append(decay(model.adapt_tau, network.dt, model.integration, size) if isinstance(model, ALIF) else np.zeros(size))
        fields["discount"].append(np.full(size, discount_of(network, population.name)))
        fields["beta"].append(np.array(expand(model.adapt_beta, size)) if isinstance(model, ALIF) and adaptive else np.zeros(size))
    empty = {"neuron": np.int32, "rule": np.int32, "is_readout": np.uint8}
    arrays = {f: np.concatenate(v) if v else np.zeros(0, empty.get(f, np.float64)) for f, v in fields.items()}
    return t.Sites(**arrays), site_of, rules  # type: ignore[arg-type]


def _sort(
    network: Network,
    connections: Mapping[str, Connections],
    first: Mapping[str, int],
    table: int,
    placed: dict[str, Placed],
    *,
    by_delay: bool,
) -> tuple[IntArray, Int32Array, FloatArray, npt.NDArray[np.uint8]]:
    """Return (source, target, weight, delay) of some projections sorted by source, with ``by_delay`` by delay first; synapses of a source
    keep the projections' and the canonical order. first: projection -> what is added to its targets."""
    pre, post, weight, delay = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0)], [np.zeros(0, np.uint8)]
    for name, shift in first.items():
        given = connections[name]
        pre.append(given.pre.astype(np.int64) + network.offsets[network.projection(name).pre])
        post.append((given.post.astype(np.int64) + shift).astype(np.int32))
        weight.append(given.weight.astype(np.float64))
        delay.append(given.delay.astype(np.uint8))
    source, delays = np.concatenate(pre), np.concatenate(delay)
    order, position = sorted_places(source, delays if by_delay else None)
    taken = 0
    for name in first:
        m = len(connections[name].pre)
        placed[name] = Placed(table=table, index=position[taken : taken + m])
        taken += m
    return source[order], np.concatenate(post)[order], np.concatenate(weight)[order], delays[order]


def sorted_places(source: IntArray, delay: npt.NDArray[np.uint8] | None) -> tuple[IntArray, IntArray]:
    """Return which synapse is at each place of a table that is sorted by delay (if given), then source, and the place of each synapse."""
    order = np.argsort(source, kind="stable") if delay is None else np.lexsort((source, delay))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return order, position


def delay_pointers(source: IntArray, delay: npt.NDArray[np.uint8], groups: IntArray, n_neurons: int) -> IntArray:
    """Return int64 (G, N+1): where the synapses of each delay and source begin in the table."""
    pointer = np.zeros((len(groups), n_neurons + 1), np.int64)
    for row, d in enumerate(groups.tolist()):
        counts = np.bincount(source[delay == d], minlength=n_neurons)
        pointer[row] = np.searchsorted(delay, d) + np.concatenate([[0], np.cumsum(counts)])
    return pointer


def _static(
    network: Network, connections: Mapping[str, Connections], names: list[str], placed: dict[str, Placed]
) -> tuple[t.Synapses, FloatArray]:
    first = {name: network.offsets[network.projection(name).post] for name in names}
    source, target, weight, delay = _sort(network, connections, first, STATIC, placed, by_delay=False)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=network.n_neurons))]).astype(np.int64)
    return t.Synapses(pointer=pointer, target=target, delay=delay), weight


def _eprop(
    network: Network,
    connections: Mapping[str, Connections],
    names: list[str],
    site_of: Mapping[tuple[str, str], int],
    placed: dict[str, Placed],
) -> tuple[t.EpropSynapses, FloatArray]:
    first = {}
    for name in names:
        projection = network.projection(name)
        first[name] = site_of[projection.post, projection.learning or ""]
    source, target, weight, delay = _sort(network, connections, first, EPROP, placed, by_delay=True)
    groups = np.unique(delay).astype(np.int64)
    return t.EpropSynapses(delay=groups, pointer=delay_pointers(source, delay, groups, network.n_neurons), target=target), weight


def readouts(network: Network) -> t.Readouts:
    """Return the readout populations."""
    task = network.task
    start = np.array([network.offsets[r.name] for r in network.readouts], np.int64)
    return t.Readouts(
        start=start,
        stop=start + np.array([r.size for r in network.readouts], np.int64),
        cross_entropy=np.array(
            [task is not None and task.readout == r.name and task.loss is Loss.CROSS_ENTROPY for r in network.readouts], np.uint8
        ),
    )


def discount_of(network: Network, population: str) -> float:
    """Return the discount with which gradients of a target population are filtered, -1 where no third factor acts: without reward, and in
    readouts that are neither policy nor critic."""
    loss, task = network.actor_critic, network.task
    if loss is None or task is None:
        return -1.0
    plain = isinstance(network.population(population).model, LeakyReadout) and population not in (task.readout, loss.critic)
    return -1.0 if plain else loss.discount


def reward(network: Network) -> t.Reward:
    """Return what learning from reward needs."""
    loss, names = network.actor_critic, [r.name for r in network.readouts]
    if loss is None or network.task is None:
        return t.Reward(policy=-1, column=0, critic=0, discount=0.0, critic_weight=0.0)
    policy = names.index(network.task.readout)
    return t.Reward(
        policy=policy,
        column=sum(r.size for r in network.readouts[:policy]),
        critic=network.offsets[loss.critic],
        discount=float(loss.discount),
        critic_weight=float(loss.critic_weight),
    )


def starting_reward(network: Network) -> t.RewardState:
    """Return the state of learning from reward at the start."""
    loss = network.actor_critic
    if loss is None:
        return t.RewardState(reward_ring=np.zeros(0), reward_last=np.zeros(0))
    return t.RewardState(reward_ring=np.zeros(loss.reward_delay_steps + 1), reward_last=np.zeros(4))


def feedback_readout(network: Network) -> Int32Array:
    """Return the readout neurons whose errors hidden neurons hear, in the order of the rows of B."""
    parts = [np.arange(p.size, dtype=np.int32) + np.int32(network.offsets[p.name]) for p in network.feedback_readouts]
    found: Int32Array = np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
    return found


def feedback_sources(
    network: Network, site_of: Mapping[tuple[str, str], int], given: Mapping[tuple[str, str], FloatArray] | None
) -> tuple[Int32Array, FloatArray, list[tuple[int, Projection, int]]]:
    """Return where learning signals come from.

    Returns
    -------
    site : int32 (D,), matrix : float64 (D, n_readout)
        Sites with constant feedback and their rows of B.
    symmetric : list of (first site of a hidden population, projection from it to a readout, row of B of the readout's first neuron)
        B is the current weight.

    Raises
    ------
    InputError
        NC202: shape of feedback.
    """
    n_readout = len(feedback_readout(network))
    site, matrix = [np.zeros(0, np.int32)], [np.zeros((0, n_readout))]
    symmetric: list[tuple[int, Projection, int]] = []
    for (population, name), first in site_of.items():
        rule = network.rule(name)
        if network.task is None or not isinstance(rule, EProp) or isinstance(network.population(population).model, LeakyReadout):
            continue
        size = network.population(population).size
        if given is not None and (name, population) in given:
            b: FloatArray | None = np.asarray(given[name, population], np.float64)
        elif follows_paths(network, rule, population) or (
            isinstance(rule.feedback, ProjectionFeedback) and network.projection(rule.feedback.projection).post != population
        ):
            continue
        else:
            b = realise_feedback(network, rule, population)
        if b is None:
            row = 0
            for readout in network.feedback_readouts:
                symmetric += [(first, p, row) for p in network.synaptic_projections if (p.pre, p.post) == (population, readout.name)]
                row += readout.size
            continue
        if b.shape != (n_readout, size):
            raise InputError.of(
                "NC202", f"feedback of rule '{name}' for '{population}' has shape {b.shape}, expected ({n_readout}, {size})"
            )
        site.append(np.arange(first, first + size, dtype=np.int32))
        matrix.append(b.T)
    return np.concatenate(site), np.ascontiguousarray(np.concatenate(matrix)), symmetric


def _feedback(
    network: Network,
    connections: Mapping[str, Connections],
    placed: Mapping[str, Placed],
    site_of: Mapping[tuple[str, str], int],
    given: Mapping[tuple[str, str], FloatArray] | None,
) -> tuple[t.Feedback, list[tuple[int, Projection, int]]]:
    site, matrix, symmetric = feedback_sources(network, site_of, given)
    rows: list[tuple[npt.NDArray[np.generic], ...]] = []
    for first, projection, row in symmetric:
        ends, where = connections[projection.name], placed[projection.name]
        rows.append((ends.pre + np.int32(first), ends.post + np.int32(row), np.full(len(ends.pre), where.table, np.uint8), where.index))
    kinds = (np.int32, np.int32, np.uint8, np.int64)
    columns = [np.concatenate([np.zeros(0, kind), *(row[i] for row in rows)]).astype(kind) for i, kind in enumerate(kinds)]
    return t.Feedback(feedback_readout(network), site, matrix, *columns), symmetric


def follow_moves(paths: t.Paths, order: IntArray) -> None:
    """Let paths find their weights in an e-prop table whose place i holds what was at place ``order[i]`` before; in place."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    plastic = paths.table == EPROP
    paths.weight_index[plastic] = place[paths.weight_index[plastic]]
