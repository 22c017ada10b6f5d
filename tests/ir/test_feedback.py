"""What a description must hold for feedback through the chain, adaptive feedback and a critic: errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocompile.ir.errors import InputError
from neurocompile.ir.verify_learning import chain_projections, readout_distance
from neurocompile.ir.yaml_reader import read_yaml

NET = """
dt: 1 ms
populations:
  in:     {{model: spike_source, size: 4}}
  first:  {{model: lif, size: 5, params: {{tau_mem: 20 ms, v_threshold: 0.5}}}}
  second: {{model: lif, size: 3, params: {{tau_mem: 20 ms, v_threshold: 0.5}}}}
  out:    {{model: leaky_readout, size: 2, params: {{tau_mem: 20 ms}}}}
  value:  {{model: leaky_readout, size: 1, params: {{tau_mem: 20 ms}}}}
projections:
  - {{pre: in, post: first, connect: all_to_all, learning: hidden}}
  - {{pre: first, post: second, connect: all_to_all{between}}}
  - {{pre: {last}, post: out, connect: all_to_all, learning: readout}}
  - {{pre: second, post: value, connect: all_to_all}}
learning:
  hidden: {{rule: eprop, feedback: {feedback}, {more}}}
  readout: {{rule: eprop, weight_decay: {decay}}}
task: {{readout: out, loss: {loss}}}
"""


def text(
    *,
    feedback: str = "chain",
    last: str = "second",
    between: str = ", learning: hidden",
    decay: str = "0",
    more: str = "kappa: 0.9",
    loss: str = "mean_squared_error",
) -> str:
    return NET.format(feedback=feedback, last=last, between=between, decay=decay, more=more, loss=loss)


@pytest.mark.parametrize(
    ("changes", "code", "line", "words"),
    [
        ({"last": "in"}, "NC210", 15, "no way leads from"),
        ({"between": ""}, "NC210", 15, "have no learning signal"),
        ({"feedback": "{adaptive: 1.0}"}, "NC210", 15, "no weight_decay"),
        (
            {"feedback": "{chain: {weights: {adaptive: 1.0}}}", "decay": "1e-5"},
            "NC210",
            15,
            "'hidden', which has no weight_decay",
        ),
        ({"feedback": "{adaptive: [1, 2]}"}, "NC110", 15, "drawn, not listed"),
        ({"feedback": "{chain: {weights: projection}}"}, "NC111", 15, "projection"),
        ({"more": "weight_decay: 1"}, "NC201", 15, "weight_decay"),
        ({"more": "update: {interval_2020: 100}"}, "NC210", 15, "eprop.feedback is not part of the original"),
        ({"between": ", learning: none", "loss": "{actor_critic: {critic: value}}"}, "NC207", 11, "'none'"),
        ({"loss": "{actor_critic: {critic: nobody}}"}, "NC207", 17, "'nobody' does not exist"),
        ({"loss": "{actor_critic: {critic: out}}"}, "NC210", 17, "has 2 neurons"),
        ({"loss": "{actor_critic: {critic: second}}"}, "NC210", 17, "must be a leaky_readout"),
        ({"loss": "{actor_critic: {critic: value, discount: 1}}"}, "NC201", 17, "discount"),
        (
            {"more": "kappa_learning: {learning_rate: 0.1}", "loss": "{actor_critic: {critic: value}}"},
            "NC210",
            15,
            "kappa_learning does not go",
        ),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, changes: dict[str, str], code: str, line: int, words: str) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(text(**changes))
    with pytest.raises(InputError) as caught:
        read_yaml(file)
    found = [d for d in caught.value.diagnostics if words in d.message]
    assert found, caught.value
    assert (found[0].code, found[0].span.line if found[0].span else 0) == (code, line)
    assert found[0].help


def test_distances_and_carriers(tmp_path: Path) -> None:
    """The readout and the critic are where errors begin; signals go back along shortest ways only."""
    file = tmp_path / "net.yaml"
    file.write_text(text())
    network = read_yaml(file)
    assert readout_distance(network) == {"out": 0, "second": 1, "first": 2, "in": 3}
    assert [p.name for p in chain_projections(network, "first")] == ["first->second"]
    assert [p.name for p in chain_projections(network, "second")] == ["second->out"]
    file.write_text(text(loss="{actor_critic: {critic: value}}"))
    network = read_yaml(file)
    assert readout_distance(network)["value"] == 0
    assert [p.name for p in chain_projections(network, "second")] == ["second->out", "second->value"]
