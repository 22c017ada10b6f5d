"""Network -> what the emitted program builds, and what NEST cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.backends.base import Approximation, BuildOptions, accept, refuse_engine_only
from neurocompile.backends.nest.lowered import NestFeedback, NestNetwork, NestPopulation, NestRule
from neurocompile.backends.nest.neurons import lower_population
from neurocompile.ir import Adam, EProp, LeakyReadout, Loss, Network, PerInterval, Population, Projection
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.errors import Diagnostic, InputError, UnsupportedError
from neurocompile.ir.realise import Connections, realise_feedback

MAX_MODELS = 400
"""Copies of NEST's synapse model, of which repeated synapses of a pair of neurons need one each. NEST 3.10 has room for 511 synapse models
and brings 77."""
_TIC_MS = 1e-3
FLUSH_STEPS = 1000
"""Steps after which a silent neuron lets its synapses drop their history: results stay the same, memory stays bounded."""


def lower(network: Network, connections: Mapping[str, Connections], options: BuildOptions) -> NestNetwork:
    """Express the network in NEST.

    Raises
    ------
    UnsupportedError
        NC344 for learning that only the engine has; NC330 .. NC339: everything that NEST cannot express, in one error.
    InputError
        An option that the target does not have.
    """
    unknown = sorted(options.extra)
    if unknown:
        raise InputError.of("NC339", f"target 'nest' has no option '{unknown[0]}'", help="it takes no --set options")
    refuse_engine_only(network, "nest")
    errors = _time_step(network)
    found: list[Approximation] = []
    populations: list[NestPopulation] = []
    at_once = False
    for population in network.populations:
        lowered, bad, near, early = lower_population(population, network.dt)
        populations.append(lowered)
        errors += bad
        found += near
        at_once = at_once or early
    plastic = {p.name: network.rule(p.learning) for p in network.synaptic_projections if p.learning is not None}
    for name, rule in plastic.items():
        if not isinstance(rule, EProp):
            errors.append(_no_stdp(name, type(rule).__name__))
    eprop = {name: rule for name, rule in plastic.items() if isinstance(rule, EProp)}
    used = list({rule.name: rule for rule in eprop.values()}.values())
    errors += _weights(network, connections, eprop)
    found += _losses(network, used)
    if at_once:
        found += _clock(used)
    feedback: list[NestFeedback] = []
    for index, population in enumerate(network.populations):
        rules = list(
            {
                eprop[p.name].name: eprop[p.name] for p in network.synaptic_projections if p.post == population.name and p.name in eprop
            }.values()
        )
        if not rules:
            continue
        errors += _conflicts(network, population, rules)
        populations[index] = replace(
            populations[index], params=populations[index].params | _learning_params(network, rules[0], populations[index].kind)
        )
        if not isinstance(population.model, LeakyReadout):
            item, near_feedback = _feedback(network, connections, rules[0], population.name, eprop)
            feedback += item
            found += near_feedback
    populations = [replace(p, params=p.params | _flush(network, p, eprop)) for p in populations]
    if errors:
        refused = [Diagnostic(code=a.code, message=f"{a.where}: {a.what}", help=f"nearest thing that works: {a.instead}") for a in found]
        raise UnsupportedError(errors + ([] if options.allow_approximation else refused))
    accepted = accept(found, options)
    names = [rule.name for rule in used]
    return NestNetwork(
        network=network,
        connections=connections,
        problem=None,
        approximations=accepted,
        summary=_summary(populations, network, connections, eprop),
        populations=tuple(populations),
        rules=tuple(NestRule(optimizer=_optimizer(rule), keep_sign=rule.sign_constraint) for rule in used),
        rule_of={name: names.index(rule.name) for name, rule in eprop.items()},
        feedback=tuple(feedback),
        spikes_at_once=at_once,
    )


def _time_step(network: Network) -> list[Diagnostic]:
    tics = network.dt * 1e3 / _TIC_MS
    if round(tics) >= 1 and abs(tics - round(tics)) <= 1e-9 * tics:
        return []
    return [
        Diagnostic(
            code="NC337",
            message=f"dt is {network.dt * 1e3:g} ms; NEST's steps are whole microseconds",
            help="choose a dt that is a multiple of 0.001 ms",
        )
    ]


def _no_stdp(name: str, rule: str) -> Diagnostic:
    return Diagnostic(
        code="NC334",
        message=f"projection '{name}' learns by {rule}; NEST's stdp_synapse and stdp_dopamine_synapse pair spikes "
        "after a dendritic delay, and its e-prop neurons keep no STDP trace",
        help="nearest thing that works: e-prop, or target spinnaker",
    )


def _weights(network: Network, connections: Mapping[str, Connections], eprop: Mapping[str, EProp]) -> list[Diagnostic]:
    errors: list[Diagnostic] = []
    pairs: dict[tuple[str, str], list[IntArray]] = {}
    for name, rule in eprop.items():
        weight, (low, high), delay = connections[name].weight, rule.weight_bounds, connections[name].delay
        if delay.size and int(delay.max()) > 1:
            errors.append(
                Diagnostic(
                    code="NC342",
                    message=f"projection '{name}' learns by e-prop and its synapse {int(delay.argmax())} has a delay of {int(delay.max())} "
                    "steps; NEST's e-prop synapses have a delay of exactly one",
                    help="nearest thing that works: a delay of one step; the reference engine trains longer ones",
                )
            )
        bad = np.flatnonzero((weight < low) | (weight > high))
        if bad.size:
            errors.append(
                Diagnostic(
                    code="NC336",
                    message=f"projection '{name}': weight {int(bad[0])} is {float(weight[bad[0]]):g}, outside the rule's weight_bounds "
                    f"[{low:g}, {high:g}]; NEST refuses that",
                    help="widen weight_bounds, or bring the weights within them",
                )
            )
        projection = network.projection(name)
        first, last = network.offsets[projection.pre], network.offsets[projection.post]
        pair = (connections[name].pre.astype(np.int64) + first) * network.n_neurons + connections[name].post + last
        sides = {"plus": weight >= 0.0, "minus": weight < 0.0} if rule.sign_constraint else {"": np.ones(weight.size, np.bool_)}
        for side, members in sides.items():
            pairs.setdefault((rule.name, side), []).append(pair[members])
    copies = {key: int(np.unique(np.concatenate(lists), return_counts=True)[1].max(initial=0)) for key, lists in pairs.items()}
    if sum(copies.values()) > MAX_MODELS:
        (rule_name, _), most = max(copies.items(), key=lambda item: item[1])
        errors.append(
            Diagnostic(
                code="NC338",
                message=f"rule '{rule_name}': {most} plastic synapses lead from one neuron to another; each needs a copy of NEST's "
                f"synapse model; the network needs {sum(copies.values())} copies, NEST has room for {MAX_MODELS}",
                help="merge repeated synapses",
            )
        )
    return errors


def _losses(network: Network, used: list[EProp]) -> list[Approximation]:
    found: list[Approximation] = []
    if used and network.task is not None and network.task.loss is Loss.CROSS_ENTROPY:
        found.append(
            Approximation(
                code="NC333",
                where=f"task of readout '{network.task.readout}'",
                what="loss cross_entropy",
                instead="mean_squared_error against the same targets",
                effect="NEST's eprop_readout has no softmax: the error is y - y* instead of softmax(y) - y*",
            )
        )
    return found


def counts_steps(rule: EProp) -> bool:
    """Return whether the weights depend on the absolute number of a step, not only on distances: Adam's idle steps, update intervals."""
    return isinstance(rule.optimizer, Adam) or (isinstance(rule.update, PerInterval) and rule.update.steps > 1)


def _clock(used: list[EProp]) -> list[Approximation]:
    """A spike in step 0 needs NEST's clock shifted by one step."""
    return [
        Approximation(
            code="NC333",
            where=f"rule '{rule.name}'",
            what="adam or update intervals, while the bias of a neuron makes it spike in step 0",
            instead="the same with the optimizer's clock one step ahead",
            effect="NEST's e-prop synapses do not survive a spike in its first step, so everything happens one step later",
        )
        for rule in used
        if counts_steps(rule)
    ]


def _conflicts(network: Network, population: Population, rules: list[EProp]) -> list[Diagnostic]:
    """NEST keeps cutoff, surrogate, filters, regularisation and learning signal with the target neuron: its rules must agree."""
    readout = isinstance(population.model, LeakyReadout)
    names = ("trace_cutoff_steps",) if readout else ("trace_cutoff_steps", "surrogate", "kappa", "kappa_reg", "regularization")
    differ = [(rule, name) for rule in rules[1:] for name in names if getattr(rule, name) != getattr(rules[0], name)]
    if not readout and network.task is not None:
        matrices = [realise_feedback(network, rule, population.name) for rule in rules]
        differ += [(rule, "feedback") for rule, matrix in zip(rules[1:], matrices[1:], strict=True) if not _equal(matrices[0], matrix)]
    return [
        Diagnostic(
            code="NC335",
            message=f"population '{population.name}' learns by the rules '{rules[0].name}' and '{rule.name}', which differ in {name}; "
            "in NEST that belongs to the neuron",
            help="use one rule for all projections into a population",
        )
        for rule, name in differ
    ]


def _equal(a: FloatArray | None, b: FloatArray | None) -> bool:
    """Whether two feedback matrices are the same; None: symmetric."""
    return a is b if a is None or b is None else bool(np.array_equal(a, b))


def _learning_params(network: Network, rule: EProp, kind: str) -> dict[str, float | str | FloatArray]:
    params: dict[str, float | str | FloatArray] = {}
    if rule.trace_cutoff_steps is not None:
        params["eprop_isi_trace_cutoff"] = rule.trace_cutoff_steps * (network.dt * 1e3)
    if kind == "leaky_readout":
        return params
    params |= {
        "kappa": rule.kappa,
        "kappa_reg": rule.kappa_reg,
        "surrogate_gradient_function": rule.surrogate.kind.value,
        "surrogate_gradient_height": rule.surrogate.height,
        "surrogate_gradient_width": rule.surrogate.width,
    }
    if rule.regularization is not None:
        params |= {"c_reg": rule.regularization.strength, "f_target": rule.regularization.rate}
    return params


def _flush(network: Network, population: NestPopulation, eprop: Mapping[str, EProp]) -> dict[str, float | str | FloatArray]:
    """Return when a silent neuron lets its synapses drop their history.

    With ``each_step`` NEST's flush changes the weights before they are transmitted, so those neurons' synapses keep their whole history.
    """
    rules = [eprop[p.name] for p in network.synaptic_projections if p.pre == population.name and p.name in eprop]
    if not rules or any(rule.optimizer.each_step for rule in rules):
        return {}
    return {"flush_event_send_interval": FLUSH_STEPS * (network.dt * 1e3)}


def _optimizer(rule: EProp) -> dict[str, Any]:
    optimizer = rule.optimizer
    settings: dict[str, Any] = {
        "type": "adam" if isinstance(optimizer, Adam) else "gradient_descent",
        "batch_size": rule.update.steps if isinstance(rule.update, PerInterval) else 1,
        "eta": optimizer.learning_rate,
        "optimize_each_step": optimizer.each_step,
        "Wmin": rule.weight_bounds[0],
        "Wmax": rule.weight_bounds[1],
    }
    if isinstance(optimizer, Adam):
        settings |= {"beta_1": optimizer.beta_1, "beta_2": optimizer.beta_2, "epsilon": optimizer.epsilon}
    return settings


def _feedback(
    network: Network, connections: Mapping[str, Connections], rule: EProp, hidden: str, eprop: Mapping[str, EProp]
) -> tuple[list[NestFeedback], list[Approximation]]:
    if network.task is None:
        return [], []
    readout = network.task.readout
    matrix = realise_feedback(network, rule, hidden)
    found: list[Approximation] = []
    if matrix is None:
        matrix = np.zeros((network.population(readout).size, network.population(hidden).size))
        changing = False
        for projection in network.synaptic_projections:
            if projection.pre == hidden and projection.post == readout:
                synapses = connections[projection.name]
                np.add.at(matrix, (synapses.post, synapses.pre), synapses.weight.astype(np.float64))
                changing = changing or _changes(projection, eprop)
        if changing:
            found.append(
                Approximation(
                    code="NC333",
                    where=f"rule '{rule.name}', population '{hidden}'",
                    what="symmetric feedback, which follows the readout's weights as they change",
                    instead="feedback fixed at the initial readout weights",
                    effect="learning signals use the weights of step 0; feedback: random or a file is exact",
                )
            )
    post, pre = np.nonzero(matrix.T)
    index = {p.name: i for i, p in enumerate(network.populations)}
    return [
        NestFeedback(
            pre_population=index[readout],
            post_population=index[hidden],
            pre=pre.astype(np.int32),
            post=post.astype(np.int32),
            weight=np.ascontiguousarray(matrix[pre, post]),
        )
    ], found


def _changes(projection: Projection, eprop: Mapping[str, EProp]) -> bool:
    return projection.name in eprop and eprop[projection.name].optimizer.learning_rate > 0.0


def _summary(
    populations: list[NestPopulation], network: Network, connections: Mapping[str, Connections], eprop: Mapping[str, EProp]
) -> dict[str, Any]:
    n_plastic = sum(len(connections[name].pre) for name in eprop)
    n_synapses = sum(len(connections[p.name].pre) for p in network.synaptic_projections)
    adam = any(isinstance(rule.optimizer, Adam) for rule in eprop.values())
    return {
        "nodes": {p.name: {"model": p.model, "size": p.size} for p in populations},
        "n_synapses": n_synapses,
        "n_plastic_synapses": n_plastic,
        # docs/nest.md: measured per synapse, NEST 3.10
        "estimated_plastic_synapse_mb": round(n_plastic * (214 if adam else 180) / 1e6, 3),
    }
