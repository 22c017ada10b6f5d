"""Every code that reading and realising can raise, raised once through the door that a user has: code, place and way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from neurocompile.ir import (
    AllToAll,
    Constant,
    EProp,
    FixedProbability,
    Network,
    OneToOne,
    Population,
    Projection,
    RandomFeedback,
    SpikeSource,
    Values,
)
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import Diagnostic, ExitCode, InputError, NeurocompileError
from neurocompile.ir.neurons import LIF
from neurocompile.ir.npz import save_npz
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import iter_chunks, realise, realise_feedback, realise_targets
from neurocompile.ir.serialise import unpack_network
from neurocompile.ir.signals import Spikes
from neurocompile.tasks.train import train

GOOD = """\
dt: 1 ms
populations:
  in: {model: spike_source, size: 4}
  hidden: {model: lif, size: 3, params: {tau_mem: 20 ms, v_threshold: 0.5}}
  out: {model: leaky_readout, size: 2, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: all_to_all, weight: 0.1}
  - {pre: hidden, post: out, connect: all_to_all, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9}
task: {readout: out}
"""
SOURCE = Population(name="in", size=4, model=SpikeSource())
HIDDEN = Population(name="hidden", size=4, model=LIF(tau_mem=0.02, v_threshold=1.0))


def net(projection: Projection, **more: object) -> Network:
    return Network(name="n", dt=1e-3, populations=(SOURCE, HIDDEN), projections=(projection,), **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Yaml:
    """``old`` -> ``new`` in GOOD; the finding stands at the first ``at`` behind the change (its row and column are counted here)."""

    old: str
    new: str
    at: str

    def text(self) -> str:
        assert self.old in GOOD
        return GOOD.replace(self.old, self.new, 1)

    def place(self) -> tuple[int, int]:
        text = self.text()
        before = text[: text.index(self.at, GOOD.index(self.old))].split("\n")
        return len(before), len(before[-1]) + 1


IN_YAML = {
    "NC101": Yaml("task: {", "task: {]", "]"),
    "NC102": Yaml("kappa: 0.9", "kappa: \x07", "\x07"),
    "NC103": Yaml("kappa: 0.9", "kappa: &a [*a]", "*a"),
    "NC105": Yaml("connect: all_to_all, w", "connect: {file: none.npz}, w", "none.npz"),
    "NC106": Yaml("connect: all_to_all, w", "connect: {file: text.npz}, w", "text.npz"),
    "NC107": Yaml("connect: all_to_all, w", "connect: {file: empty.npz}, w", "empty.npz"),
    "NC108": Yaml("kappa", "kapa", "kapa"),
    "NC109": Yaml("params: {tau_mem: 20 ms, v_threshold: 0.5}", "params: {tau_mem: 20 ms}", "{tau_mem: 20 ms}"),
    "NC110": Yaml("kappa: 0.9", "kappa: [1]", "[1]"),
    "NC111": Yaml("model: lif", "model: life", "life"),
    "NC112": Yaml("kappa: 0.9", "kappa: 0.9, kappa: 0.8", "kappa: 0.8"),
    "NC113": Yaml("kappa: 0.9", "kappa: !!python/name:os.system 1", "!!python"),
    "NC114": Yaml("kappa: 0.9", "kappa: much", "much"),
    "NC115": Yaml("tau_mem: 20 ms, v", "tau_mem: 20, v", "20, v"),
    "NC116": Yaml("tau_mem: 20 ms, v", "tau_mem: 20 mV, v", "20 mV"),
    "NC117": Yaml("v_threshold: 0.5", "v_threshold: 5 mV", "0.1}"),
    "NC118": Yaml("weight: 0.1", "delay: 1.5 ms", "1.5 ms"),
    "NC121": Yaml("connect: all_to_all, w", "connect: {file: edges.bin}, w", "edges.bin"),
    "NC201": Yaml("kappa: 0.9", "kappa: 1.5", "1.5"),
    "NC202": Yaml("v_threshold: 0.5", "v_threshold: [1, 2]", "[1, 2]"),
    "NC203": Yaml("weight: 0.1", "weight: -.inf", "-.inf"),
    "NC204": Yaml("connect: all_to_all, w", "connect: {file: far.npz}, w", "{file: far"),
    "NC205": Yaml("size: 3", "size: 0", "0, params"),
    "NC206": Yaml("  out: {model", "  hidden: {model", "hidden: {model: leaky"),
    "NC207": Yaml("readout: out", "readout: nobody", "nobody"),
    "NC208": Yaml("  rule: {", "  'x\"; import os #': {", "{rule: eprop"),
    "NC209": Yaml("weight: 0.1", "delay: 256", "256"),
    "NC210": Yaml("readout: out", "readout: hidden", "hidden"),
    "NC211": Yaml("pre: in, post: hidden", "pre: out, post: hidden", "out, post"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "edges.bin").write_text("?")
    np.savez(tmp_path / "empty.npz")
    np.savez(tmp_path / "far.npz", pre=[0], post=[3])
    return tmp_path


@pytest.mark.parametrize("code", IN_YAML)
def test_codes_of_a_description(code: str, folder: Path) -> None:
    case = IN_YAML[code]
    path = folder / "net.yaml"
    path.write_text(case.text(), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_network(path)
    places = [(d.span.line, d.span.column) for d in caught.value.diagnostics if d.code == code and d.span and d.span.file == str(path)]
    assert places[:1] == [case.place()], str(caught.value)
    check(caught.value, code)


def check(error: NeurocompileError, code: str) -> None:
    """What holds for every error: codes of the table, a way out, the exit code of the table."""
    assert code in {d.code for d in error.diagnostics}
    for found in error.diagnostics:
        expected = ExitCode.DOES_NOT_FIT if code == "NC230" else ExitCode.BAD_INPUT
        assert CODES[found.code].exit_code == error.exit_code == expected
        assert found.way_out
        assert found.way_out in found.render()
        assert found.as_json()["help"] == found.way_out


def write_nir(path: Path, *nodes: object, n: int = 2, extra: tuple[tuple[str, str], ...] = ()) -> Path:
    """A chain of nodes from an Input to an Output of n."""
    named = {f"n{i}": node for i, node in enumerate(nodes)}
    ends = {"input": nir.Input(input_type={"input": np.array([n])}), "output": nir.Output(output_type={"output": np.array([n])})}
    order = ["input", *named, "output"]
    nir.write(path, nir.NIRGraph(nodes=ends | named, edges=[*pairwise(order), *extra], type_check=False))
    return path


def lif(n: int = 2) -> nir.LIF:
    return nir.LIF(tau=np.full(n, 0.02), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n))


def truncated(folder: Path) -> None:
    path = write_nir(folder / "net.nir", lif())
    path.write_bytes(path.read_bytes()[:700])
    read_network(path, dt=1e-3)


def unknown_node(folder: Path) -> None:
    path = write_nir(folder / "net.nir", lif())
    with h5py.File(path, "r+") as file:
        file["node/nodes/n0/type"][()] = "Izhi"
    read_network(path, dt=1e-3)


def text_for_netx(folder: Path) -> None:
    (folder / "net.net").write_text("no HDF5")
    read_network(folder / "net.net")


def netx(folder: Path, kind: str) -> None:
    with h5py.File(folder / "net.net", "w") as file:
        file["layer/0/type"], file["layer/0/shape"] = [kind.encode()], [3]
    read_network(folder / "net.net")


def long_csv(folder: Path) -> None:
    (folder / "net.csv").write_text("0,1\n2,x\n")
    (folder / "net.yaml").write_text(GOOD.replace("connect: all_to_all, w", "connect: {file: net.csv}, w"))
    read_network(folder / "net.yaml")


def folder_for_file(folder: Path) -> None:
    (folder / "d.yaml").mkdir()
    read_network(folder / "d.yaml")


def description(folder: Path, text: str) -> None:
    (folder / "net.yaml").write_text(text)
    read_network(folder / "net.yaml")


def with_values(folder: Path) -> None:
    realise(made := net(Projection(pre="in", post="hidden", connect=AllToAll(), weight=Values(values=np.ones(3)))), made.projections[0])


def too_many(folder: Path) -> None:
    big = tuple(Population(name=n, size=2**31 - 1, model=HIDDEN.model) for n in ("a", "b"))
    made = Network(
        name="n", dt=1e-3, populations=big, projections=(Projection(pre="a", post="b", connect=FixedProbability(probability=0.1)),)
    )
    realise(made, made.projections[0])


def no_such_part(folder: Path) -> None:
    realise_targets(made := net(Projection(pre="in", post="hidden", connect=OneToOne())), made.projections[0], 0, 5)


def no_such_chunk(folder: Path) -> None:
    list(iter_chunks(made := net(Projection(pre="in", post="hidden", connect=OneToOne())), made.projections[0], max_synapses=0))


def feedback_without_task(folder: Path) -> None:
    rule = EProp(name="e", feedback=RandomFeedback(weight=Constant(value=1.0)))
    realise_feedback(net(Projection(pre="in", post="hidden", connect=OneToOne()), rules=(rule,)), rule, "hidden")


def wrapped_spike(folder: Path) -> None:
    np.savez(folder / "spikes.npz", neuron=[2**32], step=[1])  # would be neuron 0 in 32 bits
    Spikes.load(folder / "spikes.npz", size=4)


ELSEWHERE: dict[str, tuple[Callable[[Path], object], str]] = {
    "NC104 empty file": (lambda f: description(f, "# nothing\n"), "net.yaml"),
    "NC105 no description": (lambda f: read_network(f / "none.yaml"), "none.yaml"),
    "NC119 a line of a CSV file": (long_csv, "net.csv"),
    "NC121 suffix of a description": (lambda f: read_network(f / "net.toml"), "net.toml"),
    "NC122 dt for YAML": (lambda f: read_network(f / "net.yaml", dt=1e-3), "net.yaml"),
    "NC124 a folder": (folder_for_file, "d.yaml"),
    "NC125 very many": (lambda f: description(f, GOOD + "".join(f"k{i}: 1\n" for i in range(200))), "net.yaml"),
    "NC130 text for netx": (text_for_netx, "net.net"),
    "NC131 netx layer": (lambda f: netx(f, "pool"), "net.net"),
    "NC132 netx layer without weights": (lambda f: netx(f, "dense"), "net.net"),
    "NC140 truncated NIR": (truncated, "net.nir"),
    "NC141 NIR node": (unknown_node, "net.nir"),
    "NC142 no dt for NIR": (lambda f: read_network(write_nir(f / "net.nir", lif())), "net.nir"),
    "NC142 dt above tau": (lambda f: read_network(write_nir(f / "net.nir", lif()), dt=1.0), "net.nir"),
    "NC143 NIR shapes": (lambda f: read_network(write_nir(f / "net.nir", lif(3)), dt=1e-3), "net.nir"),
    "NC144 NIR edges": (lambda f: read_network(write_nir(f / "net.nir", lif(), extra=(("n0", "gone"),)), dt=1e-3), "net.nir"),
    "NC146 NIR size": (
        lambda f: read_network(write_nir(f / "net.nir", nir.Scale(scale=np.ones(1)), n=10**12), dt=1e-3),
        "net.nir",
    ),
    "NC147 graded values": (
        lambda f: read_network(write_nir(f / "net.nir", nir.LI(tau=np.ones(2), r=np.ones(2), v_leak=np.zeros(2)), lif()), dt=1e-3),
        "net.nir",
    ),
    "NC161 stored network": (lambda f: unpack_network("{}", {}, file="network.json"), "network.json"),
    "NC202 number of weights": (with_values, ""),
    "NC204 spike of a neuron far off": (wrapped_spike, "spikes.npz"),
    "NC207 feedback without a task": (feedback_without_task, ""),
    "NC230 too many synapses": (too_many, ""),
    "NC231 part": (no_such_part, ""),
    "NC231 chunk": (no_such_chunk, ""),
    "NC701 folder missing": (lambda f: save_npz(f / "none" / "x.npz", {}), "x.npz"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_codes_of_other_files_and_calls(case: str, folder: Path) -> None:
    call, file = ELSEWHERE[case]
    with pytest.raises(NeurocompileError) as caught:
        call(folder)
    code = case.split(maxsplit=1)[0]
    found = next(d for d in caught.value.diagnostics if d.code == code)
    assert Path((found.span.file if found.span else found.file) or "").name == file
    check(caught.value, code)


def test_codes_of_training_without_a_clear_input_or_a_rule(folder: Path) -> None:
    """NC244 and NC248 belong to tasks; they need nothing but a description."""
    data = GOOD.replace("readout: out", "readout: out, data: digits")
    two = data.replace("  hidden:", "  in2: {model: spike_source, size: 4}\n  hidden:")
    for text, code in ((two, "NC244"), (data.replace(", learning: rule", ""), "NC248")):
        (folder / "net.yaml").write_text(text)
        network = read_network(folder / "net.yaml")
        with pytest.raises(InputError) as caught:
            train(network, out=folder / "run")
        check(caught.value, code)


# --- the table itself ------------------------------------------------------------------------------------------------------
def codes_in(*folders: Path) -> dict[str, set[str]]:
    """Code -> files below the folders that name it, the table itself left out."""
    found: dict[str, set[str]] = {}
    for path in (p for folder in folders for p in folder.rglob("*.py") if p.name != "codes.py"):
        for code in re.findall(r"\bNC\d{3}\b", path.read_text(encoding="utf-8")):
            found.setdefault(code, set()).add(path.name)
    return found


def test_every_code_is_raised_explained_and_tested(root: Path) -> None:
    raised = codes_in(root / "ir", root / "backends", root / "neurocompile")
    assert set(CODES) - set(raised) == set(), "in the table, but no source file names it"
    assert set(raised) - set(CODES) == set(), "raised, but not in the table"
    assert set(CODES) - set(codes_in(root / "tests")) == set(), "no test names it"
    for code, info in CODES.items():
        assert info.title, code
        assert info.explanation.endswith((".", ")")), code


def test_every_code_of_the_ir_has_a_case_here(root: Path) -> None:
    raised = {c for path in (root / "ir").glob("*.py") if path.name != "codes.py" for c in re.findall(r'"(NC\d{3})"', path.read_text())}
    assert raised - set(IN_YAML) - {case.split()[0] for case in ELSEWHERE} == set()


def test_help_falls_back_to_the_table() -> None:
    found = Diagnostic(code="NC205", message="none")
    assert found.way_out == CODES["NC205"].explanation
    assert Diagnostic(code="NC205", message="none", help="add one").way_out == "add one"
    assert Diagnostic(code="NC000", message="of a plugin").way_out is None
    assert Diagnostic(code="NC000", message="of a plugin").render() == "error[NC000]: of a plugin"
