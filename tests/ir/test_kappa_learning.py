"""``kappa_learning``: how it is written, and what is refused, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocompile.ir import EProp, KappaLearning, KappaPer
from neurocompile.ir.errors import InputError
from neurocompile.ir.yaml_reader import network_from_text

TEXT = """\
dt: 1 ms
populations:
  in: {{model: spike_source, size: 4}}
  hidden: {{model: lif, size: 3, params: {{tau_mem: 20 ms, v_threshold: 0.5}}}}
  out: {{model: leaky_readout, size: 2, params: {{tau_mem: 20 ms}}}}
projections:
  - {{pre: in, post: hidden, connect: all_to_all, weight: 0.1, learning: rule}}
  - {{pre: hidden, post: out, connect: all_to_all, learning: rule}}
learning:
  rule:
    rule: eprop
    kappa: 0.9
    kappa_learning: {learnt}
    {more}
task: {{readout: out}}
"""


def read(learnt: str, more: str = "sign_constraint: false") -> EProp:
    (rule,) = network_from_text(TEXT.format(learnt=learnt, more=more), "net.yaml", Path()).rules
    assert isinstance(rule, EProp)
    return rule


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{learning_rate: 0.1}", KappaLearning(learning_rate=0.1)),
        ("{learning_rate: 0.1, per: synapse}", KappaLearning(learning_rate=0.1, per=KappaPer.SYNAPSE, bounds=(0.0, 0.995))),
        ("{learning_rate: 0, per: neuron, bounds: [0.5, 0.9]}", KappaLearning(learning_rate=0.0, per=KappaPer.NEURON, bounds=(0.5, 0.9))),
    ],
)
def test_forms(written: str, expected: KappaLearning) -> None:
    assert read(written).kappa_learning == expected


@pytest.mark.parametrize(
    ("written", "more", "code", "line", "text"),
    [
        (
            "{learning_rate: 0.1, bounds: [0.95, 0.99]}",
            "",
            "NC201",
            12,
            "eprop.kappa is 0.9, must lie within kappa_learning.bounds [0.95, 0.99]",
        ),
        ("{learning_rate: 0.1, bounds: [0.9, 0.5]}", "", "NC201", 13, "kappa_learning.bounds are [0.9, 0.5]"),
        ("{learning_rate: 0.1}", "optimizer: {adam: {learning_rate: 0.1}}", "NC210", 13, "once an event without a trace cutoff"),
        ("{learning_rate: 0.1}", "optimizer: {gradient_descent: {each_step: true}}", "NC210", 13, "once an event without a trace cutoff"),
        ("{learning_rate: 0.1}", "trace_cutoff: 10", "NC210", 13, "once an event without a trace cutoff"),
        ("{learning_rate: 0.1}", "update: {interval_2020: 100}", "NC210", 13, "not part of the original formulation"),
    ],
)
def test_what_is_refused_has_its_place(written: str, more: str, code: str, line: int, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read(written, more or "sign_constraint: false")
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert (found.code, found.span.line) == (code, line)
    assert text in found.message
