"""What a network takes of a neurocore: memory by encoding, profiles by kind, and how sure each number is."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.loihi2 import TARGET
from neurocompile.build_folder import assemble
from neurocompile.ir import LIF, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.realise import realise_all
from neurocompile.machine import load_machine
from neurocompile.pipeline import CompileOptions, compile_network
from neurocompile.report import render_html, render_text


def words_of_an_axon(n: int, bits: int) -> int:
    """nengo-loihi's formula for the synapses of one axon, block by block: 64-bit words of blocks of at most 64 synapses, 10 bits ahead."""
    words = 0
    while n > 0:
        block = min(n, 64)
        words += math.ceil((block * bits + 10) / 64)
        n -= block
    return words


@pytest.mark.parametrize(
    ("learns", "delay", "bits", "learned"),
    [(False, 1, 8 + 13, 0), (False, 5, 8 + 13 + 6, 0), (True, 1, 8 + 13 + 8 + 9, 9 + 8)],
    ids=["static", "delayed", "plastic"],
)
def test_memory_by_encoding(lower, learner, edges, learns, delay, bits, learned):
    """Sparse and dense against the published formula, axon by axon; weights 8, index 13, delay 6, tag 9 bits (oheo-gulch.yaml), d 8."""
    network = learner()
    if not learns:
        rng = np.random.default_rng(1)
        connect = edges(rng, 20, 24, 0.6, 0.014, delay=delay)
        network = replace(network, projections=(replace(network.projections[0], connect=connect, learning=None), network.projections[1]))
    lowered = lower(network)
    row = lowered.summary["memory"]["in->h"]
    axons = Counter(lowered.projections[0].pre_ids.tolist())
    assert row["synapses"] == sum(axons.values())
    assert row["bits_a_synapse"] == bits
    assert row["sparse_bits"] == 64 * sum(words_of_an_axon(n, bits) for n in axons.values())
    assert row["dense_bits"] == 64 * sum(words_of_an_axon(24, bits - 13) for _ in axons)
    assert row["learning_bits"] == learned * row["synapses"]
    assert row["smaller"] == ("sparse" if row["sparse_bits"] <= row["dense_bits"] else "dense")
    assert row["confidence"] == "guess"  # how Loihi 2 divides its memory is not public
    on_loihi_1 = TARGET.lower(network, realise_all(network), load_machine("nahuku-32"), BuildOptions()).summary["memory"]["in->h"]
    assert on_loihi_1["confidence"] == ("inferred" if learns else "published")  # the tag's 3 bits are inferred from format codes
    # The mapper's additive bound covers it: what it counts is at least this.
    memory = next(r for r in lowered.problem.resources if r.name == "synapse_memory")
    assert memory.per_neuron[20:44].sum() + memory.per_axon_in * len(axons) >= row["sparse_bits"]


def test_large_axons_take_several_blocks(lower):
    network = Network(
        name="wide",
        dt=1e-3,
        populations=(
            Population(name="in", size=1, model=SpikeSource()),
            Population(name="a", size=200, model=LIF(tau_mem=0.02, v_threshold=1.0)),
        ),
        projections=(
            Projection(pre="in", post="a", name="p", connect=Explicit(pre=[0] * 200, post=range(200), weight=[1.0] * 200, delay=[1] * 200)),
        ),
    )
    row = lower(network).summary["memory"]["p"]
    assert row["sparse_bits"] == 64 * (3 * math.ceil((64 * 21 + 10) / 64) + math.ceil((8 * 21 + 10) / 64))
    assert row["dense_bits"] == 64 * words_of_an_axon(200, 8)
    assert row["smaller"] == "dense"


def test_profiles_of_every_kind_are_counted_and_limited(learner):
    """Thresholds and presynaptic traces are configurations that a core holds a few of; a core that has room for one of each is split."""
    network = learner()
    hidden = LIF(tau_mem=0.03, v_threshold=np.repeat([0.03, 0.04, 0.05], 8))
    populations = (network.populations[0], replace(network.populations[1], model=hidden), network.populations[2])
    options = CompileOptions(target="loihi2", allow_approximation=True, overrides={"core.threshold_profiles": 1.0})
    made = compile_network(replace(network, populations=populations), options)
    assert made.mapping is not None
    part = made.mapping.partition.part[20:44]
    assert len({(p, t) for p, t in zip(part.tolist(), np.repeat([0, 1, 2], 8).tolist(), strict=True)}) == 3
    assert len(set(part.tolist())) == 3
    usage = {row["name"]: row for row in made.mapping.usage}
    assert (usage["threshold_profiles"]["used"], usage["threshold_profiles"]["available"]) == (1, 1)
    assert (usage["threshold_profiles"]["confidence"], usage["pre_trace_profiles"]["confidence"]) == ("override", "guess")
    assert usage["pre_trace_profiles"]["available"] == 3


def test_traces_of_different_decay_are_different_profiles(learner):
    """x1 decays with the target's membrane: two targets with the same constant share a profile, of others each has its own."""
    for readout, expected in ((0.03, 1), (0.05, 2)):
        made = compile_network(learner(readout=LeakyReadout(tau_mem=readout)), CompileOptions(target="loihi2"))
        labels = next(r.label for r in made.lowered.problem.set_resources if r.name == "pre_trace_profiles")
        assert len(set(labels[20:].tolist())) == expected
        assert (labels[:20] == -1).all()


def test_how_sure_a_number_is_shows_everywhere(learner):
    """The confidence of limits, of memory by encoding and of costs in report.json, on the page and on the terminal."""
    options = CompileOptions(target="loihi2", overrides={"core.axons_in": 100.0})
    files = assemble(compile_network(learner(), options), options, {})
    report: dict[str, Any] = json.loads(files["report.json"])
    by_name = {row["name"]: row["confidence"] for row in report["usage"]}
    assert {name: by_name[name] for name in ("neurons", "synapse_memory", "axons_in", "axons_out", "profiles", "pre_trace_profiles")} == {
        "neurons": "published", "synapse_memory": "guess", "axons_in": "override", "axons_out": "guess", "profiles": "guess",
        "pre_trace_profiles": "guess",
    }  # fmt: skip
    assert report["details"]["memory"]["in->h"]["confidence"] == "guess"
    assert {t["name"]: t["confidence"] for t in report["cost"]["energy"]["terms"]}["changes of plastic synapses"] == "guess"
    assert "core.axons_in" in report["machine"]["overrides"]
    assert "cost.plastic_synop_energy" in report["machine"]["guesses"]
    terminal = Console(file=io.StringIO(), width=200)
    for piece in render_text(report):
        terminal.print(piece)
    text = terminal.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    for name, confidence in by_name.items():
        if len(name.split()) == 1 and name in rows:
            assert confidence in rows[name]
    assert ("when every neuron spikes" in text) == (not report["cost"]["rates_known"])
    assert "constants: guess)" in text
    page = render_html(report)
    for word in ("override", "guess", "published", "changes of plastic synapses", "sparse_bits".replace("_", " ")):
        assert word in page
