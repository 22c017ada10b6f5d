"""A NIR graph made flat and composed: between two spiking nodes, all linear nodes become one sparse matrix per delay.

NIR edges are identities and several edges into a node add up, so the input of a node is ``sum_s A_s z_s(t - d_s) + b`` over the sources
s (Input nodes and neurons). Linear nodes are composed in topological order: A <- A_node A, b <- A_node b + b_node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import nir
import numpy as np
from scipy import sparse

from neurocompile.ir._types import FloatArray
from neurocompile.ir.connectivity import MAX_DELAY_STEPS
from neurocompile.ir.convolution import Shape, size
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean
from neurocompile.ir.nir_linear import linear_map

SPIKING = (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold)
GRADED = (nir.LI, nir.CubaLI)
NEURONS = SPIKING + GRADED
MAX_NEURONS = 50_000_000
"""Of one node: the matrices of its paths need about 30 bytes a neuron."""
LINEAR = (nir.Linear, nir.Affine, nir.Scale, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten, nir.Delay)
SUPPORTED = (nir.Input, nir.Output, *NEURONS, *LINEAR)
SUPPORTED_NAMES = tuple(sorted(t.__name__ for t in SUPPORTED))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatGraph:
    """Nodes by name (``outer.inner`` for nested ones) and edges; ``inputs`` and ``outputs`` name the outermost Input and Output nodes."""

    nodes: dict[str, Any]
    edges: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signal:
    """A tensor as a linear function of spikes: sum of matrix @ source, delayed by so many steps, + bias.

    terms : {(source node, delay steps): CSR (size, n_source)}; bias : float64 (size,).
    """

    shape: Shape
    terms: dict[tuple[str, int], Any] = field(default_factory=dict)
    bias: FloatArray


def flatten(graph: Any) -> FlatGraph:
    """Return the graph with its subgraphs dissolved; InputError NC141/NC144/NC203 for what cannot be read."""
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    found: list[Diagnostic] = []
    _collect(graph, "", nodes, edges, found)
    for name, node in nodes.items():
        if not isinstance(node, SUPPORTED):
            found.append(unsupported(name, type(node).__name__))
            continue
        found.extend(_bad_values(name, node))
    seen: set[tuple[str, str]] = set()
    for edge in edges:
        for end in edge:
            if end not in nodes:
                found.append(
                    Diagnostic(code="NC144", message=f"edge {edge} names node '{end}', which is not there", help=did_you_mean(end, nodes))
                )
        if edge in seen:
            found.append(Diagnostic(code="NC144", message=f"edge {edge} occurs twice", help="use a Scale node to double a signal"))
        seen.add(edge)
    inputs = tuple(n for n, node in graph.nodes.items() if isinstance(node, nir.Input))
    outputs = tuple(n for n, node in graph.nodes.items() if isinstance(node, nir.Output))
    reached = {end for _, end in edges} | set(inputs)
    for name in nodes:
        if name not in reached:
            found.append(Diagnostic(code="NC144", message=f"node '{name}' has no incoming edge", help="connect it, or leave it out"))
    if not inputs and not found:
        found.append(Diagnostic(code="NC144", message="the graph has no Input node"))
    if found:
        raise InputError(found)
    return FlatGraph(nodes=nodes, edges=tuple(edges), inputs=inputs, outputs=outputs)


_NO_NUMBERS = {"input_type", "output_type", "metadata", "name"}


def _bad_values(name: str, node: Any) -> Iterator[Diagnostic]:
    """Yield a finding for each parameter that is not made of finite real numbers (a file can hold anything under any name)."""
    for key, value in vars(node).items():
        if key in _NO_NUMBERS or value is None or (key == "padding" and isinstance(value, str | bytes)):
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "iufb" or array.size == 0:
            what = f"no {array.dtype} values" if array.size == 0 else str(array.dtype)
            yield Diagnostic(code="NC143", message=f"node '{name}' ({type(node).__name__}): {key} holds {what}, must hold numbers")
        elif not np.isfinite(array).all():
            yield Diagnostic(code="NC203", message=f"node '{name}': {key} has a value that is not finite")
    if isinstance(node, nir.Input | nir.Output):
        array = np.asarray(_declared(node))
        whole = array.dtype.kind in "iufb" and np.isfinite(array).all() and np.all(array == np.rint(array))
        if not whole or array.ndim > 1 or array.size == 0:
            yield Diagnostic(code="NC143", message=f"node '{name}' ({type(node).__name__}): its shape is no list of whole numbers")


def _declared(node: Any) -> Any:
    """Return the shape that an Input or Output declares."""
    types = node.input_type if isinstance(node, nir.Input) else node.output_type
    return next(iter(types.values()), None)


def unsupported(name: str, kind: str) -> Diagnostic:
    """Return the finding for a node of a type that is not read."""
    return Diagnostic(
        code="NC141", message=f"node '{name}' is a {kind}, which is not supported", help=f"supported: {', '.join(SUPPORTED_NAMES)}"
    )


def _collect(graph: Any, prefix: str, nodes: dict[str, Any], edges: list[tuple[str, str]], found: list[Diagnostic]) -> None:
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            _collect(node, f"{prefix}{name}.", nodes, edges, found)
        else:
            nodes[prefix + name] = node
    for ends in graph.edges:
        edge = []
        for name, kind in zip(ends, (nir.Output, nir.Input), strict=True):
            node, full = graph.nodes.get(name), prefix + name
            if isinstance(node, nir.NIRGraph):
                doors = [inner for inner, door in node.nodes.items() if isinstance(door, kind)]
                if len(doors) != 1:
                    found.append(
                        Diagnostic(
                            code="NC144",
                            message=f"subgraph '{full}' has {len(doors)} {kind.__name__} nodes, but edge {tuple(ends)} needs one",
                        )
                    )
                    return
                full += f".{doors[0]}"
            edge.append(full)
        edges.append((edge[0], edge[1]))


def compose(graph: FlatGraph, dt: float) -> tuple[dict[str, Signal], tuple[str, ...]]:
    """Return (the input of every neuron and outermost Output, notes) for steps of ``dt`` seconds.

    Raises
    ------
    InputError
        NC143: shapes; NC144: a loop of linear nodes alone; NC147: graded values into anything but an Output; NC209: delay too long.
    """
    sources = {n for n, node in graph.nodes.items() if isinstance(node, NEURONS)} | set(graph.inputs)
    before: dict[str, list[str]] = {n: [] for n in graph.nodes}
    for pre, post in graph.edges:
        before[post].append(pre)
    sorter = TopologicalSorter({n: [p for p in before[n] if p not in sources] for n in graph.nodes if n not in sources})
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        loop = " -> ".join(error.args[1])
        raise InputError.of(
            "NC144", f"nodes {loop} form a loop without a neuron in it", help="every loop must contain a spiking node"
        ) from None
    made: dict[str, Signal] = {n: _source(n, graph.nodes[n]) for n in sources}
    notes: list[str] = []
    result: dict[str, Signal] = {}
    for name in order:
        if name in graph.outputs:
            result[name] = _sum(name, [made[p] for p in before[name]])
        else:
            made[name] = _apply(name, graph.nodes[name], _sum(name, [made[p] for p in before[name]]), dt, notes)
    for name in sources - set(graph.inputs):
        result[name] = _sum(name, [made[p] for p in before[name]])
    for name, signal in result.items():
        if name in graph.outputs:
            declared = tuple(int(v) for v in np.atleast_1d(_declared(graph.nodes[name])))
            if size(declared) != size(signal.shape):
                raise InputError.of("NC143", f"node '{name}' (Output) has shape {declared}, but gets a tensor of shape {signal.shape}")
        for source, delay in signal.terms:
            graded = isinstance(graph.nodes[source], GRADED)
            if graded and not (name in graph.outputs and delay == 0 and is_identity(signal)):
                raise InputError.of(
                    "NC147",
                    f"node '{source}' ({type(graph.nodes[source]).__name__}) sends graded values to '{name}'",
                    help="only an Output may follow a leaky integrator directly; use a spiking node in between",
                )
            if delay > MAX_DELAY_STEPS:
                raise InputError.of(
                    "NC209",
                    f"the delays from '{source}' to '{name}' add up to {delay} steps of {dt:g} s, at most {MAX_DELAY_STEPS} are possible",
                    help="choose a larger --dt",
                )
    return {n: result[n] for n in graph.nodes if n in result}, tuple(notes)


def is_identity(signal: Signal) -> bool:
    """Return whether the signal is one source as it stands: unit weights, no bias."""
    if len(signal.terms) != 1 or signal.bias.any():
        return False
    ((_, delay), matrix) = next(iter(signal.terms.items()))
    n, m = matrix.shape
    return delay == 0 and n == m and (matrix != sparse.identity(n, format="csr")).nnz == 0


def node_shape(node: Any) -> Shape:
    """Return the tensor shape of a neuron's parameters or of an Input; () becomes (1,)."""
    values = _declared(node) if isinstance(node, nir.Input) else vars(node)["threshold" if isinstance(node, nir.Threshold) else "r"]
    shape = tuple(int(v) for v in np.atleast_1d(values)) if isinstance(node, nir.Input) else np.shape(values)
    return shape or (1,)


def _source(name: str, node: Any) -> Signal:
    shape = node_shape(node)
    if size(shape) < 1 or min(shape) < 1:
        raise InputError.of("NC205", f"node '{name}' has shape {shape}: no neurons", help="give every dimension a size of at least 1")
    if size(shape) > MAX_NEURONS:
        raise InputError.of("NC146", f"node '{name}' of shape {shape} has {size(shape)} neurons, at most {MAX_NEURONS} are read")
    return Signal(shape=shape, terms={(name, 0): sparse.identity(size(shape), format="csr")}, bias=np.zeros(size(shape)))


def _sum(name: str, signals: list[Signal]) -> Signal:
    first = signals[0]
    terms: dict[tuple[str, int], Any] = {}
    for signal in signals:
        if size(signal.shape) != size(first.shape):
            raise InputError.of("NC143", f"node '{name}' gets tensors of shapes {first.shape} and {signal.shape}, which cannot be added")
        for key, matrix in signal.terms.items():
            terms[key] = terms[key] + matrix if key in terms else matrix
    return Signal(shape=first.shape, terms=terms, bias=np.sum([s.bias for s in signals], axis=0))


def _apply(name: str, node: Any, signal: Signal, dt: float, notes: list[str]) -> Signal:
    step = linear_map(name, node, signal.shape)
    bias = step.matrix @ signal.bias
    if step.bias is not None:
        bias = bias + step.bias
    terms: dict[tuple[str, int], Any] = {}
    for (source, delay), matrix in signal.terms.items():
        product = sparse.csr_matrix(step.matrix @ matrix)
        product.eliminate_zeros()
        for extra, part in _delayed(product, step.delay_s, dt):
            key = (source, delay + extra)
            terms[key] = terms[key] + part if key in terms else part
    if step.delay_s is not None:
        low, high = step.delay_s.min(), step.delay_s.max()
        steps = [round(float(v) / dt) for v in (low, high)]
        off = np.abs(step.delay_s / dt - np.rint(step.delay_s / dt)).max()
        rounded = f", rounded by up to {off:.3g} steps" if off > 1e-6 else ""
        notes.append(f"delay '{name}': {low:g} .. {high:g} s became {steps[0]} .. {steps[1]} steps{rounded}")
    return Signal(shape=step.shape, terms=terms, bias=bias)


def _delayed(matrix: Any, delay_s: FloatArray | None, dt: float) -> Iterator[tuple[int, Any]]:
    """Yield (delay in steps, the rows of the matrix with that delay)."""
    if delay_s is None:
        yield 0, matrix
        return
    steps = np.rint(np.minimum(delay_s / dt, 1e9)).astype(np.int64)
    for value in np.unique(steps):
        yield int(value), sparse.csr_matrix(sparse.diags((steps == value).astype(np.float64)) @ matrix)


__all__ = ["FlatGraph", "Signal", "compose", "flatten", "is_identity", "node_shape", "unsupported"]
