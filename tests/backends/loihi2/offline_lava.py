"""Lava's own process models without its runtime: every model of an emitted program in a thread of this process.

``run.py`` builds the program's Lava processes; instead of compiling them (an operating-system process each, a second to start), their
models are made here, their variables set as Lava's builder does, and their ports replaced by queues. The models' code, Lava's and the
emitted one, runs unchanged; a thousand networks take a minute. ``test_random_programs.py`` compares one with a real run.
"""

from __future__ import annotations

import argparse
import importlib
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, spmatrix

from neurocompile.ir.signals import Signal, Spikes

WAIT_S = 60.0


class _In:
    """Sums what its wires bring, zeros without any (``PyInPortVectorDense.recv``)."""

    def __init__(self, shape: tuple[int, ...], kind: Any) -> None:
        self.shape, self.kind, self.wires = shape, kind, []  # type: tuple[int, ...], Any, list[queue.SimpleQueue[np.ndarray[Any, Any]]]

    def recv(self) -> np.ndarray[Any, Any]:
        total = np.zeros(self.shape, self.kind)
        for wire in self.wires:
            total = total + wire.get(timeout=WAIT_S)
        return total


class _Out:
    """Sends a copy over each of its wires, in the port's type."""

    def __init__(self, shape: tuple[int, ...], kind: Any) -> None:
        self.shape, self.kind, self.wires = shape, kind, []  # type: tuple[int, ...], Any, list[queue.SimpleQueue[np.ndarray[Any, Any]]]

    def send(self, data: Any) -> None:
        for wire in self.wires:
            wire.put(np.broadcast_to(np.asarray(data), self.shape).astype(self.kind))


@contextmanager
def emitted(program: Path) -> Iterator[Any]:
    """Import ``run.py`` and the processes of a program (the code is the same for all programs); gives the module."""
    import sys

    def forget() -> None:
        for name in [n for n in sys.modules if n == "run" or n.split(".")[0] == "processes"]:
            del sys.modules[name]

    forget()
    sys.path.insert(0, str(program))
    try:
        yield importlib.import_module("run")
    finally:
        sys.path.remove(str(program))
        forget()


def run_offline(
    run: Any,
    scratch: Path,
    spec: Mapping[str, Any],
    arrays: Mapping[str, Any],
    inputs: Mapping[str, Spikes],
    signals: Mapping[str, Signal],
    *,
    steps: int,
    learn: bool,
) -> dict[str, Any]:
    """Run a program (network.json, network.npz) in Lava's fixed-point models; returns the arrays of ``--out`` with ``--state``."""
    program = object.__new__(run.Program)
    program.args = argparse.Namespace(steps=steps, float=False, no_learn=not learn, state=True)
    program.scratch, program.precision, program.spec, program.arrays = scratch, "fixed", spec, arrays
    program.learn = spec["learning"] and learn
    program.populations, program.projections = spec["populations"], spec["projections"]
    program.processes, program.inputs, program.plastic = {}, {}, {}
    given = {name: {"neuron": s.neuron, "step": s.step} for name, s in inputs.items()}
    program.build(given, {name: {"target": s.target, "window": s.window} for name, s in signals.items()})
    models = _start(program)
    _run(models, steps)
    found, _ = program.results()
    for index, population in enumerate(spec["populations"]):
        if population["process"] != "SpikeInput":
            model = models[id(program.processes[index])]
            found |= {f"state_{name}:{population['name']}": np.array(getattr(model, name)) for name in ("u", "v")}
    return dict(found)


def _start(program: Any) -> dict[int, Any]:
    """Make a model for every Lava process that hangs together with the program's; process id -> model."""
    found: dict[int, Any] = {}
    waiting = list(program.processes.values())
    while waiting:
        process = waiting.pop()
        if id(process) in found:
            continue
        found[id(process)] = (process, _model(process))
        for port in [*process.out_ports, *process.in_ports]:
            waiting += [other.process for other in [*port.out_connections, *port.in_connections]]
    for process, model in found.values():
        for port in process.out_ports:
            for other in port.out_connections:
                wire: queue.SimpleQueue[np.ndarray[Any, Any]] = queue.SimpleQueue()
                getattr(model, port.name).wires.append(wire)
                getattr(found[id(other.process)][1], other.name).wires.append(wire)
    return {key: model for key, (_, model) in found.items()}


def _model(process: Any) -> Any:
    cls = _model_class(process)
    model = cls(process.proc_params)
    for port in process.in_ports:
        setattr(model, port.name, _In(port.shape, getattr(cls, port.name).d_type))
    for port in process.out_ports:
        setattr(model, port.name, _Out(port.shape, getattr(cls, port.name).d_type))
    for var in process.vars:
        kind = getattr(cls, var.name)
        if kind.cls in (int, float):
            value: Any = var.init if np.isscalar(var.init) else np.asarray(var.init).item()
        elif isinstance(var.init, spmatrix):
            value = csr_matrix(var.init).astype(kind.d_type)
        else:
            value = np.full(var.shape, var.init, kind.d_type)
        setattr(model, var.name, value)
    return model


def _model_class(process: Any) -> Any:
    """Return the fixed-point model of a process, of all classes that its own module and those beside it define (as Lava looks for it)."""
    from lava.proc.dense.models import PyDenseModelBitAcc
    from lava.proc.lif.models import PyLifModelBitAcc
    from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc

    named = {
        "LIF": PyLifModelBitAcc, "Dense": PyDenseModelBitAcc, "Sparse": PySparseModelBitAcc, "DelaySparse": PyDelaySparseModelBitAcc,
    }  # fmt: skip
    module = importlib.import_module(type(process).__module__)
    if type(process).__name__ in named and module.__name__.startswith("lava."):
        return named[type(process).__name__]
    for candidate in vars(module).values():
        if getattr(candidate, "implements_process", None) is type(process) and "fixed_pt" in candidate.tags:
            return candidate
    raise LookupError(type(process).__name__)


def _run(models: Mapping[int, Any], steps: int) -> None:
    failures: list[BaseException] = []

    def work(model: Any) -> None:
        try:
            for step in range(steps):
                model.time_step = step + 1
                model.run_spk()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(model,), daemon=True) for model in models.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S * 2)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads)
