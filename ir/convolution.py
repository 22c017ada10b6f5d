"""Convolutions on flattened (C order) tensors as sparse matrices, for every reader that meets them.

Shapes follow PyTorch: tensors are (C, L) or (C, H, W) without a batch dimension, output length
``floor((n + 2 padding - dilation (kernel - 1) - 1) / stride) + 1``; padding "same" pads ``dilation (kernel - 1)`` in all, the odd one
at the end, and needs stride 1. Convolution is cross-correlation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from neurocompile.ir._types import IntArray
from neurocompile.ir.errors import InputError

Shape = tuple[int, ...]
MAX_ENTRIES = 2**31 - 1


def size(shape: Shape) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(shape)


def numbers(value: Any, length: int, what: str, low: int) -> list[int]:
    """Return ``length`` integers from one number or an array."""
    given = np.atleast_1d(np.asarray(value, dtype=np.float64))
    array = np.repeat(given, length) if given.size == 1 else given
    if array.shape != (length,) or array.min() < low or np.any(array != np.rint(array)):
        raise InputError.of("NC143", f"{what} is {np.asarray(value).tolist()}, needs {length} whole numbers >= {low}")
    return [int(v) for v in array]


def paddings(padding: Any, kernel: list[int], stride: list[int], dilation: list[int], place: str) -> list[tuple[int, int]]:
    """Return (before, after) along each axis, of numbers, "same" or "valid"."""
    text = padding.decode() if isinstance(padding, bytes) else padding
    if isinstance(text, str):
        if text == "valid":
            return [(0, 0)] * len(kernel)
        if text != "same":
            raise InputError.of("NC143", f"{place}: padding {text!r}, must be 'same', 'valid' or numbers")
        if any(s != 1 for s in stride):
            raise InputError.of("NC143", f"{place}: padding 'same' needs stride 1, not {stride}", help="give the padding as numbers")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(p, p) for p in numbers(padding, len(kernel), f"{place}: padding", 0)]


def _taps(n: int, n_out: int, tap: int, stride: int, before: int, dilation: int) -> tuple[IntArray, IntArray]:
    """Return (output, input) positions along one axis that kernel element ``tap`` links."""
    out = np.arange(n_out)
    at = out * stride - before + tap * dilation
    fits = (at >= 0) & (at < n)
    return out[fits], at[fits]


def convolution_matrix(
    weight: npt.NDArray[Any], spatial: Shape, *, stride: Any, padding: Any, dilation: Any, groups: int, place: str = "a convolution"
) -> tuple[Any, Shape]:
    """Return (CSR matrix (C_out prod(out), C_in prod(in)), output shape) of a convolution in 1 or 2 dimensions.

    Parameters
    ----------
    weight : array, shape (C_out, C_in / groups, K) or (C_out, C_in / groups, K_h, K_w)
    spatial : tuple of int
        Input length, or (height, width).
    place : str
        What is at fault, for messages.

    Raises
    ------
    InputError
        NC143: parameters that do not fit together; NC146: more than 2^31 synapses.
    """
    kernel = list(weight.shape[2:])
    if len(kernel) != len(spatial) or weight.size == 0:
        raise InputError.of("NC143", f"{place}: weight of shape {weight.shape} for a signal with {len(spatial)} dimensions")
    steps = numbers(stride, len(kernel), f"{place}: stride", 1)
    dilations = numbers(dilation, len(kernel), f"{place}: dilation", 1)
    pads = paddings(padding, kernel, steps, dilations, place)
    out = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(spatial, pads, dilations, kernel, steps, strict=True))
    if min(out) < 1:
        raise InputError.of("NC143", f"{place}: kernel {kernel} is larger than its input {spatial}")
    c_out, c_group = weight.shape[:2]
    if groups < 1 or c_out % groups:
        raise InputError.of("NC143", f"{place}: {c_out} output channels do not divide into {groups} groups")
    n_in, n_out = size(tuple(spatial)), size(out)
    if float(weight.size) * n_out > MAX_ENTRIES:
        raise InputError.of("NC146", f"{place} expands to up to {float(weight.size) * n_out:.3g} synapses")
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


__all__ = ["MAX_ENTRIES", "Shape", "convolution_matrix", "numbers", "paddings", "size"]
