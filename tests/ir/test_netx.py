"""netx files -> networks: what becomes what, and every kind of bad file ends in one finding with the layer's number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocompile.ir import LIF, CubaLIF, LeakyReadout, Network, SpikeSource
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import InputError
from neurocompile.ir.netx_reader import read_netx
from neurocompile.ir.read import read_network
from neurocompile.ir.serialise import pack_network, unpack_network

Layers = list[dict[str, Any]]
NEURON = {"type": b"CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}
DENSE: dict[str, Any] = {"type": "dense", "shape": [3], "weight": np.arange(-6, 6).reshape(3, 4) * 2}
INPUT: dict[str, Any] = {"type": "input", "shape": [2, 5, 4]}
CONV: dict[str, Any] = {
    "type": "conv", "shape": [3, 4, 3], "weight": np.full((3, 2, 2, 2, 1), 4), "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1],
    "groups": 1, "kernelSize": [2, 2], "inChannels": 2, "outChannels": 3,
}  # fmt: skip

Read = Callable[..., Network]


@pytest.fixture
def read(tmp_path: Path, write_netx: Callable[..., Path]) -> Read:
    """Write layers and read them back."""

    def run(*layers: dict[str, Any], ts: float | None = None, **options: Any) -> Network:
        return read_network(write_netx(tmp_path / "made.net", layers, ts=ts), **options)

    return run


def synapses(network: Network, name: str) -> Explicit:
    connect = network.projection(name).connect
    assert isinstance(connect, Explicit)
    return connect


def test_layers_are_populations_named_by_their_numbers(read: Read) -> None:
    network = read(DENSE, DENSE | {"weight": np.full((3, 3), 2)})
    assert [(p.name, p.size) for p in network.populations] == [("input", 4), ("0", 3), ("1", 3)]
    assert [type(p.model) for p in network.populations] == [SpikeSource, CubaLIF, CubaLIF]
    assert [p.resolution for p in network.populations] == [None, 1 / 64, 1 / 64]
    assert [p.name for p in network.projections] == ["input->0", "0->1"]
    assert (network.dt, network.seed, network.name) == (1e-3, 1, "made")
    found = synapses(network, "input->0")
    dense = np.zeros((3, 4))
    dense[found.post, found.pre] = found.weight
    np.testing.assert_array_equal(dense, DENSE["weight"])
    assert found.delay is not None
    assert set(found.delay) == {1}
    assert len(found.pre) == 11  # the weight 0 is no synapse


def test_an_input_layer_is_the_source_and_pictures_are_flattened_in_the_order_c_h_w(read: Read) -> None:
    kernel = np.arange(1, 25).reshape(3, 2, 2, 2) * 2
    network = read(INPUT | {"neuron": NEURON, "weight": [36.0], "bias": [34.0]}, CONV | {"weight": kernel, "bias": [2, 4, 6]})
    assert [(p.name, p.size) for p in network.populations] == [("0", 40), ("1", 36)]
    assert isinstance(network.population("0").model, SpikeSource)
    assert any("36 x + 34" in note for note in network.notes)
    found = synapses(network, "0->1")
    one = (found.post == 1 * 12 + 2 * 3 + 1) & (found.pre == 1 * 20 + 3 * 4 + 1)  # channel 1 (2, 1) from channel 1 (3, 1)
    assert found.weight is not None
    assert found.weight[one].tolist() == [kernel[1, 1, 1, 0]]
    assert len(found.pre) == 36 * 8
    np.testing.assert_array_equal(network.population("1").model.bias, np.repeat([2.0, 4.0, 6.0], 12))


def test_the_order_of_layers_is_that_of_their_numbers(read: Read) -> None:
    sizes = [4 + i for i in range(13)]
    layers = [{"type": "dense", "shape": [n], "weight": np.full((n, m), 2)} for m, n in zip([3, *sizes], sizes, strict=False)]
    assert [(p.name, p.size) for p in read(*layers).populations] == [("input", 3), *((str(i), n) for i, n in enumerate(sizes))]


def test_time_constants_say_the_registers(read: Read) -> None:
    plain = {"type": b"LOIHI", "iDecay": 4096, "vDecay": 0, "vThMant": 10, "refDelay": 3}
    network = read(DENSE, DENSE | {"weight": np.full(9, 2), "neuron": plain}, ts=2.0)
    first, second = (network.population(n).model for n in "01")
    assert network.dt == 2e-3
    assert isinstance(first, CubaLIF)
    assert (1 - network.dt / first.tau_syn, 1 - network.dt / first.tau_mem) == pytest.approx((1 - 1024 / 4096, 1 - 128 / 4096), rel=1e-15)
    assert type(second) is LIF
    assert (second.tau_mem, second.v_threshold) == (np.inf, 10 + 1 / 64)
    assert any("refDelay 3 is ignored" in note for note in network.notes)
    assert read(DENSE, ts=2.0, dt=1e-4).dt == 1e-4


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (5, np.full((3, 4), 6)),
        ([0, 1, 2], np.array([[1] * 4, [2] * 4, [3] * 4])),
        ([3, 2, 1, 0], np.array([[4, 3, 2, 1]] * 3)),
        (np.arange(12).reshape(3, 4) * 8, np.minimum(np.arange(12).reshape(3, 4) * 8, 62) + 1),
    ],
    ids=["one", "per neuron", "per input", "per synapse, clamped"],
)
def test_delays(read: Read, delay: Any, expected: np.ndarray) -> None:
    found = synapses(read(DENSE | {"weight": np.full((3, 4), 2), "delay": delay}), "input->0")
    assert found.delay is not None
    np.testing.assert_array_equal(found.delay, expected[found.post, found.pre])


def test_recurrent_weights_and_their_delays(read: Read) -> None:
    own = np.arange(1, 10).reshape(3, 3) * 2
    network = read(DENSE | {"type": "dense_rec", "weight_rec": own, "delay": [4, 5, 6]})
    found = synapses(network, "0->0")
    assert found.weight is not None
    np.testing.assert_array_equal(found.weight, own.ravel())
    np.testing.assert_array_equal(found.delay, found.post + 5)


def test_a_last_layer_without_neurons_adds_up(read: Read) -> None:
    model = read(DENSE, DENSE | {"weight": np.full((3, 3), 2), "neuron": None}).population("1").model
    assert isinstance(model, LeakyReadout)
    assert model.tau_mem == np.inf


def test_a_build_keeps_the_integers(read: Read) -> None:
    network = read(DENSE)
    text, arrays = pack_network(network)
    assert [p.resolution for p in unpack_network(text, arrays, file="network.json").populations] == [None, 1 / 64]


@pytest.mark.parametrize(("name", "populations"), [
    ("tiny", [("0", 768), ("1", 864), ("2", 36)]),
    ("mnist", [("input", 784), ("0", 128), ("1", 64), ("2", 10)]),
    ("oxford", [("input", 200), ("0", 256), ("1", 200)]),
])  # fmt: skip
def test_shared_files(shared: Path, name: str, populations: list[tuple[str, int]]) -> None:
    path = shared / f"data/networks/lava_dl/{name}.net"
    network = read_netx(path)
    assert [(p.name, p.size) for p in network.populations] == populations
    with h5py.File(path, "r") as file:
        for projection in network.projections:
            layer = file[f"layer/{projection.post}"]
            weight = layer["weight"][()]
            uses = 1 if layer["type"][0] == b"dense" else layer["shape"][1] * layer["shape"][2]  # no padding: a kernel at every pixel
            assert len(synapses(network, projection.name).pre) == np.count_nonzero(weight) * uses


# --- bad files -----------------------------------------------------------------------------------------------------------------
BAD: dict[str, tuple[str, str, Layers]] = {
    "type": ("NC131", r"layer 1 is of type 'pool'", [DENSE, {"type": "pool", "shape": [3]}]),
    "average": ("NC131", r"layer 1 is of type 'average'", [DENSE, {"type": "average", "shape": [3]}]),
    "neurons": ("NC131", r"layer 1 \(dense\) has neurons of type 'SDNN'", [DENSE, DENSE | {"neuron": NEURON | {"type": b"SDNN"}}]),
    "graded": ("NC131", r"layer 0 \(dense\) has graded spikes", [DENSE | {"neuron": NEURON | {"gradedSpike": True}}]),
    "weight exponent": ("NC131", r"layer 0 \(dense\) has wgtExp 2", [DENSE | {"neuron": NEURON | {"wgtExp": 2}}]),
    "complex": ("NC131", r"layer 0 \(dense\) has complex weights", [DENSE | {"weight": {"real": [1.0], "imag": [1.0]}}]),
    "delays of conv": ("NC131", r"layer 1 \(conv\) has delays", [INPUT, CONV | {"delay": [0, 1, 2]}]),
    "no weight": ("NC132", r"layer 0 \(dense\) lacks 'weight'; it has neuron, shape, type", [DENSE | {"weight": None}]),
    "no shape": ("NC132", r"layer 0 \(dense\) lacks 'shape'", [DENSE | {"shape": None}]),
    "no stride": ("NC132", r"layer 1 \(conv\) lacks 'stride'", [INPUT, CONV | {"stride": None}]),
    "no threshold": ("NC132", r"lacks 'neuron/vThMant'", [DENSE | {"neuron": {"type": b"CUBA", "iDecay": 1, "vDecay": 1}}]),
    "loop without neurons": (
        "NC132", r"layer 0 \(dense_rec\) lacks 'neuron'",
        [DENSE | {"type": "dense_rec", "weight_rec": np.ones((3, 3)), "neuron": None}],
    ),
    "conv without neurons": ("NC132", r"layer 1 \(conv\) lacks 'neuron'", [INPUT, CONV | {"neuron": None}]),
    "fraction": ("NC132", r"weight\[1, 0\] is 0.5, must be a whole", [DENSE | {"shape": [2], "weight": [[2.0, 4.0], [0.5, 2.0]]}]),
    "nan": ("NC132", r"weight\[0, 1\] is nan, must be", [DENSE | {"shape": [1], "weight": [[2.0, np.nan]]}]),
    "infinite": ("NC132", r"bias\[0\] is inf, must be", [DENSE | {"bias": [np.inf, 0.0, 0.0]}]),
    "text": ("NC132", r"'weight' holds .*, must hold numbers", [DENSE | {"weight": "two"}]),
    "decay": ("NC132", r"neuron/iDecay is 4097, must be a whole number in 1 .. 4096", [DENSE | {"neuron": NEURON | {"iDecay": 4097}}]),
    "decay of nothing": ("NC132", r"neuron/iDecay is 0, must be .* in 1 .. 4096", [DENSE | {"neuron": NEURON | {"iDecay": 0}}]),
    "threshold": ("NC132", r"vThMant is 131072, must be .* in 0 .. 131071", [DENSE | {"neuron": NEURON | {"vThMant": 131072}}]),
    "two thresholds": ("NC132", r"vThMant has shape \(2,\), must be one number", [DENSE | {"neuron": NEURON | {"vThMant": [1, 2]}}]),
    "negative delay": ("NC132", r"delay is -1, must be a whole number in 0", [DENSE | {"delay": -1}]),
    "empty shape": ("NC132", r"shape\[0\] is 0", [DENSE | {"shape": [0]}]),
    "no shape before conv": ("NC143", r"layer 0 \(conv\): the shape of its input is not known", [CONV]),
    "input in the middle": ("NC143", r"layer 1 \(input\): an input layer can only be layer 0", [DENSE, INPUT]),
    "weight": ("NC143", r"weight has shape \(3, 4\), needs \(3, 3\): 3 neurons, 3 inputs", [DENSE, DENSE]),
    "transposed": ("NC143", r"weight has shape \(4, 3\), needs \(3, 4\)", [DENSE | {"weight": np.ones((4, 3))}]),
    "features": ("NC143", r"inFeatures is 5, but its weights and its input say 4", [DENSE | {"inFeatures": 5}]),
    "recurrent": (
        "NC143", r"weight_rec has shape \(3, 4\), needs \(3, 3\)", [DENSE | {"type": "dense_rec", "weight_rec": np.ones((3, 4))}],
    ),
    "recurrent delays": (
        "NC143", r"delays per synapse serve 4 inputs, but also its 3 recurrent",
        [DENSE | {"type": "dense_rec", "weight_rec": np.ones((3, 3)), "delay": [1, 2, 3, 4]}],
    ),
    "delay": ("NC143", r"delay has shape \(5,\), must be one number, \(3,\), \(4,\) or \(3, 4\)", [DENSE | {"delay": [1, 2, 3, 4, 5]}]),
    "bias": ("NC143", r"2 biases for 3 neurons", [DENSE | {"bias": [1, 2]}]),
    "flat picture": ("NC143", r"takes tensors of shape \(channels, height, width\), but gets \(40,\)", [INPUT, {"type": "flatten"}, CONV]),
    "kernel": ("NC143", r"kernelSize is \[3, 2\], the weight's is \[2, 2\]", [INPUT, CONV | {"kernelSize": [3, 2]}]),
    "kernel of 3 dimensions": ("NC143", r"weight has shape \(3, 2, 2\), needs", [INPUT, CONV | {"weight": np.ones((3, 2, 2))}]),
    "channels": ("NC143", r"weight is for 4 input channels, but gets 2", [INPUT, CONV | {"weight": np.ones((3, 4, 2, 2))}]),
    "output shape": ("NC143", r"shape is \(3, 3, 3\), but the convolution makes \(3, 4, 3\)", [INPUT, CONV | {"shape": [3, 3, 3]}]),
    "large kernel": (
        "NC143", r"layer 1 \(conv\): kernel \[6, 2\] is larger", [INPUT, CONV | {"weight": np.ones((3, 2, 6, 2)), "kernelSize": None}],
    ),
    "groups": (
        "NC143", r"layer 1 \(conv\): 3 output channels do not divide", [INPUT, CONV | {"groups": 2, "weight": np.ones((3, 1, 2, 2))}],
    ),
    "many synapses": (
        "NC146", r"layer 1 \(conv\) expands to up to 3.23e\+09 synapses",
        [INPUT | {"shape": [20, 1500, 1500]},
         CONV | {"shape": [8, 1498, 1498], "weight": np.ones((8, 20, 3, 3)), "kernelSize": 3, "inChannels": 20, "outChannels": None}],
    ),
    "dimensions": ("NC143", r"shape has 4 dimensions", [DENSE | {"shape": [1, 1, 1, 3]}]),
    "behind the end": ("NC143", r"layer 1 \(dense\) follows layer 0, which has no neurons", [DENSE | {"neuron": None}, DENSE]),
    "many neurons": ("NC146", r"layer 0 \(dense\) has 1000000000 neurons", [DENSE | {"shape": [10**9]}]),
    "large picture": (
        "NC146", r"layer 1 \(conv\) has 480000000 neurons",
        [INPUT | {"shape": [2, 4001, 4001]}, CONV | {"shape": [30, 4000, 4000], "weight": np.ones((30, 2, 2, 2)), "outChannels": 30}],
    ),
    "only an input": ("NC130", r"no layer has neurons", [INPUT]),
    "nothing": ("NC130", r"has no group 'layer'", []),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_layers(case: str, read: Read) -> None:
    code, words, layers = BAD[case]
    with pytest.raises(InputError, match=words) as caught:
        read(*layers)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert (found.file or "").endswith("made.net")
    assert found.way_out
    assert caught.value.exit_code == 3


def test_every_unsupported_layer_is_named_at_once(read: Read) -> None:
    with pytest.raises(InputError) as caught:
        read(DENSE, {"type": "pool", "shape": [3]}, {"type": "concat", "shape": [3]}, DENSE | {"neuron": NEURON | {"type": b"RF"}})
    assert [d.code for d in caught.value.diagnostics] == ["NC131"] * 3
    assert [d.message.split()[1] for d in caught.value.diagnostics] == ["1", "2", "3"]


def broken(path: Path, how: str) -> None:
    """Damage a good file."""
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:1500])
    elif how == "text":
        path.write_text("no HDF5")
    elif how == "noise":
        path.write_bytes(path.read_bytes()[:200] + bytes(np.random.default_rng(0).integers(0, 256, 4000, np.uint8)))
    else:
        with h5py.File(path, "r+") as file:
            if how == "gap":
                file.move("layer/1", "layer/5")
            elif how == "word":
                file.create_group("layer/first")
            elif how == "layer is a number":
                del file["layer/1"]
                file["layer/1"] = 3
            elif how == "layers are a number":
                del file["layer"]
                file["layer"] = 3
            elif how == "no type":
                del file["layer/1/type"]
            elif how == "type is a number":
                del file["layer/1/type"]
                file["layer/1/type"] = 3
            elif how == "loose link":
                del file["layer/1"]
                file["layer/1"] = h5py.SoftLink("/gone")
            elif how == "a lie about its size":
                del file["layer/1/weight"]
                file.create_dataset("layer/1/weight", (3, 300_000_000), "f4", chunks=(1, 1_000_000))
                del file["layer/0"]
                file["layer/0/type"], file["layer/0/shape"] = [b"flatten"], [1]
            elif how == "no value at all":
                del file["layer/1/weight"]
                file["layer/1"].create_dataset("weight", data=h5py.Empty("f4"))


@pytest.mark.parametrize(("how", "code", "words"), [
    ("truncated", "NC130", "is not a netx file"),
    ("text", "NC130", "is not a netx file"),
    ("noise", "NC130", "is not a netx file"),
    ("gap", "NC130", r"must have layers 0 .. n-1, has 0, 5"),
    ("word", "NC130", r"has 0, 1, first"),
    ("layer is a number", "NC130", "layer 1 is not a group"),
    ("layers are a number", "NC130", "has no group 'layer'"),
    ("no type", "NC132", "layer 1 lacks 'type'"),
    ("type is a number", "NC132", "layer 1: 'type' holds no text"),
    ("loose link", "NC130", "layer 1 is not a group"),
    ("a lie about its size", "NC130", r"'weight' says that it has 900000000 values, but the file holds 0 bytes"),
    ("no value at all", "NC132", "'weight' holds"),
])  # fmt: skip
def test_damaged_files(how: str, code: str, words: str, tmp_path: Path, write_netx: Callable[..., Path]) -> None:
    path = write_netx(tmp_path / "made.net", [DENSE, DENSE | {"weight": np.full((3, 3), 2)}])
    read_network(path)
    broken(path, how)
    with pytest.raises(InputError, match=words) as caught:
        read_network(path)
    assert [d.code for d in caught.value.diagnostics] == [code]
    assert (caught.value.diagnostics[0].file or "").endswith("made.net")


def test_a_file_beyond_the_memory_is_refused_before_it_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.ir.netx_file.available_memory", lambda: 1000.0)
    with pytest.raises(InputError, match=r"NC146.*'weight' has 60 values"):
        read(DENSE | {"shape": [6], "weight": np.ones((6, 10))})


def test_no_file_and_no_time_step(tmp_path: Path, read: Read) -> None:
    with pytest.raises(InputError, match="NC105"):
        read_network(tmp_path / "none.net")
    with pytest.raises(InputError, match="NC142"):
        read(DENSE, dt=-1.0)
