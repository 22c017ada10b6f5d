"""The file format: what the network is for, and what the mapper is told (:mod:`neurocompile.ir.spec`)."""

from __future__ import annotations

from typing import Any

from neurocompile.ir.hints import MappingHints, Neurons, OnChip
from neurocompile.ir.spec_build import construct, maker
from neurocompile.ir.spec_kinds import RATE, WINDOW
from neurocompile.ir.spec_sections import AnyList, Field, NamedMap, Options, Parsed, Section, Tagged
from neurocompile.ir.spec_types import BAD, Kind, List, Number, Reading, Steps, Text
from neurocompile.ir.task import ActorCritic, Loss

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
        WINDOW,
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
