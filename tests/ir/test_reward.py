"""``loss: actor_critic``: how it is written, and what is wrong with it, by place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir import ActorCritic, Network
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import save_npz
from neurocompile.ir.signals import Signal
from neurocompile.ir.yaml_reader import network_from_text

TEXT = """\
dt: 1 ms
populations:
  in: {{model: spike_source, size: 4}}
  hidden: {{model: lif, size: 3, params: {{tau_mem: 20 ms, v_threshold: 0.5}}}}
  out: {{model: leaky_readout, size: 2, params: {{tau_mem: 20 ms}}}}
  critic: {{model: leaky_readout, size: {size}, params: {{tau_mem: 20 ms}}}}
projections:
  - {{pre: in, post: hidden, connect: all_to_all, weight: 0.1, delay: 1, learning: rule}}
  - {{pre: hidden, post: out, connect: all_to_all, learning: rule}}
  - {{pre: hidden, post: critic, connect: all_to_all, learning: rule}}
learning:
  rule: {{rule: eprop, feedback: {feedback}{more}}}
task:
  readout: out
  loss: {{actor_critic: {loss}}}
"""


def read(folder: Path, loss: str = "{critic: critic}", *, size: int = 1, feedback: str = "symmetric", more: str = "") -> Network:
    return network_from_text(TEXT.format(loss=loss, size=size, feedback=feedback, more=more), "net.yaml", folder)


def test_how_it_is_written(tmp_path: Path) -> None:
    network = read(tmp_path, "{critic: critic, discount: 0.9, critic_weight: 0.1, reward_delay: 30 ms}")
    assert network.actor_critic == ActorCritic(critic="critic", discount=0.9, critic_weight=0.1, reward_delay_steps=30)
    assert [p.name for p in network.feedback_readouts] == ["out", "critic"]
    assert read(tmp_path).actor_critic == ActorCritic(critic="critic")


@pytest.mark.parametrize(
    ("how", "code", "line", "words"),
    [
        ({"loss": "{critic: critik}"}, "NC207", 15, "did you mean 'critic'"),
        ({"loss": "{critic: hidden}"}, "NC210", 15, "is a lif, must be a leaky_readout"),
        ({"loss": "{critic: out}"}, "NC210", 15, "must have one"),
        ({"size": 2}, "NC210", 15, "has 2 neurons, must have one"),
        ({"loss": "{critic: critic, discount: 1}"}, "NC201", 15, "[0, 1)"),
        ({"loss": "{critic: critic, critic_weight: -1}"}, "NC201", 15, ">= 0"),
        ({"loss": "{critic: critic, reward_delay: 1048576}"}, "NC201", 15, "reward_delay is 1048576 steps"),
        ({"more": ", update: {interval_2020: 100}"}, "NC210", 15, "interval_2020"),
    ],
)
def test_what_is_wrong_is_shown_where_it_stands(tmp_path: Path, how: dict[str, str], code: str, line: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, **how)  # type: ignore[arg-type]
    found = next(d for d in caught.value.diagnostics if d.code == code)
    assert words in f"{found.message} {found.help}"
    assert re.search(rf"net\.yaml:{line}:\d+", str(caught.value))


def test_a_feedback_file_may_name_the_critic_behind_the_readout(tmp_path: Path) -> None:
    for beyond in (2, 3):
        save_npz(tmp_path / f"b{beyond}.npz", {"pre": np.array([0, beyond]), "post": np.array([1, 2]), "weight": np.ones(2)})
    assert read(tmp_path, feedback="{file: b2.npz}").rules  # one rule for hidden neurons, policy and critic
    with pytest.raises(InputError, match=r"NC204.*then follows the critic"):
        read(tmp_path, feedback="{file: b3.npz}")


def test_rewards_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "signal.npz"
    save_npz(file, {"target": np.zeros((4, 2)), "reward": np.arange(4.0)})
    signal = Signal.load(file, size=2)
    assert signal.reward is not None
    np.testing.assert_array_equal(signal.part(1, 3).reward, [1.0, 2.0])
    save_npz(file, {"target": np.zeros((4, 2)), "reward": np.array([0.0, 1.0, np.inf, 0.0])})
    with pytest.raises(InputError, match=r"NC203.*reward 2 is not finite"):
        Signal.load(file, size=2)
    save_npz(file, {"target": np.zeros((4, 2)), "reward": np.zeros(3)})
    with pytest.raises(InputError, match=r"NC202.*'reward' has shape \(3,\), expected \(4,\)"):
        Signal.load(file, size=2)
