"""The file format as a table: sections, keys, kinds, defaults, descriptions. The YAML reader and the JSON Schema are both made from it.

Where the dataclasses of :mod:`neurocompile.ir` have another name for a key, ``attr`` says so. Descriptions appear in editors (hover),
in error messages (help) and in docs/yaml.md.
"""

from __future__ import annotations

from typing import Any

from neurocompile.ir.connectivity import AllToAll, DistanceDependent, FixedInDegree, FixedOutDegree, FixedProbability, OneToOne
from neurocompile.ir.feedback import AdaptiveFeedback, ChainFeedback, ProjectionFeedback, SymmetricFeedback
from neurocompile.ir.hints import MappingHints, Neurons, OnChip
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
from neurocompile.ir.neurons import Integration, Reset
from neurocompile.ir.spec_build import (
    ManyValues,
    Positions,
    RandomWeights,
    build_distance,
    build_edge_file,
    build_feedback_file,
    construct,
    maker,
    tuples,
)
from neurocompile.ir.spec_sections import AnyList, Discriminated, Field, NamedMap, Options, Parsed, Section, Tagged
from neurocompile.ir.spec_types import (
    BAD,
    Boolean,
    Choice,
    Kind,
    List,
    Number,
    Path_,
    Quantity,
    Reading,
    Steps,
    Text,
)
from neurocompile.ir.task import ActorCritic, Loss
from neurocompile.ir.units import UNITS, Dimension

TIME, RATE = Quantity(dimension=Dimension.TIME), Quantity(dimension=Dimension.FREQUENCY)
MEMBRANE, PER_MEMBRANE = Quantity(dimension=Dimension.MEMBRANE), Quantity(dimension=Dimension.PER_MEMBRANE)
STEPS = Steps()
TIMES, RATES, MEMBRANES = (ManyValues(inner=k, wrap=False) for k in (TIME, RATE, MEMBRANE))
WEIGHTS, DELAYS = ManyValues(inner=MEMBRANE, wrap=True), ManyValues(inner=STEPS, wrap=True)

# --- populations -----------------------------------------------------------------------------------------------------------
_TAU_MEM = Field(key="tau_mem", kind=TIMES, doc="Membrane time constant, > 0; .inf: no leak.", required=True)
_V_LEAK = Field(key="v_leak", kind=MEMBRANES, doc="Resting value of the membrane.", default="0")
_BIAS = Field(key="bias", kind=MEMBRANES, doc="Input added to the membrane in every step.", default="0")
_V_MIN = Field(key="v_min", kind=MEMBRANES, doc="Lower bound of the membrane.", default="-.inf")
_I_INIT = Field(key="i_init", kind=MEMBRANES, doc="Synaptic current at the start.", default="0")
_INTEGRATION = Field(
    key="integration",
    kind=Choice(values={i.value: i for i in Integration}, what="integration"),
    doc="How a time constant becomes a decay per step: exact (exp(-dt/tau)) or euler (1 - dt/tau).",
    default="exact",
)
_LIF = (
    _TAU_MEM,
    Field(key="v_threshold", kind=MEMBRANES, doc="A spike is sent when v >= v_threshold.", required=True),
    _V_LEAK,
    Field(key="v_reset", kind=MEMBRANES, doc="Value after a spike (reset: to_value only).", default="0"),
    _BIAS,
    _V_MIN,
    Field(key="t_ref", kind=TIMES, doc="Refractory time, >= 0.", default="0 ms"),
    Field(
        key="reset",
        kind=Choice(values={r.value: r for r in Reset}, what="reset"),
        doc="subtract: v -= v_threshold; to_value: v = v_reset, clamped while refractory.",
        default="subtract",
    ),
    _INTEGRATION,
)
MODEL_PARAMS: dict[str, tuple[Field, ...]] = {
    "spike_source": (Field(key="rate", kind=RATES, doc="Poisson rate, >= 0, where no spikes are given.", default="0 Hz"),),
    "lif": _LIF,
    "alif": (
        *_LIF,
        Field(key="adapt_beta", kind=MEMBRANES, doc="Rise of the threshold per spike, >= 0.", required=True),
        Field(key="adapt_tau", kind=TIMES, doc="Time constant of the adaptation, > 0.", required=True),
    ),
    "cuba_lif": (*_LIF, Field(key="tau_syn", kind=TIMES, doc="Synaptic time constant, > 0.", required=True), _I_INIT),
    "leaky_readout": (
        _TAU_MEM,
        _V_LEAK,
        _BIAS,
        _V_MIN,
        Field(key="tau_syn", kind=TIMES, doc="Synaptic time constant, >= 0; 0: delta input.", default="0 ms"),
        _I_INIT,
        _INTEGRATION,
    ),
}
_MODEL_DOC = {
    "spike_source": "Neurons that repeat given spikes (input, data set) or fire at a rate.",
    "lif": "Leaky integrate-and-fire with delta input.",
    "alif": "Leaky integrate-and-fire with an adaptive threshold.",
    "cuba_lif": "Current-based leaky integrate-and-fire.",
    "leaky_readout": "Leaky integrator without spikes: an output of the network.",
}


def _population(model: str) -> Section:
    params = Section(name=f"{model} params", fields=MODEL_PARAMS[model], doc=f"Parameters of {model}: one value, or one per neuron.")
    needed = ", ".join(f.key for f in params.required)
    return Section(
        name=f"{model} population",
        doc=_MODEL_DOC[model],
        fields=(
            Field(key="model", kind=Choice(values={model: model}, what="model"), doc="Neuron model.", required=True),
            Field(key="size", kind=Number(whole=True, low=1), doc="Number of neurons, >= 1.", required=True),
            Field(key="params", kind=params, doc=f"Parameters{f': {needed} are needed' if needed else ''}.", required=bool(needed)),
            Field(key="positions", kind=Positions(), doc="Places of the neurons, for distance_dependent connectivity."),
        ),
    )


POPULATION = Discriminated(key="model", what="model", sections={m: _population(m) for m in MODEL_PARAMS})

# --- projections -----------------------------------------------------------------------------------------------------------
_AUTAPSES = Field(key="allow_autapses", kind=Boolean(), doc="Whether a neuron may connect to itself (within a population).", default="true")
_PROBABILITY = Field(key="probability", kind=Number(low=0, high=1), doc="In [0, 1].", required=True)
_DEGREE = Field(key="degree", kind=Number(whole=True, low=0), doc="Number of different partners, >= 0.", required=True)
CONNECT = Tagged(
    what="connect rule",
    choices={
        "all_to_all": Section(name="all_to_all", doc="Every pair.", fields=(_AUTAPSES,), build=maker(AllToAll)),
        "one_to_one": Section(name="one_to_one", doc="Neuron i to neuron i.", fields=(), build=maker(OneToOne)),
        "fixed_probability": Section(
            name="fixed_probability",
            doc="Each pair independently with a probability.",
            positional=True,
            fields=(_PROBABILITY, _AUTAPSES),
            build=maker(FixedProbability),
        ),
        "fixed_indegree": Section(
            name="fixed_indegree",
            doc="Each target gets `degree` different sources.",
            positional=True,
            fields=(_DEGREE, _AUTAPSES),
            build=maker(FixedInDegree),
        ),
        "fixed_outdegree": Section(
            name="fixed_outdegree",
            doc="Each source gets `degree` different targets.",
            positional=True,
            fields=(_DEGREE, _AUTAPSES),
            build=maker(FixedOutDegree),
        ),
        "distance_dependent": Section(
            name="distance_dependent",
            doc="Each pair with a probability that falls with its distance.",
            build=build_distance(DistanceDependent),
            fields=(
                Field(key="probability", kind=Number(low=0, high=1), doc="At distance 0, in [0, 1].", required=True),
                Field(key="scale", kind=Number(low=0, open_low=True), doc="Same unit as the positions, > 0.", required=True),
                Field(
                    key="profile",
                    kind=Choice(values={"gaussian": "gaussian", "exponential": "exponential"}, what="profile"),
                    doc="gaussian: p exp(-d^2 / (2 scale^2)); exponential: p exp(-d / scale).",
                    default="gaussian",
                ),
                Field(
                    key="radius",
                    kind=Number(low=0, open_low=True),
                    doc="No connection beyond.",
                    default="4 scale (gaussian) or 8 scale (exponential)",
                ),
                Field(
                    key="periodic",
                    kind=List(item=Number(low=0, open_low=True), what="a list of sizes"),
                    doc="Size of the torus in each dimension.",
                ),
                _AUTAPSES,
            ),
        ),
    },
    file=Section(
        name="connect file",
        doc="Synapses from a file, in its order: .npz (pre, post, weight, delay in steps; or scipy sparse, rows = pre) or CSV.",
        build=build_edge_file,
        fields=(
            Field(key="file", kind=Path_(), doc="Path, relative to this file.", required=True),
            Field(
                key="unit", kind=Choice(values={u: u for u in UNITS[Dimension.MEMBRANE]}, what="unit"), doc="Unit of the file's weights."
            ),
        ),
    ),
)
PROJECTION = Section(
    name="projection",
    doc="Synapses from one population to another.",
    fields=(
        Field(key="name", kind=Text(what="a name"), doc="Unique name.", default="PRE->POST"),
        Field(key="pre", kind=Text(what="the name of a population"), doc="Population that sends.", required=True),
        Field(key="post", kind=Text(what="the name of a population"), doc="Population that receives.", required=True),
        Field(key="connect", kind=CONNECT, doc="Which neurons are connected.", required=True),
        Field(key="weight", kind=WEIGHTS, doc="What a spike adds to the membrane; unused where a file brings weights.", default="1.0"),
        Field(key="delay", kind=DELAYS, doc="1 .. 255 steps: a time that is a multiple of dt, or a plain number of steps.", default="1"),
        Field(key="learning", kind=Text(what="the name of a learning rule"), doc="Name of a rule under `learning`; absent: static."),
    ),
)

# --- learning --------------------------------------------------------------------------------------------------------------
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
_WINDOW = Field(
    key="learning_window",
    kind=Steps(as_int=True),
    doc="Errors count in the last part of a sample only, of this length (a time or a number of steps).",
    default="the whole sample",
    attr="learning_window_steps",
)
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
    _WINDOW,
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

# --- task ------------------------------------------------------------------------------------------------------------------
DATA: dict[str, Kind] = {"digits": Options(name="digits"), "nmnist": Options(name="nmnist", needs_path=True)}
LOSS = Tagged(
    what="loss",
    choices={
        "mean_squared_error": Section(
            name="mean_squared_error", doc="E = 1/2 sum (y - y*)^2.", fields=(), build=lambda *_: Loss.MEAN_SQUARED_ERROR
        ),
        "cross_entropy": Section(name="cross_entropy", doc="E = -sum y* log softmax(y).", fields=(), build=lambda *_: Loss.CROSS_ENTROPY),
        "actor_critic": Section(
            name="actor_critic",
            doc="The readout is a policy, whose actions are drawn from softmax(y) and rewarded by the signal (docs/eprop.md).",
            build=maker(ActorCritic),
            fields=(
                Field(key="critic", kind=Text(what="the name of a population"), doc="A leaky_readout population of size 1.", required=True),
                Field(key="discount", kind=Number(low=0, high=1, open_high=True), doc="Of reward, per step, in [0, 1).", default="0.99"),
                Field(key="critic_weight", kind=Number(low=0), doc="Weight of the critic's error, >= 0.", default="0.5"),
                Field(
                    key="reward_delay",
                    kind=Steps(as_int=True),
                    doc="Time from an action to its reward: a time or a number of steps, >= 0.",
                    default="0",
                    attr="reward_delay_steps",
                ),
            ),
        ),
    },
)
TASK = Section(
    name="task",
    doc="What the network is for.",
    fields=(
        Field(key="readout", kind=Text(what="the name of a population"), doc="A leaky_readout population.", required=True),
        Field(
            key="loss",
            kind=LOSS,
            doc="mean_squared_error, cross_entropy, or {actor_critic: {critic: NAME, ...}}: learning from reward.",
            default="mean_squared_error",
        ),
        Field(key="input", kind=Text(what="the name of a population"), doc="Spike source that the data drives.", default="the only one"),
        Field(
            key="data", kind=Tagged(what="data set", choices=DATA), doc="Data set: digits, or {nmnist: {path: ..., ...}} (docs/tasks.md)."
        ),
        Field(
            key="sample",
            kind=Steps(as_int=True),
            doc="Length of a sample: a time or a number of steps.",
            default="100 steps",
            attr="sample_steps",
        ),
        _WINDOW,
        Field(key="epochs", kind=Number(whole=True, low=1), doc="Passes over the data, >= 1.", default="10"),
    ),
)

# --- mapping ---------------------------------------------------------------------------------------------------------------
_NEURONS = Section(
    name="neurons",
    doc="A population, or a run of its neurons.",
    positional=True,
    build=maker(Neurons),
    fields=(
        Field(key="population", kind=Text(what="the name of a population"), doc="Name of the population.", required=True),
        Field(key="first", kind=Number(whole=True, low=0), doc="First neuron.", default="0"),
        Field(key="size", kind=Number(whole=True, low=1), doc="Number of neurons.", default="to the end"),
    ),
)


def _on_chip(parsed: Parsed, ctx: Reading) -> Any:  # noqa: ARG001 -- one signature for all builds
    if not parsed.complete:
        return BAD
    x, y = parsed.values["chip"]
    return OnChip(neurons=parsed.values["neurons"], x=x, y=y)


def _mapping(parsed: Parsed, ctx: Reading) -> Any:
    values = parsed.values
    if "rates" in values:
        good = [(key.text, rate) for key, _, rate in values["rates"] if rate is not BAD]
        parsed.complete &= len(good) == len(values["rates"])
        values["rates"] = tuple(good)
    for name in ("together", "apart", "chips"):
        items = [item for _, item in values.get(name, [])]
        parsed.complete &= BAD not in items
        values[name] = tuple(tuple(i) if isinstance(i, list) else i for i in items if i is not BAD)
    return construct(MappingHints, parsed, ctx)


_GROUPS = AnyList(item=List(item=_NEURONS, what="a list of populations or runs of neurons"), what="group")
MAPPING = Section(
    name="mapping",
    doc="What the mapper is told.",
    build=_mapping,
    fields=(
        Field(
            key="rates",
            kind=NamedMap(item=RATE, what="population"),
            doc="Expected firing rates by population: traffic is weighted by them. A recording (--rates) goes before.",
            default="alike",
        ),
        Field(key="together", kind=_GROUPS, doc="Groups whose neurons share a core.", default="none"),
        Field(key="apart", kind=_GROUPS, doc="Groups: no core holds neurons of two members.", default="none"),
        Field(
            key="chips",
            kind=AnyList(
                item=Section(
                    name="chip of neurons",
                    doc="Neurons with a chip of their own.",
                    build=_on_chip,
                    fields=(
                        Field(key="neurons", kind=_NEURONS, doc="Which neurons.", required=True),
                        Field(key="chip", kind=List(item=Number(whole=True, low=0), length=2, what="[x, y]"), doc="Chip.", required=True),
                    ),
                ),
                what="chip",
            ),
            doc="Neurons that must lie on a chip: {neurons: NAME, chip: [x, y]}.",
            default="none",
        ),
    ),
)

# --- the file --------------------------------------------------------------------------------------------------------------
ROOT = Section(
    name="network",
    doc="A spiking network: populations, projections, learning rules and a task.",
    fields=(
        Field(key="name", kind=Text(what="a name"), doc="Name of the network.", default="the file's name"),
        Field(key="dt", kind=TIME, doc="Time step, > 0, e.g. 1 ms.", required=True),
        Field(key="seed", kind=Number(whole=True, low=0, high=2**63 - 1), doc="Seed of everything random.", default="1"),
        Field(key="populations", kind=NamedMap(item=POPULATION, what="population"), doc="Populations by name.", required=True),
        Field(key="projections", kind=AnyList(item=PROJECTION, what="projection"), doc="Projections."),
        Field(key="learning", kind=NamedMap(item=RULE, what="learning rule"), doc="Learning rules by name."),
        Field(key="task", kind=TASK, doc="What the network is for."),
        Field(key="mapping", kind=MAPPING, doc="What the mapper is told (docs/mapping.md)."),
    ),
)
