"""The file format: populations and projections (:mod:`neurocompile.ir.spec`)."""

from __future__ import annotations

from neurocompile.ir.connectivity import AllToAll, DistanceDependent, FixedInDegree, FixedOutDegree, FixedProbability, OneToOne
from neurocompile.ir.neurons import Integration, Reset
from neurocompile.ir.spec_build import Positions, build_distance, build_edge_file, maker
from neurocompile.ir.spec_kinds import DELAYS, MEMBRANES, RATES, TIMES, WEIGHTS
from neurocompile.ir.spec_sections import Discriminated, Field, Section, Tagged
from neurocompile.ir.spec_types import Boolean, Choice, List, Number, Path_, Text
from neurocompile.ir.units import UNITS, Dimension

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
