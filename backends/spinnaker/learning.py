"""Learning rules as released sPyNNaker has them: spike-pair STDP, and STDP gated by reward spikes (Neuromodulation). There is no
e-prop; our own cores have it (eprop/), here is what stands in for it if they are not wanted.

One population obeys one rule: sPyNNaker demands identical rules on all plastic projections into a population. Plastic weights are
unsigned; the sign comes from the receptor. Additive A+ and A- are absolute there (they are written without a factor w_max), ours are
fractions of w_max, so they are multiplied; multiplicative ones are factors in both.

**Pairs.** Ours: the arrival of a pre spike (t_pre + d) meets the post spike. sPyNNaker: t_pre meets t_post + d, or with
``backprop_delay=False`` t_post, which is nearer to ours and what is emitted. A lag is then longer by d than ours, so A+ is multiplied by
exp(d / tau_plus) and A- by exp(-d / tau_minus): every pair with a lag above 0 or of -d and less counts as it should. Those between do
not.

**Reward.** dw/dt = c d in seconds here, in milliseconds there: the product of eligibility and reward is multiplied by 10^-3. Eligibility
is a 16-bit number like a weight, reward has 11 fractional bits; the factor is split so that neither loses all its digits. The rule's own
bounds (``AdditiveWeightDependence``) bound the *eligibility* there, from 0 to w_max; those of Neuromodulation bound the weight.
"""

from __future__ import annotations

import math
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
"""w_max of the rule that stands in for e-prop, in largest initial weights (16-bit weights cannot serve e-prop's wide bounds)."""
EPROP_LONGEST_STEPS = 500.0
"""Longest tau_plus of that rule: its lookup table has ln(2048) entries of 2 bytes for each step, and there are two."""
REWARD_ONE = 2048
"""Fixed-point 1 of reward and traces (STDP_FIXED_POINT_ONE)."""
REWARD_SHARE = 8e-3
"""Part of the 10^-3 between seconds and milliseconds that the reward takes; the eligibility takes the rest (1/8)."""
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
    if mode not in (*MODES, "cores"):  # cores: without e-prop it has no meaning
        findings.refuse(
            "NC325",
            f"option eprop={mode!r} is unknown",
            did_you_mean(mode, ("cores", *MODES)) or "use eprop=cores (the default), eprop=r_stdp or eprop=static",
        )
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
        can_learn = any(np.any(connections[p.name].weight >= 0) for p in learning)
        if isinstance(rule, EProp) and (mode == "static" or cell.record == "v" or not can_learn):
            _freeze_eprop(learning, population.name, mode, cell.record == "v", findings)
            continue
        _negative_weights(learning, connections, findings)
        if not can_learn:
            continue  # sPyNNaker refuses rewards without an STDP projection
        if isinstance(rule, EProp):
            made = _eprop_rule(rule, network, learning, connections, cell)
        else:
            made = _stdp_rule(rule, cell, network.dt, _mean_delay(learning, connections), findings)
        plastic.update({p.name: len(rules) for p in learning})
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
            weight = _reward_units(rule) / REWARD_ONE
            low = max(rule.weight_bounds[0], 0.0) * float(np.max(cell.weight_scale))
            modulations.append(_modulation(rule.reward, made, receptor, weight, rule.tau_c, rule.tau_d, low))
    return Learning(rules=tuple(rules), plastic=plastic, modulations=tuple(modulations), signals=tuple(signals))


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _modulation(pre: str, rule: PlasticRule, receptor: str, weight: float, tau_c: float, tau_d: float, w_min: float = 0.0) -> Modulation:
    return Modulation(
        pre=pre,
        post=rule.post,
        receptor=receptor,
        weight=weight,
        tau_c=tau_c * 1e3,
        tau_d=tau_d * 1e3,
        w_min=w_min,
        w_max=rule.w_max,
    )


def _reward_units(rule: RSTDP) -> int:
    """Return what a reward spike adds to the reward trace, in 1/2048."""
    wanted = abs(rule.reward_weight) * REWARD_SHARE * REWARD_ONE
    return max(1, round(wanted)) if wanted > 0 else 0


def table_bytes(rule: PlasticRule, modulation: Modulation | None, dt_ms: float) -> int:
    """Return the local memory of a rule's decay tables: 2 bytes for each step until the decay is below 1/2048 (``get_exp_lut_array``);
    every 16th step for tau_c, every 4th for tau_d."""
    tables = [(rule.tau_plus, 1), (rule.tau_minus, 1)]
    if modulation is not None:
        tables += [(modulation.tau_c, 16), (modulation.tau_d, 4)]
    return sum(4 + 4 * math.ceil(math.log(REWARD_ONE) * tau / dt_ms / every / 2) for tau, every in tables)


def _mean_delay(learning: list[Projection], connections: Mapping[str, Connections]) -> float:
    """Return the mean delay (steps) of the synapses that can learn; 1 if there are none."""
    delays = np.concatenate([connections[p.name].delay[connections[p.name].weight >= 0] for p in learning])
    return float(delays.mean()) if delays.size else 1.0


def _stdp_rule(rule: STDP, cell: Cell, dt: float, delay: float, findings: Findings) -> PlasticRule:
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
    findings.approximate(
        "NC340",
        f"rule '{rule.name}' into '{cell.name}'",
        "a pre spike is paired when it arrives; sPyNNaker pairs it when it is sent",
        f"pairs without the delay, a_plus and a_minus corrected for a delay of {delay:g} steps",
        "exact for pairs in which the post spike comes after the arrival, or not after the pre spike was sent; one in the step of the "
        "arrival, or between sending and arrival, counts as later than it is",
    )
    w_max = max(high, 0.0) * scale
    factor = 1.0 if rule.multiplicative else w_max
    if isinstance(rule, RSTDP):
        factor *= _lower_reward(rule, cell, findings)
    return PlasticRule(
        post=cell.name,
        tau_plus=rule.tau_plus * 1e3,
        tau_minus=rule.tau_minus * 1e3,
        a_plus=rule.a_plus * factor * float(np.exp(delay * dt / rule.tau_plus)),
        a_minus=rule.a_minus * factor * float(np.exp(-delay * dt / rule.tau_minus)),
        w_min=0.0 if isinstance(rule, RSTDP) else max(low, 0.0) * scale,
        w_max=w_max,
        multiplicative=rule.multiplicative,
    )


def _lower_reward(rule: RSTDP, cell: Cell, findings: Findings) -> float:
    """Return the factor of the eligibility; report what reward modulation on SpiNNaker does differently."""
    units = _reward_units(rule)
    if units > REWARD_ONE:
        findings.refuse(
            "NC328",
            f"rule '{rule.name}': reward_weight {rule.reward_weight:g} is {units / REWARD_ONE:g} on the machine, where traces end at 16",
            f"use a reward_weight of at most {1.0 / REWARD_SHARE:g}, and larger a_plus and a_minus",
        )
    if rule.multiplicative:
        findings.refuse(
            "NC327",
            f"rule '{rule.name}': with reward, SpiNNaker's multiplicative dependence is one on the eligibility, not on the weight",
            "use multiplicative: false",
        )
    if rule.a_minus > 0:
        findings.approximate(
            "NC341",
            f"rule '{rule.name}' into '{cell.name}'",
            f"the eligibility may become negative (a_minus is {rule.a_minus:g}); it is unsigned on SpiNNaker",
            "an eligibility from 0 to w_max: post-before-pre pairs take away what pre-before-post pairs brought, no more",
            "reward never weakens a synapse; only punishment (reward_weight < 0) does",
        )
    return 1e-3 * abs(rule.reward_weight) * REWARD_ONE / units if units else 0.125


def _eprop_rule(
    rule: EProp, network: Network, learning: list[Projection], connections: Mapping[str, Connections], cell: Cell
) -> PlasticRule:
    """Return the STDP that stands in for e-prop: e-prop filters pre spikes with the membrane's time constant, so the traces do too."""
    population = network.population(cell.name)
    tau = float(np.mean(np.minimum(expand(population.model.tau_mem, population.size), 1.0)))  # type: ignore[attr-defined]
    largest = max((float(connections[p.name].weight.max(initial=0.0)) for p in learning), default=0.0)
    high = min(max(rule.weight_bounds[1], 0.0), EPROP_HEADROOM * largest) if largest > 0 else max(rule.weight_bounds[1], 0.0)
    w_max = high * float(np.max(cell.weight_scale))
    tau = min(max(tau, network.dt), EPROP_LONGEST_STEPS * network.dt)
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
        "e-prop: released sPyNNaker 1!7.4.1 has no e-prop synapse (our own cores have: --set eprop=cores, the default)",
        "reward-modulated STDP (Neuromodulation) with spikes of "
        f"'{rule.name}_reward' and '{rule.name}_punishment' as third factor; --set eprop=static freezes the weights instead",
        "this is not e-prop: the eligibility is a spike pair, never negative, instead of surrogate gradient x filtered input; the third "
        "factor is one scalar per neuron that you send as reward and punishment spikes instead of the readout's error times feedback "
        "weights; optimizer, firing rate regularisation and learning window are dropped"
        f"; weights stay in [0, {made.w_max / float(np.max(cell.weight_scale)):g}]",
    )


def _freeze_eprop(learning: list[Projection], post: str, mode: str, readout: bool, findings: Findings) -> None:
    reason = "all weights are negative, plastic weights are unsigned"
    if mode == "static":
        reason = "as asked by eprop=static"
    elif readout:
        reason = f"'{post}' sends no spikes, so spike-pair STDP has nothing to pair"
    findings.approximate(
        "NC325",
        f"projections {_names(learning)}",
        "e-prop: released sPyNNaker 1!7.4.1 has no e-prop synapse (our own cores have: --set eprop=cores, the default)",
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
