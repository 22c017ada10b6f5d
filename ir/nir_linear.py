"""Linear NIR nodes as sparse matrices on flattened (C order) tensors: y = A x + b.

Shapes follow PyTorch, which NIR's definitions cite (:mod:`neurocompile.ir.convolution`); average pooling divides by the whole kernel,
padded cells included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from scipy import sparse

from neurocompile.ir._types import FloatArray
from neurocompile.ir.convolution import Shape, convolution_matrix, numbers, paddings, size
from neurocompile.ir.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearMap:
    """y = matrix x + bias.

    matrix : scipy CSR float64 (prod(shape), n_in); bias : float64 (prod(shape),) or None; shape : of the output tensor;
    delay_s : float64 (prod(shape),) or None, seconds each output element is delayed by.
    """

    matrix: Any
    shape: Shape
    bias: FloatArray | None = None
    delay_s: FloatArray | None = None


def _mismatch(name: str, kind: str, needs: str, incoming: Shape) -> InputError:
    found = InputError.of("NC143", f"node '{name}' ({kind}) takes {needs}, but gets a tensor of shape {incoming}")
    return InputError(found.diagnostics)


def _convolution(name: str, node: Any, incoming: Shape) -> LinearMap:
    kind, dimensions = type(node).__name__, 1 if isinstance(node, nir.Conv1d) else 2
    weight = np.asarray(node.weight)
    (groups,) = numbers(node.groups, 1, f"node '{name}': groups", 1)
    if weight.ndim != dimensions + 2:
        raise InputError.of("NC143", f"node '{name}' ({kind}): weight has shape {weight.shape}, needs {dimensions + 2} dimensions")
    if node.input_shape is not None:
        spatial: Shape = tuple(numbers(node.input_shape, dimensions, f"node '{name}': input_shape", 1))
    elif len(incoming) == dimensions + 1:
        spatial = incoming[1:]
    else:
        raise _mismatch(name, kind, f"{dimensions + 1} dimensions (channels first)", incoming)
    needed = (weight.shape[1] * groups, *spatial)
    if size(incoming) != size(needed) or (len(incoming) == dimensions + 1 and incoming != needed):
        raise _mismatch(name, kind, f"shape {needed}", incoming)
    matrix, shape = convolution_matrix(
        weight, spatial, stride=node.stride, padding=node.padding, dilation=node.dilation, groups=groups, place=f"node '{name}'"
    )
    bias = np.asarray(node.bias, dtype=np.float64).ravel()
    if bias.size not in {1, shape[0]}:
        raise InputError.of("NC143", f"node '{name}' ({kind}): {bias.size} biases for {shape[0]} channels")
    return LinearMap(matrix=matrix, shape=shape, bias=np.repeat(np.broadcast_to(bias, (shape[0],)), size(shape[1:])))


def _pool(name: str, node: Any, incoming: Shape) -> LinearMap:
    kind = type(node).__name__
    if len(incoming) != 3:
        raise _mismatch(name, kind, "shape (channels, height, width)", incoming)
    kernel = numbers(node.kernel_size, 2, f"node '{name}': kernel_size", 1)
    pads = paddings(node.padding, kernel, [1, 1], [1, 1], f"node '{name}'")
    if any(k > n + sum(p) for k, n, p in zip(kernel, incoming[1:], pads, strict=True)):  # before a kernel of any size is made
        raise InputError.of("NC143", f"node '{name}' ({kind}): kernel {kernel} is larger than its input {incoming[1:]}")
    value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / (kernel[0] * kernel[1])
    weight = np.full((incoming[0], 1, *kernel), value)
    matrix, shape = convolution_matrix(
        weight, incoming[1:], stride=node.stride, padding=node.padding, dilation=1, groups=incoming[0], place=f"node '{name}'"
    )
    return LinearMap(matrix=matrix, shape=shape)


def _dense(name: str, node: Any, incoming: Shape) -> LinearMap:
    weight = np.asarray(node.weight, dtype=np.float64)
    *lead, n_out, n_in = weight.shape
    if size(incoming) != size((*lead, n_in)):
        raise _mismatch(name, type(node).__name__, f"shape {(*lead, n_in)}", incoming)
    blocks = weight.reshape(-1, n_out, n_in)
    matrix = sparse.csr_matrix(blocks[0]) if len(blocks) == 1 else sparse.block_diag(list(blocks), format="csr")
    shape = (*lead, n_out)
    bias = None
    if isinstance(node, nir.Affine):
        given = np.asarray(node.bias, dtype=np.float64)
        if given.size not in {1, n_out, size(shape)}:
            raise InputError.of("NC143", f"node '{name}' (Affine): {given.size} biases for {n_out} outputs")
        bias = np.broadcast_to(given.ravel() if given.size != size(shape) else given.reshape(shape), shape).ravel()
    return LinearMap(matrix=matrix, shape=shape, bias=bias)


def _flatten(name: str, node: Any, incoming: Shape) -> LinearMap:
    n = len(incoming)
    start, end = (numbers(v, 1, f"node '{name}': start_dim and end_dim", -n)[0] for v in (node.start_dim, node.end_dim))
    start, end = (start + n if start < 0 else start), (end + n if end < 0 else end)
    if n == 1:
        start = end = 0  # already flat, whatever a batch dimension once was
    if not 0 <= start <= end < n:
        raise InputError.of("NC143", f"node '{name}' (Flatten): dimensions {start} .. {end} of a tensor of shape {incoming}")
    shape = (*incoming[:start], size(incoming[start : end + 1]), *incoming[end + 1 :])
    return LinearMap(matrix=sparse.identity(size(incoming), format="csr"), shape=shape)


def _per_element(name: str, node: Any, values: Any, incoming: Shape) -> FloatArray:
    given = np.asarray(values, dtype=np.float64)
    if given.size not in {1, size(incoming)}:
        raise _mismatch(name, type(node).__name__, f"shape {given.shape}", incoming)
    return np.array(np.broadcast_to(given.ravel(), (size(incoming),)))


def linear_map(name: str, node: Any, incoming: Shape) -> LinearMap:
    """Return the map of a linear node (Linear, Affine, Scale, Conv1d/2d, SumPool2d, AvgPool2d, Flatten, Delay, relay) for its input shape.

    Raises
    ------
    InputError
        NC143: shapes that do not fit; NC146: too many synapses; NC201: a negative delay.
    """
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        return _convolution(name, node, incoming)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        return _pool(name, node, incoming)
    if isinstance(node, nir.Linear | nir.Affine):
        return _dense(name, node, incoming)
    if isinstance(node, nir.Flatten):
        return _flatten(name, node, incoming)
    n = size(incoming)
    if isinstance(node, nir.Scale):
        return LinearMap(matrix=sparse.diags(_per_element(name, node, node.scale, incoming), format="csr"), shape=incoming)
    identity = sparse.identity(n, format="csr")
    if isinstance(node, nir.Delay):
        delay = _per_element(name, node, node.delay, incoming)
        if delay.min() < 0:
            raise InputError.of("NC201", f"node '{name}' (Delay): {delay.min():g} s, must be >= 0")
        return LinearMap(matrix=identity, shape=incoming, delay_s=delay)
    shape = tuple(int(v) for v in np.atleast_1d(next(iter(node.output_type.values()))))  # Input, Output of a subgraph, Output
    if size(shape) != n:
        raise _mismatch(name, type(node).__name__, f"shape {shape}", incoming)
    return LinearMap(matrix=identity, shape=incoming)


__all__ = ["LinearMap", "linear_map"]
