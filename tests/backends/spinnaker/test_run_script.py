"""run.py as a module, without sPyNNaker: what it asks PyNN for, how it reads results, how it ends on bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import RSTDP, STDP, CubaLIF
from neurocompile.ir.neurons import Reset


class Recorder:
    """Stands in for pyNN.spiNNaker: every call is kept, and returns an object that shows how it was made."""

    def __init__(self, prefix: str = "", calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] | None = None) -> None:
        self.prefix, self.calls = prefix, [] if calls is None else calls

    def __getattr__(self, name: str) -> Recorder:
        return Recorder(f"{self.prefix}{name}.", self.calls)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.prefix.rstrip(".")
        self.calls.append((name, args, kwargs))
        return SimpleNamespace(made=name, args=args, kwargs=kwargs, initialize=kwargs.update)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory, write_program: Callable[..., Path], build: Callable[..., Any]) -> Any:
    """The class Clock of the program."""
    path = write_program(tmp_path_factory.mktemp("clock"), *build()) / "program" / "pynn_network.py"
    spec = importlib.util.spec_from_file_location("emitted_network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Clock


def program(script: ModuleType) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    network, arrays = script.load_program()
    return network, arrays


def make_all(script: ModuleType, sim: Recorder, given: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    network, arrays = program(script)
    dt_ms = network["dt_ms"]
    pynn, clock = script.pynn, script.pynn.Clock(50, 1, 1)
    slots = pynn.numbering(network, arrays)
    populations = {
        e["name"]: pynn.make_population(sim, e, arrays, slots[e["name"]], given or {}, clock, dt_ms) for e in network["populations"]
    }
    scale = {e["name"]: np.full(e["size"], e["weight_scale"]) for e in network["populations"] if e["cell"] != "source"}
    made = {
        e["name"]: pynn.make_projection(sim, e, arrays, populations, slots, scale, network["rules"], dt_ms, {})
        for e in network["projections"]
    }
    return populations, made


def test_projections_are_split_by_sign_and_scaled(script: ModuleType) -> None:
    """Every synapse once, weights in PyNN units with the receptor's sign, delays in ms."""
    network, arrays = program(script)
    sim = Recorder()
    _, made = make_all(script, sim)
    for entry in network["projections"]:
        weight, scale = (
            arrays[f"weight:{entry['key']}"],
            next(p for p in network["populations"] if p["name"] == entry["post"])["weight_scale"],
        )
        seen = np.zeros(len(weight), int)
        for mask, projection, _, _ in made[entry["name"]]:
            rows = projection.args[2].args[0]
            receptor = projection.kwargs["receptor_type"]
            assert ((rows[:, 2] < 0) == (receptor == "inhibitory")).all()
            assert (np.diff(rows[:, 0] * 1000 + rows[:, 1]) >= 0).all()  # sorted, or sPyNNaker loses synapses
            order = np.lexsort((arrays[f"post:{entry['key']}"][mask], arrays[f"pre:{entry['key']}"][mask]))
            np.testing.assert_allclose(rows[:, 2], weight[mask][order] * scale, rtol=1e-12)
            np.testing.assert_array_equal(rows[:, 0], arrays[f"pre:{entry['key']}"][mask][order])
            np.testing.assert_array_equal(rows[:, 1], arrays[f"post:{entry['key']}"][mask][order])
            np.testing.assert_array_equal(rows[:, 3], arrays[f"delay:{entry['key']}"][mask][order] * network["dt_ms"])
            assert projection.args[2].kwargs == {"column_names": ["weight", "delay"]}
            assert projection.kwargs["synapse_type"].made == "StaticSynapse"
            seen += mask
        assert (seen == 1).all()


def test_cells_get_their_parameters_and_start(script: ModuleType) -> None:
    network, _ = program(script)
    sim = Recorder()
    populations, _ = make_all(script, sim)
    hidden, out = populations["hid"], populations["out"]
    (cell_hidden,) = (c for c in sim.calls if c[0] == "extra_models.IFCurDelta" and c[2]["v_thresh"] == pytest.approx(15.36))
    assert set(cell_hidden[2]) == {"tau_m", "cm", "v_rest", "v_reset", "v_thresh", "tau_refrac", "i_offset"}
    assert hidden.args[0] == 20
    assert hidden.kwargs["v"] == 0.0
    assert hidden.kwargs["neurons_per_core"] == 20
    assert hidden.kwargs["n_synapse_cores"] == 0
    assert hidden.kwargs["max_expected_summed_weight"] == network["populations"][1]["max_expected_summed_weight"]
    assert out.kwargs["label"] == "out"


def test_sources(script: ModuleType) -> None:
    """Spikes of a file in ms; a rate without a file is Poisson with the seed; neither is a source that is silent until after the end."""
    sim = Recorder()
    given = {"in": (np.array([0, 0, 3, 7]), np.array([9, 2, 4, 80]))}
    populations, _ = make_all(script, sim, given)
    times = populations["in"].args[1].kwargs["spike_times"]
    assert times == [[2.0, 9.0], [], [], [4.0], [], [], [], []]  # step 80 lies after the 50 steps
    assert populations["rew"].args[1].made == "SpikeSourcePoisson"
    assert populations["rew"].args[1].kwargs == {"rate": 5.0}
    assert populations["rew"].kwargs["seed"] == 4  # the network's 1 and the population's number
    populations, _ = make_all(script, Recorder())
    silent = populations["in"].args[1].kwargs["spike_times"]
    assert silent[0] == [61.0]
    assert silent[1:] == [[]] * 7


@pytest.mark.parametrize(("multiplicative", "dependence"), [(False, "AdditiveWeightDependence"), (True, "MultiplicativeWeightDependence")])
def test_stdp_mechanism(script: ModuleType, multiplicative: bool, dependence: str) -> None:
    rule = {"tau_plus": 1.0, "tau_minus": 2.0, "a_plus": 3.0, "a_minus": 4.0, "w_min": 5.0, "w_max": 6.0, "multiplicative": multiplicative}
    made = script.pynn.make_stdp(Recorder(), rule)
    assert made.made == "STDPMechanism"
    assert made.kwargs["backprop_delay"] is False
    assert made.kwargs["timing_dependence"].kwargs == {"tau_plus": 1.0, "tau_minus": 2.0, "A_plus": 3.0, "A_minus": 4.0}
    assert made.kwargs["weight_dependence"].made == dependence
    assert made.kwargs["weight_dependence"].kwargs == {"w_min": 5.0, "w_max": 6.0}


class Train(np.ndarray):
    """A spike train as neo gives it: times in ms and the neuron's index."""

    annotations: dict[str, Any]

    def rescale(self, unit: str) -> Train:
        assert unit == "ms"
        return self


def train(times: list[float], neuron: int) -> Train:
    made = np.asarray(times).view(Train)
    made.annotations = {"source_index": neuron}
    return made


def test_results_come_in_our_steps_and_units(script: ModuleType) -> None:
    """Row t of an output is sample t + 1 of the membrane over the voltage scale; spikes are sorted by step, those after the end cut."""
    network = {
        "populations": [
            {"name": "hid", "record": "spikes", "size": 3, "n_slots": 3},
            {"name": "out", "record": "v", "size": 2, "n_slots": 2, "voltage_scale": 4.0},
            {"name": "quiet", "record": "spikes", "size": 1, "n_slots": 1},
        ]
    }
    membrane = np.arange(14.0).reshape(7, 2)
    segment = {
        "hid": SimpleNamespace(spiketrains=[train([0.5, 2.0], 2), train([1.0, 2.5], 0)]),
        "out": SimpleNamespace(analogsignals=[SimpleNamespace(magnitude=membrane)]),
        "quiet": SimpleNamespace(spiketrains=[train([], 0)]),
    }
    populations = {name: SimpleNamespace(get_data=lambda _kind, s=s: SimpleNamespace(segments=[s])) for name, s in segment.items()}
    slots = {"hid": np.arange(3), "out": np.arange(2), "quiet": np.arange(1)}
    found, counts = script.pynn.collect(network, populations, slots, script.pynn.Clock(5, 1, 1), 0.5)
    assert found["spike_step:hid"].tolist() == [1, 2, 4]
    assert found["spike_neuron:hid"].tolist() == [2, 0, 2]
    np.testing.assert_array_equal(found["output:out"], membrane[1:6] / 4.0)
    assert counts == {"hid": 3, "out": 0, "quiet": 0}


@settings(deadline=None, derandomize=True)
@given(n_steps=st.integers(1, 50), samples=st.integers(1, 5), delay=st.integers(1, 20))
def test_clock_of_samples(clock: type[Any], n_steps: int, samples: int, delay: int) -> None:
    """Each step has a tick of its own, samples lie apart by the longest delay and the last membrane, idle ticks belong to no step."""
    made = clock(n_steps, samples, delay)
    ticks = made.tick(np.arange(made.total))
    step, inside = made.step(ticks)
    assert inside.all()
    np.testing.assert_array_equal(step, np.arange(n_steps * samples))
    every = np.arange(made.period * samples + 5)
    np.testing.assert_array_equal(every[made.step(every)[1]], ticks)
    assert made.period == n_steps + 1 + (delay if samples > 1 else 0)
    if samples > 1:  # a spike of a sample's last step with the longest delay arrives before the next begins
        assert ticks[n_steps - 1] + delay < ticks[n_steps]


def test_neurons_that_fill_up_a_slice_are_silent(script: ModuleType) -> None:
    """Unreachable threshold, no input; others have their own values at their places."""
    entry = {"size": 3, "n_slots": 5, "name": "p", "cell": "IF_curr_exp", "neurons_per_core": 3, "params": {}}
    slot, spread = np.array([4, 0, 1]), script.pynn.spread
    assert spread("v_thresh", 15.0, entry, slot) == [15.0, 15.0, 65535.0, 65535.0, 15.0]
    assert spread("i_offset", np.array([1.0, 2.0, 3.0]), entry, slot) == [2.0, 3.0, 0.0, 0.0, 1.0]
    assert spread("i_offset", 0.0, entry, slot) == 0.0
    assert spread("tau_m", np.array([1.0, 2.0, 3.0]), entry, slot) == [2.0, 3.0, 1.0, 1.0, 1.0]
    assert spread("tau_m", 20.0, entry, slot) == 20.0
    assert spread("rate", 5.0, entry, slot) == [5.0, 5.0, 0.0, 0.0, 5.0]
    assert spread("v_thresh", 15.0, {**entry, "n_slots": 3}, np.arange(3)) == 15.0
    times = script.pynn.spike_times(entry, slot, np.array([0, 2, 0, 1]), np.array([9, 5, 2, 7]), 0.5)
    assert times == [[3.5], [2.5], [], [], [1.0, 4.5]]


def test_results_of_renumbered_neurons_and_samples(script: ModuleType) -> None:
    """Spikes of neurons that fill up, and of idle ticks, are dropped; membranes of each sample begin at its own row."""
    network = {
        "populations": [
            {"name": "hid", "record": "spikes", "size": 2, "n_slots": 3},
            {"name": "out", "record": "v", "size": 2, "n_slots": 3, "voltage_scale": 2.0},
        ]
    }
    clock = script.pynn.Clock(2, 2, 3)  # ticks 0, 1 and 6, 7
    slots = {"hid": np.array([2, 0]), "out": np.array([1, 2])}
    membrane = np.arange(36.0).reshape(12, 3)
    segment = {
        "hid": SimpleNamespace(spiketrains=[train([0.0, 7.0], 0), train([1.0], 1), train([1.0, 4.0, 6.0, 11.0], 2)]),
        "out": SimpleNamespace(analogsignals=[SimpleNamespace(magnitude=membrane)]),
    }
    populations = {name: SimpleNamespace(get_data=lambda _kind, s=s: SimpleNamespace(segments=[s])) for name, s in segment.items()}
    found, counts = script.pynn.collect(network, populations, slots, clock, 1.0)
    assert list(zip(found["spike_step:hid"].tolist(), found["spike_neuron:hid"].tolist(), strict=True)) == [(0, 1), (1, 0), (2, 0), (3, 1)]
    np.testing.assert_array_equal(found["output:out"], membrane[[1, 2, 7, 8]][:, [1, 2]] / 2.0)
    assert counts == {"hid": 4, "out": 0}


def test_samples_put_neurons_at_rest_and_keep_weights(script: ModuleType) -> None:
    """Only the state of neurons is set between samples; sim.reset, which brings back initial weights, is never called."""
    network, arrays = script.load_program()
    log: list[Any] = []
    sim = SimpleNamespace(run=lambda ms: log.append(("run", ms)))
    populations = {
        e["name"]: SimpleNamespace(set_state=lambda n=e["name"], **state: log.append((n, state))) for e in network["populations"]
    }
    slots, clock = script.pynn.numbering(network, arrays), script.pynn.Clock(30, 2, 4)
    script.run_samples(sim, network, arrays, populations, slots, clock, 1.0, executed=True)
    assert log == [("run", 35.0), ("hid", {"v": 0.0}), ("out", {"v": 0.0}), ("run", 35.0)]


def test_live_spikes_are_written_as_they_come(script: ModuleType, tmp_path: Path) -> None:
    network = {
        "populations": [
            {"name": 'h"id', "record": "spikes", "size": 2, "n_slots": 3},
            {"name": "out", "record": "v", "size": 1, "n_slots": 1},
        ]
    }
    slots = {'h"id': np.array([2, 0]), "out": np.array([0])}
    live = script.Live(tmp_path / "live.txt", network, slots, script.pynn.Clock(2, 2, 3))
    assert live.labels == ['h"id']
    for tick, neurons in ((0, [0, 1]), (4, [2]), (7, [2])):
        live.receive('h"id', tick, neurons)
    live.file.close()
    assert (tmp_path / "live.txt").read_text() == '"h\\"id" 1 0\n"h\\"id" 0 3\n'


def test_weights_are_matched_synapse_by_synapse(script: ModuleType) -> None:
    """sPyNNaker lists synapses in its own order; equal pairs are told apart by delay, then by weight; what is missing is NaN."""
    arrays = {
        "pre:0": np.array([1, 0, 0, 1, 0]),
        "post:0": np.array([1, 0, 0, 0, 1]),
        "delay:0": np.array([1, 2, 2, 1, 1]),
        "weight:0": np.array([0.5, 0.3, 0.1, -0.2, 0.4]),
    }
    listed = {
        "p:excitatory": [(0, 0, 3.0, 2.0), (0, 0, 1.0, 2.0), (1, 1, 5.0, 1.0)],  # 0 -> 1 is missing
        "p:inhibitory": [(1, 0, 2.0, 1.0)],
    }
    made = [
        (arrays["weight:0"] >= 0, SimpleNamespace(label="p:excitatory", get=lambda *_a, **_k: listed["p:excitatory"]), 0, arrays["pre:0"]),
        (arrays["weight:0"] < 0, SimpleNamespace(label="p:inhibitory", get=lambda *_a, **_k: listed["p:inhibitory"]), 0, arrays["pre:0"]),
    ]
    entry, slots = {"key": "0", "pre": "a", "post": "b"}, {"a": np.arange(2), "b": np.arange(2)}
    weight, steps, total = script.pynn.read_weights(entry, made, arrays, slots, {"b": np.array([10.0, 10.0])}, 1.0)
    assert total == 4
    np.testing.assert_allclose(weight, [0.5, 0.3, 0.1, -0.2, np.nan])
    assert steps.tolist() == [1, 2, 2, 1, -1]


def test_save_is_whole_or_not_at_all(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    target = folder / "plain name"  # exactly this name, no .npz added
    script.save(target, {"a:b": np.arange(3)})
    assert [p.name for p in folder.iterdir()] == ["plain name"]
    before = target.read_bytes()

    def broken(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(script.np, "savez_compressed", broken)
    with pytest.raises(SystemExit) as end:
        script.save(target, {"a:b": np.arange(4)})
    assert end.value.code == 3
    assert [p.name for p in folder.iterdir()] == ["plain name"]
    assert target.read_bytes() == before


def spikes(folder: Path, **arrays: Any) -> str:
    path = folder / "spikes.npz"
    np.savez(path, **arrays)
    return str(path)


BAD_SPIKES: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda f: str(f / "none.npz"), "cannot be read as spikes of 'in'"),
    "not npz": (lambda f: str(f / "program" / "run.py"), "cannot be read"),
    "npy": (lambda f: (np.save(f / "a.npy", np.arange(3)), str(f / "a.npy"))[1], "cannot be read"),
    "pickle": (lambda f: spikes(f, neuron=np.array([{}], object), step=[0]), "cannot be read"),
    "folder": (str, "cannot be read"),
    "no step": (lambda f: spikes(f, neuron=[0]), "needs 'neuron' and 'step'"),
    "lengths": (lambda f: spikes(f, neuron=[0, 1], step=[0]), "differ in length"),
    "floats": (lambda f: spikes(f, neuron=[0.5], step=[0]), "1-D array of integers"),
    "two dimensions": (lambda f: spikes(f, neuron=[[0]], step=[[0]]), "1-D array of integers"),
    "neuron": (lambda f: spikes(f, neuron=[8], step=[0]), "run from 0 to 7"),
    "negative": (lambda f: spikes(f, neuron=[0], step=[-1]), "steps from 0"),
}


@pytest.mark.parametrize("kind", BAD_SPIKES)
def test_bad_spike_files(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    make, message = BAD_SPIKES[kind]
    with pytest.raises(SystemExit) as end:
        script.main(["--virtual", "--input", f"in={make(tmp_path)}"])
    assert end.value.code == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--steps", "0"], "at least 1", 3),
        (["--samples", "0"], "--samples is 0", 3),
        (["--map-only"], "goes with --virtual", 2),
        (["--virtual", "--spalloc"], "not allowed with", 2),
        (["nest"], "invalid choice", 2),
        (["--live", "nowhere/live.txt"], "its folder must exist", 3),
        (["--steps", "many"], "invalid int value", 2),
        (["--steps"], "expected one argument", 2),
        (["--nonsense"], "unrecognized arguments", 2),
        (["--inp=in=x.npz"], "unrecognized arguments", 2),  # deploy sends files of options that it knows, by their whole names
        (["--input", "hid=x.npz"], "POP one of: in, rew", 3),
        (["--input", "in"], "expected POP=FILE", 3),
        (["--out", "nowhere/results.npz"], "its folder must exist", 3),
        (["--mapping", "."], "cannot be written", 3),
    ],
)
def test_bad_arguments(tmp_path: Path, script: ModuleType, arguments: list[str], message: str, status: int) -> None:
    """As a user starts it: its own process, before sPyNNaker is imported; nothing is written."""
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-B", str(script.HERE / "run.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_leave_nothing(tmp_path: Path, script: ModuleType, sent: signal.Signals, status: int) -> None:
    """Ended while sPyNNaker works: the exit status of shells, no traceback, no results, no temporary folder."""
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-B", str(script.HERE / "run.py"), "--virtual", "--out", str(out / "results.npz")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - a background job may have it ignored
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("virtual board")
    assert len(list(temporary.iterdir())) == 1
    process.send_signal(sent)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == status
    assert printed == ""
    assert "Traceback" not in said
    assert list(temporary.iterdir()) == []
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["network.json", "network.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{not json or npz"])
def test_incomplete_program(script: ModuleType, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None) -> None:
    path = script.HERE / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as end:
        script.main(["--virtual"])
    assert end.value.code == 3
    assert name in capsys.readouterr().err


def test_without_spynnaker(script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as end:
        script.main(["--virtual"])
    assert end.value.code == 5
    assert "pip install" in capsys.readouterr().err


class NoConfigFoundException(Exception):
    """Named as spinn_utilities' own."""


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("first line\nsecond line"), 1, "sPyNNaker: ValueError: first line (--debug shows where)"),
        (RuntimeError(), 1, "sPyNNaker: RuntimeError: no message"),
        (NoConfigFoundException("x"), 5, "use --virtual"),
    ],
)
def test_an_error_inside_spynnaker_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    message: str,
) -> None:
    """Exit status, nothing on stdout, no file, and the folder of the caller is current again."""

    def broken(*_: Any) -> None:
        os.write(1, b"chatter of sPyNNaker\n")
        raise error

    monkeypatch.setattr(script, "execute", broken)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        script.main(["--out", "results.npz", "--mapping", "mapping.npz"])
    assert end.value.code == status
    printed = capfd.readouterr()
    assert message in printed.err.splitlines()[-1]
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.glob("*.npz"))
    with pytest.raises(SystemExit):
        script.main(["--debug"])
    assert "Traceback" in capfd.readouterr().err


def test_ebrains_keeps_its_results_in_the_folder(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a batch job: the system's name behind the options, results in the current folder unless a file is named; no virtual board."""
    seen: list[Any] = []

    def executed(args: Any, *_: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        seen.append(args)
        return {"executed": True}, {"spike_step:hid": np.arange(3)}, {}

    monkeypatch.setattr(script, "execute", executed)
    monkeypatch.chdir(tmp_path)
    script.main(["--ebrains", "spiNNaker"])
    assert np.load(tmp_path / "results.npz")["spike_step:hid"].tolist() == [0, 1, 2]
    script.main(["--ebrains", "--out", "other.npz"])
    assert (tmp_path / "other.npz").exists()
    assert not seen[0].virtual
    assert capsys.readouterr().out.count('"executed": true') == 2


def test_program_for_spinnaker2_only_maps(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((script.HERE / "network.json").read_text())
    document["mapping_only"] = "no binaries"
    (script.HERE / "network.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit) as end:
        script.main([])
    assert end.value.code == 3
    assert capsys.readouterr().err == "error: no binaries\n"


def test_per_neuron_parameters_travel_as_arrays(tmp_path: Path, build: Callable[..., Any], write_program: Callable[..., Path]) -> None:
    model = CubaLIF(tau_mem=np.linspace(0.01, 0.03, 20), tau_syn=np.linspace(0.004, 0.009, 20), v_threshold=0.03, reset=Reset.TO_VALUE)
    folder = write_program(tmp_path, *build(model=model)) / "program"
    (entry,) = (p for p in json.loads((folder / "network.json").read_text())["populations"] if p["name"] == "hid")
    arrays = np.load(folder / "network.npz")
    for spec, low, high in ((entry["params"]["tau_m"], 10.0, 30.0), (entry["params"]["tau_syn_E"], 4.0, 9.0)):
        assert set(spec) == {"array"}
        np.testing.assert_allclose(arrays[spec["array"]], np.linspace(low, high, 20), rtol=1.5e-3)  # moved to the nearest decay
    assert arrays[entry["weight_scale"]["array"]].shape == (20,)
    assert entry["params"]["v_rest"] == 0.0


@pytest.mark.parametrize("rule", [STDP(weight_bounds=(0.0, 0.2)), RSTDP(reward="rew", weight_bounds=(0.0, 0.2))])
def test_rules_are_asked_for_on_positive_synapses_only(
    tmp_path: Path, build: Callable[..., Any], write_program: Callable[..., Path], rule: STDP
) -> None:
    folder = write_program(tmp_path, *build(rule=rule, mean=0.01, spread=0.05)) / "program"
    document = json.loads((folder / "network.json").read_text())
    assert [p["rule"] for p in document["projections"]] == [{"excitatory": 0}, {}, {}]
    assert len(document["rules"]) == 1
    assert [m["receptor"] for m in document["modulations"]] == (["reward"] if isinstance(rule, RSTDP) else [])
