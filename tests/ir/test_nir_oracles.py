"""Random chains of linear NIR nodes, random recurrent graphs and damaged files, each against a dense evaluation or an honest error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference.simulator import Simulator
from neurocompile.ir import Network
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import InputError, NeurocompileError
from neurocompile.ir.nir_graph import SUPPORTED_NAMES
from neurocompile.ir.nir_reader import network_from_nir, read_nir
from neurocompile.ir.signals import Spikes

DT = 1e-3
Draw = Callable[[st.SearchStrategy[Any]], Any]
Dense = Callable[[np.ndarray], np.ndarray]


def pairs(value: Any, n: int) -> list[int]:
    return [int(v) for v in np.broadcast_to(np.asarray(value), (n,))]


def slow_convolution(x: np.ndarray, node: Any, weight: np.ndarray, dims: int) -> np.ndarray:
    """Cross-correlation by its definition, window by window; x (C, *spatial), weight (C_out, C / groups, *kernel)."""
    stride, dilation, padding = (pairs(getattr(node, k, 1), dims) for k in ("stride", "dilation", "padding"))
    x = np.pad(x, [(0, 0), *((p, p) for p in padding)])
    kernel, groups = weight.shape[2:], x.shape[0] // weight.shape[1]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:], reach, stride, strict=True)]
    y = np.zeros((weight.shape[0], *out))
    for at in np.ndindex(*out):
        window = x[(slice(None), *(slice(a * s, a * s + r, d) for a, s, r, d in zip(at, stride, reach, dilation, strict=True)))]
        for channel in range(weight.shape[0]):
            group = channel // (weight.shape[0] // groups)
            y[(channel, *at)] = (weight[channel] * window[group * weight.shape[1] : (group + 1) * weight.shape[1]]).sum()
    return y


@st.composite
def linear_node(draw: Draw, shape: tuple[int, ...]) -> tuple[Any, Dense]:
    """A node that takes a tensor of this shape, and what it computes."""
    kinds = ["Scale", "Flatten"] + ["Linear", "Affine"] * (len(shape) == 1) + ["Conv1d"] * (len(shape) == 2)
    kinds += ["Conv2d", "SumPool2d", "AvgPool2d"] * (len(shape) == 3)
    kind, rng = draw(st.sampled_from(kinds)), np.random.default_rng(draw(st.integers(0, 999)))
    if kind == "Scale":
        scale = rng.normal(size=shape)
        return nir.Scale(scale=scale), lambda x: scale * x
    if kind == "Flatten":
        start = draw(st.integers(0, len(shape) - 1))
        end = draw(st.integers(start, len(shape) - 1))
        node = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start, end_dim=draw(st.sampled_from([end, end - len(shape)])))
        return node, lambda x: x.reshape(*shape[:start], -1, *shape[end + 1 :])
    if kind in {"Linear", "Affine"}:
        n = draw(st.integers(1, 4))
        weight, bias = rng.normal(size=(n, *shape)), rng.normal(size=n)
        if kind == "Linear":
            return nir.Linear(weight=weight), lambda x: weight @ x
        return nir.Affine(weight=weight, bias=bias), lambda x: weight @ x + bias
    dims = len(shape) - 1
    stride, padding, dilation, kernel = (
        draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)) for low, high in ((1, 3), (0, 2), (1, 2), (1, 3))
    )
    pool = "Pool" in kind
    dilation = [1] * dims if pool else dilation
    for d in range(dims):  # a kernel never larger than its padded input
        while (kernel[d] - 1) * dilation[d] + 1 > shape[d + 1] + 2 * padding[d]:
            kernel[d] -= 1
    if pool:
        node = getattr(nir, kind)(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding))
        value = 1.0 if kind == "SumPool2d" else 1.0 / (kernel[0] * kernel[1])
        weight = np.full((shape[0], 1, *kernel), value)
        return node, lambda x: slow_convolution(x, node, weight, dims)
    groups = draw(st.sampled_from([g for g in range(1, shape[0] + 1) if shape[0] % g == 0]))
    c_out = groups * draw(st.integers(1, 2))
    weight, bias = rng.normal(size=(c_out, shape[0] // groups, *kernel)), rng.normal(size=c_out)
    common = {"weight": weight, "groups": groups, "bias": bias}
    spatial = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
    if kind == "Conv1d":
        node = nir.Conv1d(input_shape=shape[1], **{k: v[0] for k, v in spatial.items()}, **common)
    else:
        node = nir.Conv2d(input_shape=shape[1:], **spatial, **common)
    return node, lambda x: slow_convolution(x, node, weight, dims) + bias.reshape(-1, *[1] * dims)


@st.composite
def linear_chain(draw: Draw) -> tuple[tuple[int, ...], list[Any], Dense, int]:
    """(shape of the input, nodes, what they compute together, number of outputs)."""
    shape = draw(st.sampled_from([(3,), (2, 6), (4, 5), (1, 5, 6), (2, 4, 4)]))
    nodes: list[Any] = []
    steps: list[Dense] = []
    current = shape
    for _ in range(draw(st.integers(1, 4))):
        node, dense = draw(linear_node(current))
        nodes.append(node)
        steps.append(dense)
        current = dense(np.zeros(current)).shape

    def together(x: np.ndarray) -> np.ndarray:
        for step in steps:
            x = step(x)
        return x

    return shape, nodes, together, int(np.prod(current))


def graph(nodes: dict[str, Any], edges: list[tuple[str, str]], shape: tuple[int, ...], n_out: int) -> nir.NIRGraph:
    ends = {"input": nir.Input(input_type={"input": np.array(shape)}), "output": nir.Output(output_type={"output": np.array([n_out])})}
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False)


def chain(nodes: list[Any], shape: tuple[int, ...], n_out: int) -> nir.NIRGraph:
    named = {f"n{i}": node for i, node in enumerate(nodes)}
    return graph(named, list(pairwise(["input", *named, "output"])), shape, n_out)


def matrix(net: Network, name: str, n_out: int, n_in: int) -> np.ndarray:
    """The projection of that name as a dense matrix (0 if it was dropped)."""
    dense = np.zeros((n_out, n_in))
    for projection in net.projections:
        if projection.name == name:
            assert isinstance(projection.connect, Explicit)
            np.add.at(dense, (projection.connect.post, projection.connect.pre), projection.connect.weight)
    return dense


@given(case=linear_chain())
@settings(max_examples=40, deadline=None)
def test_chains_of_linear_nodes_are_the_product_of_what_they_do(case: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Through a file; every unit vector gives a column, zero the bias. Sums of some hundred products of order 1: 1e-10 is generous."""
    shape, nodes, dense, n_out = case
    threshold = nir.Threshold(threshold=np.full(n_out, 1.5))
    path = tmp_path_factory.mktemp("nir") / "chain.nir"
    nir.write(path, chain([*nodes, threshold], shape, n_out))
    net = read_nir(path, dt=DT)
    n_in = int(np.prod(shape))
    offset = dense(np.zeros(shape)).ravel()
    columns = np.stack([dense(np.eye(n_in)[i].reshape(shape)).ravel() - offset for i in range(n_in)], axis=1)
    target = f"n{len(nodes)}"
    np.testing.assert_allclose(matrix(net, f"input->{target}", n_out, n_in), columns, atol=1e-10)
    model: Any = net.population(target).model
    np.testing.assert_allclose(np.broadcast_to(model.bias, (n_out,)), offset, atol=1e-10)


# --- neurons in loops ------------------------------------------------------------------------------------------------------
def neuron(kind: str, n: int, rng: np.random.Generator) -> Any:
    def some(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, n)

    membrane = {"r": some(1, 3), "v_leak": some(-0.1, 0.2)}
    spiking = {"v_threshold": some(0.5, 1.0), "v_reset": some(-0.2, 0.2)}
    if kind == "IF":
        return nir.IF(r=some(0.5, 1.0), **spiking)
    if kind == "LIF":
        return nir.LIF(tau=some(2, 9) * DT, **membrane, **spiking)
    if kind == "Threshold":
        return nir.Threshold(threshold=some(0.2, 1.0))
    return nir.CubaLIF(tau_mem=some(2, 9) * DT, tau_syn=some(1, 5) * DT, w_in=some(1, 3), **membrane, **spiking)


def dense_run(
    nodes: dict[str, Any], weights: dict[tuple[str, str], tuple[np.ndarray, np.ndarray, int]], raster: np.ndarray
) -> dict[str, np.ndarray]:
    """Forward Euler of NIR's equations; weights: (pre, post) -> (matrix, bias, delay in steps); what is sent in t acts in t + delay."""
    sizes = {name: np.size(node.threshold if isinstance(node, nir.Threshold) else node.r) for name, node in nodes.items()}
    sent = {name: np.zeros((len(raster), n)) for name, n in sizes.items()} | {"input": raster * 1.0}
    v = {name: np.array(getattr(node, "v_leak", np.zeros(sent[name].shape[1])), float) for name, node in nodes.items()}
    current = {name: np.zeros(sent[name].shape[1]) for name in nodes}
    for t in range(len(raster)):
        for name, node in nodes.items():
            drive = np.zeros(sent[name].shape[1])
            for (pre, post), (weight, bias, delay) in weights.items():
                if post == name:
                    drive = drive + bias + (weight @ sent[pre][t - delay] if t >= delay else 0.0)
            if isinstance(node, nir.Threshold):
                sent[name][t] = drive >= node.threshold
                continue
            if isinstance(node, nir.IF):
                v[name] = v[name] + node.r * drive
            elif isinstance(node, nir.LIF):
                v[name] = v[name] + DT / node.tau * (node.v_leak - v[name] + node.r * drive)
            else:
                current[name] = current[name] + DT / node.tau_syn * (node.w_in * drive - current[name])
                v[name] = v[name] + DT / node.tau_mem * (node.v_leak - v[name] + node.r * current[name])
            sent[name][t] = v[name] >= node.v_threshold
            v[name] = np.where(sent[name][t] > 0, node.v_reset, v[name])
    return sent


@given(kinds=st.lists(st.sampled_from(["IF", "LIF", "CubaLIF", "Threshold"]), min_size=1, max_size=3), seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
def test_recurrent_graphs_with_delays_spike_as_the_dense_loop(kinds: list[str], seed: int) -> None:
    """Every population feeds every one (itself too) over an Affine node, some behind a Delay; spikes agree bit for bit over 60 steps."""
    rng = np.random.default_rng(seed)
    sizes = {f"p{i}": int(rng.integers(1, 4)) for i in range(len(kinds))}
    nodes = {name: neuron(kind, sizes[name], rng) for name, kind in zip(sizes, kinds, strict=True)}
    everything: dict[str, Any] = dict(nodes)
    edges: list[tuple[str, str]] = [("p0", "output")]
    weights = {}
    for pre in ["input", *sizes]:
        for post, n_out in sizes.items():
            n_in, steps = 3 if pre == "input" else sizes[pre], int(rng.integers(0, 4))
            weight, bias = rng.normal(0.3, 0.8, (n_out, n_in)), rng.normal(0, 0.05, n_out)
            everything[f"w_{pre}_{post}"] = nir.Affine(weight=weight, bias=bias)
            path = [pre, f"w_{pre}_{post}", post]
            if steps:
                everything[f"d_{pre}_{post}"] = nir.Delay(delay=np.full(n_out, steps * DT))
                path.insert(2, f"d_{pre}_{post}")
            edges += list(pairwise(path))
            weights[pre, post] = (weight, bias, max(steps, 1))
    net = network_from_nir(graph(everything, edges, (3,), sizes["p0"]), dt=DT)
    raster = rng.random((60, 3)) < 0.3
    step, unit = np.nonzero(raster)
    result = Simulator(net).run(60, spikes={"input": Spikes(neuron=unit, step=step)})
    expected = dense_run(nodes, weights, raster)
    for name, node in nodes.items():
        got = np.zeros((60, sizes[name]), bool)
        got[result.spikes[name].step, result.spikes[name].neuron] = True
        np.testing.assert_array_equal(got, expected[name].astype(bool), err_msg=f"{name} ({type(node).__name__}), seed {seed}")


# --- damage ----------------------------------------------------------------------------------------------------------------
def good_file(path: Path) -> list[str]:
    """A file with most kinds of nodes; returns the paths of all its groups and data sets."""
    nodes = [
        nir.Conv2d(input_shape=(4, 4), weight=np.ones((2, 1, 3, 3)), stride=1, padding=1, dilation=1, groups=1, bias=np.zeros(2)),
        nir.AvgPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0])),
        nir.Flatten(input_type={"input": np.array([2, 2, 2])}, start_dim=0),
        nir.Affine(weight=np.ones((3, 8)), bias=np.zeros(3)),
        nir.CubaLIF(
            **{k: np.full(3, 0.02) for k in ("tau_mem", "tau_syn")}, **{k: np.ones(3) for k in ("r", "v_leak", "v_threshold", "w_in")}
        ),
        nir.Delay(delay=np.full(3, 2e-3)),
        nir.Scale(scale=np.ones(3)),
        nir.IF(r=np.ones(3), v_threshold=np.ones(3)),
    ]
    nir.write(path, chain(nodes, (1, 4, 4), 3))
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, _: found.append(name))
    return found


JUNK: dict[str, Any] = {
    "text": b"xyz",
    "texts": np.array([b"a", b"b"]),
    "NaN": np.full(3, np.nan),
    "infinite": np.inf,
    "negative": np.full(2, -1),
    "nothing": np.zeros(0),
    "huge": np.array([10**12]),
    "three dimensions": np.ones((2, 2, 2)),
    "complex": np.ones(3, complex),
    "fraction": 1.5,
}


@pytest.mark.parametrize("what", ["deleted", "group", *JUNK])
def test_any_part_of_a_file_replaced_is_read_or_refused(what: str, tmp_path: Path) -> None:
    """Every group and data set in turn. No traceback, no warning; each finding has a code, the file, and a way out."""
    path = tmp_path / "net.nir"
    findings: list[tuple[str, Any]] = []
    n_refused = 0
    parts = good_file(path)
    whole = path.read_bytes()
    for part in parts:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            del file[part]
            if what == "group":
                file.create_group(part)
            elif what != "deleted":
                file[part] = JUNK[what]
        try:
            read_nir(path, dt=DT)
        except InputError as error:
            n_refused += 1
            findings += [(part, d) for d in error.diagnostics]
    assert [(part, d) for part, d in findings if not d.way_out or d.file != str(path)] == []
    assert n_refused > 30, "most of the parts matter"


def test_truncated_and_flipped_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    good_file(path)
    whole = path.read_bytes()
    for length in (0, 1, 8, 100, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="NC140"):
            read_nir(path, dt=DT)
    rng, n_refused = np.random.default_rng(4), 0
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 20):
            broken[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        try:
            net = read_nir(path, dt=DT)
        except NeurocompileError:
            n_refused += 1
        else:
            assert net.n_neurons == 22  # the damage met no byte that counts
    assert n_refused > 20


def test_every_node_of_nir_is_read_or_named_in_the_error() -> None:
    """All node types of the installed nir package: those that the reader does not list are refused by name."""
    known = {name for name, kind in vars(nir).items() if isinstance(kind, type) and issubclass(kind, nir.NIRNode)} - {"NIRNode", "NIRGraph"}
    assert set(SUPPORTED_NAMES) <= known
    refused = {"I": nir.I(r=np.ones(3))}
    assert known - set(SUPPORTED_NAMES) == set(refused), "a node type that nobody has decided about"
    for kind, node in refused.items():
        with pytest.raises(InputError, match=rf"NC141.*'n0' is a {kind}"):
            network_from_nir(chain([node], (3,), 3), dt=DT)


def test_an_output_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"NC143.*'output' \(Output\) has shape \(2,\).*\(3,\)"):
        network_from_nir(chain([nir.IF(r=np.ones(3), v_threshold=np.ones(3))], (3,), 2), dt=DT)
