"""What ``simulate`` says before it takes memory: the estimate beside what is allocated; what does not fit ends early with exit code 4."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.reference.simulator import LAST_STEP, Simulator, max_threads
from neurocompile.ir import Network
from neurocompile.ir.memory import available_memory
from neurocompile.ir.yaml_reader import network_from_text
from neurocompile.simulation import memory
from neurocompile.simulation import run as running

NET = """\
name: sized
dt: 1 ms
seed: 1
populations:
  in: {{model: spike_source, size: {n}, params: {{rate: 20 Hz}}}}
  hidden: {{model: {model}, size: {n}, params: {{tau_mem: 20 ms, v_threshold: 0.6{adaptation}}}}}
  out: {{model: leaky_readout, size: {out}, params: {{tau_mem: 20 ms}}}}
projections:
  - {{pre: in, post: hidden, connect: {{{connect}}}, weight: {{normal: [0.1, 0.1]}}, {first}}}
  - {{name: rec, pre: hidden, post: hidden, connect: {{{connect}}}, weight: {{normal: [0, 0.1]}}, delay: 1 ms, learning: rule}}
  - {{name: read, pre: hidden, post: out, connect: all_to_all, weight: {{normal: [0, 0.1]}}, delay: 1 ms, learning: rule}}
learning:
  rule:
    rule: {rule}
    kappa: 0.9
    kappa_reg: {kappa_reg}
    regularization: {{strength: 1.0, rate: 10 Hz}}
    feedback: {feedback}
    optimizer: {{{optimizer}: {{learning_rate: 1e-6}}}}
    update: {update}
  pairs: {{rule: stdp, weight_bounds: [-10, 10]}}
task: {{readout: out}}
"""
CRITIC = """\
  critic: {model: leaky_readout, size: 1, params: {tau_mem: 20 ms}}
projections:
  - {pre: hidden, post: critic, connect: all_to_all, delay: 1 ms, learning: rule}
"""
PLASTIC, STATIC, PAIRS = "delay: 1 ms, learning: rule", "delay: {uniform: [1 ms, 9 ms]}", "delay: {uniform: [1 ms, 9 ms]}, learning: pairs"


def text(
    n: int = 2000,
    *,
    model: str = "lif",
    out: int = 5,
    connect: str = "fixed_indegree: 100",
    first: str = PLASTIC,
    kappa_reg: float = 0.9,
    feedback: str = "{random: {normal: [0, 1]}}",
    update: str = "per_event",
    optimizer: str = "gradient_descent",
    reward: bool = False,
    rule: str = "eprop",
) -> str:
    adaptation = ", adapt_tau: 100 ms, adapt_beta: 0.1" if model == "alif" else ""
    network = NET.format(
        adaptation=adaptation,
        n=n,
        model=model,
        out=out,
        connect=connect,
        first=first,
        kappa_reg=kappa_reg,
        feedback=feedback,
        update=update,
        optimizer=optimizer,
        rule=rule,
    )
    if reward:
        network = network.replace("projections:\n", CRITIC).replace(
            "{readout: out}", "{readout: out, loss: {actor_critic: {critic: critic}}}"
        )
    return network


def network(folder: Path = Path(), **what: Any) -> Network:
    return network_from_text(text(**what), "net.yaml", folder)


def small(folder: Path = Path(), **what: Any) -> Network:
    return network(folder, **what | {"n": 20, "connect": what.get("connect", "fixed_indegree: 100").replace("100", "5")})


REWIRING = "eprop\n    sign_constraint: true\n    rewiring: {every: 10 ms, l1: 0.01}"
DECAY = "eprop\n    weight_decay: 1.0e-6"
INTERVAL_2020 = "{{interval_2020: {{interval: {}}}}}"
TWO = min(2, max_threads())
ENGINES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "float32": ({}, {"precision": "float32", "threads": TWO}),
    "adaptive, two filters": ({"model": "alif", "kappa_reg": 0.8}, {}),
    "intervals, symmetric": ({"update": "{per_interval: 100 ms}", "feedback": "symmetric"}, {}),
    "by probability": ({"connect": "fixed_probability: 0.05"}, {"threads": TWO}),
    "by out-degree": ({"connect": "fixed_outdegree: 100"}, {}),
    "static": ({"first": STATIC}, {"threads": TWO}),
    "many neurons": ({"n": 50_000, "connect": "fixed_indegree: 2"}, {"threads": TWO}),
    "many readouts": ({"out": 60}, {}),
    "sparse feedback of many readouts": ({"out": 60, "feedback": "{file: feedback.npz}"}, {}),
    "interval_2020": ({"update": INTERVAL_2020.format(30)}, {}),
    "interval_2020, batches, adam": ({"model": "alif", "update": INTERVAL_2020.format("30, batch_size: 2"), "optimizer": "adam"}, {}),
    "interval_2020, static": ({"first": STATIC, "update": INTERVAL_2020.format(30)}, {}),
    "interval_2020, many neurons": ({"n": 20_000, "connect": "fixed_indegree: 1", "update": INTERVAL_2020.format(30)}, {}),
    "interval_2020, long": ({"connect": "fixed_indegree: 1", "update": INTERVAL_2020.format(3000)}, {}),
    "reward": ({"reward": True}, {}),
    "reward, adaptive, two filters": ({"reward": True, "model": "alif", "kappa_reg": 0.8}, {"threads": TWO}),
    "chain": ({"feedback": "{chain: {weights: {random: 1.0}}}"}, {"threads": TWO}),
    "adaptive feedback": ({"feedback": "{adaptive: 1.0}", "rule": DECAY}, {}),
    "loop": ({}, {"algorithm": "loop"}),
    "loop, chain": ({"feedback": "chain"}, {"algorithm": "loop"}),
    "loop, adaptive feedback": ({"feedback": "{adaptive: 1.0}", "rule": DECAY}, {"algorithm": "loop"}),
    "loop, reward": ({"reward": True}, {"algorithm": "loop"}),
    "loop, static": ({"first": STATIC}, {"algorithm": "loop"}),
    "loop, learnt kappa": ({"update": "per_event\n    kappa_learning: {learning_rate: 0.1, per: neuron}"}, {"algorithm": "loop"}),
    "loop, stdp": ({"first": PAIRS}, {"algorithm": "loop"}),
}


@pytest.fixture(scope="module")
def sparse_feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with feedback.npz: 40 weights, which the engines make a matrix of n_readout x n_hidden."""
    folder, every = tmp_path_factory.mktemp("feedback"), np.arange(40)
    np.savez(folder / "feedback.npz", pre=every, post=every % 20, weight=np.ones(40))
    return folder


@pytest.mark.parametrize("case", ENGINES)
def test_the_estimate_beside_what_building_takes(case: str, sparse_feedback: Path) -> None:
    """Never below the peak, which tracemalloc counts but for what compiled code holds for itself (a chunk of sources), and not above
    twice that peak, so that what fits is not refused."""
    what, how = ENGINES[case]
    net = network(sparse_feedback, **what)
    Simulator(small(sparse_feedback, **what), **how)  # loads the kernels
    tracemalloc.start()
    simulator = Simulator(net, **how)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    needs = memory.network_needs(
        net, algorithm=simulator.algorithm, precision=how.get("precision", "float64"), ranges=how.get("threads", 1)
    )
    estimate = sum(x.n_bytes for x in needs)
    assert peak <= estimate <= 2.0 * peak
    m, plastic = (sum(simulator.n_synapses[p.name] for p in net.synaptic_projections if p.learning or every) for every in (True, False))
    counted = [float(x.replace(",", "")) for x in needs[0].what.split() if x[0].isdigit()]
    assert counted == pytest.approx([plastic, m - plastic], rel=0.02)  # a probability has only an expected number


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
def test_the_estimate_beside_what_moving_takes(algorithm: str) -> None:
    """A rewiring of half of 405,000 synapses at once, which takes more than building does; bounds as above."""
    net = network(rule=REWIRING)
    Simulator(small(rule=REWIRING), algorithm=algorithm)._rewire(10, {10})  # loads the kernels
    tracemalloc.start()
    simulator = Simulator(net, algorithm=algorithm)
    simulator.set_weights({name: np.where(np.arange(w.size) % 2, w, 0.0) for name, w in simulator.weights().items()})
    simulator._rewire(10, {10})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(simulator.n_rewired.values()) > 190_000
    estimate = sum(x.n_bytes for x in memory.network_needs(net, algorithm=algorithm, precision="float64", ranges=1))
    assert peak <= estimate <= 2.0 * peak
    state = simulator.live_state()
    assert algorithm == "loop" or memory.n_columns(net) == (state["synapse"].shape[1], state["row"].shape[1])


@pytest.mark.parametrize("case", [c for c, (what, how) in ENGINES.items() if "algorithm" not in how and "2020" not in c])
def test_the_columns_of_a_synapse_are_those_of_the_engine(case: str, sparse_feedback: Path) -> None:
    what, _ = ENGINES[case]
    state = Simulator(small(sparse_feedback, **what)).live_state()
    assert memory.n_columns(network(sparse_feedback, **what)) == (state["synapse"].shape[1], state["row"].shape[1])


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Path]:
    def write(**what: Any) -> Path:
        (tmp_path / "net.yaml").write_text(text(**what))
        return tmp_path / "net.yaml"

    return write


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ({"n": 20_000_000, "connect": "fixed_indegree: 1000"}, (), ["40,100,000,000 plastic", "synapses 1,"]),
        ({"n": 2_000_000_000, "connect": "fixed_indegree: 1"}, (), ["4,000,000,005 neurons"]),
        ({"n": 20_000_000, "first": PAIRS}, (), ["loop"]),
        ({"update": INTERVAL_2020.format(10_000_000)}, (), ["interval", "4,005 neurons 303.4 GiB"]),
        ({"n": 4_000_000, "connect": "fixed_indegree: 1", "out": 1000}, (), ["feedback weights 119.2 GiB"]),
        ({}, ("--steps", "1000000000000"), ["1,000,000,000,000 steps", "37,252.9 GiB"]),
        ({}, ("--steps", str(LAST_STEP)), [f"fewer than {LAST_STEP:,}"]),
        ({}, ("--steps", "2000000000", "--save", "o.npz"), ["outputs of 2,000,000,000 steps", "no --save"]),
        ({}, ("--steps", "2000000", "--save", "o.npz", "--record", "membrane:hidden"), ["recorded quantities of 2,000,000 steps"]),
        ({}, ("--steps", "900000", "--save", "o.npz", "--record", "weights:rec"), ["recorded quantities"]),
    ],
)
def test_what_does_not_fit_ends_early(net: Any, call: Any, what: dict[str, Any], options: tuple[str, ...], words: list[str]) -> None:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, out, _ = call("simulate", net(**what), *(options or ("--steps", "10")), "--format", "json")
    assert code == 4
    (error,) = json.loads(out)["errors"]
    assert error["code"] == "NC410"
    assert error["help"]
    for word in words:
        assert word in error["message"] + error["help"]
    assert time.monotonic() - began < 5.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; nothing large was allocated on the way


def test_a_way_out_that_is_enough_is_named(net: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory between the needs of both precisions, float64 is refused, names float32 and its need, and float32 runs."""
    path = net(n=4000)
    found = network(n=4000)
    need = {
        p: sum(x.n_bytes for x in memory.network_needs(found, algorithm="anchored", precision=p, ranges=1)) for p in ("float64", "float32")
    }
    monkeypatch.setattr(memory, "available_memory", lambda: (need["float64"] + need["float32"]) / 2)
    code, _, err = call("simulate", path, "--steps", "5")
    assert code == 4
    assert f"this would fit: --precision float32 ({memory.size(need['float32'])})" in err
    assert call("simulate", path, "--steps", "5", "--precision", "float32")[0] == 0


def test_inputs_are_measured_before_they_are_read(net: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "s.npz", neuron=np.zeros(5_000_000, np.int64), step=np.zeros(5_000_000, np.int64))
    monkeypatch.setattr(memory, "available_memory", lambda: 200e6)
    monkeypatch.setattr(running.Spikes, "load", lambda *_arguments, **_options: pytest.fail("was read"))
    code, _, err = call("simulate", net(n=100, connect="fixed_indegree: 5"), "--steps", "5", "--input", f"in={tmp_path / 's.npz'}")
    assert code == 4
    assert "reading the inputs needs 0.3 GiB" in err  # 80 MB as stored, four times that while they are sorted
    assert "s.npz" in err


def test_spikes_that_fill_the_memory_end_the_run(net: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number cannot be known beforehand; with a checkpoint, the work until then is kept."""
    path, room = net(n=200, connect="fixed_indegree: 20"), iter([memory.RESERVE + 10_000_000] * 5 + [memory.RESERVE] * 1000)
    whole = ("simulate", path, "--steps", "5000", "--save", tmp_path / "o.npz")
    assert call(*whole)[0] == 0
    expected = (tmp_path / "o.npz").read_bytes()
    (tmp_path / "o.npz").unlink()
    monkeypatch.setattr(memory, "check_fits", lambda *_arguments, **_options: None)
    monkeypatch.setattr(memory, "available_memory", lambda: next(room))
    code, _, err = call(*whole, "--checkpoint", tmp_path / "ck", "--checkpoint-every", "32")
    assert code == 4
    assert "of 5,000 steps spikes and recordings have" in err
    assert not (tmp_path / "o.npz").exists()
    monkeypatch.undo()
    assert call(*whole, "--checkpoint", tmp_path / "ck", "--resume")[0] == 0
    assert (tmp_path / "o.npz").read_bytes() == expected


def test_a_limit_of_the_shell_is_seen(net: Any) -> None:
    """As with ``ulimit -v``: a network of 6 GB is refused before the limit is met, although the machine may have more."""
    path = net(n=1_000_000, connect="fixed_indegree: 100")
    program = (
        "import resource, sys; from neurocompile.cli import main; import neurocompile.cli.simulate;"
        "limit = 4 * 2**30; resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        f"main(['simulate', {str(path)!r}, '--steps', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "NC410" in done.stderr


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n"}
GROUPS: dict[str, tuple[dict[str, str], float]] = {
    "none": (MEMINFO, 8000 * 1024),
    "nothing is said": ({}, float("inf")),
    "version 2": (
        MEMINFO | {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "5000\n", "sys/fs/cgroup/a/b/memory.current": "4000\n"},
        1000,
    ),
    "version 2, cache": (
        MEMINFO
        | {
            "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "5000\n", "sys/fs/cgroup/a/memory.current": "4000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 700\n",
        },
        1700,
    ),
    "version 2, the parent's limit": (
        MEMINFO
        | {
            "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "9\n",
            "sys/fs/cgroup/a/memory.max": "600\n", "sys/fs/cgroup/a/memory.current": "100\n",
        },
        500,
    ),
    "version 2, used up": (
        MEMINFO | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "50\n", "sys/fs/cgroup/memory.current": "60\n"},
        0,
    ),
    "version 1": (
        MEMINFO
        | {
            "proc/self/cgroup": "5:cpu:/\n4:cpuset,memory:/x\n0::/\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "7000\n",
            "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1000\n",
        },
        6000,
    ),
    "version 1, no limit": (
        MEMINFO
        | {
            "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
        },
        8000 * 1024,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GROUPS)
def test_available_memory(tmp_path: Path, case: str) -> None:
    files, expected = GROUPS[case]
    assert available_memory(tree(tmp_path, files)) == expected


def test_synapses_are_realised_in_place_and_one_projection_at_a_time(
    net: Any, call_json: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without weights nobody realises the whole network; out.npz is as if somebody had."""
    import neurocompile.cli.common
    import neurocompile.cli.simulate as verb
    import neurocompile.ir.realise

    path, out = net(n=150, connect="fixed_probability: 0.1"), tmp_path / "o.npz"
    call_json("simulate", path, "--steps", "60", "--save", out, "--no-learn")
    initial = dict(np.load(out))
    np.savez(tmp_path / "w.npz", **{key: array for key, array in initial.items() if key.startswith("weight:")})
    call_json("simulate", path, "--steps", "60", "--save", out, "--weights", tmp_path / "w.npz")
    given = out.read_bytes()
    drawn: list[str] = []
    real = neurocompile.ir.realise.realise

    def counted(network: Network, projection: Any, **options: Any) -> Any:
        drawn.append(projection.name)
        return real(network, projection, **options)

    for module in (neurocompile.ir.realise, verb):
        monkeypatch.setattr(module, "realise", counted)
    found = call_json("simulate", path, "--steps", "60")
    assert drawn == []
    call_json("simulate", path, "--steps", "60", "--save", out)
    assert drawn == ["in->hidden", "rec", "read"]
    assert out.read_bytes() == given
    assert found["n_synapses"] == sum(len(array) for key, array in initial.items() if key.startswith("pre:"))


@pytest.mark.parametrize(
    ("what", "options", "algorithm", "reason"),
    [
        ({}, (), "anchored", "all rules are linear between spikes"),
        ({}, ("--algorithm", "anchored"), "anchored", "asked for"),
        ({}, ("--algorithm", "loop"), "loop", "asked for"),
        ({"first": PAIRS}, (), "loop", "projection 'in->hidden' learns by STDP"),
    ],
)
def test_the_answer_says_which_algorithm_ran_and_why(
    net: Any, call: Any, call_json: Any, what: dict[str, Any], options: tuple[str, ...], algorithm: str, reason: str
) -> None:
    path = net(n=50, connect="fixed_indegree: 5", **what)
    found = call_json("simulate", path, "--steps", "20", *options)
    assert (found["algorithm"], found["algorithm_reason"], found["precision"], found["threads"]) == (algorithm, reason, "float64", 1)
    assert f"{algorithm} algorithm ({reason}), float64, 1 thread, " in call("simulate", path, "--steps", "20", *options)[1]


def test_bytes_of_a_plastic_synapse(net: Any, call_json: Any) -> None:
    """Issue: at most 40 bytes in float64 and 24 in float32, connectivity included, where neurons have many synapses."""
    path = net(n=2000)
    for precision, most in (("float64", 40.0), ("float32", 24.0)):
        found = call_json("simulate", path, "--steps", "1", "--precision", precision)
        assert 10.0 < found["bytes_per_plastic_synapse"] <= most


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--algorithm", "loop", "--precision", "float32"), ["NC251", "float64 on one thread"]),
        (("--threads", "100000"), ["NC251", "100000 threads"]),
    ],
)
def test_what_an_algorithm_cannot_do_is_refused_at_once(net: Any, call: Any, options: tuple[str, ...], words: list[str]) -> None:
    code, _, err = call("simulate", net(n=20, connect="fixed_indegree: 5"), "--steps", "5", *options)
    assert code == 3
    assert all(word in err for word in words)
