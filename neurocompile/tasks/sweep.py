"""A sweep: what each choice of a target's options costs in accuracy, frozen or learning in its integers; one file a choice, so that it
resumes."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir import EProp, Network
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.npz import write_atomically
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.tasks import checkpoint as cp
from neurocompile.tasks.data import EventData, Purpose, load_data, stream
from neurocompile.tasks.evaluate import evaluate
from neurocompile.tasks.numerics import Numerics, make_runner
from neurocompile.tasks.present import Presenter, Tally, first_indices
from neurocompile.tasks.progress import interruptible, track

FORMAT = "neurocompile-sweep/1"
_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")
_MOST = 10_000
"""Choices of a sweep"""
OF_THE_DESCRIPTION = ("kappa", "learning_rate", "seed")
"""What else may vary: of every e-prop rule, and the network's seed"""

Choice = dict[str, str]
"""name -> value, of one point of a sweep"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One choice and its outcome; ``refused``: why the target cannot do it, then there are no figures."""

    choice: Choice
    accuracy: float | None = None
    loss: float | None = None
    spikes_per_sample: float | None = None
    synaptic_events_per_sample: float | None = None
    train_accuracy: float | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """All points, in the order of the choices, beside float64 with the same weights, or the same number of samples learnt.

    out : folder with sweep.json, sweep.csv, sweep.png and points/; learn : samples that each point learns from, 0: frozen;
    skipped : points that an earlier call had done.
    """

    out: str
    name: str
    numerics: str
    learn: int
    n_test: int
    float64: Mapping[str, Any]
    points: tuple[Point, ...]
    n_points: int
    skipped: int
    interrupted: bool
    wall_s: float

    def lost(self, point: Point) -> float | None:
        """Accuracy lost against float64 (negative: gained)."""
        return None if point.accuracy is None else float(self.float64["accuracy"]) - point.accuracy

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON-ready dictionary."""
        return asdict(self) | {"points": [asdict(p) | {"accuracy_lost": self.lost(p)} for p in self.points]}


def parse_varied(values: Sequence[str]) -> dict[str, list[str]]:
    """Parse ``NAME=V1,V2,..`` where a value may be a range ``A..B`` of whole numbers; InputError NC160 for other forms."""
    found: dict[str, list[str]] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        items = [item.strip() for item in rest.split(",")]
        if not equals or not name or not all(items):
            raise InputError.of(
                "NC160",
                f"--vary {value!r} is not of the form NAME=V1,V2,... (A..B: all whole numbers from A to B)",
                help="for example --vary weight_bits=2..8 --vary low_bits=d,none",
            )
        if name in found:
            raise InputError.of("NC206", f"--vary names '{name}' twice")
        expanded: list[str] = []
        for item in items:
            match = _RANGE.fullmatch(item)
            if match is None:
                expanded.append(item)
                continue
            low, high = int(match[1]), int(match[2])
            if not 0 <= high - low < _MOST:
                raise InputError.of("NC160", f"--vary {value!r}: '{item}' is empty or too long", help="A..B counts upwards")
            expanded += [str(n) for n in range(low, high + 1)]
        found[name] = list(dict.fromkeys(expanded))
    if not found:
        raise InputError.of("NC160", "a sweep needs --vary NAME=V1,V2,...", help="for example --vary weight_bits=2..8")
    return found


def choices(varied: Mapping[str, Sequence[str]]) -> list[Choice]:
    """Return every combination, the last name varying fastest; InputError NC160 for more than 10,000."""
    if int(np.prod([float(len(v)) for v in varied.values()])) > _MOST:
        raise InputError.of("NC160", f"--vary: more than {_MOST} combinations", help="vary less at once")
    return [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]


def described(network: Network, choice: Choice) -> Network:
    """Return the network with what a choice says of its description; InputError NC160 for what is no number or out of range."""
    rules = network.rules
    for name in OF_THE_DESCRIPTION:
        if name not in choice:
            continue
        number = _number(name, choice[name])
        if name == "seed":
            network = network.with_seed(int(number))
            continue
        rules = tuple(_changed(rule, name, number) if isinstance(rule, EProp) else rule for rule in rules)
    return replace(network, rules=rules)


def _changed(rule: EProp, name: str, number: float) -> EProp:
    if name == "learning_rate":
        return replace(rule, optimizer=replace(rule.optimizer, learning_rate=number))
    return replace(rule, kappa=number, kappa_reg=number if rule.kappa_reg == rule.kappa else rule.kappa_reg)


def _number(name: str, text: str) -> float:
    low, high = {"kappa": (0.0, 1.0), "learning_rate": (0.0, 1e9), "seed": (0.0, 2.0**53)}[name]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high or (name == "kappa" and value == high) or (name == "seed" and value != int(value)):
        raise InputError.of(
            "NC160", f"--vary {name}: {text!r} must be a {'whole ' if name == 'seed' else ''}number from {low:g} to {high:g}"
        )
    return value


def sweep(
    network: Network,
    numerics: Numerics,
    varied: Mapping[str, Sequence[str]],
    *,
    out: str | Path,
    connections: Mapping[str, Connections] | None = None,
    learn: int = 0,
    limit_test: int | None = None,
    data_path: str | None = None,
    part: str = "test",
    progress: bool | None = None,
) -> SweepResult:
    """Evaluate a network in a target's integers with every combination of options.

    Parameters
    ----------
    network, numerics
        ``numerics.options.extra`` holds for every point that does not vary them.
    varied
        Name -> values. A name is an option of the target, or one of ``kappa``, ``learning_rate``, ``seed``, which change the description
        (weights that are given stay; without, another seed draws others).
    out
        Folder. Points that it holds of the same sweep are not done again.
    connections
        Synapses and weights; None: as described.
    part
        Samples to show: ``test``, the held-out ones, or ``train``.
    learn
        Samples to learn from in the target's integers before each evaluation, in the order of a training; 0: weights as they are.

    Raises
    ------
    InputError
        NC160 values, NC201/NC207 options that the target does not have, NC240 .. NC248 task and data, NC701 the folder.
    """
    began = time.perf_counter()
    data = load_data(network, data_path)
    combinations = choices(varied)
    networks = [described(network, choice) for choice in combinations]
    hows = [_numerics(numerics, choice) for choice in combinations]
    for how in hows:
        numerics.target.check_options(how.options.extra)
    if learn < 0:
        raise InputError.of("NC242", f"learn is {learn}, must be >= 0")
    folder = Path(out)
    try:
        (folder / "points").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError.of(
            "NC701", f"cannot be made: {error.strerror}", file=str(out), help="choose a folder that you can write to"
        ) from None
    test = first_indices(len((data.train if part == "train" else data.test).labels), limit_test)
    identity = f"{data.identity} {part}"
    base = cp.digest_of(network, identity, {"limit_test": limit_test, "learn": learn}, connections, numerics=numerics)
    points: list[Point] = []
    skipped, interrupted = 0, False
    shown = {
        "data_path": data_path,
        "limit_train" if part == "train" else "limit_test": limit_test,
        "baseline": False,
        "progress": False,
        "part": part,
    }
    float64 = _stored(folder, base, {})
    with interruptible() as stopped, track(progress) as bar:
        if float64 is None:
            bar.update("float64", 0, len(combinations))
            float64 = _point(network, None, {}, connections, data, learn, shown)
            _store(folder, base, float64)
        for number, (choice, changed, how) in enumerate(zip(combinations, networks, hows, strict=True)):
            bar.update(" ".join(f"{k}={v}" for k, v in choice.items()), number, len(combinations))
            found = _stored(folder, base, choice)
            if found is not None:
                skipped += 1
            elif stopped():
                interrupted = True
                break
            else:
                found = _point(changed, how, choice, connections, data, learn, shown)
                _store(folder, base, found)
            points.append(found)
    result = SweepResult(
        out=str(folder),
        name=network.name,
        numerics=numerics.target.name,
        learn=learn,
        n_test=len(test),
        float64={f: getattr(float64, f) for f in ("accuracy", "loss", "spikes_per_sample", "synaptic_events_per_sample")},
        points=tuple(points),
        n_points=len(combinations),
        skipped=skipped,
        interrupted=interrupted,
        wall_s=time.perf_counter() - began,
    )
    if points:
        _write(folder, result, list(varied))
    return result


def _numerics(numerics: Numerics, choice: Choice) -> Numerics:
    extra = {k: v for k, v in choice.items() if k not in OF_THE_DESCRIPTION}
    return replace(numerics, options=replace(numerics.options, extra={**numerics.options.extra, **extra}))


def _point(
    network: Network,
    numerics: Numerics | None,
    choice: Choice,
    connections: Mapping[str, Connections] | None,
    data: EventData,
    learn: int,
    shown: Mapping[str, Any],
) -> Point:
    synapses = realise_all(network) if connections is None else connections
    tally = Tally()
    try:
        if learn:
            synapses = _learnt(network, numerics, synapses, data, learn, tally)
        found = evaluate(network, connections=synapses, numerics=numerics, **shown)
    except UnsupportedError as error:
        first = error.diagnostics[0]
        return Point(choice=choice, refused=f"{first.code}: {first.message}")
    return replace(_figures(choice, found), train_accuracy=tally.means(data.n_classes)["accuracy"] if learn else None)


def _learnt(
    network: Network, numerics: Numerics | None, synapses: Mapping[str, Connections], data: EventData, n: int, tally: Tally
) -> dict[str, Connections]:
    """Return the synapses after the first ``n`` samples of a training."""
    runner, presenter = make_runner(network, synapses, numerics, learning=True), Presenter(network, data)
    size, order = len(data.train.labels), np.zeros(0, np.int64)
    for done in range(n):
        epoch, position = divmod(done, size)
        if position == 0:
            order = stream(network.seed, Purpose.ORDER, epoch).permutation(np.arange(size))
        presenter.show(runner, data.train.sample(int(order[position]), epoch), tally, learn=True)
    weights = runner.weights()
    return {name: replace(c, weight=weights[name]) for name, c in synapses.items()}


def _figures(choice: Choice, found: Any) -> Point:
    return Point(
        choice=choice,
        accuracy=found.accuracy,
        loss=found.loss,
        spikes_per_sample=found.spikes_per_sample,
        synaptic_events_per_sample=found.synaptic_events_per_sample,
    )


def _file(folder: Path, base: str, choice: Choice) -> Path:
    key = hashlib.sha256(json.dumps([FORMAT, base, sorted(choice.items())]).encode()).hexdigest()[:16]
    return folder / "points" / f"{key}.json"


def _stored(folder: Path, base: str, choice: Choice) -> Point | None:
    """Return a point that is done; one that cannot be read is done again."""
    try:
        found = json.loads(_file(folder, base, choice).read_bytes())
        return Point(**found["point"]) if found["base"] == base and found["point"]["choice"] == choice else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(folder: Path, base: str, point: Point) -> None:
    write_atomically(_file(folder, base, point.choice), (json.dumps({"base": base, "point": asdict(point)}, indent=1) + "\n").encode())


def _write(folder: Path, result: SweepResult, names: Sequence[str]) -> None:
    found = result.as_json()
    for key in ("wall_s", "skipped", "interrupted", "out"):  # of the call, not of the sweep
        del found[key]
    write_atomically(folder / "sweep.json", (json.dumps(found, indent=1) + "\n").encode())
    text = io.StringIO()
    figures = [f.name for f in fields(Point) if f.name != "choice"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *figures, "accuracy_lost"])
    for p in result.points:
        row = [*(p.choice[n] for n in names), *(getattr(p, f) for f in figures), result.lost(p)]
        writer.writerow(["" if v is None else v for v in row])
    write_atomically(folder / "sweep.csv", text.getvalue().encode())
    write_atomically(folder / "sweep.png", sweep_png(result, names))


def _lines(result: SweepResult, names: Sequence[str]) -> Iterator[tuple[str, list[str], list[float]]]:
    """Yield (label, values of the first name, points of accuracy lost) for each combination of the other names."""
    rest: dict[tuple[str, ...], list[Point]] = {}
    for p in result.points:
        rest.setdefault(tuple(p.choice[n] for n in names[1:]), []).append(p)
    for others, points in rest.items():
        label = ", ".join(f"{n}={v}" for n, v in zip(names[1:], others, strict=True))
        lost = [result.lost(p) for p in points]
        yield label, [p.choice[names[0]] for p in points], [np.nan if x is None else 100.0 * x for x in lost]


def sweep_png(result: SweepResult, names: Sequence[str]) -> bytes:
    """Return accuracy lost over the values of the first name, a line for each combination of the others; same input, same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    values = list(dict.fromkeys(p.choice[names[0]] for p in result.points))
    for label, x, y in _lines(result, names):
        axis.plot([values.index(v) for v in x], y, marker=".", label=label or None)
    axis.axhline(0.0, linestyle="--", color="gray", linewidth=0.8)
    axis.set_xticks(range(len(values)), values)
    axis.set_xlabel(names[0], parse_math=False)
    axis.set_ylabel("points of accuracy lost")
    if len(names) > 1:
        axis.legend(fontsize="small")
    how = f"after {result.learn} samples learnt" if result.learn else "weights frozen"
    title = f"{result.name}: {how} in the integers of {result.numerics} (float64: {result.float64['accuracy']:.1%})"
    figure.suptitle(title, parse_math=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
    return image.getvalue()
