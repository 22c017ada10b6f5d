"""Training in the reference engine or in a target's integers, with checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurocompile.backends.reference import Simulator
from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import save_npz, write_atomically
from neurocompile.ir.realise import Connections, realise_all
from neurocompile.simulation.twin import TwinSimulator
from neurocompile.tasks import checkpoint as cp
from neurocompile.tasks.baseline import linear_baseline
from neurocompile.tasks.curve import EpochRecord, curve_csv, curve_png
from neurocompile.tasks.data import EventData, Purpose, load_data, stream, task_of
from neurocompile.tasks.evaluate import show_all
from neurocompile.tasks.memory import check_memory
from neurocompile.tasks.numerics import Lowering, Numerics, Runner, lowering_of, make_runner
from neurocompile.tasks.present import Presenter, Tally, first_indices
from neurocompile.tasks.progress import Bar, interruptible, track

EXIT_INTERRUPTED = 130
"""Exit code of a training that was interrupted (Ctrl-C or SIGTERM) and can be resumed: 128 + SIGINT, as shells count."""

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Outcome of a training.

    Attributes
    ----------
    out : str
        Folder with ``weights.npz``, ``learning_curve.csv``, ``learning_curve.png`` and ``checkpoint.npz``.
    epochs : int
        Epochs finished; ``history`` has one record each.
    interrupted : bool
        A checkpoint was written and ``message`` says how to go on; the command line ends with :data:`EXIT_INTERRUPTED`.
    baseline_accuracy : float or None
        Linear classifier on event counts.
    wall_s, cpu_s : float
        Of this call.
    lowering : Lowering or None
        Of a training in a target's integers.
    """

    out: str
    epochs: int
    n_train: int
    n_test: int
    seed: int
    history: tuple[EpochRecord, ...]
    interrupted: bool
    baseline_accuracy: float | None
    message: str
    wall_s: float
    cpu_s: float
    lowering: Lowering | None = None

    @property
    def test_accuracy(self) -> float | None:
        """Held-out accuracy after the last finished epoch."""
        return self.history[-1].test_accuracy if self.history else None

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON-ready dictionary."""
        found = asdict(self) | {"history": [asdict(row) for row in self.history], "test_accuracy": self.test_accuracy}
        del found["lowering"]
        return found | (self.lowering.as_json() if self.lowering is not None else {})


def train(
    network: Network,
    *,
    out: str | Path,
    epochs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    data_path: str | None = None,
    connections: Mapping[str, Connections] | None = None,
    kappas: Mapping[str, FloatArray] | None = None,
    baseline: bool = True,
    numerics: Numerics | None = None,
) -> TrainResult:
    """Train a network on its task's data and evaluate it on the held-out part after each epoch.

    Samples come in an order that is shuffled in each epoch (a function of seed and epoch). Weights change while the simulation runs;
    the evaluation runs in a simulator of its own and leaves no trace in the training. A training that is interrupted, killed and
    resumed gives the same bytes (weights, curve) as one that is not.

    Parameters
    ----------
    network : Network
    out : path
        Folder, made if it does not exist.
    epochs : int, optional
        >= 1, in all (with those before a resume); default: the task's.
    resume : bool
        Go on from the checkpoint in ``out``.
    overwrite : bool
        Begin anew although ``out`` holds a checkpoint.
    checkpoint_every : int, optional
        Samples between checkpoints, >= 1; default: every 30 s. One is always written after an epoch.
    seed : int, optional
        Instead of the description's.
    progress : bool, optional
        Show a bar on stderr; None: if it is a terminal.
    limit_train, limit_test : int, optional
        Only the first so many samples of each part, >= 1.
    data_path : str, optional
        Folder of the data, instead of the description's.
    connections : mapping projection -> Connections, optional
        Synapses and initial weights; default: realised from the description.
    kappas : mapping projection -> float64, optional
        Where learnt kappas start, for example those of an earlier training; default: the rule's kappa.
    baseline : bool
        Also train the linear classifier.
    numerics : Numerics, optional
        Learn in a target's integers as its program does; the evaluation is in them too. ``connections`` are rounded to what the target
        holds.

    Raises
    ------
    InputError
        NC240 .. NC248: task and data; NC701: ``out``; NC710 .. NC713: checkpoints.
    UnsupportedError
        NC3xx: the target cannot express the network, or only approximately and ``numerics`` does not allow it.
    DoesNotFitError
        NC230, NC410: more memory than there is.
    """
    began, cpu = time.perf_counter(), time.process_time()
    network = network if seed is None else network.with_seed(seed)
    task, _ = task_of(network)
    epochs = task.epochs if epochs is None else epochs
    limits = {"limit_train": limit_train, "limit_test": limit_test}
    for name, value in {"epochs": epochs, "checkpoint_every": checkpoint_every, **limits}.items():
        if value is not None and value < 1:
            raise InputError.of("NC242", f"{name} is {value}, must be >= 1")
    if not any(p.learning is not None for p in network.synaptic_projections):
        raise InputError.of(
            "NC248", f"network '{network.name}' has nothing to train: no projection learns", help="add `learning: NAME` to a projection"
        )
    if numerics is None:  # a target's simulation looks at the memory itself
        check_memory(network, training=True, realised=connections is not None)
    folder = Path(out)
    if (folder / cp.NAME).exists() and not (resume or overwrite):
        raise InputError.of(
            "NC713", "the folder holds a training already", file=str(out), help="go on with --resume, or choose another folder"
        )
    data = load_data(network, data_path)
    digest = cp.digest_of(network, data.identity, limits, connections, kappas, numerics)
    run = _Training(network, data, folder, digest, connections, numerics, limit_train, limit_test)
    if run.engine is not None:
        run.engine.set_kappas(kappas or {})
    if not resume:
        _make(folder)
    else:
        run.restore(cp.load_checkpoint(folder, digest))
    with interruptible() as stopped, track(progress) as bar:
        interrupted = not run.go(epochs, checkpoint_every, stopped, bar)
    figure = linear_baseline(data, run.train_ids, run.test_ids) if baseline and not interrupted else None
    run.write(figure)
    message = f"{run.epoch} of {epochs} epochs done, results in {folder}"
    if interrupted:
        message = (
            f"interrupted in epoch {run.epoch + 1} of {epochs} after {run.position} of {len(run.train_ids)} samples; "
            f"a checkpoint is in {folder}: run the same command with --resume to go on"
        )
    return TrainResult(
        out=str(folder),
        epochs=run.epoch,
        n_train=len(run.train_ids),
        n_test=len(run.test_ids),
        seed=network.seed,
        history=tuple(run.history),
        interrupted=interrupted,
        baseline_accuracy=figure,
        message=message,
        wall_s=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu,
        lowering=lowering_of(run.simulator),
    )


class _Training:
    """State of a training between samples."""

    def __init__(
        self,
        network: Network,
        data: EventData,
        folder: Path,
        digest: str,
        connections: Mapping[str, Connections] | None,
        numerics: Numerics | None,
        limit_train: int | None,
        limit_test: int | None,
    ) -> None:
        self.network, self.data, self.folder, self.digest = network, data, folder, digest
        self.connections = realise_all(network) if connections is None else dict(connections)
        self.train_ids = first_indices(len(data.train.labels), limit_train)
        self.test_ids = first_indices(len(data.test.labels), limit_test)
        self.presenter = Presenter(network, data)
        self.simulator = make_runner(network, self.connections, numerics, learning=True)
        self.evaluator: Runner = (
            self.simulator.again() if isinstance(self.simulator, TwinSimulator) else Simulator(network, self.connections)
        )
        self.at_rest = self.evaluator.state()
        self.epoch, self.position = 0, 0
        self.tally, self.history = Tally(), list[EpochRecord]()

    @property
    def engine(self) -> Simulator | None:
        """The reference engine, if it is what learns: it alone rewires and learns kappa."""
        return self.simulator if isinstance(self.simulator, Simulator) else None

    def restore(self, point: cp.Checkpoint) -> None:
        self.simulator.restore(point.state)
        self.epoch, self.position, self.tally, self.history = point.epoch, point.position, point.tally, list(point.history)

    def save(self) -> None:
        point = cp.Checkpoint(
            digest=self.digest,
            epoch=self.epoch,
            position=self.position,
            tally=self.tally,
            history=tuple(self.history),
            state=self.simulator.state(),
        )
        cp.save_checkpoint(self.folder, point)

    def order(self) -> IntArray:
        """Order of the training samples in the current epoch."""
        return stream(self.network.seed, Purpose.ORDER, self.epoch).permutation(self.train_ids)

    def go(self, epochs: int, checkpoint_every: int | None, stopped: Callable[[], bool], bar: Bar) -> bool:
        """Train until ``epochs`` are done; False if stopped before (a checkpoint is written either way)."""
        saved = time.monotonic()
        while self.epoch < epochs:
            order, title = self.order(), self._title(epochs)
            while self.position < len(order):
                if stopped():
                    self.save()
                    return False
                sample = self.data.train.sample(int(order[self.position]), self.epoch)
                self.presenter.show(self.simulator, sample, self.tally, learn=True)
                self.position += 1
                bar.update(title, self.position, len(order))
                due = time.monotonic() - saved > CHECKPOINT_SECONDS if checkpoint_every is None else self.position % checkpoint_every == 0
                if due:
                    self.save()
                    saved = time.monotonic()
            self._finish_epoch(bar)
            self.save()
        return True

    def _title(self, epochs: int) -> str:
        last = f", held out {self.history[-1].test_accuracy:.1%}" if self.history else ""
        return f"epoch {self.epoch + 1}/{epochs}{last}"

    def _finish_epoch(self, bar: Bar) -> None:
        found = Tally()
        self.evaluator.restore(self.at_rest)
        if isinstance(self.simulator, Simulator) and isinstance(self.evaluator, Simulator):
            self.evaluator.set_connections({name: self.simulator.connections(name) for name in self.simulator.rewired})
        self.evaluator.set_weights(self.simulator.weights())
        n = len(self.test_ids)
        show_all(self.presenter, self.evaluator, self.data.test, self.test_ids, found, lambda done: bar.update("evaluating", done, n))
        shown, held_out = self.tally.means(self.data.n_classes), found.means(self.data.n_classes)
        self.epoch += 1
        self.history.append(
            EpochRecord(
                epoch=self.epoch,
                train_accuracy=shown["accuracy"],
                train_loss=shown["loss"],
                test_accuracy=held_out["accuracy"],
                test_loss=held_out["loss"],
                spikes_per_sample=shown["spikes_per_sample"],
                synaptic_events_per_sample=shown["synaptic_events_per_sample"],
            )
        )
        self.position, self.tally = 0, Tally()
        write_atomically(self.folder / "learning_curve.csv", curve_csv(self.history))

    def write(self, baseline: float | None) -> None:
        """Write weights and curve."""
        weights: dict[str, FloatArray] = self.simulator.weights()
        arrays: dict[str, Any] = {}
        moved = {} if self.engine is None else {name: self.engine.connections(name) for name in self.engine.rewired}
        for name, synapses in (self.connections | moved).items():
            arrays[f"weight:{name}"], arrays[f"pre:{name}"], arrays[f"post:{name}"] = weights[name], synapses.pre, synapses.post
        if self.engine is not None:
            arrays |= {f"kappa:{name}": values for name, values in self.engine.kappas().items()}
        save_npz(self.folder / "weights.npz", arrays)
        write_atomically(self.folder / "learning_curve.csv", curve_csv(self.history))
        write_atomically(self.folder / "learning_curve.png", curve_png(self.history, self.network.name, baseline))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError.of(
            "NC701", f"cannot be made: {error.strerror}", file=str(folder), help="choose a folder that you can write to"
        ) from None
