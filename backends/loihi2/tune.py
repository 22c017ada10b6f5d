"""Scales of learning from measured ranges: a few short runs of the twin before the network is handed out.

Worst cases (a tag at its end meets the largest third factor) leave most bits of tags and low bits unused. So the network runs on random
spikes and targets, and each projection's tag and each population's largest change get the bits that stayed empty. Then the weight changes
are compared with those of exact e-prop on the same spikes (exact.py), for a smooth and for a white target: as it is, and with one more low
bit, for which the rare largest changes saturate; for adaptive neurons with what tells of their second eligibility (adaptive.py);
``auto`` also tries the other forms where the usual one is poor. The best is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurocompile.backends.loihi2.adaptive import Share, adaptation_of, fit_shares
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.exact import ExactEprop, run_beside
from neurocompile.backends.loihi2.forms import Form, Scale
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.options import Options
from neurocompile.backends.loihi2.plan import Choice, distinct_decays
from neurocompile.backends.loihi2.stimulus import cosine, random_inputs, random_signals, white_signals
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import InputError

_STEPS = 200
_LARGEST = 300_000
"""Plastic synapses above which nothing is measured unless it is asked for: a run of so many takes a second of processor time"""
_TAG_MAX = 255
_WORST_PRODUCT = 255 * 96 >> 5
"""Tag times third factor, as the engine shifts it, that the largest exponent of a change is made for (forms.SecondState)"""
_D_MAX = 127
"""Largest eligibility in d"""
_MOST_STEPS = 500
_MOST_BITS = 4
_GOOD = 0.9
"""Mean cosine above which no other form is tried"""

Express = Callable[[Mapping[str, Choice]], Loihi2Network]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """Of a run: projection -> (cosine, relative error) of the weight change, low bits counted, against exact e-prop on the same spikes;
    largest |tag|; largest |d - its start|; largest |tag y3| as the engine shifts it; alif population -> what its eps is made of."""

    changes: dict[str, tuple[float, float]]
    tags: dict[str, int]
    seconds: dict[str, int]
    products: dict[str, int]
    shares: dict[str, list[Share]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tried:
    """Choices per population, their score, what was measured, and a name for the report."""

    name: str
    choices: dict[str, Choice]
    score: float
    table: dict[str, dict[str, float]]


def measured_steps(plastic: int, wanted: int | None, *, usual: int = _STEPS) -> int:
    """Return how many steps a run that measures so many plastic synapses has: as many as are wanted; None: the usual number, unless
    it would take too long."""
    return wanted if wanted is not None else (usual if plastic <= _LARGEST else 0)


def tune(plain: Loihi2Network, express: Express, network: Network, options: Options) -> Loihi2Network:
    """Return the network with the forms and scales that measuring suggests, instead of ``plain``, which has scales for worst cases.

    express : makes a network of choices per population.
    """
    plastic = sum(len(p.pre_ids) for p in plain.projections if p.eprop)
    steps = measured_steps(plastic, options.tune_steps, usual=_steps(plain, network))
    if steps == 0:
        if options.adaptation in {"tag", "trace"}:
            raise InputError.of(
                "NC201",
                f"adaptation is '{options.adaptation}', whose coefficients are measured, and tune is 0 steps",
                help="--set tune=200",
            )
        return _noted(plain, f"scales of learning are for worst cases, nothing was measured ({plastic} plastic synapses)")
    if options.split and options.adaptation == "trace":
        raise InputError.of(
            "NC201",
            "adaptation is 'trace', and third_factors=split needs the second presynaptic trace for its own",
            help="--set adaptation=tag, or --set third_factors=signed",
        )
    form = options.form or Form.LAGGED
    seen = measure(plain, network, steps=steps, white=False)
    fitting = _measured_scales(plain, network, form, seen)
    tried = [_try(express, network, "none", fitting, steps)]
    if form is Form.LAGGED and options.second is not None:
        more = {name: replace(c, scale=replace(c.scale, top_bits=c.scale.top_bits + 1)) for name, c in fitting.items()}
        tried.append(_try(express, network, "none", more, steps))
    best = max(tried, key=lambda one: one.score)
    scores: dict[str, float] = {}
    if form is Form.LAGGED and seen.shares and options.adaptation != "none":
        adapted = _try_adaptation(plain, express, network, options, seen, best, steps)
        scores = {one.name: one.score for one in (best, *adapted)}
        best = max(adapted if options.adaptation in {"tag", "trace"} else (best, *adapted), key=lambda one: one.score)
    if options.form is None and best.score < _GOOD:
        others = [
            _try(express, network, form.value, {name: Choice(form=form) for name in fitting}, steps) for form in _others(network, plain)
        ]
        best = max((best, *others), key=lambda one: one.score)
    made = express(best.choices)
    learning = {name: dict(of) for name, of in made.summary["learning"].items()}
    for name in seen.shares if scores else ():
        learning[name]["adaptation"] |= {"mean_cosine": scores}
    for projection in made.projections:
        if projection.eprop:
            of = learning[network.populations[projection.post].name]
            of.setdefault("measured", {})[projection.name] = best.table[projection.name]
    return replace(made, summary={**made.summary, "learning": learning})


def _steps(plain: Loihi2Network, network: Network) -> int:
    """Return how many steps are measured: the usual number, or for adaptive neurons up to _MOST_STEPS, twice their time constant."""
    steps = _STEPS
    for index in {p.post for p in plain.projections if p.eprop}:
        adaptation = adaptation_of(network.populations[index], network.dt)
        if adaptation is not None:
            steps = max(steps, min(_MOST_STEPS, int(2.0 / max(1.0 - adaptation.rho, 1e-9))))
    return steps


def _try_adaptation(
    plain: Loihi2Network, express: Express, network: Network, options: Options, seen: Measurement, usual: _Tried, steps: int
) -> list[_Tried]:
    """Try what ``lagged`` can be told of adaptation, and the exact form if the choice is free."""
    auto = options.adaptation == "auto"
    kinds = ["tag", "trace"] if auto else [options.adaptation]
    if options.split or not any(len(shares) > 1 for shares in seen.shares.values()):
        kinds = ["tag"]  # x2 is the constant of the low bits where y1 is a half of the learning signal
    tried = []
    for kind in kinds:
        choices = dict(usual.choices)
        for name, shares in seen.shares.items():
            choices[name] = replace(choices[name], scale=replace(choices[name].scale, share=shares[-1 if kind == "trace" else 0]))
        tried.append(_try(express, network, kind, choices, steps))
    if auto and options.form is None and not options.split:
        worst = express({name: Choice(form=Form.ADAPTIVE) for name in usual.choices})
        held = measure(worst, network, steps=steps, white=False)
        tried.append(_try(express, network, "exact", _measured_scales(plain, network, Form.ADAPTIVE, held), steps))
    return tried


def _try(express: Express, network: Network, name: str, choices: dict[str, Choice], steps: int) -> _Tried:
    made = express(choices)
    found = _compare(made, network, steps)
    return _Tried(name=name, choices=choices, score=_score(found, made), table=found)


def _noted(made: Loihi2Network, note: str) -> Loihi2Network:
    return replace(made, summary={**made.summary, "notes": [*made.summary["notes"], note]})


def _others(network: Network, plain: Loihi2Network) -> list[Form]:
    """Return the forms that ``auto`` may take in the place of the usual one: those that keep low bits."""
    distinct = distinct_decays(network, [p.name for p in plain.projections if p.eprop])
    return [Form.TWO_TRACES, Form.PRE_TRACE] if distinct else [Form.PRE_TRACE]


def measure(made: Loihi2Network, network: Network, *, steps: int, white: bool) -> Measurement:
    """Run a lowered network on random spikes and a smooth or a white target."""
    twin = Twin(*describe(made), learning=True)
    watched = {p.name: twin.plastic[i] for i, p in enumerate(made.projections) if p.eprop}
    tags, seconds, products = (dict.fromkeys(watched, 0) for _ in range(3))
    adaptive = {
        i: network.populations[i].name
        for i in sorted({p.post for p in made.projections if p.eprop})
        if adaptation_of(network.populations[i], network.dt) is not None
    }
    sources = {p.pre for p in made.projections if p.eprop and p.post in adaptive}
    spikes: dict[int, list[FloatArray]] = {i: [] for i in sources}
    psi: dict[int, list[FloatArray]] = {i: [] for i in adaptive}

    def watch(exact: ExactEprop) -> None:
        for i, rows in spikes.items():
            rows.append(exact.spiked(i))
        for i, rows in psi.items():
            rows.append(exact.psi[i])
        for name, plastic in watched.items():
            tag, second = plastic.tags()
            largest, third = np.abs(tag), plastic.third()[plastic.target]
            seconds[name] = max(seconds[name], int(np.abs(second - plastic.start[0]).max(initial=0)))
            tags[name] = max(tags[name], int(largest.max(initial=0)))
            products[name] = max(products[name], int((largest * third).max(initial=0)) >> 5)

    signals = (white_signals if white else random_signals)(network, steps=steps)
    beside = ExactEprop(made)
    run_beside(made, twin, random_inputs(network, steps=steps), signals, steps=steps, exact=beside, watch=watch)
    exact = beside.changes()
    seen = {i: np.array(rows) for i, rows in spikes.items()}
    shares = {name: fit_shares(beside.recordings(i, seen, np.array(psi[i]))) for i, name in adaptive.items()}
    changes = {}
    for projection in made.projections:
        if projection.rule is None or not projection.eprop:
            continue
        start = projection.quantised.values.astype(np.float64)
        change = (_fine(twin, projection.name, projection.rule, made) - start) * projection.quantised.unit
        wanted = exact[projection.name]
        size = float(np.linalg.norm(wanted))
        changes[projection.name] = (cosine(change, wanted), float(np.linalg.norm(change - wanted)) / size if size > 0 else 0.0)
    shares = {name: found for name, found in shares.items() if found}
    return Measurement(changes=changes, tags=tags, seconds=seconds, products=products, shares=shares)


def _fine(twin: Twin, name: str, rule: Mapping[str, Any], made: Loihi2Network) -> FloatArray:
    """Return weights with their low bits, in weight units."""
    number = next(i for i, p in enumerate(made.projections) if p.name == name)
    post = made.populations[made.projections[number].post].learning
    assert post is not None
    weights = twin.plastic[number].weights().astype(np.float64)
    tag, second = twin.plastic[number].tags()
    if not post["carry"]:
        return weights
    low, start = (tag, rule["tag_start"]) if rule["tag_is_weight"] else (second, rule["d_start"])
    fine: FloatArray = weights - (low - start) * post["carry"] / 32.0
    return fine


def _measured_scales(plain: Loihi2Network, network: Network, form: Form, seen: Measurement) -> dict[str, Choice]:
    """Return population -> form and scales that fit what a run showed; ``adaptive`` is for alif, others are ``lagged`` then."""
    hidden = {network.populations[p.post].name for p in plain.projections if p.eprop and plain.populations[p.post].process != "Readout"}
    choices = {name: Choice(form=form) for name in hidden}
    if not form.has_tag:
        return choices
    for name in hidden:
        own = [p for p in plain.projections if p.eprop and network.populations[p.post].name == name]
        bits = {p.name: _spare(_TAG_MAX, seen.tags[p.name]) for p in own}
        levels = {p.name: p.quantised.level + bits[p.name] for p in own}
        lowest = min(levels.values())
        largest = max(seen.products[p.name] * 2.0 ** (bits[p.name] - (levels[p.name] - lowest)) for p in own)
        d_bits = {p.name: _spare(_D_MAX, seen.seconds[p.name]) for p in own} if form is Form.ADAPTIVE else {}
        choices[name] = Choice(form=form, scale=Scale(tag_bits=bits, top_bits=_spare(_WORST_PRODUCT, largest), d_bits=d_bits))
    return choices


def _spare(room: float, used: float) -> int:
    """Return how many bits above ``used`` are free below ``room``."""
    return int(np.clip(np.floor(np.log2(room / max(used, 1.0))), 0, _MOST_BITS))


def _compare(made: Loihi2Network, network: Network, steps: int) -> dict[str, dict[str, float]]:
    """Return projection -> cosine and relative error for a smooth and a white target."""
    found: dict[str, dict[str, float]] = {}
    for white, name in ((False, "smooth"), (True, "white")):
        for projection, (value, error) in measure(made, network, steps=steps, white=white).changes.items():
            found.setdefault(projection, {})[f"cosine_{name}"] = value
            found[projection][f"relative_error_{name}"] = error
    return found


def _score(found: Mapping[str, Mapping[str, float]], made: Loihi2Network) -> float:
    """Return the mean cosine of projections into hidden populations."""
    hidden = [p.name for p in made.projections if p.eprop and made.populations[p.post].process != "Readout"]
    values = [found[name][f"cosine_{kind}"] for name in hidden for kind in ("smooth", "white")]
    return float(np.mean(values)) if values else 1.0


__all__ = ["Measurement", "measure", "measured_steps", "tune"]
