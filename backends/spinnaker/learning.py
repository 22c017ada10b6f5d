"""Learning rules as released sPyNNaker has them: spike-pair STDP, and STDP gated by reward spikes (Neuromodulation). There is no e-prop.

One population obeys one rule: sPyNNaker demands identical rules on all plastic projections into a population. Plastic weights are
unsigned; the sign comes from the receptor. Additive A+ and A- are absolute there (they are written without a factor w_max), ours are
fractions of w_max, so they are multiplied; multiplicative ones are factors in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.backends.spinnaker.neurons import Cell, Findings
from neurocompile.ir import RSTDP, STDP, EProp, Network, Projection
from neurocompile.ir.errors import did_you_mean
from neurocompile.ir.neurons import expand
from neurocompile.ir.realise import Connections

EPROP_AMPLITUDE = 0.01
"""A+ and A- of the rule that stands in for e-prop, as a fraction of w_max."""
EPROP_REWARD_STEPS = 5.0
"""tau_d of the rule that stands in for e-prop, in steps: e-prop's learning signal has no memory of its own."""
EPROP_HEADROOM = 2.0
"""w_max of the rule that stands in for e-prop, in units of the largest initial weight (16-bit weights cannot serve e-prop's wide bounds)."""
MODES = ("r_stdp", "static")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlasticRule:
    """STDP in PyNN's units. ``post``: population whose inputs obey it; times in ms; weights (w_min, w_max, a_*) in PyNN weights."""

    post: str
    tau_plus: float
    tau_minus: float
    a_plus: float
    a_minus: float
    w_min: float
    w_max: float
    multiplicative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulation:
    """A Neuromodulation projection: all of ``pre`` to all of ``post``; receptor ``reward`` or ``punishment``; times in ms."""

    pre: str
    post: str
    receptor: str
    weight: float
    tau_c: float
    tau_d: float
    w_min: float
    w_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What became of the learning rules.

    rules : in order; plastic : projection name -> index in ``rules`` of its non-negative synapses (its others, and other projections, are
    static); modulations; signals : spike sources to add for reward and punishment.
    """

    rules: tuple[PlasticRule, ...] = ()
    plastic: Mapping[str, int]
    modulations: tuple[Modulation, ...] = ()
    signals: tuple[str, ...] = ()


def lower_learning(
    network: Network, connections: Mapping[str, Connections], cells: Mapping[str, Cell], mode: str, findings: Findings
) -> Learning:
    """Turn the rules of all projections into sPyNNaker's, population by population.

    Parameters
    ----------
    mode : str
        What stands in for e-prop: ``r_stdp`` or ``static``.
    """
    if mode not in MODES:
        findings.refuse("NC325", f"option eprop={mode!r} is unknown", did_you_mean(mode, MODES) or "")
    rules: list[PlasticRule] = []
    plastic: dict[str, int] = {}
    modulations: list[Modulation] = []
    signals: list[str] = []
    taken = {p.name for p in network.populations}
    for population in network.populations:
        learning = [p for p in network.synaptic_projections if p.post == population.name and p.learning is not None]
        names = sorted({str(p.learning) for p in learning})
        if not names:
            continue
        if len(names) > 1:
            findings.refuse(
                "NC327",
                f"population '{population.name}': its inputs learn by {len(names)} rules ({', '.join(names)}); on SpiNNaker all plastic "
                "inputs of a population obey one rule",
                "use one rule, or split the population",
            )
            continue
        rule = network.rule(names[0])
        cell = cells[population.name]
        if isinstance(rule, EProp):
            if mode == "static" or cell.record == "v":
                _freeze_eprop(learning, population.name, cell.record == "v", findings)
                continue
            made = _eprop_rule(rule, network, learning, connections, cell)
        else:
            made = _stdp_rule(rule, cell, network.dt, findings)
        plastic.update({p.name: len(rules) for p in learning})
        _negative_weights(learning, connections, findings)
        rules.append(made)
        if isinstance(rule, EProp):
            tau_c = max(network.dt, -network.dt / np.log(rule.kappa)) if rule.kappa > 0 else network.dt
            for receptor in ("reward", "punishment"):
                signal = _free_name(f"{rule.name}_{receptor}", taken)
                if signal not in signals:
                    signals.append(signal)
                tau_d = EPROP_REWARD_STEPS * network.dt
                modulations.append(_modulation(signal, made, receptor, 1.0, tau_c, tau_d))
            _report_eprop(rule, learning, made, cell, findings)
        elif isinstance(rule, RSTDP):
            receptor = "reward" if rule.reward_weight >= 0 else "punishment"
            modulations.append(_modulation(rule.reward, made, receptor, abs(rule.reward_weight), rule.tau_c, rule.tau_d))
            if abs(rule.reward_weight) * 2048 > 65535:
                findings.refuse(
                    "NC328",
                    f"rule '{rule.name}': reward_weight is {rule.reward_weight:g}; SpiNNaker stores it in 16 bits as multiples of 1/2048",
                    "use a reward_weight below 32",
                )
    return Learning(rules=tuple(rules), plastic=plastic, modulations=tuple(modulations), signals=tuple(signals))


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _modulation(pre: str, rule: PlasticRule, receptor: str, weight: float, tau_c: float, tau_d: float) -> Modulation:
    return Modulation(
        pre=pre,
        post=rule.post,
        receptor=receptor,
        weight=weight,
        tau_c=tau_c * 1e3,
        tau_d=tau_d * 1e3,
        w_min=rule.w_min,
        w_max=rule.w_max,
    )


def _stdp_rule(rule: STDP, cell: Cell, dt: float, findings: Findings) -> PlasticRule:
    low, high = rule.weight_bounds
    scale = float(np.max(cell.weight_scale))
    if np.ndim(cell.weight_scale):
        findings.refuse(
            "NC327",
            f"rule '{rule.name}': weight bounds are one number for a population on SpiNNaker, but '{cell.name}' has several tau_syn",
            "give all its neurons the same tau_syn",
        )
    if low < 0:
        findings.approximate(
            "NC326",
            f"rule '{rule.name}'",
            f"weight bounds [{low:g}, {high:g}] reach below 0; plastic weights are unsigned on SpiNNaker",
            f"bounds [0, {max(high, 0.0):g}] for the synapses that are not negative",
            "a plastic synapse cannot change its sign",
        )
    for name in ("tau_plus", "tau_minus"):
        if getattr(rule, name) < dt:
            findings.refuse("NC328", f"rule '{rule.name}': {name} is shorter than a step ({dt * 1e3:g} ms)", "use at least one step")
    w_max = max(high, 0.0) * scale
    factor = 1.0 if rule.multiplicative else w_max
    return PlasticRule(
        post=cell.name,
        tau_plus=rule.tau_plus * 1e3,
        tau_minus=rule.tau_minus * 1e3,
        a_plus=rule.a_plus * factor,
        a_minus=rule.a_minus * factor,
        w_min=max(low, 0.0) * scale,
        w_max=w_max,
        multiplicative=rule.multiplicative,
    )


def _eprop_rule(
    rule: EProp, network: Network, learning: list[Projection], connections: Mapping[str, Connections], cell: Cell
) -> PlasticRule:
    """Return the STDP that stands in for e-prop: e-prop filters pre spikes with the membrane's time constant, so the traces do too."""
    population = network.population(cell.name)
    tau = float(np.mean(np.minimum(expand(population.model.tau_mem, population.size), 1.0)))  # type: ignore[attr-defined]
    largest = max((float(connections[p.name].weight.max(initial=0.0)) for p in learning), default=0.0)
    high = min(max(rule.weight_bounds[1], 0.0), EPROP_HEADROOM * largest) if largest > 0 else max(rule.weight_bounds[1], 0.0)
    w_max = high * float(np.max(cell.weight_scale))
    tau = max(tau, network.dt)
    return PlasticRule(
        post=cell.name,
        tau_plus=tau * 1e3,
        tau_minus=tau * 1e3,
        a_plus=EPROP_AMPLITUDE * w_max,
        a_minus=EPROP_AMPLITUDE * w_max,
        w_min=0.0,
        w_max=w_max,
        multiplicative=False,
    )


def _names(learning: list[Projection]) -> str:
    return ", ".join(f"'{p.name}'" for p in learning)


def _report_eprop(rule: EProp, learning: list[Projection], made: PlasticRule, cell: Cell, findings: Findings) -> None:
    findings.approximate(
        "NC325",
        f"projections {_names(learning)} (rule '{rule.name}')",
        "e-prop: released sPyNNaker 1!7.4.1 has no e-prop synapse",
        "reward-modulated STDP (Neuromodulation) with spikes of "
        f"'{rule.name}_reward' and '{rule.name}_punishment' as third factor; --set eprop=static freezes the weights instead",
        "this is not e-prop: the eligibility is a spike pair instead of surrogate gradient x filtered input, the third factor is one scalar "
        "per neuron that you send as reward and punishment spikes instead of the readout's error times feedback weights, optimizer, firing "
        f"rate regularisation and learning window are dropped; weights stay in [0, {made.w_max / float(np.max(cell.weight_scale)):g}]",
    )


def _freeze_eprop(learning: list[Projection], post: str, readout: bool, findings: Findings) -> None:
    reason = f"'{post}' sends no spikes, so spike-pair STDP has nothing to pair" if readout else "as asked by eprop=static"
    findings.approximate(
        "NC325",
        f"projections {_names(learning)}",
        "e-prop: released sPyNNaker 1!7.4.1 has no e-prop synapse",
        f"static weights ({reason})",
        "these weights do not learn on the machine; train them in the reference engine and build with --weights",
    )


def _negative_weights(learning: list[Projection], connections: Mapping[str, Connections], findings: Findings) -> None:
    for projection in learning:
        negative = int(np.count_nonzero(connections[projection.name].weight < 0))
        if negative:
            findings.approximate(
                "NC326",
                f"projection '{projection.name}'",
                f"{negative} of {len(connections[projection.name].weight)} plastic synapses are negative; plastic weights are unsigned on "
                "SpiNNaker, and the rule would strengthen inhibition where it should weaken it",
                "the negative synapses are static",
                "they keep their weight; the others learn between w_min and w_max",
            )


def rule_rows(learning: Learning) -> list[dict[str, Any]]:
    """Return what the report shows of the rules."""
    modulated = {m.post for m in learning.modulations}
    return [
        {
            "post": rule.post,
            "rule": "reward-modulated STDP (Neuromodulation), not e-prop" if rule.post in modulated else "spike-pair STDP",
            "weight_dependence": "multiplicative" if rule.multiplicative else "additive",
            "projections": sorted(name for name, index in learning.plastic.items() if index == number),
        }
        for number, rule in enumerate(learning.rules)
    ]
