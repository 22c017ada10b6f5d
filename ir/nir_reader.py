"""NIR files -> :class:`Network`: which numbers become which, and what was decided (docs/nir.md has the formulas and their sources).

Forward Euler, as NIR's platforms compute (Pedersen et al., "Neuromorphic intermediate representation", Nat. Commun. 15, 8122, 2024):

    LIF      v <- (1 - dt/tau) v + dt/tau v_leak + r dt/tau (W z + b)
    IF       v <- v + r (W z + b)                      a spike is a delta current, so dt does not enter (Norse, Sinabs: weight per spike)
    CubaLIF  I <- (1 - dt/tau_syn) I + w_in dt/tau_syn (W z + b),  then  v <- (1 - dt/tau_mem) v + dt/tau_mem (v_leak + r I)
             (the new current acts in the same step, as in snnTorch; Norse lets the old one act, one step later)

Gains are folded into weights and biases. A constant input b' to a current is exact as a constant c = b' / (1 - s) on the membrane and a
current that starts at -c instead of 0 (s: decay of the current), because i - c then obeys the recurrence without b'.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from neurocompile.ir._types import FloatArray, Param
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.convolution import size
from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.ir.network import Network, Population, Projection, safe_network_name
from neurocompile.ir.neurons import LIF, CubaLIF, Integration, LeakyReadout, NeuronModel, Reset, SpikeSource
from neurocompile.ir.nir_graph import SUPPORTED_NAMES, FlatGraph, Signal, compose, flatten, is_identity, node_shape, unsupported


def read_nir(path: str | Path, *, dt: float | None, seed: int | None = None) -> Network:
    """Read a NIR file (HDF5).

    Parameters
    ----------
    path : str or Path
    dt : float, optional
        Step, s, > 0; NIR files have none, so None is an error that says so.
    seed : int, optional
        Of the network (NIR itself leaves nothing random); default 1.

    Returns
    -------
    Network
        One ``spike_source`` per Input node, one population per neuron node (tensors flattened in C order), one projection (Explicit) per
        pair of spiking nodes that linear nodes connect. ``notes`` says what was decided.

    Raises
    ------
    InputError
        NC105/NC140: the file cannot be read; NC141: an unsupported node; NC142: no dt, or dt too large; NC143: shapes; NC144: the graph's
        structure; NC146: too many synapses; NC147: graded values where only spikes are possible; NC209: a delay above 255 steps.
    """
    try:
        if dt is None:
            raise InputError.of("NC142", "NIR files have no time step", help="give one, for example --dt 1e-4 (seconds)")
        if not (np.isfinite(dt) and dt > 0):
            raise InputError.of("NC142", f"the time step is {dt:g} s, must be > 0")
        return network_from_nir(_load(Path(path)), dt=dt, seed=seed, name=Path(path).stem, source=str(path))
    except InputError as error:
        raise InputError(d if d.span or d.file else replace(d, file=str(path)) for d in error.diagnostics) from None
    except MemoryError as error:
        raise InputError.of("NC146", f"needs more memory than there is: {error}", file=str(path), help="read a smaller network") from None


def network_from_nir(graph: Any, *, dt: float, seed: int | None = None, name: str = "nir", source: str = "nir") -> Network:
    """Return the network of a ``nir.NIRGraph`` (parameters, result and errors as in :func:`read_nir`)."""
    if not isinstance(graph, nir.NIRGraph):
        raise InputError.of("NC144", f"holds a single {type(graph).__name__} node, not a graph")
    flat = flatten(graph)
    signals, notes = compose(flat, dt)
    names, renamed = _safe_names(flat)
    populations: dict[str, Population] = {}
    projections: list[Projection] = []
    said = [
        f"undelayed NIR edges became delay 1 step (dt = {dt:g} s): spikes arrive one step later per layer",
        "forward Euler (decay 1 - dt/tau); a membrane exactly at the threshold spikes (>=)",
        *renamed,
        *notes,
    ]
    for node_name in _from_inputs_on(flat):
        node = flat.nodes[node_name]
        if isinstance(node, nir.Input):
            populations[node_name] = Population(name=names[node_name], size=size(node_shape(node)), model=SpikeSource())
            continue
        signal = signals[node_name]
        if isinstance(node, nir.Output):
            if is_identity(signal):
                origin = next(iter(signal.terms))[0]
                said.append(f"output '{node_name}' is population '{names[origin]}'")
                continue
            model: NeuronModel = LeakyReadout(tau_mem=dt, bias=_param(signal.bias), integration=Integration.EULER)
            gain = np.ones(size(signal.shape))
            said.append(f"output '{node_name}' is a leaky_readout without memory: the weighted spikes of one step, plus the bias")
        else:
            if size(signal.shape) != size(node_shape(node)):
                raise InputError.of(
                    "NC143",
                    f"node '{node_name}' ({type(node).__name__}) has shape {node_shape(node)}, but gets a tensor of shape {signal.shape}",
                )
            gain = _gain(node_name, node, dt)
            model = _model(node, gain * signal.bias, dt)
        populations[node_name] = Population(name=names[node_name], size=len(gain), model=model)
        for origin, connect in _connections(signal, gain):
            if len(connect.pre):
                projections.append(Projection(pre=names[origin], post=names[node_name], connect=connect))
            else:
                said.append(f"no projection from '{names[origin]}' to '{names[node_name]}': all weights are 0")
    return Network(
        name=safe_network_name(name),
        dt=dt,
        seed=1 if seed is None else seed,
        populations=tuple(populations.values()),
        projections=tuple(projections),
        source=source,
        notes=tuple(said),
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError.of("NC105", "file does not exist")
    try:
        with h5py.File(path, "r") as file:
            kind = _kind(file["node"])
            found = list(_unknown_types(file["node"], ""))
    except Exception as error:  # h5py raises OSError, KeyError, TypeError, RuntimeError ... for what a damaged file holds
        raise InputError.of("NC140", f"is not a NIR file: {error}", help="NIR files are HDF5 files written by nir.write") from None
    if kind != "NIRGraph":
        raise InputError.of("NC144", f"holds a single {kind} node, not a graph")
    if found:
        raise InputError(found)
    try:
        return nir.read(path, type_check=False)  # our own check names the node and follows PyTorch's shapes
    except Exception as error:  # nir raises AssertionError, KeyError, TypeError, ValueError ... for a bad file
        raise InputError.of(
            "NC140",
            f"the nir package refuses it: {type(error).__name__}: {error}",
            help="export it again with a current version of nir; nested graphs must be complete in themselves",
        ) from None


def _kind(group: Any) -> str:
    kind = group["type"][()]
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _unknown_types(group: Any, prefix: str) -> Iterator[Diagnostic]:
    """Yield a finding for each node whose type is not supported, nested graphs included."""
    kind = _kind(group)
    if kind == "NIRGraph":
        for name, node in group["nodes"].items():
            yield from _unknown_types(node, f"{prefix}.{name}" if prefix else name)
    elif kind not in SUPPORTED_NAMES:
        yield unsupported(prefix, kind)


def _from_inputs_on(graph: FlatGraph) -> list[str]:
    """Return Input, neuron and outermost Output nodes, breadth first from the inputs."""
    after: dict[str, list[str]] = {n: [] for n in graph.nodes}
    for pre, post in graph.edges:
        after[pre].append(post)
    order: dict[str, None] = dict.fromkeys(graph.inputs)
    queue = deque(graph.inputs)
    while queue:
        for following in sorted(after[queue.popleft()]):
            if following not in order:
                order[following] = None
                queue.append(following)
    order.update(dict.fromkeys(graph.nodes))  # loops that no input reaches
    ends = {*graph.inputs, *graph.outputs}
    kept = (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold, nir.LI, nir.CubaLI)
    return [n for n in order if n in ends or isinstance(graph.nodes[n], kept)]


def _safe_names(graph: FlatGraph) -> tuple[dict[str, str], list[str]]:
    """Return a population name for each node, and a note about the changed ones."""
    names: dict[str, str] = {}
    for node in graph.nodes:
        safe = re.sub(r"[^A-Za-z0-9_.]", "_", node)
        safe = (safe if re.match(r"[A-Za-z_]", safe) else f"_{safe}")[:90]
        unique, number = safe, 2
        while unique in names.values():
            unique, number = f"{safe}_{number}", number + 1
        names[node] = unique
    changed = [n for n in _from_inputs_on(graph) if names[n] != n]
    notes = [f"renamed nodes: {', '.join(f'{n!r} is {names[n]!r}' for n in changed)}"] if changed else []
    return names, notes


def _param(values: Any) -> Param:
    """Return a scalar where all values are equal, else a flat array."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return float(array[0]) if (array == array[0]).all() else array


def _flat(node: Any, key: str) -> FloatArray:
    return np.array(np.broadcast_to(np.asarray(getattr(node, key), dtype=np.float64).ravel(), (size(node_shape(node)),)))


def _ratio(name: str, node: Any, key: str, dt: float) -> FloatArray:
    """Return dt / tau, checked: forward Euler needs tau >= dt."""
    tau = _flat(node, key)
    if tau.min() <= 0:
        raise InputError.of("NC201", f"node '{name}': {key} is {tau.min():g} s, must be > 0")
    if dt > tau.min() * (1 + 1e-6):  # exporters store float32: tau = dt may come out a little smaller
        raise InputError.of(
            "NC142", f"node '{name}': the time step {dt:g} s exceeds {key} = {tau.min():g} s", help=f"choose --dt {tau.min():g} or less"
        )
    return np.minimum(dt / tau, 1.0)


def _gain(name: str, node: Any, dt: float) -> FloatArray:
    """Return what one unit of input adds to the membrane (LIF, IF, LI) or to the current, in membrane units per step."""
    if isinstance(node, nir.LIF | nir.LI):
        return _flat(node, "r") * _ratio(name, node, "tau", dt)
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        return _flat(node, "r") * _ratio(name, node, "tau_mem", dt) * _flat(node, "w_in") * _ratio(name, node, "tau_syn", dt)
    return _flat(node, "r") if isinstance(node, nir.IF) else np.ones(size(node_shape(node)))


def _model(node: Any, bias: FloatArray, dt: float) -> NeuronModel:
    if isinstance(node, nir.Threshold):  # no memory: a decay of 0
        return LIF(tau_mem=dt, v_threshold=_param(node.threshold), bias=_param(bias), reset=Reset.TO_VALUE, integration=Integration.EULER)
    if isinstance(node, nir.IF):
        return LIF(
            tau_mem=np.inf,
            v_threshold=_param(node.v_threshold),
            v_reset=_param(node.v_reset),
            bias=_param(bias),
            reset=Reset.TO_VALUE,
            integration=Integration.EULER,
        )
    tau_mem = _param(node.tau if isinstance(node, nir.LIF | nir.LI) else node.tau_mem)
    common: dict[str, Any] = {"tau_mem": tau_mem, "v_leak": _param(node.v_leak), "integration": Integration.EULER}
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        constant = bias / np.minimum(dt / _flat(node, "tau_syn"), 1.0)
        common |= {"tau_syn": _param(node.tau_syn), "bias": _param(constant), "i_init": _param(0.0 - constant)}
    else:
        common["bias"] = _param(bias)
    if isinstance(node, nir.LI | nir.CubaLI):
        return LeakyReadout(**common)
    common |= {"v_threshold": _param(node.v_threshold), "v_reset": _param(node.v_reset), "reset": Reset.TO_VALUE}
    return CubaLIF(**common) if isinstance(node, nir.CubaLIF) else LIF(**common)


def _connections(signal: Signal, gain: FloatArray) -> Iterator[tuple[str, Explicit]]:
    """Yield (source node, its synapses by target, then source, then delay)."""
    for origin in dict.fromkeys(source for source, _ in signal.terms):
        parts = []
        for (source, delay), matrix in signal.terms.items():
            if source == origin:
                entries = matrix.tocoo()
                entries.sum_duplicates()
                weight = entries.data * gain[entries.row]
                kept = weight != 0.0
                steps = np.full(int(kept.sum()), max(1, delay), dtype=np.int64)
                parts.append((entries.col[kept], entries.row[kept], weight[kept], steps))
        pre, post, weight, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((steps, pre, post))
        yield origin, Explicit(pre=pre[order], post=post[order], weight=weight[order], delay=steps[order], source="nir")


__all__ = ["network_from_nir", "read_nir"]
