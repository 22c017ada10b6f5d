"""NIR files and graphs -> networks, run beside a loop that steps through the NIR graph itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from neurocompile.backends.reference.recording import RecordOptions
from neurocompile.backends.reference.simulator import Simulator
from neurocompile.ir import LIF, CubaLIF, LeakyReadout, Network, Reset, SpikeSource
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import InputError
from neurocompile.ir.nir_reader import network_from_nir, read_nir
from neurocompile.ir.signals import Spikes

DT = 1e-4
# of the NIR paper's LIF experiment, as listed beside the shared networks
PAPER_INPUT = [60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500, 510, 520, 530]
PAPER_INPUT += [670, 680, 690, 700, 710, 720, 730, 740, 750, 760, 770, 780, 840, 850]


def full(n: int, value: float) -> np.ndarray:
    return np.full(n, value)


def lif(n: int, **changes: Any) -> nir.LIF:
    return nir.LIF(**({"tau": full(n, 0.002), "r": full(n, 3.0), "v_leak": full(n, 0.1), "v_threshold": full(n, 1.0)} | changes))


def cuba(n: int, **changes: Any) -> nir.CubaLIF:
    given = {"tau_mem": 0.001, "tau_syn": 0.0004, "r": 5.0, "v_leak": 0.05, "v_threshold": 1.0}
    return nir.CubaLIF(**({k: full(n, v) for k, v in given.items()} | {"w_in": full(n, 2.0)} | changes))


def graph(edges: list[tuple[str, str]], n_in: int = 3, n_out: int = 2, **nodes: Any) -> nir.NIRGraph:
    ends = {"input": nir.Input(input_type={"input": np.array([n_in])}), "output": nir.Output(output_type={"output": np.array([n_out])})}
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False)


def chain(*nodes: Any, n_in: int = 3, n_out: int = 2) -> nir.NIRGraph:
    named = {f"n{i}": node for i, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    return graph(list(pairwise(names)), n_in, n_out, **named)


def step_through(g: nir.NIRGraph, spikes: np.ndarray, dt: float = DT) -> dict[str, np.ndarray]:
    """Run a NIR graph of dense nodes by forward Euler; what a source sends in step t is seen by others in step t + 1."""
    v: dict[str, Any] = {n: np.array(node.v_leak) if hasattr(node, "v_leak") else 0.0 for n, node in g.nodes.items()}
    current: dict[str, Any] = dict.fromkeys(g.nodes, 0.0)
    sent = {n: np.zeros((len(spikes), int(np.prod(node.output_type["output"])))) for n, node in g.nodes.items()}
    sent["input"] = spikes.astype(float)

    def value(name: str, t: int) -> Any:
        node = g.nodes[name]
        if isinstance(node, nir.Input | nir.LIF | nir.CubaLIF | nir.IF | nir.LI | nir.CubaLI | nir.Threshold):
            return sent[name][t - 1] if t > 0 else 0.0 * sent[name][0]
        x = sum(value(pre, t) for pre, post in g.edges if post == name)
        if isinstance(node, nir.Delay):  # a path has delay 1 already
            extra = np.maximum(np.rint(node.delay / dt).astype(int), 1) - 1
            pre = next(pre for pre, post in g.edges if post == name)
            return np.array([value(pre, t - int(d))[i] if t - d >= 0 else 0.0 for i, d in enumerate(extra)])
        return node.weight @ x + getattr(node, "bias", 0.0) if hasattr(node, "weight") else node.scale * x

    for t in range(len(spikes)):
        for name, node in g.nodes.items():
            if isinstance(node, nir.Input | nir.Output) or hasattr(node, "weight") or isinstance(node, nir.Scale | nir.Delay):
                continue
            x = sum(value(pre, t) for pre, post in g.edges if post == name)
            if isinstance(node, nir.Threshold):
                sent[name][t] = x >= node.threshold
                continue
            if isinstance(node, nir.IF):
                v[name] = v[name] + node.r * x
            elif isinstance(node, nir.LIF | nir.LI):
                v[name] = v[name] + dt / node.tau * (node.v_leak - v[name] + node.r * x)
            else:
                current[name] = current[name] + dt / node.tau_syn * (-current[name] + node.w_in * x)
                v[name] = v[name] + dt / node.tau_mem * (node.v_leak - v[name] + node.r * current[name])
            if isinstance(node, nir.LI | nir.CubaLI):
                sent[name][t] = v[name]
                continue
            sent[name][t] = v[name] >= node.v_threshold
            v[name] = np.where(sent[name][t] > 0, node.v_reset, v[name])
    return sent


def spikes_of(raster: np.ndarray) -> Spikes:
    step, neuron = np.nonzero(raster)
    return Spikes(neuron=neuron, step=step)


def run(net: Network, raster: np.ndarray) -> Any:
    return Simulator(net).run(len(raster), spikes={"input": spikes_of(raster)}, record=RecordOptions())


def raster_of(result: Any, name: str, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, bool)
    out[result.spikes[name].step, result.spikes[name].neuron] = True
    return out


def agree(g: nir.NIRGraph, names: list[str], *, n_steps: int = 300, p: float = 0.2, n_in: int = 3) -> Network:
    raster = np.random.default_rng(0).random((n_steps, n_in)) < p
    net = network_from_nir(g, dt=DT)
    expected, result = step_through(g, raster), run(net, raster)
    for name in names:
        want = expected[name].astype(bool)
        assert want.any(), f"{name} is silent: the test would show nothing"
        assert not want.all()
        np.testing.assert_array_equal(raster_of(result, name, want.shape), want, err_msg=name)
    return net


def weights(rows: int, columns: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1.0, (rows, columns)) * scale


def test_lif() -> None:
    net = agree(chain(nir.Affine(weight=weights(2, 3, scale=20), bias=np.array([0.2, -0.1])), lif(2)), ["n1"])
    model = net.population("n1").model
    assert isinstance(model, LIF)
    assert model.reset is Reset.TO_VALUE
    assert isinstance(model.tau_mem, float)  # equal values became a scalar
    assert isinstance(model.bias, np.ndarray)
    np.testing.assert_allclose(model.bias, 3.0 * DT / 0.002 * np.array([0.2, -0.1]), rtol=1e-15)
    assert any("delay 1" in note for note in net.notes)
    assert any("output 'output' is population 'n1'" in note for note in net.notes)


def test_lif_with_other_values_per_neuron() -> None:
    node = lif(2, tau=np.array([0.001, 0.01]), r=np.array([1.0, 9.0]), v_reset=np.array([-0.5, 0.2]), v_threshold=np.array([0.5, 1.2]))
    net = agree(chain(nir.Linear(weight=weights(2, 3, scale=20)), node), ["n1"])
    assert np.shape(net.population("n1").model.tau_mem) == (2,)  # type: ignore[attr-defined]


def test_if() -> None:
    node = nir.IF(r=full(2, 0.5), v_threshold=full(2, 2.0))
    net = agree(chain(nir.Linear(weight=weights(2, 3)), node), ["n1"])
    assert net.population("n1").model.tau_mem == np.inf  # type: ignore[attr-defined]


def test_recurrent_cuba_with_biases() -> None:
    """The current's bias is exact from the first step on: it is large here, and one step off would change the spikes."""
    g = graph(
        [("input", "w"), ("w", "a"), ("a", "rec"), ("rec", "a"), ("a", "out"), ("out", "b"), ("b", "output")],
        w=nir.Affine(weight=weights(4, 3, 1), bias=np.array([1.0, -0.5, 2.0, 0.0])),
        rec=nir.Affine(weight=weights(4, 4, 2, 0.5), bias=full(4, -0.3)),
        out=nir.Affine(weight=weights(2, 4, 3, 0.2), bias=np.array([0.3, 0.05])),
        a=cuba(4),
        b=cuba(2, tau_syn=full(2, DT)),
    )
    net = agree(g, ["a", "b"])
    assert isinstance(net.population("a").model, CubaLIF)
    assert [p.name for p in net.populations] == ["input", "a", "b"]
    assert {p.name for p in net.projections} == {"input->a", "a->a", "a->b"}
    # the loop would notice if the current started at 0
    started = [replace(p, model=replace(p.model, i_init=0.0)) if isinstance(p.model, CubaLIF) else p for p in net.populations]
    raster = np.random.default_rng(0).random((300, 3)) < 0.2
    other = run(replace(net, populations=tuple(started)), raster)
    assert not np.array_equal(raster_of(other, "a", (300, 4)), step_through(g, raster)["a"].astype(bool))


def test_threshold_scale_and_sum_of_edges() -> None:
    g = graph(
        [("input", "x"), ("input", "y"), ("x", "s"), ("y", "s"), ("s", "t"), ("t", "output")],
        n_out=2,
        x=nir.Affine(weight=np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), bias=np.array([0.5, 0.0])),
        y=nir.Linear(weight=np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 1.0]])),
        s=nir.Scale(scale=np.array([2.0, -1.0])),
        t=nir.Threshold(threshold=np.array([2.5, -1.5])),
    )
    net = agree(g, ["t"])
    connect = net.projection("input->t").connect
    assert isinstance(connect, Explicit)
    assert connect.weight is not None
    assert list(zip(connect.pre, connect.post, connect.weight, strict=True)) == [(0, 0, 4.0), (2, 0, 1.0), (1, 1, -1.0), (2, 1, -2.0)]


def test_delays_in_parallel_and_in_series() -> None:
    g = graph(
        [("input", "d"), ("d", "e"), ("e", "w"), ("w", "n"), ("input", "w2"), ("w2", "n"), ("n", "output")],
        d=nir.Delay(delay=np.array([0.0, 3e-4, 7e-4])),
        e=nir.Scale(scale=full(3, 2.0)),
        w=nir.Linear(weight=weights(2, 3, 1, 15)),
        w2=nir.Linear(weight=weights(2, 3, 2, 15)),
        n=lif(2),
    )
    net = agree(g, ["n"])
    connect = net.projection("input->n").connect
    assert isinstance(connect, Explicit)
    assert connect.delay is not None
    assert sorted(set(connect.delay.tolist())) == [1, 3, 7]
    assert any("0 .. 7 steps" in note for note in net.notes)
    twice = chain(nir.Delay(delay=full(3, 2e-4)), nir.Delay(delay=full(3, 3.4e-4)), nir.Linear(weight=weights(2, 3)), lif(2))
    connect = network_from_nir(twice, dt=DT).projections[0].connect
    assert isinstance(connect, Explicit)
    assert connect.delay is not None
    assert set(connect.delay.tolist()) == {5}
    assert any("rounded by up to 0.4 steps" in note for note in network_from_nir(twice, dt=DT).notes)
    with pytest.raises(InputError, match=r"NC209.*'input' to 'n2'.*256 steps"):
        network_from_nir(chain(nir.Delay(delay=full(3, 256e-4)), nir.Linear(weight=weights(2, 3)), lif(2)), dt=DT)


@pytest.mark.parametrize("kind", ["li", "cubali"])
def test_leaky_integrators(kind: str) -> None:
    node = (
        nir.LI(tau=full(2, 0.003), r=full(2, 4.0), v_leak=full(2, 0.2))
        if kind == "li"
        else nir.CubaLI(tau_mem=full(2, 0.003), tau_syn=full(2, 0.001), r=full(2, 4.0), v_leak=full(2, 0.2), w_in=full(2, 1.5))
    )
    g = chain(nir.Affine(weight=weights(2, 3), bias=np.array([0.4, -1.0])), node)
    net = network_from_nir(g, dt=DT)
    assert isinstance(net.population("n1").model, LeakyReadout)
    raster = np.random.default_rng(1).random((100, 3)) < 0.3
    # rounding of a hundred leaky steps of order 1
    np.testing.assert_allclose(run(net, raster).outputs["n1"], step_through(g, raster)["n1"], atol=1e-12)


def test_linear_nodes_before_the_output_become_a_readout() -> None:
    weight, bias = weights(2, 2, 5), np.array([0.5, -0.5])
    g = chain(nir.Linear(weight=weights(2, 3, scale=20)), lif(2), nir.Affine(weight=weight, bias=bias))
    net = agree(g, ["n1"])
    raster = np.random.default_rng(0).random((300, 3)) < 0.2
    sent = step_through(g, raster)["n1"]
    late = np.vstack([np.zeros((1, 2)), sent[:-1]])
    np.testing.assert_allclose(run(net, raster).outputs["output"], late @ weight.T + bias, atol=1e-12)


def test_nested_graph_is_dissolved() -> None:
    w, rec = nir.Linear(weight=weights(2, 3, scale=10)), nir.Linear(weight=weights(2, 2, 4, 5))
    inner = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([2])}),
            "lif": lif(2),
            "w_rec": rec,
            "output": nir.Output(output_type={"output": np.array([2])}),
        },
        edges=[("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
        type_check=False,
    )
    nested = graph([("input", "w"), ("w", "sub"), ("sub", "output")], w=w, sub=inner)
    flat = graph([("input", "w"), ("w", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")], w=w, lif=lif(2), rec=rec)
    one, two = network_from_nir(nested, dt=DT), network_from_nir(flat, dt=DT)
    assert [p.name for p in one.populations] == ["input", "sub.lif"]
    for a, b in (("input->sub.lif", "input->lif"), ("sub.lif->sub.lif", "lif->lif")):
        x, y = one.projection(a).connect, two.projection(b).connect
        assert isinstance(x, Explicit)
        assert isinstance(y, Explicit)
        np.testing.assert_array_equal(x.weight, y.weight)
        np.testing.assert_array_equal(x.pre, y.pre)


def test_convolution_pool_flatten_affine_compose() -> None:
    """Conv2d, SumPool2d, Flatten and Affine between two neuron nodes are one projection: the product of their matrices, biases summed."""
    rng = np.random.default_rng(7)
    kernel, bias, dense, dense_bias = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=2), rng.normal(size=(4, 8)), rng.normal(size=4)
    ends = {"input": nir.Input(input_type={"input": np.array([1, 4, 4])}), "output": nir.Output(output_type={"output": np.array([4])})}
    nodes = {
        "conv": nir.Conv2d(input_shape=(4, 4), weight=kernel, stride=1, padding=1, dilation=1, groups=1, bias=bias),
        "pool": nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0])),
        "flat": nir.Flatten(input_type={"input": np.array([2, 2, 2])}, start_dim=0),
        "fc": nir.Affine(weight=dense, bias=dense_bias),
        "n": nir.IF(r=full(4, 2.0), v_threshold=full(4, 1.0)),
    }
    edges = [("input", "conv"), ("conv", "pool"), ("pool", "flat"), ("flat", "fc"), ("fc", "n"), ("n", "output")]
    net = network_from_nir(nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False), dt=DT)
    got = np.zeros((4, 16))
    connect = net.projection("input->n").connect
    assert isinstance(connect, Explicit)
    np.add.at(got, (connect.post, connect.pre), connect.weight)
    for pixel in range(16):
        picture = np.zeros((6, 6))
        picture[1 + pixel // 4, 1 + pixel % 4] = 1.0
        layers = [[[(picture[i : i + 3, j : j + 3] * kernel[c, 0]).sum() for j in range(4)] for i in range(4)] for c in range(2)]
        pooled = np.array(layers).reshape(2, 2, 2, 2, 2).sum(axis=(2, 4))
        np.testing.assert_allclose(got[:, pixel], 2.0 * dense @ pooled.ravel(), atol=1e-12)
    np.testing.assert_allclose(net.population("n").model.bias, 2.0 * (dense @ np.repeat(4 * bias, 4) + dense_bias), atol=1e-12)  # type: ignore[attr-defined]


def test_file_round_trip_and_names(tmp_path: Path) -> None:
    g = graph(
        [("input", "0"), ("0", "1 x;"), ("1 x;", "output")],
        **{"0": nir.Linear(weight=weights(2, 3)), "1 x;": lif(2)},
    )
    nir.write(tmp_path / "net.nir", g)
    net = read_nir(tmp_path / "net.nir", dt=DT, seed=5)
    assert [p.name for p in net.populations] == ["input", "_1_x_"]
    assert any("'1 x;' is '_1_x_'" in note for note in net.notes)
    assert (net.seed, net.name, net.dt) == (5, "net", DT)
    assert isinstance(net.populations[0].model, SpikeSource)


BAD_GRAPHS = {
    "loop": (
        graph([("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")], a=nir.Scale(scale=full(3, 1.0)), b=nir.Scale(scale=full(3, 1.0))),
        "NC144.*loop",
    ),
    "missing node": (
        graph([("input", "lifx"), ("input", "lif"), ("lif", "output")], n_out=3, lif=lif(3)),
        "NC144.*'lifx'.*\n.*did you mean 'lif'",
    ),
    "double edge": (graph([("input", "n"), ("input", "n"), ("n", "output")], n_out=3, n=lif(3)), "NC144.*twice"),
    "nothing comes in": (graph([("input", "output")], n_out=3, n=lif(3)), "NC144.*'n' has no incoming edge"),
    "sizes": (chain(nir.Linear(weight=weights(3, 3)), lif(2)), "NC143.*'n1'"),
    "sum of sizes": (
        graph([("input", "n"), ("w", "n"), ("n", "w"), ("n", "output")], n=lif(3), w=nir.Linear(weight=weights(2, 3))),
        "NC143.*cannot be added",
    ),
    "graded": (
        chain(nir.LI(tau=full(3, 0.01), r=full(3, 1.0), v_leak=full(3, 0.0)), nir.Linear(weight=weights(2, 3)), lif(2)),
        r"NC147.*'n0' \(LI\)",
    ),
    "not finite": (chain(nir.Linear(weight=np.array([[np.nan, 1.0, 1.0]])), lif(1), n_out=1), "NC203.*'n0': weight"),
    "unsupported": (chain(nir.I(r=full(3, 1.0)), n_out=3), "NC141.*'n0' is a I, which is not supported.*\n.*CubaLIF"),
    "tau": (chain(lif(3, tau=full(3, 0.0)), n_out=3), "NC201.*tau is 0"),
    "dt too large": (chain(lif(3, tau=full(3, 5e-5)), n_out=3), "NC142.*exceeds tau = 5e-05.*\n.*--dt 5e-05"),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_bad_graphs(case: str) -> None:
    g, words = BAD_GRAPHS[case]
    with pytest.raises(InputError, match=words):
        network_from_nir(g, dt=DT)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NC105"):
        read_nir(tmp_path / "none.nir", dt=DT)
    text = tmp_path / "text.nir"
    text.write_text("no HDF5")
    with pytest.raises(InputError, match=r"NC140.*text\.nir") as error:
        read_nir(text, dt=DT)
    assert error.value.exit_code == 3
    for dt, words in ((None, "no time step"), (0.0, "must be > 0"), (float("nan"), "must be > 0")):
        with pytest.raises(InputError, match=f"NC142.*{words}"):
            read_nir(text, dt=dt)
    single = tmp_path / "single.nir"
    nir.write(single, lif(2))
    with pytest.raises(InputError, match=r"NC144.*single LIF"):
        read_nir(single, dt=DT)
    strange = tmp_path / "strange.nir"
    nir.write(strange, chain(lif(3), n_out=3))
    with h5py.File(strange, "r+") as file:
        del file["node/nodes/n0/type"]
        file["node/nodes/n0/type"] = "Hodgkin"
    with pytest.raises(InputError, match=r"NC141.*'n0' is a Hodgkin"):
        read_nir(strange, dt=DT)


def test_lif_norse_spikes_as_published(shared: Path) -> None:
    """Steps 460, 510, 710, 760 with input in the same step; the importer's delay of 1 makes them one step later."""
    net = read_nir(shared / "data/networks/nir/lif_norse.nir", dt=DT)
    raster = np.zeros((1000, 1), bool)
    raster[PAPER_INPUT] = True
    assert run(net, raster).spikes["_1"].step.tolist() == [461, 511, 711, 761]


def test_braille_against_the_loop(shared: Path) -> None:
    path = shared / "data/networks/nir/braille_noDelay_bias_zero.nir"
    net = read_nir(path, dt=DT)
    assert [(p.name, p.size) for p in net.populations] == [("input", 12), ("lif1.lif", 38), ("lif2", 7)]
    assert sum(len(p.connect.pre) for p in net.projections if isinstance(p.connect, Explicit)) == 2166
    raster = np.random.default_rng(3).random((256, 12)) < 0.1
    expected, result = step_through(nir.read(path, type_check=False), raster), run(net, raster)
    for name in ("lif1.lif", "lif2"):
        assert expected[name].any()
        np.testing.assert_array_equal(raster_of(result, name, expected[name].shape), expected[name].astype(bool))


def test_cnn_sinabs(shared: Path) -> None:
    net = read_nir(shared / "data/networks/nir/cnn_sinabs.nir", dt=1e-3)
    assert [p.size for p in net.populations] == [2 * 34 * 34, 16 * 16 * 16, 16 * 16 * 16, 8 * 8 * 8, 256, 10]
    assert sum(p.size for p in net.populations[1:]) == 8970
    assert 1e6 < sum(len(p.connect.pre) for p in net.projections if isinstance(p.connect, Explicit)) < 1.3e6
    result = run(net, np.random.default_rng(0).random((20, 2312)) < 0.05)
    assert len(result.spikes["_1"].step) > 0


@pytest.mark.parametrize("name", ["lif_rockpool", "two_lif_neurons"])
def test_other_files(shared: Path, name: str) -> None:
    net = read_nir(shared / f"data/networks/nir/{name}.nir", dt=DT)
    assert len(net.projections) == len(net.populations) - 1


def test_refused_file(shared: Path) -> None:
    with pytest.raises(InputError, match=r"NC140.*subgraph\.nir.*nir package refuses it.*'lif' which does not exist") as error:
        read_nir(shared / "data/networks/nir/braille_noDelay_bias_zero_subgraph.nir", dt=DT)
    assert error.value.exit_code == 3
