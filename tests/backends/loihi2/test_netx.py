"""netx files through import and lowering: every integer of the file arrives, and the spikes are those of netx's own layers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.arithmetic import exact_format, quantise_weights
from neurocompile.ir.netx_reader import read_netx
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes

SHARED = ("tiny", "mnist", "oxford")
N_IN = {"tiny": 768, "mnist": 784, "oxford": 200, "loops": 12, "pictures": 2 * 9 * 7, "many": 5, "sums": 6}


def neuron(i: int, v: int, vth: int, kind: bytes = b"CUBA") -> dict[str, Any]:
    return {"type": kind, "iDecay": i, "vDecay": v, "vThMant": vth, "refDelay": 1, "gradedSpike": False}


def even(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Weights as slayer exports them: even integers in float32."""
    return (2 * rng.integers(low // 2, high // 2 + 1, shape)).astype(np.float32)


def made(name: str) -> list[dict[str, Any]]:
    """Layers of a file that no shared one has the like of."""
    rng = np.random.default_rng(1)
    if name == "loops":  # recurrence, delays of each form, bias, odd weights of both signs, weights of one sign, no memory at all
        return [
            {"type": "dense_rec", "shape": [20], "weight": even(rng, (20, 12), -60, 120), "weight_rec": even(rng, (20, 20), -80, 90),
             "delay": rng.integers(0, 80, 20), "bias": even(rng, (20,), -4, 8), "neuron": neuron(700, 300, 90)},
            {"type": "dense", "shape": [16], "weight": rng.integers(-127, 128, (16, 20)), "delay": 7, "neuron": neuron(4096, 200, 100)},
            {"type": "dense", "shape": [14], "weight": rng.integers(0, 256, (14, 16)), "delay": rng.integers(0, 63, (14, 16)),
             "neuron": neuron(2048, 4096, 200)},
            {"type": "dense", "shape": [9], "weight": -rng.integers(0, 40, (9, 14)), "delay": np.arange(14), "bias": [41.0],
             "neuron": neuron(1, 0, 500)},
        ]  # fmt: skip
    if name == "pictures":  # height, width, stride, padding and dilation all differ; groups; then flattened
        return [
            {"type": "input", "shape": [2, 9, 7]},
            {"type": "conv", "shape": [4, 4, 6], "weight": even(rng, (4, 1, 3, 2, 1), -80, 120), "stride": [2, 1], "padding": [1, 0],
             "dilation": [2, 1], "groups": 2, "bias": even(rng, (4,), -10, 20), "neuron": neuron(4096, 800, 70, b"LOIHI")},
            {"type": "flatten", "shape": [96]},
            {"type": "dense", "shape": [11], "weight": even(rng, (11, 96), -20, 30), "neuron": neuron(1000, 500, 60)},
        ]  # fmt: skip
    if name == "many":  # twelve layers: listed lexically, 10 comes before 2
        return [
            {"type": "dense", "shape": [5], "weight": even(rng, (5, 5), -10, 90), "neuron": neuron(4096, 10 + i, 40)} for i in range(12)
        ]
    return [{"type": "dense", "shape": [7], "weight": even(rng, (7, 6), -90, 120)},
            {"type": "dense", "shape": [3], "weight": even(rng, (3, 7), -90, 120), "neuron": None}]  # fmt: skip


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path, write_netx: Callable[..., Path]) -> Callable[[str], Path]:
    """Path of a shared or a made file."""

    def find(name: str) -> Path:
        if name in SHARED:
            return Path(request.getfixturevalue("shared")) / f"data/networks/lava_dl/{name}.net"
        return write_netx(tmp_path / f"{name}.net", made(name))

    return find


def lowered_and_run(lower: Any, path: Path, raster: np.ndarray) -> tuple[Any, Any]:
    network = read_netx(path)
    lowered = lower(network)
    step, cell = np.nonzero(raster)
    return lowered, TARGET.twin(lowered, learning=False).run(
        len(raster), spikes={network.spike_sources[0].name: Spikes(neuron=cell, step=step)}, signals={}
    )


# --- the oracle: netx's layers (lava-dl 0.6, hdf5.py) and Lava's LIF, written in NumPy from the file alone -----------------------
def decayed(state: np.ndarray, register: int) -> np.ndarray:
    return np.sign(state) * (np.abs(state) * (4096 - register) >> 12)


def correlate(image: np.ndarray, layer: Any) -> np.ndarray:
    """Cross-correlation, one output pixel at a time."""
    weight = np.asarray(layer["weight"][()]).astype(int).reshape(layer["weight"].shape[:4])
    (sy, sx), (py, px), (dy, dx) = (np.broadcast_to(layer[k][()], 2) for k in ("stride", "padding", "dilation"))
    groups, (c_out, c_in, ky, kx) = int(layer["groups"][()]), weight.shape
    padded = np.pad(image, ((0, 0), (py, py), (px, px)))
    out = np.zeros(tuple(layer["shape"][()]), int)
    for c in range(c_out):
        first = c // (c_out // groups) * c_in
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                window = padded[first : first + c_in, y * sy : y * sy + dy * (ky - 1) + 1 : dy, x * sx : x * sx + dx * (kx - 1) + 1 : dx]
                out[c, y, x] = (window * weight[c]).sum()
    return out


def oracle(path: Path, raster: np.ndarray) -> dict[str, np.ndarray]:
    """Step through the file: what a layer sends in step t reaches the next in step t + 1, delays come on top."""
    with h5py.File(path, "r") as f:
        layers = [(str(i), f[f"layer/{i}"]) for i in range(len(f["layer"]))]
        layers = [(name, layer) for name, layer in layers if layer["type"][0] not in {b"input", b"flatten"}]
        sent, shape = {"in": raster.astype(int)}, tuple(f["layer/0/shape"][()])
        state, before = {}, "in"
        for name, layer in layers:
            n = int(np.prod(layer["shape"][()]))
            sent[name] = np.zeros((len(raster), n), int)
            sources = [(before, "weight")] + [(name, "weight_rec")] * ("weight_rec" in layer)
            conv = layer["type"][0] == b"conv"
            parts = []
            for source, key in sources if not conv else ():
                weight = layer[key][()].astype(int)
                delay = np.minimum(layer["delay"][()] if "delay" in layer else 0, 62)
                delay = np.broadcast_to(delay[:, None] if np.shape(delay) == (n,) else delay, weight.shape)
                parts += [(source, int(d), weight * (delay == d)) for d in np.unique(delay)]
            bias = layer["bias"][()].astype(int).reshape(-1) if "bias" in layer else np.zeros(1, int)
            registers = {k: int(v[()]) for k, v in layer["neuron"].items() if k != "type"} if "neuron" in layer else None
            state[name] = (parts, conv, before, shape, np.repeat(bias, n // len(bias)) << 6, registers)
            before, shape = name, tuple(layer["shape"][()])
        u = {name: np.zeros(sent[name].shape[1], int) for name, _ in layers}
        v = {name: np.zeros(sent[name].shape[1], int) for name, _ in layers}
        for t in range(len(raster)):
            for name, layer in layers:
                parts, conv, source, shape, bias, registers = state[name]
                a = np.zeros_like(u[name])
                if conv and t > 0:
                    a = correlate(sent[source][t - 1].reshape(shape), layer).reshape(-1)
                for origin, d, weight in parts:
                    if t - 1 - d >= 0:
                        a = a + weight @ sent[origin][t - 1 - d]
                if registers is None:  # an accumulator: 'sent' is its sum
                    u[name] = u[name] + a
                    sent[name][t] = u[name]
                    continue
                u[name] = decayed(u[name], registers["iDecay"]) + (a << 6)
                assert np.abs(u[name]).max() < 2**23, "wraps: choose other numbers"
                v[name] = np.clip(decayed(v[name], registers["vDecay"]) + u[name] + bias, 1 - 2**23, 2**23 - 1)
                sent[name][t] = v[name] > registers["vThMant"] << 6
                v[name][sent[name][t] > 0] = 0
    return sent


def rate_of(name: str) -> float:
    return {"oxford": 0.01, "mnist": 0.05}.get(name, 0.2)


@pytest.mark.parametrize("name", N_IN)
def test_spikes_are_those_of_the_files_layers(name, file, lower):
    raster = np.random.default_rng(2).random((150, N_IN[name])) < rate_of(name)
    path = file(name)
    expected = oracle(path, raster)
    _, run = lowered_and_run(lower, path, raster)
    for layer in [k for k in expected if k != "in"]:
        if layer in run.outputs:
            np.testing.assert_array_equal(run.outputs[layer], expected[layer])
            assert np.abs(expected[layer]).max() > 0
            continue
        found = np.zeros_like(expected[layer])
        found[run.spikes[layer].step, run.spikes[layer].neuron] = 1
        np.testing.assert_array_equal(found, expected[layer], err_msg=f"layer {layer}")
        assert 0 < found.mean() < 1, f"layer {layer} is silent or always fires: the test would show nothing"


@pytest.mark.parametrize("name", N_IN)
def test_every_register_and_weight_is_the_files(name, file, lower):
    path = file(name)
    lowered = lower(read_netx(path))
    with h5py.File(path, "r") as f:
        for population in lowered.populations:
            if population.process == "SpikeInput":
                continue
            layer = f[f"layer/{population.name}"]
            bias = (
                np.zeros(population.size, int) if "bias" not in layer else np.repeat(layer["bias"], population.size // layer["bias"].size)
            )
            fixed = population.fixed
            if population.process == "Readout":
                assert (fixed["du"], fixed["dv"]) == (4096, 0)
                continue
            assert population.process == "LIF"
            registers = {k: int(v[()]) for k, v in layer["neuron"].items() if k != "type"}
            assert (int(fixed["du"]) + 1, int(fixed["dv"]), int(fixed["vth"])) == tuple(
                registers[k] for k in ("iDecay", "vDecay", "vThMant")
            )
            np.testing.assert_array_equal(np.broadcast_to(fixed["bias_mant"] << fixed["bias_exp"], population.size), bias.astype(int) << 6)
        for projection in lowered.projections:
            pre, post = (lowered.populations[i].name for i in (projection.pre, projection.post))
            layer, quantised = f[f"layer/{post}"], projection.quantised
            assert quantised.clipped == 0
            exact = quantised.values.astype(float) * 2.0**quantised.exponent
            if layer["type"][0] == b"conv":
                assert set(exact) <= set(layer["weight"][()].reshape(-1))
                continue
            key = "weight_rec" if pre == post else "weight"
            dense = np.zeros(layer[key].shape)
            dense[projection.post_ids, projection.pre_ids] = exact
            np.testing.assert_array_equal(dense, layer[key][()])


REGISTERS = st.fixed_dictionaries(
    {"i": st.integers(1, 4096), "v": st.integers(0, 4096), "vth": st.integers(0, 400), "odd": st.booleans(), "bias": st.integers(-60, 60)}
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), layers=st.lists(REGISTERS, min_size=1, max_size=3), loop=st.booleans(), rate=st.floats(0.02, 0.4))
def test_random_files_spike_as_their_integers_say(seed, layers, loop, rate, tmp_path, write_netx, lower):
    """Any decay, threshold and bias; weights of 8 bits, even or small and odd; delays; a loop or none."""
    rng = np.random.default_rng(seed)
    found, n_in = [], 7
    for number, p in enumerate(layers):
        n = int(rng.integers(1, 9))
        weight, own = (rng.integers(-100, 101, (n, m)) if p["odd"] else even(rng, (n, m), -200, 254) for m in (n_in, n))
        layer = {"type": "dense", "shape": [n], "weight": weight, "bias": np.full(n, p["bias"]), "neuron": neuron(p["i"], p["v"], p["vth"])}
        if loop and number == 0:
            layer |= {"type": "dense_rec", "weight_rec": own}
        found.append(layer | {"delay": rng.integers(0, 20, n)})
        n_in = n
    path = write_netx(tmp_path / "random.net", found)
    raster = rng.random((60, 7)) < rate
    try:
        expected = oracle(path, raster)
    except AssertionError:  # a current that forgets next to nothing has left 24 bits
        reject()
    _, run = lowered_and_run(lower, path, raster)
    for layer in map(str, range(len(layers))):
        here = np.zeros_like(expected[layer])
        here[run.spikes[layer].step, run.spikes[layer].neuron] = 1
        np.testing.assert_array_equal(here, expected[layer], err_msg=f"layer {layer}")


LAVA = """
import sys
import warnings

warnings.simplefilter("ignore")
import h5py
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

if __name__ == "__main__":  # the layers as lava-dl's netx makes them: tensors are (W, H, C), kernels are turned, delays on both matrices
    path, raster, out = sys.argv[1:]
    raster = np.load(raster)
    sinks = {}
    with h5py.File(path, "r") as f:
        first = f["layer/0"]
        shape = tuple(first["shape"][()][::-1]) if first["type"][0] == b"input" else (raster.shape[1],)
        data = raster.reshape(len(raster), *shape[::-1]).transpose(*range(len(shape), 0, -1), 0) if len(shape) == 3 else raster.T
        before = Source(data=data.astype(int)).s_out
        flat = False
        for i in range(len(f["layer"])):
            layer, kind = f[f"layer/{i}"], f[f"layer/{i}/type"][0]
            flat = flat or kind == b"flatten"
            if kind in (b"input", b"flatten"):
                continue
            conv = kind == b"conv"
            shape = tuple(layer["shape"][()][::-1]) if conv else (int(np.prod(layer["shape"][()])),)
            bias = layer["bias"][()].astype(int) if "bias" in layer else np.zeros(1, int)
            mant = np.zeros(shape, int) + bias
            n = layer["neuron"]
            du, dv, vth = (int(n[k][()]) for k in ("iDecay", "vDecay", "vThMant"))
            lif = LIF(shape=shape, du=du - 1, dv=dv, vth=vth, bias_mant=mant, bias_exp=6)
            if conv:
                weight = layer["weight"][()].astype(int)[:, :, ::-1, ::-1]
                weight = weight.reshape(weight.shape[:4]).transpose(0, 3, 2, 1)
                two = {k: tuple(np.broadcast_to(layer[k][()], 2)[::-1]) for k in ("stride", "padding", "dilation")}
                synapse = Conv(input_shape=before.shape, weight=weight, groups=int(layer["groups"][()]), **two)
            else:
                weight = layer["weight"][()].astype(int)
                delay = layer["delay"][()] if "delay" in layer else None

                def dense(w):
                    bits = 9 if w.min() < 0 < w.max() else 8
                    if delay is None:
                        return Dense(weights=w, num_weight_bits=bits)
                    d = np.clip(delay, 0, 62)
                    d = d[:, None] if np.shape(d) == (len(w),) else d
                    return DelayDense(weights=w, delays=np.broadcast_to(d, w.shape).copy(), max_delay=62, num_weight_bits=bits)

                synapse = dense(weight)
                if kind == b"dense_rec":
                    own = dense(layer["weight_rec"][()].astype(int))
                    lif.s_out.connect(own.s_in)
                    own.a_out.connect(lif.a_in)
            (before.transpose([2, 1, 0]).flatten() if flat else before).connect(synapse.s_in)
            flat = False
            synapse.a_out.connect(lif.a_in)
            sinks[str(i)] = Sink(shape=shape, buffer=len(raster))
            lif.s_out.connect(sinks[str(i)].a_in)
            before = lif.s_out
    try:
        lif.run(condition=RunSteps(len(raster)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        found = {k: s.data.get() for k, s in sinks.items()}
    finally:
        lif.stop()
    turned = {k: v.transpose(3, 2, 1, 0) if v.ndim == 4 else v.T for k, v in found.items()}
    np.savez(out, **{k: v.reshape(len(raster), -1) for k, v in turned.items()})
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("oxford", 60), ("loops", 120), ("pictures", 40), ("tiny", 25)])
def test_spikes_are_those_of_lavas_own_processes(name, steps, file, lower, tmp_path):
    """Lava's Dense, DelayDense, Conv and LIF in fixed point, wired as netx does (9 bits for both signs: nothing is truncated)."""
    pytest.importorskip("lava")
    path = file(name)
    raster = np.random.default_rng(5).random((steps, N_IN[name])) < rate_of(name)
    np.save(tmp_path / "raster.npy", raster)
    folder = tmp_path / "oracle"  # Lava imports every module beside a process class
    folder.mkdir()
    (folder / "oracle.py").write_text(LAVA)
    command = [sys.executable, "oracle.py", str(path), str(tmp_path / "raster.npy"), str(tmp_path / "lava.npz")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    _, run = lowered_and_run(lower, path, raster)
    with np.load(tmp_path / "lava.npz") as found:
        for layer in found.files:
            here = np.zeros(found[layer].shape, int)
            here[run.spikes[layer].step, run.spikes[layer].neuron] = 1
            np.testing.assert_array_equal(here, found[layer], err_msg=f"layer {layer}")
            assert here.any()


@pytest.mark.parametrize("name", [*SHARED, "loops"])
def test_programs_of_imported_files_validate(name, file, write, tmp_path):
    pytest.importorskip("lava")
    network = read_netx(file(name))
    build = write(network)
    checks = TARGET.validate(build, network, realise_all(network), steps=40)
    assert [c for c in checks if not c.ok] == []
    assert len(checks) >= 3 * len(network.projections)


# --- formats -----------------------------------------------------------------------------------------------------------------
FORMATS = [
    (exponent, {Fraction(k * step) * Fraction(2) ** exponent for k in range(low // step, high // step + 1)})
    for exponent in range(-8, 8)
    for low, high, step in ((0, 255, 1), (-255, 0, 1), (-256, 254, 2))
]
"""(exponent, all weights that a format holds): every exponent with every sign mode"""


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.integers(-256, 256), min_size=1, max_size=6), shift=st.integers(-9, 8))
def test_an_exact_format_is_found_where_there_is_one(values, shift):
    given = {Fraction(v) * Fraction(2) ** shift for v in values}
    weight = np.array([float(g) for g in given])
    found = exact_format(weight)
    able = [abs(exponent) for exponent, held in FORMATS if given <= held]
    assert (found is not None) == bool(able)
    if found is not None:
        exponent, mode = found
        assert abs(exponent) == min(able)
        held = quantise_weights(weight, 64.0, exponent, sign_mode=mode)
        np.testing.assert_array_equal(held.values * held.unit, weight)
        assert held.clipped == 0


def test_weights_that_8_bits_do_not_hold_are_rounded_and_said(tmp_path, write_netx, lower):
    layers = [{"type": "dense", "shape": [2], "weight": [[201, -3], [-130, 2]]}]
    lowered = lower(read_netx(write_netx(tmp_path / "odd.net", layers)))
    assert any("8 bits do not hold its weights exactly" in note for note in lowered.summary["notes"])
    assert lowered.projections[0].quantised.values.tolist() == [200, -4, -130, 2]
