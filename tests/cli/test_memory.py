"""Networks that do not fit the memory end in exit 4 before any synapse is made, whatever the verb."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocompile.ir import realise
from neurocompile.simulation import memory

Call = Callable[..., tuple[int, str, str]]

LARGE = """\
name: large
dt: 1 ms
populations:
  in:     {model: spike_source, size: 64}
  hidden: {model: lif, size: 40000, params: {tau_mem: 20 ms, v_threshold: 1, reset: subtract}}
  out:    {model: leaky_readout, size: 10, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 1}, learning: eprop}
  - {pre: hidden, post: hidden, connect: {fixed_probability: 0.3}, weight: {normal: [0, 1]}, learning: eprop}
learning: {eprop: {rule: eprop, feedback: {random: {normal: [0, 1]}}}}
task: {readout: out, data: digits}
"""

# GiB at 480 million synapses, rounded down: 36 bytes each while they are drawn; the bytes of the target's build; 4 engines of 28 bytes and
# the synapses of 17; one engine, and a chunk of synapses
VERBS = {
    "check NET": 16,
    "plan NET --target nest": 31,
    "plan NET --target loihi2 --allow-approximation": 46,
    "build NET --target spinnaker --allow-approximation": 59,
    "simulate NET --steps 10": 12,
    "train NET": 57,
    "evaluate NET": 12,
}


@pytest.fixture
def no_synapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GiB of memory, and no synapse may be made of a projection of more than a million."""
    for module in (realise, memory):
        monkeypatch.setattr(module, "available_memory", lambda: 8.0 * 2**30)
    drawn = realise.draw_rows

    def rows(network: object, projection: object, start: int, stop: int, limit: int) -> object:
        assert projection.pre == "in", "synapses of the large projection are being made"  # type: ignore[attr-defined]
        return drawn(network, projection, start, stop, limit)  # type: ignore[arg-type]

    monkeypatch.setattr(realise, "draw_rows", rows)


@pytest.mark.usefixtures("no_synapses")
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_early(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(LARGE)
    code, out, err = call(*verb.replace("NET", "net.yaml").split(), "--format", "json")
    assert code == 4, err
    (found,) = json.loads(out)["errors"]
    assert found["code"] in {"NC230", "NC410"}
    needed = [float(word) for word, unit in zip(found["message"].split(), found["message"].split()[1:], strict=False) if unit == "GiB"]
    assert int(needed[0]) == VERBS[verb]
    assert "8.0 GiB" in found["message"]
    assert found["help"]
    assert [p.name for p in tmp_path.iterdir()] == ["net.yaml"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's address space")
def test_a_limit_of_the_shell_counts(tmp_path: Path) -> None:
    """`ulimit -v`: 480 million synapses in 6 GiB of address space, for real."""
    (tmp_path / "net.yaml").write_text(LARGE)
    program = (
        "import resource, sys; from neurocompile.cli import main; "
        "resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30)); main(['plan', sys.argv[1], '--target', 'nest'])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "net.yaml")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stderr
    assert "NC230" in done.stderr


def test_check_keeps_no_synapses(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers as from all synapses at once, chunk by chunk."""
    text = LARGE.replace("40000", "3000").replace("weight: {normal: [0, 1]}, learning: eprop", "delay: {uniform: [2 ms, 9 ms]}")
    (tmp_path / "net.yaml").write_text(text)
    _, out, _ = call("check", tmp_path / "net.yaml", "--format", "json")
    from neurocompile.ir.read import read_network

    whole = realise.realise_all(read_network(tmp_path / "net.yaml"))
    monkeypatch.setattr(realise, "_CHUNK", 1)
    monkeypatch.setattr(realise.iter_chunks, "__kwdefaults__", {**realise.iter_chunks.__kwdefaults__, "max_synapses": 200_000})
    _, parts, _ = call("check", tmp_path / "net.yaml", "--format", "json")
    assert parts == out
    for row in json.loads(out)["projections"]:
        found = whole[row["name"]]
        assert (row["n_synapses"], row["delay_steps"]) == (len(found), [int(found.delay.min()), int(found.delay.max())])
