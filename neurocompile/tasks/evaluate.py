"""Evaluation of a network on held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurocompile.backends.reference import Simulator
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import load_npz
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.ir.rewired import moved_synapses
from neurocompile.tasks.baseline import linear_baseline
from neurocompile.tasks.data import load_data
from neurocompile.tasks.memory import check_memory
from neurocompile.tasks.numerics import Lowering, Numerics, Runner, lowering_of, make_runner
from neurocompile.tasks.present import Presenter, Tally, first_indices
from neurocompile.tasks.progress import track


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """Outcome on the held-out part.

    Attributes
    ----------
    accuracy : float
        Share of right decisions: the largest mean readout over the learning window.
    loss : float
        Per step of the window, mean over samples (docs/tasks.md).
    confusion : tuple of rows
        confusion[i][j]: samples of class i decided to be j.
    baseline_accuracy : float or None
        Linear classifier on event counts, trained on the training part; None if not asked for.
    spikes_per_sample, synaptic_events_per_sample : float
        Spikes of all neurons but the spike sources; deliveries over synapses.
    n_test : int
        Samples shown.
    part : str
        What they are of: ``test``, the held-out part, or ``train``.
    decisions : tuple of int
        Class decided for each sample.
    lowering : Lowering or None
        Of an evaluation in a target's integers.
    """

    accuracy: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    baseline_accuracy: float | None
    spikes_per_sample: float
    synaptic_events_per_sample: float
    n_test: int
    part: str = "test"
    decisions: tuple[int, ...] = ()
    lowering: Lowering | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON-ready dictionary, without the single decisions."""
        found = asdict(self) | {"confusion": [list(row) for row in self.confusion]}
        del found["decisions"], found["lowering"]
        return found | (self.lowering.as_json() if self.lowering is not None else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A network in a target's integers, its weights frozen, beside the same in float64."""

    integers: EvalResult
    float64: EvalResult

    @property
    def n_decisions_differ(self) -> int:
        """Samples that the two decide otherwise."""
        return sum(a != b for a, b in zip(self.integers.decisions, self.float64.decisions, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the integers' result, with the other's under ``float64``."""
        return {**self.integers.as_json(), "n_decisions_differ": self.n_decisions_differ, "float64": self.float64.as_json()}


def load_weights(path: str | Path) -> dict[str, FloatArray]:
    """Return the arrays ``weight:NAME`` of an .npz file by projection; InputError NC249 if it holds none."""
    found = {key.removeprefix("weight:"): array for key, array in load_npz(path).items() if key.startswith("weight:")}
    if not found:
        raise InputError.of("NC249", "holds no weights (arrays 'weight:PROJECTION')", file=str(path), help="`train` writes weights.npz")
    return found  # type: ignore[return-value]


def evaluate(
    network: Network,
    weights: str | Path | Mapping[str, FloatArray] | None = None,
    *,
    connections: Mapping[str, Connections] | None = None,
    data_path: str | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    baseline: bool = True,
    progress: bool | None = None,
    numerics: Numerics | None = None,
    part: str = "test",
) -> EvalResult:
    """Show the held-out samples in their order to the network, which does not learn.

    Parameters
    ----------
    network : Network
    weights : path or mapping projection -> weights, optional
        For example ``weights.npz`` of a training; projections that it does not name keep the description's weights. The file of a
        rewired network also says where its synapses are; a mapping does not (give ``connections``).
    connections : mapping projection -> Connections, optional
        Synapses; default: realised from the description.
    data_path : str, optional
        Folder of the data, instead of the description's.
    limit_train, limit_test : int, optional
        Only the first so many samples of each part (training samples matter for the baseline alone).
    baseline : bool
        Also train the linear classifier.
    progress : bool, optional
        Show a bar on stderr; None: if it is a terminal.
    numerics : Numerics, optional
        Compute in a target's integers, weights frozen; what the target only approximates in learning does not matter then.
    part : str
        ``train``: show the training samples instead, as of the first epoch and without a baseline; what quantisation costs shows better on
        many samples than on few.

    Raises
    ------
    InputError
        As :func:`neurocompile.tasks.data.load_data`; NC249 weights, NC202/NC207 weights that do not fit.
    UnsupportedError
        NC3xx: the target of ``numerics`` cannot express the network.
    DoesNotFitError
        NC410, NC230: more memory than there is.
    """
    data = load_data(network, data_path)
    simulator = _engine(network, weights, connections) if numerics is None else _twin(network, weights, connections, numerics)
    presenter, tally = Presenter(network, data), Tally()
    train, test = first_indices(len(data.train.labels), limit_train), first_indices(len(data.test.labels), limit_test)
    samples, shown = (data.train, train) if part == "train" else (data.test, test)
    with track(progress) as bar:
        show_all(presenter, simulator, samples, shown, tally, lambda done: bar.update("evaluating", done, len(shown)))
    return EvalResult(
        **tally.means(data.n_classes),
        confusion=tuple(tuple(int(n) for n in row) for row in tally.confusion(data.n_classes)),
        baseline_accuracy=linear_baseline(data, train, test) if baseline and part == "test" else None,
        n_test=len(shown),
        part=part,
        decisions=tuple(tally.decisions),
        lowering=lowering_of(simulator),
    )


def compare(
    network: Network,
    numerics: Numerics,
    *,
    connections: Mapping[str, Connections] | None = None,
    baseline: bool = True,
    **options: Any,
) -> Comparison:
    """Evaluate a network in a target's integers and in float64, on the same samples (parameters and errors of :func:`evaluate`)."""
    connections = realise_all(network) if connections is None else connections
    integers = evaluate(network, connections=connections, baseline=baseline, numerics=numerics, **options)
    return Comparison(integers=integers, float64=evaluate(network, connections=connections, baseline=False, **options))


def _engine(
    network: Network, weights: str | Path | Mapping[str, FloatArray] | None, connections: Mapping[str, Connections] | None
) -> Simulator:
    given = load_weights(weights) if isinstance(weights, str | Path) else weights
    check_memory(network, training=False, realised=connections is not None)
    simulator = Simulator(network, connections)
    if isinstance(weights, str | Path):
        _follow_moves(simulator, weights)
    if given:
        simulator.set_weights(given)
    return simulator


def _twin(
    network: Network,
    weights: str | Path | Mapping[str, FloatArray] | None,
    connections: Mapping[str, Connections] | None,
    numerics: Numerics,
) -> Runner:
    """Scales follow from the weights, so these come before the lowering."""
    from neurocompile.pipeline import replace_weights  # brings the mapper, which a task needs for this alone

    synapses = dict(realise_all(network) if connections is None else connections)
    given = load_weights(weights) if isinstance(weights, str | Path) else weights
    if given:
        synapses = replace_weights(network, synapses, {f"weight:{n}": v for n, v in given.items()}, file=str(weights))
    return make_runner(network, synapses, numerics, learning=False)


def _follow_moves(simulator: Simulator, file: str | Path) -> None:
    """Put synapses that have moved where a file of a rewired network says that they are."""
    if simulator.rewired:
        arrays = load_npz(file)
        present = {name: simulator.connections(name) for name in simulator.rewired}
        network = simulator.network
        simulator.set_connections({n: moved_synapses(network, n, c, arrays, file=str(file)) for n, c in present.items()})


def show_all(presenter: Presenter, simulator: Runner, samples: Any, indices: IntArray, tally: Tally, report: Any) -> None:
    """Show samples without learning; ``report(done)`` after each."""
    for done, index in enumerate(indices, start=1):
        presenter.show(simulator, samples.sample(int(index)), tally, learn=False)
        report(done)
