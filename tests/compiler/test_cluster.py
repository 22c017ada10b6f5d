"""A build has the same bytes on one core, in threads and on a Dask cluster; what fails there is a clear error."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

import neurocompile
from neurocompile import cluster as cluster_module
from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.build_folder import assemble
from neurocompile.cli import run
from neurocompile.cluster import Cluster, open_shards, surroundings
from neurocompile.ir import LIF, FixedProbability, LogNormal, Network, Population, Projection, SpikeSource
from neurocompile.ir import shards as shards_module
from neurocompile.ir.errors import InputError, NeurocompileError, SdkMissingError
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise, realise_all, realise_targets
from neurocompile.ir.shards import Shards, Shared, Threads, all_cores
from neurocompile.machine import load_machine
from neurocompile.pipeline import CompileOptions, compile_network, find_target

NEURON = LIF(tau_mem=0.02, v_threshold=1.0)
LARGE = """\
name: large
dt: 1 ms
seed: 5
populations:
  in:  {model: spike_source, size: 60, params: {rate: 20 Hz}}
  a:   {model: lif, size: 200, params: {tau_mem: 20 ms, v_threshold: 0.5, reset: to_value}}
  b:   {model: lif, size: 80, params: {tau_mem: 20 ms, v_threshold: 0.5, reset: to_value}}
projections:
  - {pre: in, post: a, connect: {fixed_indegree: 20}, weight: {normal: [0.02, 0.01]}, delay: 1 ms}
  - {pre: a, post: a, connect: {fixed_probability: 0.3}, weight: {normal: [0.02, 0.01]}, delay: {uniform: [1 ms, 5 ms]}}
  - {pre: a, post: b, connect: {fixed_outdegree: 10}, weight: {uniform: [0.0, 0.1]}, delay: 1 ms}
  - {pre: b, post: a, connect: all_to_all, weight: -0.01, delay: 2 ms}
  - {pre: b, post: b, connect: {file: pairs.csv}, weight: {uniform: [0.0, 0.1]}, delay: 1 ms}
"""
"""34,000 synapses by every kind of rule that is cut differently."""


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0") as found:
        yield found


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut as networks of many millions of synapses are (the cutting is done here, never by workers)."""
    monkeypatch.setattr(shards_module, "SYNAPSES", 2_000)
    monkeypatch.setattr("neurocompile.ir.realise.SYNAPSES", 2_000)
    monkeypatch.setattr("neurocompile.ir.npz._DEFLATED_PIECE", 5_000)


@pytest.fixture
def large(tmp_path: Path) -> Network:
    (tmp_path / "large.yaml").write_text(LARGE)
    (tmp_path / "pairs.csv").write_text("pre,post\n" + "".join(f"{i},{(7 * i) % 80}\n" for i in range(80)))
    return read_network(tmp_path / "large.yaml")


def files(network: Network, target: str, shards: Shards, machine: str | None = None) -> dict[str, bytes]:
    options = CompileOptions(target=target, machine=machine, allow_approximation=True)
    return assemble(compile_network(network, options, shards=shards), options, {}, shards=shards)


def code(caught: pytest.ExceptionInfo[NeurocompileError]) -> str:
    return caught.value.diagnostics[0].code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "example"), [("loihi2", "pattern.yaml"), ("spinnaker", "r_stdp.yaml"), ("nest", "rate_regularization.yaml")]
)
def test_examples_have_the_same_bytes_on_a_cluster(
    root: Path, tmp_path: Path, workers: LocalCluster, target: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line, into folders: no scheduler, and three workers."""
    command = ["build", str(root / "examples" / example), "--target", target, "--allow-approximation", "-q"]
    assert run([*command, "-o", str(tmp_path / "here")]) == 0
    assert run([*command, "-o", str(tmp_path / "there"), "--scheduler", workers.scheduler_address]) == 0
    here, there = (
        {p.relative_to(tmp_path / side): p.read_bytes() for p in (tmp_path / side).rglob("*") if p.is_file()} for side in ("here", "there")
    )
    assert here == there
    assert Path("program/run.py") in here


@pytest.mark.parametrize(("target", "machine"), [("loihi2", "oheo-gulch"), ("spinnaker", "spin5"), ("nest", None)])
@pytest.mark.usefixtures("small_pieces")
def test_many_pieces_have_the_same_bytes_everywhere(large: Network, workers: LocalCluster, target: str, machine: str | None) -> None:
    """In turn, in threads and on three workers, which finish in any order."""
    expected = files(large, target, Threads(1), machine)
    assert files(large, target, Threads(3), machine) == expected
    with open_shards(workers.scheduler_address) as shards:
        assert files(large, target, shards, machine) == expected


def test_lowering_in_pieces_is_that_of_the_whole(large: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece a projection against pieces of about 2,000 synapses; sums of squares are added in another order: 1e-12."""
    connections, options = realise_all(large), BuildOptions(allow_approximation=True)
    targets = [(find_target("loihi2"), load_machine("oheo-gulch")), (find_target("spinnaker"), load_machine("spin5"))]
    whole = [target.lower(large, connections, machine, options) for target, machine in targets]
    monkeypatch.setattr(shards_module, "SYNAPSES", 2_000)
    pieces = [target.lower(large, connections, machine, options) for target, machine in targets]
    for one, other, key in zip(whole, pieces, ("projections", "weight_rounding"), strict=True):
        for name in connections:
            for what, value in one.summary[key][name].items():
                assert other.summary[key][name][what] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12))
    assert isinstance(whole[0], Loihi2Network)
    assert isinstance(pieces[0], Loihi2Network)
    for a, b in zip(whole[0].projections, pieces[0].projections, strict=True):
        np.testing.assert_array_equal(a.quantised.values, b.quantised.values, strict=True)
        np.testing.assert_array_equal(a.part, b.part, strict=True)
    assert isinstance(whole[1], SpinnakerNetwork)
    assert isinstance(pieces[1], SpinnakerNetwork)
    for name, buffer in whole[1].buffers.items():
        assert pieces[1].buffers[name].expected == pytest.approx(buffer.expected, rel=1e-12)
        assert pieces[1].buffers[name].resolution == buffer.resolution


def test_a_network_without_scheduler_uses_the_cores_of_this_process() -> None:
    with open_shards(None) as shards:
        assert shards == all_cores() == Threads(len(os.sched_getaffinity(0)))


def test_errors_of_a_piece_come_back_as_they_are(workers: LocalCluster) -> None:
    """A finding about the user's description is the same on a worker; a defect keeps its type."""
    source, target = (Population(name=name, size=30, model=model) for name, model in (("in", SpikeSource()), ("out", NEURON)))
    too_large = Projection(pre="in", post="out", connect=FixedProbability(probability=0.5), weight=LogNormal(mu=800.0, sigma=1.0))
    network = Network(name="n", dt=1e-3, populations=(source, target), projections=(too_large,))
    with pytest.raises(InputError) as here:
        realise_all(network)
    with open_shards(workers.scheduler_address) as shards:
        with pytest.raises(InputError) as there:
            realise_all(network, shards=shards)
        with pytest.raises(ZeroDivisionError):
            list(shards.map(divmod, [(1, 0)]))
    assert code(there) == "NC203"
    assert there.value.diagnostics == here.value.diagnostics


def test_a_failed_build_writes_nothing(
    root: Path, tmp_path: Path, workers: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory(*_arguments: object) -> None:
        raise MemoryError("cannot allocate 3 GiB")

    monkeypatch.setattr("neurocompile.ir.npz._deflated", no_memory)
    command = ["build", str(root / "examples/pattern.yaml"), "-t", "nest", "--allow-approximation", "-o", str(tmp_path / "out")]
    assert run([*command, "--scheduler", workers.scheduler_address]) == 5
    assert re.search(r"NC512.*too little memory: cannot allocate 3 GiB; nothing was written", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_other_versions_are_refused(workers: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurocompile, "__version__", "99.0")
    with (
        pytest.raises(SdkMissingError, match=r"worker \S+ has neurocompile 0\.\S+ \(\w+\) \(here 99\.0 ") as caught,
        open_shards(workers.scheduler_address),
    ):
        pass
    assert code(caught) == "NC511"


def test_a_worker_of_another_version_that_joins_later_is_refused(workers: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece compares, also where the first check saw other workers."""
    with open_shards(workers.scheduler_address):
        monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "0.9")
        with (
            Client(workers.scheduler_address, set_as_default=False) as client,
            pytest.raises(SdkMissingError, match=r"here 0\.9") as caught,
        ):
            list(Cluster(client, workers.scheduler_address).map(divmod, [(3, 2)]))
    assert code(caught) == "NC511"


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_workers_that_die_run_elsewhere(large: Network, workers: LocalCluster) -> None:
    """Two of three workers are killed after the first piece, with what they held for the others."""
    projection = large.projections[1]
    expected = realise(large, projection)
    with open_shards(workers.scheduler_address) as shards:
        cuts = [(start, start + 10) for start in range(0, 200, 10)]
        parts = shards.map(realise_targets, ((Shared(large), Shared(projection), start, stop) for start, stop in cuts))
        first = next(parts)
        for pid in pids(workers)[:2]:
            os.kill(pid, signal.SIGKILL)
        found = [first, *parts]
    assert len(found) == len(cuts)
    for name in ("pre", "post", "weight", "delay"):
        np.testing.assert_array_equal(np.concatenate([getattr(c, name) for c in found]), getattr(expected, name))


def pids(workers: LocalCluster) -> list[int]:
    with Client(workers.scheduler_address, set_as_default=False) as client:
        return sorted(client.run(os.getpid).values())


def test_a_piece_that_kills_its_workers_is_given_up(workers: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.scheduler, "allowed_failures", 0)
    with open_shards(workers.scheduler_address) as shards, pytest.raises(SdkMissingError, match="each of its workers died") as caught:
        list(shards.map(os._exit, [(1,)]))
    assert code(caught) == "NC512"


def test_changed_code_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two commits the version's number often stays."""
    found = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "__init__.py").write_text(text)
        monkeypatch.setattr(neurocompile, "__file__", str(tmp_path / "__init__.py"))
        cluster_module._code_digest.cache_clear()
        found.append(surroundings()["neurocompile"])
    cluster_module._code_digest.cache_clear()
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("address", ["localhost:8786", "tcp://localhost", "http://localhost:1", "tcp://localhost:99999", "tcp://a b:1", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match=r"NC160.*\n.*tcp://HOST:PORT"), open_shards(address):
        pass


@pytest.mark.parametrize("listening", [False, True])
def test_a_scheduler_that_does_not_answer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listening: bool
) -> None:
    """Nobody at the port, and somebody who says nothing: both within the time limit, and nothing is written."""
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        begin = time.monotonic()
        command = ["build", str(root / "examples/pattern.yaml"), "-t", "nest", "-o", str(tmp_path / "out"), "--scheduler", address]
        assert run([*command, "--format", "json"]) == 5
    assert time.monotonic() - begin < 10.0
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "NC510"
    assert address in error["message"]
    assert "dask scheduler" in error["help"]
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SdkMissingError, match=r"NC501.*\n.*neurocompile\[cluster\]"), open_shards("tcp://localhost:8786"):
        pass


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0") as empty,
        pytest.raises(SdkMissingError, match="has no worker after 1 s") as caught,
        open_shards(empty.scheduler_address),
    ):
        pass
    assert code(caught) == "NC510"


@pytest.mark.parametrize("what", ["workers", "scheduler"])
def test_a_cluster_that_is_lost(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(cluster_module, "WORKERLESS_SECONDS", 0.5)
    monkeypatch.setattr(cluster_module, "_POLL_SECONDS", 0.2)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0") as lost,
        open_shards(lost.scheduler_address) as shards,
    ):
        results = shards.map(time.sleep, [(0.0,), *[(1.0,)] * 9])
        next(results)
        if what == "workers":
            lost.scale(0)
        else:
            lost.close()
        with pytest.raises(SdkMissingError) as caught:
            list(results)
    assert code(caught) == "NC512"
