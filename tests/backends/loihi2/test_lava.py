"""Programs run in Lava: bit for bit the twin's spikes and states; learning moves weights as the engine does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lava")

from neurocompile.backends.loihi2 import TARGET
from neurocompile.backends.loihi2.twin import run_twin
from neurocompile.backends.loihi2.validate import compare_static, load_program, random_inputs, run_program
from neurocompile.ir import ALIF, LIF, CubaLIF, Explicit, GradientDescent, LeakyReadout, Network, Population, Projection, Reset, SpikeSource
from neurocompile.ir.errors import InputError, MismatchError
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes

LIMIT_S = 120.0


def zoo(edges, seed, tau, threshold, t_ref, delay):
    """One network with every neuron process, recurrence, delays, doubled synapses and a part without synapses."""
    rng = np.random.default_rng(seed)
    hard = {"tau_mem": tau, "v_threshold": threshold, "reset": Reset.TO_VALUE}
    models = {
        "in": SpikeSource(),
        "a": LIF(**hard, v_leak=0.1, v_reset=0.1, bias=0.01),
        "b": LIF(tau_mem=tau, v_threshold=threshold, t_ref=t_ref, v_min=-0.5),
        "c": CubaLIF(**hard, tau_syn=0.004, i_init=0.2),
        "d": ALIF(**hard, t_ref=t_ref, v_reset=-0.1, adapt_beta=0.2, adapt_tau=0.05),
        "out": LeakyReadout(tau_mem=tau, bias=0.01),
        "alone": LeakyReadout(tau_mem=tau, bias=0.02),
    }
    sizes = {"in": 16, "a": 12, "b": 12, "c": 8, "d": 8, "out": 2, "alone": 1}
    double = Explicit(pre=[0, 0, 1, 0], post=[1, 1, 2, 1], weight=[0.9, 0.7, 1.0, -0.4], delay=[1, 1, 2, delay])
    return Network(
        name="zoo",
        dt=1e-3,
        seed=seed,
        populations=tuple(Population(name=n, size=sizes[n], model=m) for n, m in models.items()),
        projections=(
            Projection(pre="in", post="a", connect=edges(rng, 16, 12, 0.5, 0.5, 0.3)),
            Projection(pre="a", post="a", connect=edges(rng, 12, 12, 0.3, 0.3, 0.0, delay)),
            Projection(pre="a", post="b", connect=edges(rng, 12, 12, 0.5, 0.3, 0.2, delay)),
            Projection(pre="in", post="c", connect=edges(rng, 16, 8, 0.5, 0.1, 0.1)),
            Projection(pre="c", post="d", connect=double),
            Projection(pre="in", post="d", connect=edges(rng, 16, 8, 0.6, 0.4, 0.2)),
            Projection(pre="b", post="out", connect=edges(rng, 12, 2, 0.8, 0.5)),
        ),
    )


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    tau=st.floats(0.003, 0.2),
    threshold=st.floats(0.3, 1.5),
    t_ref=st.integers(0, 4).map(lambda n: n * 1e-3),
    delay=st.integers(2, 63),
)
def test_twin_equals_lava_bit_for_bit(edges, write, seed, tau, threshold, t_ref, delay):
    network = zoo(edges, seed, tau, threshold, t_ref, delay)
    program = write(network) / "program"
    spec, arrays = load_program(program)
    assert {p["process"] for p in spec["populations"]} == {"SpikeInput", "LIF", "Neuron", "Readout"}
    inputs = random_inputs(network, steps=100)
    twin = run_twin(spec, arrays, inputs, steps=100)
    results, summary = run_program(program, steps=100, inputs=inputs, flags=["--state"], timeout=LIMIT_S)
    checks = compare_static(results, twin, spec)
    assert [c for c in checks if not c.ok] == []
    assert len(checks) == 5 + 6 + 2  # spikes, states, outputs
    assert summary["n_spikes"]["a"] + summary["n_spikes"]["c"] + summary["n_spikes"]["d"] > 0
    # The check can fail: another threshold, another weight, another delay.
    broken = dict(arrays)
    broken["s0.weight.fixed"] = arrays["s0.weight.fixed"] - 2
    assert not all(c.ok for c in compare_static(results, run_twin(spec, broken, inputs, steps=100), spec))


def test_spike_timing_is_the_descriptions(write):
    """A spike of step s over delay d is integrated in step s + d; here every arrival makes the target fire in that step."""
    delays = [1, 2, 5, 63]
    network = Network(
        name="timing",
        dt=1e-3,
        populations=(
            Population(name="in", size=4, model=SpikeSource()),
            Population(name="a", size=4, model=LIF(tau_mem=0.01, v_threshold=1.0, reset=Reset.TO_VALUE)),
            Population(name="b", size=4, model=LIF(tau_mem=0.01, v_threshold=1.0)),
        ),
        projections=tuple(
            Projection(pre="in", post=post, connect=Explicit(pre=[0, 1, 2, 3], post=[0, 1, 2, 3], weight=[1.5] * 4, delay=delays))
            for post in ("a", "b")
        ),
    )
    inputs = {"in": Spikes(neuron=np.arange(4, dtype=np.int32), step=np.array([0, 3, 7, 2]))}
    results, summary = run_program(write(network) / "program", steps=70, inputs=inputs, timeout=LIMIT_S)
    for post in ("a", "b"):
        found = dict(zip(results[f"spike_neuron:{post}"].tolist(), results[f"spike_step:{post}"].tolist(), strict=True))
        assert found == {0: 1, 1: 5, 2: 12, 3: 65}
    assert np.allclose(results["weight:in->a"], 1.5, rtol=1e-12)
    assert summary["mode"] == "fixed_pt"


def test_learning_follows_the_engine(write, learner):
    """300 steps: no synapse appears, weights stay in range, and the change points the engine's way (measured cosines .91 and .94).

    At five times the learning rate the network is unstable, and the runs go different ways however small the first difference is.
    """
    network = learner(optimizer=GradientDescent(learning_rate=2e-6))
    build = write(network)
    checks = TARGET.validate(build, network, realise_all(network), steps=300)
    assert [c for c in checks if not c.ok] == []
    exact = [c.name for c in checks if c.name.startswith(("learned integers of", "spikes of h, learning", "last state of h, learning"))]
    assert len(exact) == 4  # two plastic projections, one population
    cosines = {c.name: float(c.detail.split()[1]) for c in checks if c.name.startswith("learning of")}
    assert cosines["learning of in->h"] > 0.85
    assert cosines["learning of h->out"] > 0.85


@pytest.mark.slow
def test_digits_learn_in_fixed_point_nearly_as_in_the_engine(write, root):
    """Scales for worst cases; docs/loihi2.md has the figures of measured ones. With 6 bits of d the cosines were .902, .922 and .950 after
    300 steps; .88, .90 and .52 when every step's change is rounded into the weight.

    Everything is seeded, so the figures repeat; the margin is for other versions of numpy's exp and sin.
    """
    network = read_network(root / "examples" / "digits.yaml")
    checks = TARGET.validate(write(network), network, realise_all(network), steps=300)
    assert [c for c in checks if not c.ok] == []
    cosines = {c.name: float(c.detail.split()[1]) for c in checks if c.name.startswith("learning of")}
    assert cosines["learning of in->hidden"] > 0.87
    assert cosines["learning of hidden->hidden"] > 0.88
    assert cosines["learning of hidden->out"] > 0.92


def test_floating_point_learning_is_the_engines_but_for_one_step_of_lag(write, learner):
    from neurocompile.backends.loihi2.validate import cosine, random_signals
    from neurocompile.backends.reference import Simulator

    network = learner()
    connections = realise_all(network)
    inputs, signals = random_inputs(network, steps=200), random_signals(network, steps=200)
    flags = ["--float"]
    results, _ = run_program(write(network) / "program", steps=200, inputs=inputs, signals=signals, flags=flags, timeout=LIMIT_S)
    engine = Simulator(network, connections)
    engine.run(200, spikes=inputs, signals=signals)
    engine.flush()
    for name, weights in engine.weights().items():
        before = np.asarray(connections[name].weight, np.float64)
        assert cosine(results[f"weight:{name}"] - before, weights - before) > 0.97


def test_failing_program_says_why(write, learner):
    program = write(learner()) / "program"
    path = program / "processes" / "readouts" / "readout.py"
    path.write_text(
        path.read_text().replace("incoming, target, window =", 'raise ValueError("broken readout")\n        incoming, target, window =')
    )
    with pytest.raises(MismatchError, match="NC613") as error:
        run_program(program, steps=5, inputs={}, timeout=60.0)
    assert "exit 1" in str(error.value)
    with pytest.raises(MismatchError, match="program failed"):
        run_program(program, steps=5, inputs={"no such population": Spikes(neuron=[0], step=[0])}, timeout=60.0)


def test_a_program_of_another_version_is_refused(tmp_path):
    with pytest.raises(InputError, match="NC614"):
        load_program(tmp_path)
    (tmp_path / "network.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="build it again"):
        load_program(tmp_path)


ORACLE = """
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import LearningDense
from lava.proc.sparse.process import LearningSparse
from lava.utils.weightutils import SignMode
from processes.host.host import Signal, SpikeInput
from processes.plasticity.plastic import Plastic
from scipy.sparse import csr_matrix

if __name__ == "__main__":
    fixed = sys.argv[1] == "fixed_pt"
    steps, rng = 60, np.random.default_rng(3)
    drawn = rng.random((steps, 5)) < 0.3
    step, neuron = np.nonzero(drawn)
    weights = 2 * rng.integers(1, 40, (4, 5)) * rng.choice([-1, 1], (4, 5)) * (rng.random((4, 5)) < 0.8)
    y1 = np.full((steps, 4), 8)
    y2, y3 = rng.integers(0, 128, (steps, 4)), 32 * rng.integers(-3, 4, (steps, 4))
    # The forms that lowering emits (test_golden_rules), for a hidden population and for a readout.
    hidden = {"dw": "-1*u0*(d-32)*y1", "dd": "-1*2^-4*u0*t*y3 - 1*2^2*u0*(d-32)*y1",
              "dt": "1*2^-5*u0*x1*y2 - 1*2^-4*x0*y2 - 1*2^-4*u0*t"}
    readout = {"dw": "-1*u0*t*y1", "dt": "-1*2^-4*u0*x1*y3 + 1*2^-3*x0*y3 - 1*2^2*u0*t*y1"}
    floating = {"dw": "u0*t*y3", "dt": "u0*x1*y2 - x0*y2 - 1*2^-4*u0*t"}
    # What Lava's LearningSparse can run: products of traces alone (w, t and d end in matrix products or conditions of matrices).
    traces = {"dw": "2^-7*u0*x1*y3 - 2^-4*x0*y3"}
    forms = {"traces": traces, "hidden": hidden if fixed else floating, "readout": readout}
    texts = forms[sys.argv[3]]
    tag, tag_2 = {"hidden": (0, 30), "readout": (-2, 0), "traces": (0, 0)}[sys.argv[3]]
    rule = dict(**texts, x1_impulse=16, x1_tau=20, t_epoch=1, rng_seed=7)
    number = np.int32 if fixed else float
    source = SpikeInput(shape=(5,), neuron=neuron, start=np.searchsorted(step, np.arange(steps + 1)))
    dense = LearningDense(weights=weights.astype(number), learning_rule=Loihi3FLearningRule(**rule), sign_mode=SignMode.MIXED,
                          tag_1=np.full((4, 5), tag), tag_2=np.full((4, 5), tag_2))
    post, pre = np.nonzero(weights)
    plastic = Plastic(shape=(4, 5), pre=pre, post=post, weights=weights[post, pre].astype(number), weight_exp=0,
                      weight_range=(-256, 255), learning_rule=Loihi3FLearningRule(**rule), steps=steps, path=sys.argv[2],
                      tag=tag, tag_2=tag_2)
    ours_and_theirs = [plastic, dense]
    if sys.argv[3] == "traces":
        ours_and_theirs.append(LearningSparse(weights=csr_matrix(weights.astype(number)), learning_rule=Loihi3FLearningRule(**rule),
                                              sign_mode=SignMode.MIXED))
    for target in ours_and_theirs:
        source.s_out.connect(target.s_in)
        for values, port in ((y1, target.s_in_y1), (y2, target.s_in_y2), (y3, target.s_in_y3)):
            Signal(shape=(4,), values=values.astype(number)).s_out.connect(port)
    try:
        source.run(condition=RunSteps(steps), run_cfg=Loihi2SimCfg(select_tag=sys.argv[1]))
        found = {"start": weights[post, pre], "saved": np.load(sys.argv[2])}
        found["plastic"] = np.array([getattr(plastic, name).get() for name in ("weights", "tag", "tag_2")])
        found["dense"] = np.array([getattr(dense, name).get()[post, pre] for name in ("weights", "tag_1", "tag_2")])
        found["grown"] = (dense.weights.get() != 0) & (weights == 0)
        for sparse in ours_and_theirs[2:]:
            found["sparse"] = np.asarray(sparse.weights.get().todense())[post, pre]
    finally:
        source.stop()
    np.savez(sys.argv[2] + ".all.npz", **found)
"""


@pytest.mark.parametrize(
    ("tag", "rule"),
    [("fixed_pt", "hidden"), ("fixed_pt", "readout"), ("fixed_pt", "traces"), ("floating_pt", "hidden"), ("floating_pt", "traces")],
)
def test_learning_arithmetic_is_lavas(write, learner, tag, rule):
    """Oracles: Lava's LearningDense, and LearningSparse with the rules that it can run: the same bits, in floating point too.

    Weights, tags and d are read back from the process. A fifth of the pairs have no synapse: ours has nothing there, LearningDense grows
    weights (lava's pitfall, without which the comparison would not show that ours has none).
    """
    import subprocess
    import sys

    program = write(learner()) / "program"
    (program / "oracle.py").write_text(ORACLE)
    command = [sys.executable, "oracle.py", tag, str(program / "weights.npy"), rule]
    done = subprocess.run(command, cwd=program, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(program / "weights.npy.all.npz") as arrays:
        assert (arrays["plastic"][0] != arrays["start"]).sum() > 10
        assert np.array_equal(arrays["plastic"], arrays["saved"])
        assert np.array_equal(arrays["plastic"], arrays["dense"])
        assert arrays["plastic"][1].any() == (rule != "traces"), "tags are written back"
        assert ("sparse" in arrays) == (rule == "traces")
        if rule == "traces":
            assert np.array_equal(arrays["plastic"][0], arrays["sparse"])
        assert arrays["grown"].sum() > 0
