"""Random networks: what the file says is what Python would build, what is stored comes back, and no damage ends in a traceback.

Every strategy draws a pair: what stands in the file, and what it means, made independently of the reader (rational arithmetic for
units, NumPy for grids). A document is one choice of all pairs.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import string
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from neurocompile.ir import (
    ALIF,
    LIF,
    RSTDP,
    STDP,
    ActorCritic,
    Adam,
    AllToAll,
    ChainFeedback,
    Constant,
    CubaLIF,
    DataSet,
    DistanceDependent,
    EProp,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    GradientDescent,
    Integration,
    KappaLearning,
    KappaPer,
    LeakyReadout,
    LogNormal,
    Loss,
    MappingHints,
    Network,
    Neurons,
    Normal,
    OnChip,
    OneToOne,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    ProjectionFeedback,
    RandomFeedback,
    Regularization,
    Reset,
    Rewiring,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
    Uniform,
    Values,
)
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import Diagnostic, NeurocompileError
from neurocompile.ir.npz import load_npz, save_npz
from neurocompile.ir.schema import json_schema
from neurocompile.ir.serialise import pack_network, unpack_network
from neurocompile.ir.yaml_reader import network_from_text

VALIDATOR = jsonschema.Draft7Validator(json_schema())
Pair = tuple[Any, Any]
T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]
FLOATS = st.floats(-1e3, 1e3, allow_subnormal=False)
POSITIVE = st.floats(1e-3, 1e3)
FRACTIONS = st.floats(0, 1, exclude_max=True)
MEMBRANE = st.integers(-(10**5), 10**5)
NAMES = st.text(string.ascii_letters + string.digits + "_. ", min_size=0, max_size=8).map("n{}".format)


def differences(a: object, b: object, place: str = "network") -> Iterator[str]:
    """Yield where two networks differ: types, numbers (bit for bit), arrays with dtype and shape."""
    if type(a) is not type(b):
        yield f"{place}: {a!r} is not {b!r}"
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            yield f"{place}: {a!r} is not {b!r}"
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            if field.name not in {"source", "files", "notes"} or place != "network":
                yield from differences(getattr(a, field.name), getattr(b, field.name), f"{place}.{field.name}")
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{place}.{i}")
    elif a != b:
        yield f"{place}: {a!r} is not {b!r}"


# --- one strategy per kind of value ----------------------------------------------------------------------------------------
def quantity(draw: Draw[Any], units: dict[str, str], numbers: st.SearchStrategy[int]) -> Pair:
    """A whole number with a unit, exactly scaled and rounded once."""
    number, unit = draw(numbers), draw(st.sampled_from(sorted(units)))
    space = draw(st.sampled_from(["", " ", "  "]))
    return f"{number}{space}{unit}", float(Fraction(number) * Fraction(units[unit]))


TIME = {"s": "1", "ms": "1/1000", "us": "1/1000000", "ns": "1/1000000000"}
RATE = {"Hz": "1", "kHz": "1000", "mHz": "1/1000"}


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Draws pairs for one file: ``unit`` of its membrane quantities ("" = plain numbers), and its ``dt``."""

    draw: Draw[Any]
    unit: str
    dt: Pair

    def time(self) -> Pair:
        return quantity(self.draw, TIME, st.integers(1, 10**6))

    def membrane(self, numbers: st.SearchStrategy[int] = MEMBRANE) -> Pair:
        if self.unit:
            return quantity(self.draw, {self.unit: {"V": "1", "mV": "1/1000", "uV": "1/1000000"}[self.unit]}, numbers)
        number = self.draw(numbers) / 1024
        return self.draw(st.sampled_from([number, repr(number)])), number  # numbers may stand in quotes

    def per_neuron(self, single: Callable[[], Pair], n: int) -> Pair:
        """One value, or a list of n."""
        if self.draw(st.booleans()):
            return single()
        pairs = [single() for _ in range(n)]
        return [text for text, _ in pairs], np.array([value for _, value in pairs])

    def steps(self, high: int = 255) -> Pair:
        """A number of steps: plain, in words, or as a time."""
        n = self.draw(st.integers(1, high))
        microseconds = n * round(self.dt[1] * 1e6)
        return self.draw(st.sampled_from([n, f"{n} steps", f"{microseconds} us", f"{microseconds / 1000} ms"])), n

    def some(self, choices: dict[str, Callable[[], Pair]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Some of the optional keys: (as in the file, as in Python)."""
        chosen = self.draw(st.sets(st.sampled_from(sorted(choices)))) if choices else set()
        pairs = {key: choices[key]() for key in sorted(chosen)}
        return {k: p[0] for k, p in pairs.items()}, {k: p[1] for k, p in pairs.items()}

    def enum(self, kind: type[Any]) -> Pair:
        member = self.draw(st.sampled_from(list(kind)))
        return member.value, member

    def same(self, strategy: st.SearchStrategy[Any]) -> Pair:
        value = self.draw(strategy)
        return value, value

    # --- populations
    def model(self, kind: str, n: int) -> tuple[dict[str, Any], Any]:
        def many(single: Callable[[], Pair]) -> Callable[[], Pair]:
            return lambda: self.per_neuron(single, n)

        def not_negative() -> Pair:
            return self.membrane(st.integers(0, 1000))

        if kind == "spike_source":
            text, value = self.some({"rate": many(lambda: quantity(self.draw, RATE, st.integers(0, 500)))})
            return text, SpikeSource(**value)
        needed = {"tau_mem": many(self.time)}
        optional = {k: many(self.membrane) for k in ("v_leak", "bias", "v_min")} | {"integration": lambda: self.enum(Integration)}
        if kind == "leaky_readout":
            optional |= {"tau_syn": many(self.time), "i_init": many(self.membrane)}
        else:
            needed["v_threshold"] = many(self.membrane)
            optional |= {"v_reset": many(self.membrane), "t_ref": many(self.time), "reset": lambda: self.enum(Reset)}
        if kind == "alif":
            needed |= {"adapt_beta": many(not_negative), "adapt_tau": many(self.time)}
        if kind == "cuba_lif":
            needed["tau_syn"] = many(self.time)
            optional["i_init"] = many(self.membrane)
        text, value = self.some(optional)
        for key, pair in needed.items():
            text[key], value[key] = pair()
        return text, {"lif": LIF, "alif": ALIF, "cuba_lif": CubaLIF, "leaky_readout": LeakyReadout}[kind](**value)

    def population(self, name: str, kind: str, dimensions: int, size: int | None = None) -> Pair:
        n = self.draw(st.integers(1, 5)) if size is None else size
        params, model = self.model(kind, n)
        text = {"model": kind, "size": n} | ({"params": params} if params or self.draw(st.booleans()) else {})
        at = None
        if dimensions and self.draw(st.booleans()):
            shape, spacing = [1] * (dimensions - 1) + [n], self.draw(POSITIVE)
            text["positions"] = {"grid": shape, "spacing": spacing}
            at = np.zeros((n, dimensions))
            at[:, -1] = np.arange(n) * spacing
        elif dimensions:
            rows = self.draw(st.lists(st.lists(FLOATS, min_size=dimensions, max_size=dimensions), min_size=n, max_size=n))
            text["positions"], at = rows, np.array(rows)
        return text, Population(name=name, size=n, model=model, positions=at)

    # --- projections
    def connect(self, pre: Population, post: Population) -> Pair:
        autapses = self.draw(st.booleans())
        without = pre.name == post.name and not autapses
        kinds = ["all_to_all", "fixed_probability", "fixed_indegree", "fixed_outdegree"]
        kinds += ["one_to_one"] * (pre.size == post.size) + ["distance_dependent"] * (pre.positions is not None)
        kind = self.draw(st.sampled_from(kinds))
        if kind == "one_to_one":
            return kind, OneToOne()
        if kind == "all_to_all":
            short = self.draw(st.booleans())
            return (kind, AllToAll()) if short else ({kind: {"allow_autapses": autapses}}, AllToAll(allow_autapses=autapses))
        if kind == "distance_dependent":
            text, value = self.some({"radius": lambda: self.same(POSITIVE), "profile": lambda: self.same(st.just("exponential"))})
            need = {"probability": self.draw(FRACTIONS), "scale": self.draw(POSITIVE)}
            if self.draw(st.booleans()):
                assert pre.positions is not None
                sizes = self.draw(st.lists(POSITIVE, min_size=pre.positions.shape[1], max_size=pre.positions.shape[1]))
                text["periodic"], value["periodic"] = sizes, tuple(sizes)
            return {kind: text | need | {"allow_autapses": autapses}}, DistanceDependent(**value, **need, allow_autapses=autapses)
        if kind == "fixed_probability":
            number: Any = self.draw(FRACTIONS)
            cls: type[Any] = FixedProbability
        else:
            most = (pre if kind == "fixed_indegree" else post).size - without
            number = self.draw(st.integers(0, most))
            cls = {"fixed_indegree": FixedInDegree, "fixed_outdegree": FixedOutDegree}[kind]
        key = "probability" if kind == "fixed_probability" else "degree"
        forms = [number, [number], {key: number}] if autapses else [{key: number, "allow_autapses": False}]
        return {kind: self.draw(st.sampled_from(forms))}, cls(**{key: number}, allow_autapses=autapses)

    def weight(self) -> Pair:
        kind = self.draw(st.sampled_from(["constant", "list", "normal", "uniform", "lognormal"]))
        if kind == "constant":
            text, value = self.membrane()
            return text, Constant(value=value)
        if kind == "list":
            pairs = [self.membrane() for _ in range(3)]
            return [p[0] for p in pairs], Values(values=np.array([p[1] for p in pairs]))
        if kind == "lognormal":
            mu, sigma = self.draw(FLOATS), self.draw(POSITIVE)
            if self.unit:
                scale = {"V": 0.0, "mV": float(np.log(1 / 1e3)), "uV": float(np.log(1 / 1e6))}[self.unit]
                return {kind: {"mu": mu, "sigma": sigma, "unit": self.unit}}, LogNormal(mu=mu + scale, sigma=sigma)
            return {kind: [mu, sigma]}, LogNormal(mu=mu, sigma=sigma)
        low, high = self.membrane(st.integers(-500, 0)), self.membrane(st.integers(0, 500))
        named = self.draw(st.booleans())
        if kind == "normal":
            return {kind: {"mean": low[0], "std": high[0]} if named else [low[0], high[0]]}, Normal(mean=low[1], std=high[1])
        return {kind: {"low": low[0], "high": high[0]} if named else [low[0], high[0]]}, Uniform(low=low[1], high=high[1])

    def delay(self) -> Pair:
        kind = self.draw(st.sampled_from(["constant", "uniform", "normal"]))
        one, two = sorted((self.steps(), self.steps()), key=lambda p: p[1])
        if kind == "constant":
            return one[0], Constant(value=float(one[1]))
        if kind == "uniform":
            return {kind: [one[0], two[0]]}, Uniform(low=float(one[1]), high=float(two[1]))
        return {kind: [one[1], 1.5]}, Normal(mean=float(one[1]), std=1.5)

    # --- learning
    def stdp(self, name: str, reward: str | None) -> Pair:
        rates = {k: (lambda: self.same(FRACTIONS)) for k in ("a_plus", "a_minus")}
        times = dict.fromkeys(("tau_plus", "tau_minus") + (("tau_c", "tau_d") if reward else ()), self.time)
        extra = {"reward_weight": lambda: self.same(FLOATS)} if reward else {}
        text, value = self.some(rates | times | extra | {"multiplicative": lambda: self.same(st.booleans())})
        low, high = self.membrane(st.integers(-50, 0)), self.membrane(st.integers(0, 50))
        text["weight_bounds"], value["weight_bounds"] = [low[0], high[0]], (low[1], high[1])
        if reward is None:
            return {"rule": "stdp"} | text, STDP(name=name, **value)
        return {"rule": "r_stdp", "reward": reward} | text, RSTDP(name=name, reward=reward, **value)

    def surrogate(self) -> Pair:
        kind = self.draw(st.sampled_from(list(SurrogateKind)))
        width = self.membrane(st.integers(1, 500))
        number = self.draw(st.integers(1, 1000))
        if not self.unit:
            return {kind.value: {"height": number, "width": width[0]}}, Surrogate(kind=kind, height=float(number), width=width[1])
        per = {"V": 1, "mV": 1000, "uV": 1_000_000}[self.unit]
        text = {"height": f"{number} 1/{self.unit}", "width": width[0]}
        return {kind.value: text}, Surrogate(kind=kind, height=float(number * per), width=width[1])

    def optimizer(self) -> Pair:
        name, cls = self.draw(st.sampled_from([("gradient_descent", GradientDescent), ("adam", Adam)]))
        choices = {"learning_rate": lambda: self.same(FRACTIONS), "each_step": lambda: self.same(st.booleans())}
        if cls is Adam:
            choices |= {"beta_1": lambda: self.same(FRACTIONS), "beta_2": lambda: self.same(FRACTIONS)}
            choices["epsilon"] = lambda: self.same(POSITIVE)
        text, value = self.some(choices)
        return ({name: text} if text else self.draw(st.sampled_from([name, {name: None}, {name: {}}]))), cls(**value)

    def feedback(self, projection: str | None) -> Pair:
        kind = self.draw(st.sampled_from(["symmetric", "random", "chain", "random chain"] + ["projection"] * (projection is not None)))
        if kind == "symmetric":
            return kind, SymmetricFeedback()
        if kind == "chain":
            return self.draw(st.sampled_from([kind, {kind: {"weights": "symmetric"}}])), ChainFeedback()
        if kind == "random chain":
            weight = self.draw(FLOATS)
            return {"chain": {"weights": {"random": weight}}}, ChainFeedback(weights=RandomFeedback(weight=Constant(value=weight)))
        if kind == "random":
            mean, std = self.draw(FLOATS), self.draw(POSITIVE)
            return {kind: {"normal": [mean, std]}}, RandomFeedback(weight=Normal(mean=mean, std=std))
        assert projection is not None
        return {kind: projection}, ProjectionFeedback(projection=projection)

    def update(self) -> Pair:
        steps = self.steps(10**6)
        return self.draw(st.sampled_from([("per_event", PerEvent()), ({"per_interval": steps[0]}, PerInterval(steps=steps[1]))]))

    def eprop(self, name: str, projection: str | None) -> Pair:
        windows = dict.fromkeys(("trace_cutoff", "learning_window"), self.steps)
        filters = {k: (lambda: self.same(FRACTIONS)) for k in ("kappa", "kappa_reg")}

        def regularization() -> Pair:
            strength, rate = self.draw(POSITIVE), quantity(self.draw, RATE, st.integers(0, 500))
            return {"strength": strength, "rate": rate[0]}, Regularization(strength=strength, rate=rate[1])

        def bounds() -> Pair:
            low, high = self.membrane(st.integers(-50, 0)), self.membrane(st.integers(0, 50))
            return [low[0], high[0]], (low[1], high[1])

        more = {"feedback": lambda: self.feedback(projection), "optimizer": self.optimizer, "update": self.update}
        more |= {"regularization": regularization, "weight_bounds": bounds, "sign_constraint": lambda: self.same(st.booleans())}
        text, value = self.some(windows | filters | more)
        text["surrogate"], value["surrogate"] = self.surrogate()
        value = {f"{k}_steps" if k in windows else k: v for k, v in value.items()}
        self.seeds(text, value)
        return {"rule": "eprop"} | text, EProp(name=name, **value)

    def seeds(self, text: dict[str, Any], value: dict[str, Any]) -> None:
        """Weight decay, and where the rest of the rule allows them a learnt kappa and rewiring."""
        if self.draw(st.booleans()):
            text["weight_decay"], value["weight_decay"] = self.same(FRACTIONS)
        optimizer = value.get("optimizer", GradientDescent())
        if isinstance(optimizer, Adam) or optimizer.each_step:
            return
        if "trace_cutoff_steps" not in value and self.draw(st.booleans()):
            per, (low, high) = self.enum(KappaPer), sorted((value.get("kappa", 0.97), self.draw(FRACTIONS)))
            rate = self.draw(FRACTIONS)
            text["kappa_learning"] = {"learning_rate": rate, "per": per[0], "bounds": [low, high]}
            value["kappa_learning"] = KappaLearning(learning_rate=rate, per=per[1], bounds=(low, high))
        if value.get("sign_constraint", False) and self.draw(st.booleans()):
            steps, pull = self.steps(10**6), self.membrane(st.integers(1, 50))
            text["rewiring"] = {"every": steps[0], "l1": pull[0]}
            value["rewiring"] = Rewiring(every_steps=steps[1], l1=pull[1])

    def loss(self, critic: str | None) -> Pair:
        if critic is None or self.draw(st.booleans()):
            return self.enum(Loss)
        text, value = self.some({"discount": lambda: self.same(FRACTIONS), "reward_delay": self.steps})
        value = {"reward_delay_steps" if k == "reward_delay" else k: v for k, v in value.items()}
        return {"actor_critic": {"critic": critic} | text}, ActorCritic(critic=critic, **value)

    def hints(self, names: list[str], sizes: dict[str, int]) -> Pair:
        """Wishes that do not contradict one another: neurons of two populations together, those of a third apart from them."""
        rate = quantity(self.draw, RATE, st.integers(0, 500))
        one, other, third = names[0], names[1], names[2]
        first = self.draw(st.integers(0, sizes[one] - 1))
        text: dict[str, Any] = {
            "rates": {one: rate[0]},
            "together": [[{"population": one, "first": first}, other]],
            "apart": [[other, {"population": third, "size": 1}]],
            "chips": [{"neurons": third, "chip": [1, 2]}],
        }
        value = MappingHints(
            rates=((one, rate[1]),),
            together=((Neurons(population=one, first=first), Neurons(population=other)),),
            apart=((Neurons(population=other), Neurons(population=third, size=1)),),
            chips=(OnChip(neurons=Neurons(population=third), x=1, y=2),),
        )
        return text, value

    def task(self, readout: str, source: str, critic: str | None) -> Pair:
        sample = self.steps(10**4)
        window = self.draw(st.integers(1, sample[1]))
        data = [
            ("digits", DataSet(kind="digits")),
            ({"digits": {"n": 3, "kind": "x"}}, DataSet(kind="digits", options={"n": 3, "kind": "x"})),
        ]
        text, value = self.some(
            {
                "loss": lambda: self.loss(critic),
                "input": lambda: self.same(st.just(source)),
                "data": lambda: self.draw(st.sampled_from(data)),
                "epochs": lambda: self.same(st.integers(1, 99)),
            }
        )
        text |= {"readout": readout, "sample": sample[0], "learning_window": window}
        return text, Task(readout=readout, sample_steps=sample[1], learning_window_steps=window, **value)


@st.composite
def descriptions(draw: Draw[Any]) -> tuple[dict[str, Any], Network]:
    """A document as plain Python data, and the network that it describes."""
    dt = draw(st.sampled_from([("1 ms", 1e-3), ("0.5 ms", 5e-4), ("100 us", 1e-4), ("1e-3 s", 1e-3)]))
    kinds = Kinds(draw, draw(st.sampled_from(["", "", "V", "mV", "uV"])), dt)
    dimensions = draw(st.integers(0, 3))
    models = [
        "spike_source",
        *draw(st.lists(st.sampled_from(["lif", "alif", "cuba_lif"]), min_size=1, max_size=2)),
        "leaky_readout",
        "leaky_readout",
    ]
    names = draw(st.lists(NAMES, min_size=len(models), max_size=len(models), unique=True))
    populations = {n: kinds.population(n, m, dimensions) for n, m in zip(names, models, strict=True)}
    source, hidden, readout, critic = names[0], names[1:-2], names[-2], names[-1]
    populations[critic] = kinds.population(critic, "leaky_readout", 0, size=1)
    back = "back" if draw(st.booleans()) else None
    first_learns = models[1] in {"lif", "alif"}
    rules = {"e": kinds.eprop("e", back if first_learns else None), "s": kinds.stdp("s", None), "r": kinds.stdp("r", source)}
    ends = [(source, hidden[0]), (hidden[0], hidden[-1]), (hidden[0], readout)]
    if isinstance(rules["e"][1].feedback, ProjectionFeedback):  # the only use of a projection that starts at a readout
        ends.append((readout, hidden[0]))
    with_task = first_learns or draw(st.booleans())
    listed: list[Pair] = []
    for index, (pre, post) in enumerate(ends):
        connect, weight, delay = kinds.connect(populations[pre][1], populations[post][1]), kinds.weight(), kinds.delay()
        name = back if index == 3 else draw(st.sampled_from([None, f"p{index}", f"{pre}->{post} {index}"]))
        learning = draw(st.sampled_from([None, "s", "r"])) if index < 2 else None
        if index == 0 and first_learns:
            learning, delay = "e", (1, Constant(value=1.0))
            if rules["e"][1].rewiring is not None and isinstance(connect[1], DistanceDependent):
                connect = "all_to_all", AllToAll()
        text = {"pre": pre, "post": post, "connect": connect[0], "weight": weight[0], "delay": delay[0]}
        text |= {k: v for k, v in (("name", name), ("learning", learning)) if v is not None}
        value = {"connect": connect[1], "weight": weight[1], "delay": delay[1], "learning": learning, "name": name or ""}
        listed.append((text, Projection(pre=pre, post=post, **value)))
    document: dict[str, Any] = {"name": draw(NAMES), "dt": dt[0], "seed": draw(st.integers(0, 2**63 - 1))}
    document["populations"] = {n: p[0] for n, p in populations.items()}
    document["projections"] = [p[0] for p in listed]
    document["learning"] = {n: r[0] for n, r in rules.items()}
    task = kinds.task(readout, source, None if rules["e"][1].kappa_learning else critic) if with_task else (None, None)
    if with_task:
        document["task"] = task[0]
    sizes = {n: p[1].size for n, p in populations.items()}
    hints = kinds.hints([source, hidden[0], readout], sizes) if draw(st.booleans()) else (None, None)
    if hints[0] is not None:
        document["mapping"] = hints[0]
    network = Network(
        name=document["name"],
        dt=dt[1],
        seed=document["seed"],
        populations=tuple(p[1] for p in populations.values()),
        projections=tuple(p[1] for p in listed),
        rules=tuple(r[1] for r in rules.values()),
        task=task[1],
        mapping=hints[1],
    )
    return document, network


def written(document: Any, style: str) -> str:
    """A document as text: JSON (which is YAML), PyYAML's block or flow style, or with a BOM and DOS line ends."""
    if style == "json":
        return json.dumps(document)
    text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=style == "flow", allow_unicode=True)
    return "\ufeff" + text.replace("\n", "\r\n") if style == "dos" else text


STYLES = st.sampled_from(["json", "block", "flow", "dos"])
MANY = settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking documents of this size takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@MANY
@given(description=descriptions(), style=STYLES)
def test_a_document_means_what_python_would_build(description: tuple[dict[str, Any], Network], style: str) -> None:
    document, expected = description
    got = network_from_text(written(document, style), "net.yaml", "/nonexistent")
    assert list(differences(got, expected)) == []


@MANY
@given(description=descriptions())
def test_the_schema_accepts_what_the_reader_accepts(description: tuple[dict[str, Any], Network]) -> None:
    errors = sorted(VALIDATOR.iter_errors(description[0]), key=lambda e: list(e.path))
    assert errors == []


@settings(MANY, max_examples=40)
@given(description=descriptions())
def test_a_stored_network_comes_back_bit_by_bit(
    description: tuple[dict[str, Any], Network], tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = description[1]
    text, arrays = pack_network(network)
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    path = tmp_path_factory.mktemp("stored") / "network.npz"
    save_npz(path, arrays)
    back = unpack_network(text, load_npz(path), file="network.json")
    assert list(differences(back, network)) == []
    again, arrays_again = pack_network(back)
    assert again == text
    assert {k: v.tobytes() for k, v in arrays_again.items()} == {k: v.tobytes() for k, v in arrays.items()}


# --- damage ----------------------------------------------------------------------------------------------------------------
def nodes(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value below the root."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from nodes(value, (*path, key))


JUNK: list[Any] = [None, True, 0, -1, 1, 2.5, 1e300, "", "x", "1 ms", "3 Hz", "-2 mV", "1/mV", "2 steps", "all_to_all", [], [1], [[]], {}]
JUNK += ["0", "1.5", ".inf", "1e400", "null", 0.0, -0.0, {"normal": [0, 1]}, {"file": "none.npz"}, {"x": 1}, [0, 1], 2**70, "lif", "eprop"]


@st.composite
def damaged(draw: Draw[Any]) -> tuple[Any, str]:
    """A document with one node deleted, renamed or replaced; and what was done."""
    document = copy.deepcopy(draw(descriptions())[0])
    path = draw(st.sampled_from(sorted(nodes(document), key=str)))
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    key = path[-1]
    what = draw(st.sampled_from(["delete", "rename", "replace"]))
    if what == "delete":
        del parent[key]
    elif what == "rename" and isinstance(parent, dict):
        parent[draw(st.sampled_from([f"{key}x", "", "<<", "na me"]))] = parent.pop(key)
    else:
        parent[key] = draw(st.sampled_from(JUNK))
    return document, f"{what} {path}"


def read(text: str, folder: str | Path = "/nonexistent") -> tuple[Network | None, tuple[Diagnostic, ...]]:
    try:
        return network_from_text(text, "net.yaml", folder), ()
    except NeurocompileError as error:
        return None, error.diagnostics


@settings(MANY, max_examples=50)
@given(damage=damaged(), style=STYLES)
def test_damage_ends_in_findings_inside_the_file(damage: tuple[Any, str], style: str) -> None:
    document, what = damage
    text = written(document, style)
    network, found = read(text)
    assert (network is None) == bool(found), what
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    for finding in found:
        assert finding.code in CODES
        assert finding.help, finding.render()
        assert finding.span is not None, finding.render()
        assert finding.span.file == "net.yaml"
        assert 1 <= finding.span.line <= len(lines)
        assert 1 <= finding.span.column <= len(lines[finding.span.line - 1]) + 1
        assert finding.span.text == lines[finding.span.line - 1].replace("\t", " ")


SCHEMA_KNOWS = {"NC108", "NC109", "NC110", "NC111", "NC114", "NC115", "NC116"}
"""Findings about keys, types, words, numbers and units. Not: names, sizes of arrays, dt, files, and what crosses sections."""


@settings(MANY, max_examples=50)
@given(damage=damaged())
def test_schema_and_reader_refuse_the_same_damage(damage: tuple[Any, str]) -> None:
    document, what = damage
    network, found = read(json.dumps(document))
    valid = VALIDATOR.is_valid(document)
    if network is not None:
        assert valid, f"{what}: the schema is stricter than the reader: {next(VALIDATOR.iter_errors(document)).message[:300]}"
    known = [f for f in found if f.code in SCHEMA_KNOWS and "too large for a float64" not in f.message]  # no pattern knows 1e400
    if known:
        assert not valid, f"{what}: the schema lets pass what the reader refuses: {known[0].render()}"


@settings(MANY, max_examples=30)
@given(description=descriptions(), data=st.data())
def test_damage_to_a_stored_network_is_an_error(description: tuple[dict[str, Any], Network], data: st.DataObject) -> None:
    text, arrays = pack_network(description[1])
    tree = json.loads(text)
    path = data.draw(st.sampled_from(sorted(nodes(tree), key=str)))
    parent = tree
    for step in path[:-1]:
        parent = parent[step]
    if data.draw(st.booleans()):
        del parent[path[-1]]
    else:
        parent[path[-1]] = data.draw(st.sampled_from([*JUNK, {"$class": "Network"}, {"$enum": "Reset"}, {"$array": "none"}, {"$tuple": 1}]))
    places = {"network.json"}
    try:
        unpack_network(json.dumps(tree), arrays, file="network.json")
    except NeurocompileError as error:
        places = {d.file or "" for d in error.diagnostics}
    assert places == {"network.json"}
