"""Linear NIR nodes as sparse matrices, against loops over the definition and scipy.signal."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from neurocompile.ir.convolution import convolution_matrix
from neurocompile.ir.errors import InputError
from neurocompile.ir.nir_linear import linear_map


def slow_convolution(x: np.ndarray, w: np.ndarray, stride: list[int], pads: list[int], dilation: list[int], groups: int) -> np.ndarray:
    """The definition, element by element: x (C, H, W), w (C_out, C/groups, K_h, K_w)."""
    x = np.pad(x, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1])))
    c_out, c_group, k_h, k_w = w.shape
    n_h = (x.shape[1] - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
    n_w = (x.shape[2] - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
    y = np.zeros((c_out, n_h, n_w))
    for o in range(c_out):
        first = (o // (c_out // groups)) * c_group
        for i in range(n_h):
            for j in range(n_w):
                for c in range(c_group):
                    for a in range(k_h):
                        for b in range(k_w):
                            y[o, i, j] += w[o, c, a, b] * x[first + c, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]]
    return y


@given(
    spatial=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    pads=st.lists(st.integers(0, 2), min_size=2, max_size=2),
    dilation=st.lists(st.integers(1, 2), min_size=2, max_size=2),
    groups=st.integers(1, 3),
    multiple=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_convolution_equals_its_definition(spatial, kernel, stride, pads, dilation, groups, multiple) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(groups * multiple, 2, *kernel))
    x = rng.normal(size=(2 * groups, *spatial))
    if any(n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip(spatial, pads, dilation, kernel, strict=True)):
        with pytest.raises(InputError, match="NC143"):
            convolution_matrix(weight, spatial, stride=stride, padding=pads, dilation=dilation, groups=groups)
        return
    matrix, shape = convolution_matrix(weight, spatial, stride=stride, padding=np.array(pads), dilation=dilation, groups=groups)
    expected = slow_convolution(x, weight, stride, pads, dilation, groups)
    assert shape == expected.shape
    # sums of at most 18 products of numbers of order 1: rounding stays far below 1e-12
    np.testing.assert_allclose((matrix @ x.ravel()).reshape(shape), expected, atol=1e-12)


@pytest.mark.parametrize(("mode", "kernel"), [("valid", (3, 2)), ("same", (3, 5)), ("same", (2, 4))])
def test_string_paddings_against_scipy(mode: str, kernel: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    weight, x = rng.normal(size=(2, 3, *kernel)), rng.normal(size=(3, 6, 7))
    matrix, shape = convolution_matrix(weight, (6, 7), stride=1, padding=mode, dilation=1, groups=1)
    if mode == "same":  # PyTorch: (k-1)//2 before, the rest behind
        before = [(k - 1) // 2 for k in kernel]
        x = np.pad(x, [(0, 0), *((b, k - 1 - b) for b, k in zip(before, kernel, strict=True))])
    expected = np.array([sum(signal.correlate2d(x[c], weight[o, c], mode="valid") for c in range(3)) for o in range(2)])
    assert shape == expected.shape
    inner = x[:, before[0] : before[0] + 6, before[1] : before[1] + 7] if mode == "same" else x
    np.testing.assert_allclose((matrix @ inner.ravel()).reshape(shape), expected, atol=1e-12)


def conv2d(weight: np.ndarray, **changes: Any) -> nir.Conv2d:
    given = {"input_shape": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(len(weight))} | changes
    return nir.Conv2d(weight=weight, **given)


def test_conv1d_and_bias() -> None:
    rng = np.random.default_rng(3)
    weight, x, bias = rng.normal(size=(4, 3, 5)), rng.normal(size=(3, 20)), rng.normal(size=4)
    node = nir.Conv1d(input_shape=20, weight=weight, stride=3, padding=2, dilation=2, groups=1, bias=bias)
    step = linear_map("c", node, (3, 20))
    expected = slow_convolution(x[:, None], weight[:, :, None], [1, 3], [0, 2], [1, 2], 1)[:, 0] + bias[:, None]
    assert step.shape == expected.shape
    assert step.bias is not None
    np.testing.assert_allclose((step.matrix @ x.ravel() + step.bias).reshape(step.shape), expected, atol=1e-12)


def test_zero_weights_make_no_entries() -> None:
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 1, 1] = 2.0
    step = linear_map("c", conv2d(weight, padding=(1, 1)), (1, 4, 4))
    assert step.matrix.nnz == 16
    np.testing.assert_array_equal(step.matrix.toarray(), 2 * np.eye(16))


def test_flat_input_with_input_shape() -> None:
    weight = np.random.default_rng(4).normal(size=(2, 3, 2, 2))
    flat, whole = (linear_map("c", conv2d(weight, input_shape=(4, 5)), shape) for shape in ((60,), (3, 4, 5)))
    np.testing.assert_array_equal(flat.matrix.toarray(), whole.matrix.toarray())


@pytest.mark.parametrize(("kind", "combine"), [(nir.SumPool2d, np.sum), (nir.AvgPool2d, np.mean)])
def test_pooling(kind: Any, combine: Any) -> None:
    x = np.random.default_rng(5).normal(size=(2, 5, 7))
    step = linear_map("p", kind(kernel_size=np.array([2, 3]), stride=np.array([2, 2]), padding=np.array([1, 0])), (2, 5, 7))
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    expected = [[[combine(padded[c, i : i + 2, j : j + 3]) for j in (0, 2, 4)] for i in (0, 2, 4)] for c in range(2)]
    assert step.shape == (2, 3, 3)
    np.testing.assert_allclose((step.matrix @ x.ravel()).reshape(step.shape), expected, atol=1e-12)


def test_dense_scale_flatten_delay() -> None:
    rng = np.random.default_rng(6)
    weight, bias, x = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=3)
    affine = linear_map("a", nir.Affine(weight=weight, bias=bias), (3,))
    assert affine.bias is not None
    np.testing.assert_allclose(affine.matrix @ x + affine.bias, weight @ x + bias)
    stacked = rng.normal(size=(4, 2, 3))
    several = linear_map("l", nir.Linear(weight=stacked), (4, 3))
    y = rng.normal(size=(4, 3))
    assert several.shape == (4, 2)
    np.testing.assert_allclose((several.matrix @ y.ravel()).reshape(4, 2), np.einsum("boi,bi->bo", stacked, y))
    scale = linear_map("s", nir.Scale(scale=np.array([1.0, 2.0, 3.0])), (3,))
    np.testing.assert_array_equal(scale.matrix @ np.ones(3), [1.0, 2.0, 3.0])
    flat = linear_map("f", nir.Flatten(input_type={"input": np.array([2, 3, 4])}, start_dim=1), (2, 3, 4))
    assert flat.shape == (2, 12)
    assert linear_map("f", nir.Flatten(input_type={"input": np.array([2, 3, 4])}, start_dim=0, end_dim=1), (2, 3, 4)).shape == (6, 4)
    delay = linear_map("d", nir.Delay(delay=np.array([0.0, 1e-3])), (2,))
    assert delay.delay_s is not None
    assert delay.delay_s.tolist() == [0.0, 1e-3]


BAD = {
    "stride 0": (conv2d(np.ones((1, 1, 2, 2)), stride=(0, 1)), (1, 4, 4), "stride"),
    "channels": (conv2d(np.ones((1, 2, 2, 2))), (1, 4, 4), r"takes shape \(2, 4, 4\)"),
    "input_shape": (conv2d(np.ones((1, 1, 2, 2)), input_shape=(3, 3)), (1, 4, 4), r"takes shape \(1, 3, 3\)"),
    "flat without shape": (conv2d(np.ones((1, 1, 2, 2))), (16,), "3 dimensions"),
    "groups": (conv2d(np.ones((3, 1, 2, 2)), groups=2), (2, 4, 4), "2 groups"),
    "same with stride": (conv2d(np.ones((1, 1, 2, 2)), padding="same", stride=(2, 2)), (1, 4, 4), "stride 1"),
    "kernel too large": (conv2d(np.ones((1, 1, 5, 5))), (1, 4, 4), "larger than its input"),
    "biases": (conv2d(np.ones((3, 1, 2, 2)), bias=np.zeros(2)), (1, 4, 4), "2 biases for 3"),
    "weight dimensions": (conv2d(np.ones((1, 1, 2))), (1, 4, 4), "4 dimensions"),
    "pool of a vector": (nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0])), (16,), "channels"),
    "linear": (nir.Linear(weight=np.ones((2, 3))), (4,), r"takes shape \(3,\)"),
    "affine bias": (nir.Affine(weight=np.ones((2, 3)), bias=np.ones(3)), (3,), "3 biases"),
    "scale": (nir.Scale(scale=np.ones(3)), (4,), r"shape \(3,\)"),
    "flatten": (nir.Flatten(input_type={"input": None}, start_dim=3), (2, 2), "dimensions 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters(case: str) -> None:
    node, incoming, words = BAD[case]
    with pytest.raises(InputError, match=rf"NC143.*'it'.*{words}"):
        linear_map("it", node, incoming)


def test_negative_delay_and_too_many_synapses() -> None:
    with pytest.raises(InputError, match="NC201"):
        linear_map("d", nir.Delay(delay=np.array([-1.0])), (1,))
    with pytest.raises(InputError, match="NC146"):
        convolution_matrix(np.ones((64, 64, 9, 9)), (4000, 4000), stride=1, padding=4, dilation=1, groups=1, place="node 'big'")
