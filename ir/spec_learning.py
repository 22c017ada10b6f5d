"""The file format: learning rules (:mod:`neurocompile.ir.spec`)."""

from __future__ import annotations

from typing import Any

from neurocompile.ir.feedback import AdaptiveFeedback, ChainFeedback, ProjectionFeedback, SymmetricFeedback
from neurocompile.ir.learning import (
    Adam,
    GradientDescent,
    Interval2020,
    KappaLearning,
    KappaPer,
    PerEvent,
    PerInterval,
    Regularization,
    Rewiring,
    Surrogate,
    SurrogateKind,
)
from neurocompile.ir.spec_build import ManyValues, RandomWeights, build_feedback_file, construct, maker, tuples
from neurocompile.ir.spec_kinds import MEMBRANE, PER_MEMBRANE, RATE, TIME, WINDOW
from neurocompile.ir.spec_sections import Discriminated, Field, Parsed, Section, Tagged
from neurocompile.ir.spec_types import Boolean, Choice, List, Number, Path_, Quantity, Reading, Steps, Text
from neurocompile.ir.units import Dimension

_LEARNING_RATE = Field(key="learning_rate", kind=Number(low=0), doc="Step size, >= 0.", default="1e-4")


def _surrogate(kind: SurrogateKind) -> Section:
    return Section(
        name=kind.value,
        doc=f"Surrogate gradient {kind.value}.",
        build=maker(Surrogate, kind=kind),
        fields=(
            Field(
                key="height", kind=PER_MEMBRANE, doc="Height at the threshold, > 0, per membrane unit.", default="0.3", unit_default=True
            ),
            Field(key="width", kind=MEMBRANE, doc="Width, > 0, membrane units.", default="1.0", unit_default=True),
        ),
    )


_OPTIMIZER = Tagged(
    what="optimizer",
    choices={
        "gradient_descent": Section(
            name="gradient_descent",
            doc="w -= learning_rate * gradient.",
            build=maker(GradientDescent),
            fields=(
                _LEARNING_RATE,
                Field(
                    key="each_step", kind=Boolean(), doc="Apply at every step of the replayed history, not once an event.", default="false"
                ),
            ),
        ),
        "adam": Section(
            name="adam",
            doc="Adam as NEST computes it.",
            build=maker(Adam),
            fields=(
                _LEARNING_RATE,
                Field(key="beta_1", kind=Number(low=0, high=1, open_high=True), doc="In [0, 1).", default="0.9"),
                Field(key="beta_2", kind=Number(low=0, high=1, open_high=True), doc="In [0, 1).", default="0.999"),
                Field(
                    key="epsilon",
                    kind=Number(low=0, open_low=True),
                    doc="> 0: a synapse that has seen no gradient yet divides 0 by it.",
                    default="1e-7",
                ),
                Field(
                    key="each_step", kind=Boolean(), doc="Apply at every step of the replayed history, not once an event.", default="true"
                ),
            ),
        ),
    },
)
_SYMMETRIC = Section(
    name="symmetric", doc="The current readout weights (of a chain: of every synapse).", fields=(), build=maker(SymmetricFeedback)
)
_DRAWN = ManyValues(inner=Quantity(dimension=Dimension.NUMBER), wrap=True)
_RANDOM = RandomWeights(spec=_DRAWN, doc="Drawn once: a number or a distribution.")
_ADAPTIVE = RandomWeights(
    spec=_DRAWN,
    build=AdaptiveFeedback,
    doc="Drawn once, then changed as the forward weights are, which align with it (Kolen-Pollack); their rule needs weight_decay > 0.",
)
_FEEDBACK = Tagged(
    what="feedback",
    choices={
        "symmetric": _SYMMETRIC,
        "random": _RANDOM,
        "adaptive": _ADAPTIVE,
        "chain": Section(
            name="chain",
            doc="Layer by layer: populations that do not reach the readout hear the ones that are one projection nearer to it.",
            build=maker(ChainFeedback),
            fields=(
                Field(
                    key="weights",
                    kind=Tagged(what="feedback", choices={"symmetric": _SYMMETRIC, "random": _RANDOM, "adaptive": _ADAPTIVE}),
                    doc="symmetric, {random: SPEC} or {adaptive: SPEC}, for every synapse on the way.",
                    default="symmetric",
                ),
            ),
        ),
        "projection": Section(
            name="projection",
            doc="Initial weights of a projection from the readout to the hidden population.",
            positional=True,
            build=maker(ProjectionFeedback),
            fields=(Field(key="projection", kind=Text(what="the name of a projection"), doc="Name of the projection.", required=True),),
        ),
    },
    file=Section(
        name="feedback file",
        doc="pre = readout neuron, post = hidden neuron, weight.",
        build=build_feedback_file,
        fields=(Field(key="file", kind=Path_(), doc="Path, relative to this file.", required=True),),
    ),
)
_UPDATE = Tagged(
    what="update policy",
    choices={
        "per_event": Section(name="per_event", doc="At every presynaptic spike.", fields=(), build=maker(PerEvent)),
        "per_interval": Section(
            name="per_interval",
            doc="Gradients are averaged over intervals and applied at the first spike after one.",
            positional=True,
            build=maker(PerInterval),
            fields=(Field(key="steps", kind=Steps(as_int=True), doc="Length of an interval: a time or a number of steps.", required=True),),
        ),
        "interval_2020": Section(
            name="interval_2020",
            doc="The original formulation of e-prop with update intervals (docs/eprop.md); one for all rules of a network.",
            positional=True,
            build=maker(Interval2020),
            fields=(
                Field(
                    key="interval",
                    kind=Steps(as_int=True),
                    doc="Length of an update interval, >= 2 steps: a time or a number of steps.",
                    required=True,
                    attr="interval_steps",
                ),
                Field(
                    key="learning_window",
                    kind=Steps(as_int=True),
                    doc="Errors count in the last part of an interval only, of this length (a time or a number of steps).",
                    default="the whole interval",
                    attr="learning_window_steps",
                ),
                Field(key="reset_neurons", kind=Boolean(), doc="Membranes and adaptation start anew with each interval.", default="true"),
                Field(key="average_gradient", kind=Boolean(), doc="Gradients are divided by the learning window.", default="false"),
                Field(
                    key="regular_spike_arrival",
                    kind=Boolean(),
                    doc="A spike adds its weight to the membrane; false: its weight times (1 - alpha), as in the paper.",
                    default="true",
                ),
                Field(
                    key="batch_size",
                    kind=Number(whole=True, low=1),
                    doc="Intervals over whose mean gradient an optimizer steps, >= 1.",
                    default="1",
                ),
            ),
        ),
    },
)


def _kappa_learning(parsed: Parsed, ctx: Reading) -> Any:
    parsed.values = tuples(parsed.values)
    return construct(KappaLearning, parsed, ctx)


_RULE_BOUNDS = "[low, high] of the weight, low <= high."
_BOUNDS_PAIR = List(item=MEMBRANE, length=2, what="[low, high]")
_EPROP = (
    Field(
        key="surrogate",
        kind=Tagged(what="surrogate", choices={k.value: _surrogate(k) for k in SurrogateKind}),
        doc="Surrogate gradient: {KIND: {height, width}}.",
        default="{piecewise_linear: {height: 0.3, width: 1.0}}",
        unit_default=True,
    ),
    Field(
        key="kappa", kind=Number(low=0, high=1, open_high=True), doc="Filter of the eligibility trace, per step, in [0, 1).", default="0.97"
    ),
    Field(
        key="kappa_reg",
        kind=Number(low=0, high=1, open_high=True),
        doc="Filter of the firing rate and its trace, per step, in [0, 1).",
        default="0.97",
    ),
    Field(
        key="regularization",
        kind=Section(
            name="regularization",
            doc="Firing-rate regularisation.",
            build=maker(Regularization),
            fields=(
                Field(key="strength", kind=Number(low=0), doc="c_reg, >= 0.", required=True),
                Field(key="rate", kind=RATE, doc="Rate to be reached, >= 0, e.g. 10 Hz.", required=True),
            ),
        ),
        doc="Firing-rate regularisation: {strength, rate}.",
        default="none",
    ),
    Field(
        key="feedback",
        kind=_FEEDBACK,
        doc="symmetric, chain, {random: SPEC}, {adaptive: SPEC}, {file: feedback.npz} or {projection: NAME}.",
        default="symmetric",
    ),
    Field(key="optimizer", kind=_OPTIMIZER, doc="gradient_descent or adam.", default="{gradient_descent: {learning_rate: 1e-4}}"),
    Field(
        key="update",
        kind=_UPDATE,
        doc="per_event, {per_interval: 100 ms} or {interval_2020: {interval: 1000 ms, ...}}.",
        default="per_event",
    ),
    Field(key="weight_bounds", kind=_BOUNDS_PAIR, doc=_RULE_BOUNDS, default="[-100, 100]"),
    Field(key="sign_constraint", kind=Boolean(), doc="Weights never change their sign (Dale's law).", default="false"),
    Field(
        key="trace_cutoff",
        kind=Steps(as_int=True),
        doc="Traces stop being integrated so long after a presynaptic spike (a time or a number of steps).",
        default="never",
        attr="trace_cutoff_steps",
    ),
    WINDOW,
    Field(
        key="weight_decay",
        kind=Number(low=0, high=1, open_high=True),
        doc="Share of the weight that is lost in every learning step, in [0, 1).",
        default="0",
    ),
    Field(
        key="kappa_learning",
        kind=Section(
            name="kappa_learning",
            doc="Adaptive eligibility decay: kappa is learnt, from `kappa` on.",
            build=_kappa_learning,
            fields=(
                Field(
                    key="learning_rate",
                    kind=Number(low=0),
                    doc="Largest step of log(1 - kappa) at one event, >= 0; e.g. 0.01.",
                    required=True,
                ),
                Field(
                    key="per",
                    kind=Choice(values={v.value: v for v in KappaPer}, what="owner of kappa"),
                    doc="Whether every synapse or every target neuron has its own.",
                    default="synapse",
                ),
                Field(
                    key="bounds",
                    kind=List(item=Number(low=0, high=1, open_high=True), length=2, what="[low, high]"),
                    doc="[low, high] of kappa, 0 <= low <= high < 1.",
                    default="[0, 0.995]",
                ),
            ),
        ),
        doc="Adaptive eligibility decay: {learning_rate, per, bounds}.",
        default="none",
    ),
    Field(
        key="rewiring",
        kind=Section(
            name="rewiring",
            doc="DEEP R: synapses that reach weight 0 move to other pairs, their number stays; needs sign_constraint.",
            build=maker(Rewiring),
            fields=(
                Field(
                    key="every",
                    kind=Steps(as_int=True),
                    doc="Time between two rewirings: a time or a number of steps.",
                    required=True,
                    attr="every_steps",
                ),
                Field(key="l1", kind=MEMBRANE, doc="Pull of the weight towards 0 in every step, >= 0.", default="0"),
                Field(key="noise", kind=MEMBRANE, doc="Standard deviation of the weight's random walk in one step, >= 0.", default="0"),
            ),
        ),
        doc="DEEP R: {every, l1, noise}.",
        default="none",
    ),
)
_STDP = (
    Field(key="tau_plus", kind=TIME, doc="Time constant of the presynaptic trace, > 0.", default="20 ms"),
    Field(key="tau_minus", kind=TIME, doc="Time constant of the postsynaptic trace, > 0.", default="20 ms"),
    Field(key="a_plus", kind=Number(low=0), doc="Rise at a postsynaptic spike, >= 0.", default="0.01"),
    Field(key="a_minus", kind=Number(low=0), doc="Fall at a presynaptic spike, >= 0.", default="0.012"),
    Field(key="weight_bounds", kind=_BOUNDS_PAIR, doc=_RULE_BOUNDS, default="[0, 1]", unit_default=True),
    Field(key="multiplicative", kind=Boolean(), doc="Multiplicative, not additive, weight dependence.", default="false"),
)
RULE_FIELDS: dict[str, tuple[Field, ...]] = {
    "eprop": _EPROP,
    "stdp": _STDP,
    "r_stdp": (
        *_STDP,
        Field(key="reward", kind=Text(what="the name of a population"), doc="Population whose spikes are the reward.", required=True),
        Field(key="tau_c", kind=TIME, doc="Time constant of the eligibility trace, > 0.", default="1 s"),
        Field(key="tau_d", kind=TIME, doc="Time constant of the reward trace, > 0.", default="200 ms"),
        Field(key="reward_weight", kind=Number(), doc="What one reward spike adds to the reward trace.", default="1.0"),
    ),
}
_RULE_DOC = {
    "eprop": "Event-driven e-prop, with the recurrences of NEST (docs/eprop.md).",
    "stdp": "Pair-based spike-timing-dependent plasticity.",
    "r_stdp": "Reward-modulated STDP (not e-prop).",
}


def _rule(name: str) -> Section:
    rule = Field(key="rule", kind=Choice(values={name: name}, what="rule"), doc="Kind of the rule.", required=True)
    return Section(name=f"{name} rule", doc=_RULE_DOC[name], fields=(rule, *RULE_FIELDS[name]))


RULE = Discriminated(key="rule", what="rule", sections={n: _rule(n) for n in RULE_FIELDS})
