"""Linear NIR nodes as sparse matrices on flattened (C order) tensors: y = A x + b.

Shapes follow PyTorch, which NIR's definitions cite: tensors are (C, L) or (C, H, W) without a batch dimension, output length
``floor((n + 2 padding - dilation (kernel - 1) - 1) / stride) + 1``; padding "same" pads ``dilation (kernel - 1)`` in all, the odd one
at the end, and needs stride 1; average pooling divides by the whole kernel, padded cells included. Convolution is cross-correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
from scipy import sparse

from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.errors import InputError

Shape = tuple[int, ...]
MAX_ENTRIES = 2**31 - 1


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


def size(shape: Shape) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(shape)


def _mismatch(name: str, kind: str, needs: str, incoming: Shape) -> InputError:
    found = InputError.of("NC143", f"node '{name}' ({kind}) takes {needs}, but gets a tensor of shape {incoming}")
    return InputError(found.diagnostics)


def _numbers(value: Any, length: int, what: str, low: int) -> list[int]:
    """Return ``length`` integers from one number or an array."""
    given = np.atleast_1d(np.asarray(value, dtype=np.float64))
    array = np.repeat(given, length) if given.size == 1 else given
    if array.shape != (length,) or array.min() < low or np.any(array != np.rint(array)):
        raise InputError(
            InputError.of("NC143", f"{what} is {np.asarray(value).tolist()}, needs {length} whole numbers >= {low}").diagnostics
        )
    return [int(v) for v in array]


def _paddings(padding: Any, kernel: list[int], stride: list[int], dilation: list[int], name: str) -> list[tuple[int, int]]:
    text = padding.decode() if isinstance(padding, bytes) else padding
    if isinstance(text, str):
        if text == "valid":
            return [(0, 0)] * len(kernel)
        if text != "same":
            raise InputError.of("NC143", f"node '{name}': padding {text!r}, must be 'same', 'valid' or numbers")
        if any(s != 1 for s in stride):
            raise InputError.of("NC143", f"node '{name}': padding 'same' needs stride 1, not {stride}", help="give the padding as numbers")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(p, p) for p in _numbers(padding, len(kernel), f"node '{name}': padding", 0)]


def _taps(n: int, n_out: int, tap: int, stride: int, before: int, dilation: int) -> tuple[IntArray, IntArray]:
    """Return (output, input) positions along one axis that kernel element ``tap`` links."""
    out = np.arange(n_out)
    at = out * stride - before + tap * dilation
    fits = (at >= 0) & (at < n)
    return out[fits], at[fits]


def convolution_matrix(
    weight: npt.NDArray[Any], spatial: Shape, *, stride: Any, padding: Any, dilation: Any, groups: int, name: str = "conv"
) -> tuple[Any, Shape]:
    """Return (CSR matrix (C_out prod(out), C_in prod(in)), output shape) of a convolution in 1 or 2 dimensions.

    Parameters
    ----------
    weight : array, shape (C_out, C_in / groups, K) or (C_out, C_in / groups, K_h, K_w)
    spatial : tuple of int
        Input length, or (height, width).

    Raises
    ------
    InputError
        NC143 for parameters that do not fit together.
    """
    kernel = list(weight.shape[2:])
    if len(kernel) != len(spatial) or weight.size == 0:
        raise InputError.of("NC143", f"node '{name}': weight of shape {weight.shape} for a signal with {len(spatial)} dimensions")
    steps = _numbers(stride, len(kernel), f"node '{name}': stride", 1)
    dilations = _numbers(dilation, len(kernel), f"node '{name}': dilation", 1)
    pads = _paddings(padding, kernel, steps, dilations, name)
    out = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(spatial, pads, dilations, kernel, steps, strict=True))
    if min(out) < 1:
        raise InputError.of("NC143", f"node '{name}': kernel {kernel} is larger than its input {spatial}")
    c_out, c_group = weight.shape[:2]
    if groups < 1 or c_out % groups:
        raise InputError.of("NC143", f"node '{name}': {c_out} output channels do not divide into {groups} groups")
    n_in, n_out = size(tuple(spatial)), size(out)
    if float(weight.size) * n_out > MAX_ENTRIES:
        raise InputError.of("NC146", f"node '{name}' expands to up to {float(weight.size) * n_out:.3g} synapses")
    if len(kernel) == 1:  # one code path: a 1-D signal is a picture of height 1
        weight = weight[:, :, None, :]
        spatial, out, kernel = (1, *spatial), (1, *out), [1, *kernel]
        steps, dilations, pads = [1, *steps], [1, *dilations], [(0, 0), *pads]
        shape: Shape = (c_out, out[1])
    else:
        shape = (c_out, *out)
    rows, columns, values = [], [], []
    for i in range(kernel[0]):
        out_i, in_i = _taps(spatial[0], out[0], i, steps[0], pads[0][0], dilations[0])
        for j in range(kernel[1]):
            out_j, in_j = _taps(spatial[1], out[1], j, steps[1], pads[1][0], dilations[1])
            target = (out_i[:, None] * out[1] + out_j).ravel()
            source = (in_i[:, None] * spatial[1] + in_j).ravel()
            channel_out, channel_in = np.nonzero(weight[:, :, i, j])
            amount = weight[channel_out, channel_in, i, j].astype(np.float64)
            first = (channel_out // (c_out // groups)) * c_group  # first input channel of the output channel's group
            rows.append((channel_out[:, None] * n_out + target).ravel())
            columns.append(((first + channel_in)[:, None] * n_in + source).ravel())
            values.append(np.repeat(amount, len(target)))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(c_out * n_out, c_group * groups * n_in)), shape


def _convolution(name: str, node: Any, incoming: Shape) -> LinearMap:
    kind, dimensions = type(node).__name__, 1 if isinstance(node, nir.Conv1d) else 2
    weight = np.asarray(node.weight)
    (groups,) = _numbers(node.groups, 1, f"node '{name}': groups", 1)
    if weight.ndim != dimensions + 2:
        raise InputError.of("NC143", f"node '{name}' ({kind}): weight has shape {weight.shape}, needs {dimensions + 2} dimensions")
    if node.input_shape is not None:
        spatial: Shape = tuple(_numbers(node.input_shape, dimensions, f"node '{name}': input_shape", 1))
    elif len(incoming) == dimensions + 1:
        spatial = incoming[1:]
    else:
        raise _mismatch(name, kind, f"{dimensions + 1} dimensions (channels first)", incoming)
    needed = (weight.shape[1] * groups, *spatial)
    if size(incoming) != size(needed) or (len(incoming) == dimensions + 1 and incoming != needed):
        raise _mismatch(name, kind, f"shape {needed}", incoming)
    matrix, shape = convolution_matrix(
        weight, spatial, stride=node.stride, padding=node.padding, dilation=node.dilation, groups=groups, name=name
    )
    bias = np.asarray(node.bias, dtype=np.float64).ravel()
    if bias.size not in {1, shape[0]}:
        raise InputError.of("NC143", f"node '{name}' ({kind}): {bias.size} biases for {shape[0]} channels")
    return LinearMap(matrix=matrix, shape=shape, bias=np.repeat(np.broadcast_to(bias, (shape[0],)), size(shape[1:])))


def _pool(name: str, node: Any, incoming: Shape) -> LinearMap:
    kind = type(node).__name__
    if len(incoming) != 3:
        raise _mismatch(name, kind, "shape (channels, height, width)", incoming)
    kernel = _numbers(node.kernel_size, 2, f"node '{name}': kernel_size", 1)
    pads = _paddings(node.padding, kernel, [1, 1], [1, 1], name)
    if any(k > n + sum(p) for k, n, p in zip(kernel, incoming[1:], pads, strict=True)):  # before a kernel of any size is made
        raise InputError.of("NC143", f"node '{name}' ({kind}): kernel {kernel} is larger than its input {incoming[1:]}")
    value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / (kernel[0] * kernel[1])
    weight = np.full((incoming[0], 1, *kernel), value)
    matrix, shape = convolution_matrix(
        weight, incoming[1:], stride=node.stride, padding=node.padding, dilation=1, groups=incoming[0], name=name
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
    start, end = (_numbers(v, 1, f"node '{name}': start_dim and end_dim", -n)[0] for v in (node.start_dim, node.end_dim))
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


__all__ = ["LinearMap", "Shape", "convolution_matrix", "linear_map", "size"]
