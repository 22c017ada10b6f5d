"""``update: interval_2020``: how it is written, and what it asks of the whole network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.ir import (
    LIF,
    STDP,
    CubaLIF,
    DataSet,
    EProp,
    Explicit,
    Interval2020,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    Reset,
    SpikeSource,
    Task,
    Uniform,
)
from neurocompile.ir.connectivity import AllToAll
from neurocompile.ir.errors import InputError
from neurocompile.ir.values import Constant, Values
from neurocompile.ir.yaml_reader import network_from_text

TEXT = """\
dt: 0.5 ms
populations:
  in: {{model: spike_source, size: 4}}
  hidden: {{model: lif, size: 3, params: {{tau_mem: 20 ms, v_threshold: 0.5{hidden}}}}}
  out: {{model: leaky_readout, size: 2, params: {{tau_mem: 20 ms}}}}
projections:
  - {{pre: in, post: hidden, connect: all_to_all, weight: 0.1, delay: {delay}, learning: rule}}
  - {{pre: hidden, post: out, connect: all_to_all, learning: rule}}
learning:
  rule: {{rule: eprop, update: {{interval_2020: {update}}}{more}}}
task: {{readout: out}}
"""


def read(tmp_path: Path, update: str = "100", *, hidden: str = "", delay: str = "1", more: str = "") -> Network:
    return network_from_text(TEXT.format(update=update, hidden=hidden, delay=delay, more=more), "net.yaml", tmp_path)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("100", Interval2020(interval_steps=100)),
        ("50 ms", Interval2020(interval_steps=100)),
        ("{interval: 100 steps}", Interval2020(interval_steps=100)),
        ("{interval: 50 ms, learning_window: 10 ms}", Interval2020(interval_steps=100, learning_window_steps=20)),
        (
            "{interval: 100, reset_neurons: false, average_gradient: true, regular_spike_arrival: false, batch_size: 3}",
            Interval2020(interval_steps=100, reset_neurons=False, average_gradient=True, regular_spike_arrival=False, batch_size=3),
        ),
    ],
)
def test_forms(written: str, expected: Interval2020, tmp_path: Path) -> None:
    network = read(tmp_path, written)
    assert network.interval_2020 == expected
    assert expected.window_steps == (expected.learning_window_steps or 100)


def test_other_updates_have_no_intervals(tmp_path: Path) -> None:
    network = read(tmp_path)
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    assert replace(network, rules=(EProp(name="rule"),)).interval_2020 is None
    unused = replace(network, rules=(EProp(name="rule"), replace(rule, name="unused")))
    assert unused.interval_2020 is None


@pytest.mark.parametrize(
    ("change", "code", "at", "words"),
    [
        ({"update": "1"}, "NC201", "interval_2020: 1", "interval_steps is 1, must lie in [2,"),
        ({"update": "0.75 ms"}, "NC118", "interval_2020: 0.75", "1.5 steps"),
        ({"update": "{interval: 10, learning_window: 11}"}, "NC201", "learning_window: 11", "must lie in [1, 10]"),
        ({"update": "{interval: 10, learning_window: 0}"}, "NC201", "learning_window: 0", "must lie in [1, 10]"),
        ({"update": "{interval: 10, batch_size: 0}"}, "NC201", "batch_size: 0", ""),
        ({"update": "{learning_window: 10}"}, "NC109", "interval_2020: {", "'interval' is missing"),
        ({"update": "{interval: 10, window: 3}"}, "NC108", "interval: 10", "unknown key 'window'"),
        ({"more": ", trace_cutoff: 10"}, "NC210", "trace_cutoff: 10", "traces end with the interval"),
        ({"delay": "1 ms"}, "NC209", "delay: 1 ms", "delay of one step (0.5 ms)"),
        ({"hidden": ", reset: to_value"}, "NC210", "hidden: {", "reset to a value"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_findings_have_code_place_and_way_out(change: dict[str, str], code: str, at: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, **change)  # type: ignore[arg-type]
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert words in found.message
    assert found.help
    text = TEXT.format(**{"update": "100", "hidden": "", "delay": "1", "more": "", **change})
    assert found.span is not None
    assert found.span.line == text[: text.index(at)].count("\n") + 1


RULE = EProp(name="rule", update=Interval2020(interval_steps=20))


def network(hidden: Any = None, *, rules: tuple[Any, ...] = (RULE,), task: Task | None = None, **projection: Any) -> Network:
    """in -> hidden (rule ``rule``, ``projection`` replaced) -> out (the last rule)."""
    first = {"pre": "in", "post": "hidden", "connect": AllToAll(), "learning": "rule", **projection}
    return Network(
        name="n",
        dt=1e-3,
        populations=(
            Population(name="in", size=4, model=SpikeSource()),
            Population(name="hidden", size=3, model=hidden or LIF(tau_mem=0.02, v_threshold=0.5)),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(Projection(**first), Projection(pre="hidden", post="out", connect=AllToAll(), learning=rules[-1].name)),
        rules=rules,
        task=task or Task(readout="out"),
    )


def digits(options: dict[str, Any]) -> Task:
    return Task(readout="out", data=DataSet(kind="digits", options=options))


OTHER = replace(RULE, name="other")
EXPLICIT = Explicit(pre=np.array([0, 1]), post=np.array([1, 2]), delay=np.array([1, 2], np.uint8))
STATIC_CURRENT = CubaLIF(tau_mem=0.02, tau_syn=0.005, v_threshold=0.5)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda: network(rules=(RULE, replace(OTHER, update=Interval2020(interval_steps=21)))), "NC210", "'other' has another update"),
        (lambda: network(rules=(EProp(name="rule"), OTHER)), "NC210", "'rule' has another update"),
        (lambda: network(rules=(STDP(name="rule"), OTHER)), "NC210", "'rule' has another update"),
        (lambda: network(LIF(tau_mem=0.02, v_threshold=0.5, reset=Reset.TO_VALUE)), "NC210", "a lif that is reset to a value"),
        (lambda: network(STATIC_CURRENT, learning=None), "NC210", "a cuba_lif with a synaptic current"),
        (lambda: network(connect=EXPLICIT), "NC209", "delay of one step"),
        (lambda: network(delay=Values(values=np.array([1.0] * 11 + [2.0]))), "NC209", "delay of one step"),
        (lambda: network(delay=Uniform(low=1, high=2)), "NC209", "delay of one step"),
        (lambda: network(delay=Normal(mean=1.0, std=0.1)), "NC209", "delay of one step"),
        (lambda: network(task=digits({"reset_between_samples": True})), "NC210", "would cut the update intervals"),
    ],
)
def test_what_a_network_cannot_have_with_it(make: Callable[[], Network], code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    (found,) = caught.value.diagnostics
    assert (found.code, bool(found.help)) == (code, True)
    assert words in found.message


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(rules=(RULE, replace(OTHER, kappa=0.5, update=Interval2020(interval_steps=20, learning_window_steps=20)))),
        lambda: network(delay=Values(values=np.ones(12))),
        lambda: network(delay=Uniform(low=1, high=1)),
        lambda: network(learning=None, delay=Constant(value=7.0)),
        lambda: network(task=digits({"reset_between_samples": False})),
    ],
)
def test_what_it_can(make: Callable[[], Network]) -> None:
    assert make().interval_2020 is not None
