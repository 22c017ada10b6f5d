"""Event-driven e-prop beside its definition: every trace of every pair, in every step, in plain NumPy (no event, no history)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    Constant,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    LeakyReadout,
    Loss,
    Network,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.signals import Signal, Spikes

Array = npt.NDArray[np.float64]


@dataclass
class Setup:
    network: Network
    masks: dict[str, npt.NDArray[np.bool_]]
    weights: dict[str, Array]
    spikes: npt.NDArray[np.bool_]  # (steps, n_in)
    signal: Signal
    b: Array | None
    delays: dict[str, int]  # steps


def psi_of(kind: SurrogateKind, h: float, w: float, x: Array) -> Array:
    r = np.abs(x) / w
    return {
        SurrogateKind.PIECEWISE_LINEAR: h * np.maximum(0, 1 - r),
        SurrogateKind.EXPONENTIAL: h * np.exp(-r),
        SurrogateKind.FAST_SIGMOID_DERIVATIVE: h * (1 + r) ** -2.0,
        SurrogateKind.ARCTAN_DERIVATIVE: h / (1 + r**2),
    }[kind]


class Plastic:
    """All pairs of one projection: traces by their definition, one optimizer a pair."""

    def __init__(
        self, weight: Array, mask: npt.NDArray[np.bool_], rule: EProp, alpha: Array, rho: Array, beta: Array, readout: bool
    ) -> None:
        self.w, self.work, self.mask, self.rule, self.readout = weight.copy(), weight.copy(), mask, rule, readout
        self.alpha, self.rho, self.beta = alpha, rho, beta
        shape = weight.shape
        self.zbar, self.eps, self.ebar, self.ereg, self.g, self.total, self.m, self.v = (np.zeros(shape) for _ in range(8))
        self.n = np.ones(shape, int)
        self.last = np.full(shape[0], -1)
        self.start = np.sign(weight) + (weight == 0)

    def optimize(self, where: npt.NDArray[np.bool_], index: int, g: Array) -> None:
        o, rule = self.rule.optimizer, self.rule
        batch = rule.update.steps if isinstance(rule.update, PerInterval) else 1
        self.total[where] += g[where]
        due = 1 + index // batch
        for i, j in np.argwhere(where & (self.n < due)):
            grad, w = self.total[i, j] / batch, self.work[i, j]
            if isinstance(o, Adam):
                for k in range(self.n[i, j], due):
                    self.m[i, j] = o.beta_1 * self.m[i, j] + (1 - o.beta_1) * grad
                    self.v[i, j] = o.beta_2 * self.v[i, j] + (1 - o.beta_2) * grad**2
                    step = o.learning_rate * np.sqrt(1 - o.beta_2**k) / (1 - o.beta_1**k)
                    w -= step * self.m[i, j] / (np.sqrt(self.v[i, j]) + o.epsilon)
                    grad = 0.0
            else:
                w -= o.learning_rate * grad
            w = np.clip(w, *rule.weight_bounds)
            if rule.sign_constraint and w * self.start[i, j] < 0:
                w = 0.0
            self.work[i, j], self.total[i, j], self.n[i, j] = w, 0.0, due

    def read(self, h: int, arrived: npt.NDArray[np.bool_], psi: Array, signal: Array, reg: Array) -> None:
        """Let history index h act on all pairs. ``arrived``: sources whose spike has stamp h; self.last: stamps up to h + 1."""
        rule = self.rule
        cutoff = np.inf if rule.trace_cutoff_steps is None else rule.trace_cutoff_steps
        active = (self.last >= 0) & (h - (self.last - 1) < cutoff)
        self.zbar = self.alpha * self.zbar + arrived[:, None]
        e = np.where(active[:, None], psi * (self.zbar - self.beta * self.eps), 0.0)
        self.eps = self.rho * self.eps + e
        self.ebar = rule.kappa * self.ebar + e
        self.ereg = rule.kappa_reg * self.ereg + (1 - rule.kappa_reg) * e
        part = signal * self.zbar if self.readout else signal * self.ebar + reg * self.ereg
        part = np.where(active[:, None] & self.mask, part, 0.0)
        if rule.optimizer.each_step:
            self.optimize(active[:, None] & self.mask, h + 1, part)
        else:
            self.g += part

    def arrive(self, sources: npt.NDArray[np.bool_], stamp: int) -> None:
        again = (sources & (self.last >= 0))[:, None] & self.mask
        if not self.rule.optimizer.each_step:
            self.optimize(again, stamp - 1, self.g)
            self.g[again] = 0.0
        self.w[again] = self.work[again]


def dense(setup: Setup, flush: bool = False, make: Callable[..., Plastic] = Plastic) -> tuple[dict[str, Array], Array, Array]:
    """Return final weights (pre, post), outputs and hidden spikes of the network in->hidden, hidden->hidden, hidden->out. ``make``: what
    makes the pairs of each."""
    net, rule = setup.network, setup.network.rules[0]
    assert isinstance(rule, EProp)
    hid, out = net.population("hidden").model, net.population("out").model
    assert isinstance(hid, LIF)
    assert isinstance(out, LeakyReadout)
    n, k = net.population("hidden").size, net.population("out").size
    one = np.ones(n)
    a, a_out = np.exp(-net.dt / (hid.tau_mem * one)), np.exp(-net.dt / (out.tau_mem * np.ones(k)))
    rho, beta = (np.exp(-net.dt / (hid.adapt_tau * one)), hid.adapt_beta * one) if isinstance(hid, ALIF) else (0 * one, 0 * one)
    zero = np.zeros(k)
    plastic = {
        "in->hidden": make(setup.weights["in->hidden"], setup.masks["in->hidden"], rule, a, rho, beta, False),
        "hidden->hidden": make(setup.weights["hidden->hidden"], setup.masks["hidden->hidden"], rule, a, rho, beta, False),
        "hidden->out": make(setup.weights["hidden->out"], setup.masks["hidden->out"], rule, a_out, zero, zero, True),
    }
    v, adapt, r, z, y = hid.v_leak * one, 0 * one, np.zeros(n, int), np.zeros(n, bool), out.v_leak * np.ones(k)
    rate, steps, dt_ms = 0 * one, len(setup.spikes), net.dt * 1e3
    refractory = round(float(hid.t_ref) / net.dt)
    psis, regs, signals, errs = (np.zeros((steps + 2, m)) for m in (n, n, n, k))
    stamps = {name: np.zeros((steps + 2, len(p.w)), bool) for name, p in plastic.items()}
    outputs, hidden = np.zeros((steps, k)), np.zeros((steps, n), bool)
    past_in, past = np.zeros((256, setup.spikes.shape[1]), bool), np.zeros((256, n), bool)  # spikes of the last steps, the newest first
    for t in range(steps + (1 if flush else 0)):
        pre = {name: (past_in if name.startswith("in") else past)[d - 1] for name, d in setup.delays.items()}
        for name, p in plastic.items():
            if t >= 2:
                target = errs if p.readout else signals
                p.read(
                    t - 2,
                    stamps[name][t - 2],
                    psis[t - 2] if not p.readout else zero,
                    target[t - 2],
                    regs[t - 2] if not p.readout else zero,
                )
            p.arrive(np.ones_like(pre[name]) if t == steps else pre[name], t)
            stamps[name][t] = pre[name]
            p.last[pre[name]] = t
        if t == steps:
            break
        into = {name: np.where(p.mask, p.w, 0).T @ pre[name] for name, p in plastic.items()}
        drive = into["in->hidden"] + into["hidden->hidden"]
        free = r == 0
        r = np.maximum(r - 1, 0)
        moved = np.maximum(a * v + (1 - a) * hid.v_leak + hid.bias + drive, hid.v_min)
        v = np.where(free, moved, v) if hid.reset is Reset.TO_VALUE else moved
        adapt = rho * adapt + z
        x = v - hid.v_threshold - beta * adapt
        psi = np.where(r == 0, psi_of(rule.surrogate.kind, rule.surrogate.height, rule.surrogate.width, x), 0.0)
        new = (x >= 0) & (r == 0)
        v = np.where(new, hid.v_reset if hid.reset is Reset.TO_VALUE else v - (hid.v_threshold - hid.v_leak), v)
        r = np.where(new, refractory, r)
        y = a_out * y + (1 - a_out) * out.v_leak + out.bias + into["hidden->out"]
        z = new
        past, past_in = np.vstack([z[None], past[:-1]]), np.vstack([setup.spikes[t][None], past_in[:-1]])
        rate = rule.kappa_reg * rate + (1 - rule.kappa_reg) * z / dt_ms
        psis[t], outputs[t], hidden[t] = psi, y, z
        if rule.regularization is not None:
            regs[t] = rule.regularization.strength * (rate - rule.regularization.rate / 1000 * dt_ms)
        assert net.task is not None
        shown = np.exp(y) / np.exp(y).sum() if net.task.loss is Loss.CROSS_ENTROPY else y
        errs[t] = (shown - setup.signal.target[t]) * setup.signal.window[t]
        b = np.where(plastic["hidden->out"].mask, plastic["hidden->out"].w, 0).T if setup.b is None else setup.b
        if t:
            signals[t - 1] = errs[t] @ b
    return {name: p.w for name, p in plastic.items()}, outputs, hidden


def random_setup(
    seed: int, rule: EProp, hidden: dict[str, Any], loss: Loss, explicit: bool, steps: int = 70, delays: tuple[int, int, int] = (1, 1, 1)
) -> Setup:
    rng = np.random.default_rng(seed)
    delay = dict(zip(("in->hidden", "hidden->hidden", "hidden->out"), delays, strict=True))
    sizes = {"in": 4, "hidden": 5, "out": 2}
    masks, weights, projections = {}, {}, []
    low, high = rule.weight_bounds
    for pre, post, scale in (("in", "hidden", 0.6), ("hidden", "hidden", 0.3), ("hidden", "out", 0.5)):
        name = f"{pre}->{post}"
        mask = rng.random((sizes[pre], sizes[post])) < 0.7
        weight = np.clip(rng.normal(0.2 if pre == "in" else 0.0, scale, mask.shape), low, high)
        i, j = np.nonzero(mask)
        order = rng.permutation(len(i))  # the canonical order is the list's own
        connect = Explicit(pre=i[order], post=j[order], weight=weight[i[order], j[order]])
        projections.append(Projection(pre=pre, post=post, connect=connect, delay=Constant(value=delay[name]), learning="eprop"))
        masks[name], weights[name] = mask, weight
    b = rng.normal(0, 1, (2, 5))
    k, j = np.nonzero(np.ones_like(b))
    feedback = ExplicitFeedback(connections=Explicit(pre=k, post=j, weight=b[k, j])) if explicit else SymmetricFeedback()
    model = {**hidden, "tau_mem": rng.uniform(0.005, 0.03, 5)}
    adaptive = "adapt_beta" in model
    network = Network(
        name="oracle",
        dt=1e-3,
        populations=(
            Population(name="in", size=4, model=SpikeSource()),
            Population(name="hidden", size=5, model=ALIF(**model) if adaptive else LIF(**model)),
            Population(name="out", size=2, model=LeakyReadout(tau_mem=np.array([0.02, 0.01]), bias=0.01)),
        ),
        projections=tuple(projections),
        rules=(replace(rule, feedback=feedback),),
        task=Task(readout="out", loss=loss),
    )
    signal = Signal(target=rng.uniform(0, 1, (steps, 2)), window=rng.random(steps) < 0.8)
    return Setup(network, masks, weights, rng.random((steps, 4)) < rng.uniform(0.02, 0.4), signal, b if explicit else None, delay)


def engine(
    setup: Setup, *, chunks: tuple[int, ...] = (), history_steps: int = 8, flush: bool = False, algorithm: str = "loop"
) -> tuple[dict[str, Array], Array, Array]:
    simulator = Simulator(setup.network, history_steps=history_steps, algorithm=algorithm)
    step, neuron = np.nonzero(setup.spikes)
    steps, outputs, hidden = len(setup.spikes), [], np.zeros((len(setup.spikes), 5), bool)
    cuts = [0, *sorted(set(chunks)), steps]
    for start, stop in itertools.pairwise(cuts):
        part = Signal(target=setup.signal.target[start:stop], window=setup.signal.window[start:stop])
        rec = simulator.run(stop - start, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": part})
        outputs.append(rec.outputs["out"])
        hidden[rec.spikes["hidden"].step, rec.spikes["hidden"].neuron] = True
    if flush:
        simulator.flush()
    weights = {}
    for name, values in simulator.weights().items():
        connect = setup.network.projection(name).connect
        assert isinstance(connect, Explicit)
        weights[name] = setup.weights[name].copy()
        weights[name][connect.pre, connect.post] = values
    return weights, np.concatenate(outputs), hidden


def compare(setup: Setup, *, flush: bool = False, chunks: tuple[int, ...] = (), history_steps: int = 8) -> None:
    """Sums are taken in another order, so agreement is to rounding; Adam divides by sqrt(v), which loses digits where v is near 0. Both
    algorithms are compared where the anchored one can run the rule."""
    expected, y, spikes = dense(setup, flush)
    for algorithm in {"loop", Simulator(setup.network).algorithm}:
        got, y_got, spikes_got = engine(setup, chunks=chunks, history_steps=history_steps, flush=flush, algorithm=algorithm)
        np.testing.assert_array_equal(spikes_got, spikes, err_msg=algorithm)
        np.testing.assert_allclose(y_got, y, rtol=1e-9, atol=1e-10, err_msg=algorithm)
        for name, values in expected.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-9, atol=1e-10, err_msg=f"{algorithm} {name}")


optimizers = st.one_of(
    st.builds(GradientDescent, learning_rate=st.floats(1e-4, 3e-2), each_step=st.booleans()),
    st.builds(Adam, learning_rate=st.floats(1e-4, 3e-3), each_step=st.booleans(), epsilon=st.just(1e-3)),
)
rules = st.builds(
    EProp,
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.1, 2.0), width=st.floats(0.2, 2.0)),
    kappa=st.floats(0.0, 0.98),
    kappa_reg=st.floats(0.0, 0.98),
    regularization=st.one_of(st.none(), st.builds(Regularization, strength=st.floats(0.0, 3.0), rate=st.floats(0.0, 60.0))),
    optimizer=optimizers,
    update=st.one_of(st.just(PerEvent()), st.builds(PerInterval, steps=st.integers(1, 30))),
    weight_bounds=st.sampled_from([(-100.0, 100.0), (-0.6, 0.7)]),
    sign_constraint=st.booleans(),
    trace_cutoff_steps=st.one_of(st.none(), st.integers(2, 25)),
)
hiddens = st.fixed_dictionaries(
    {
        "v_threshold": st.floats(0.3, 0.8),
        "v_leak": st.sampled_from([0.0, 0.1]),
        "v_reset": st.sampled_from([0.0, -0.1]),
        "bias": st.sampled_from([0.0, 0.02]),
        "v_min": st.sampled_from([-np.inf, -0.3]),
        "t_ref": st.sampled_from([0.0, 0.001, 0.003]),
        "reset": st.sampled_from(Reset),
    },
    optional={"adapt_beta": st.floats(0.0, 0.2), "adapt_tau": st.floats(0.01, 1.0)},
).filter(lambda d: ("adapt_beta" in d) == ("adapt_tau" in d))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    rule=rules,
    hidden=hiddens,
    loss=st.sampled_from(Loss),
    explicit=st.booleans(),
    flush=st.booleans(),
    history=st.sampled_from([8, 16, 256]),
    cut=st.integers(1, 69),
    delays=st.one_of(st.just((1, 1, 1)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))),
)
def test_engine_equals_definition(
    seed: int,
    rule: EProp,
    hidden: dict[str, Any],
    loss: Loss,
    explicit: bool,
    flush: bool,
    history: int,
    cut: int,
    delays: tuple[int, int, int],
) -> None:
    setup = random_setup(seed, rule, hidden, loss, explicit, delays=delays)
    compare(setup, flush=flush, chunks=(cut,), history_steps=history)


def test_oracle_notices_a_difference() -> None:
    """The comparison is not empty: the networks learn, and another kappa is seen."""
    rule = EProp(optimizer=GradientDescent(learning_rate=0.01), kappa=0.9)
    setup = random_setup(3, rule, {"v_threshold": 0.5}, Loss.MEAN_SQUARED_ERROR, True)
    expected, _, spikes = dense(setup)
    assert spikes.sum() > 20
    for name, values in expected.items():
        assert np.abs(values - setup.weights[name]).max() > 1e-4, name
    other = replace(setup, network=replace(setup.network, rules=(replace(setup.network.rules[0], kappa=0.901),)))
    assert np.abs(engine(other)[0]["in->hidden"] - expected["in->hidden"]).max() > 1e-7


def test_internal_advance_is_neutral() -> None:
    """A history ring of 8 steps (synapses advanced all the time) gives the same bits as one that holds the whole run."""
    for optimizer in (GradientDescent(learning_rate=0.01), GradientDescent(learning_rate=0.01, each_step=True), Adam(learning_rate=0.001)):
        for cutoff in (None, 1, 5):
            rule = EProp(optimizer=optimizer, trace_cutoff_steps=cutoff, regularization=Regularization(strength=1.0, rate=10.0))
            setup = random_setup(11, rule, {"v_threshold": 0.5}, Loss.MEAN_SQUARED_ERROR, False, steps=120)
            setup.spikes[20:90, 0] = False  # a silent source
            short, long = engine(setup, history_steps=8), engine(setup, history_steps=256)
            np.testing.assert_array_equal(short[1], long[1])
            for name, values in long[0].items():
                np.testing.assert_array_equal(short[0][name], values)


def test_cutoff_one_defers_the_spike(regression: Callable[[int], Any]) -> None:
    """NEST's cutoff of one step: an interval reads its first entry only, so the spike enters zbar at the next event."""
    rule = EProp(optimizer=GradientDescent(learning_rate=0.01), trace_cutoff_steps=1)
    setup = random_setup(5, rule, {"v_threshold": 0.5}, Loss.MEAN_SQUARED_ERROR, True)
    simulator = Simulator(setup.network)
    spikes = Spikes(neuron=np.zeros(3, np.int32), step=np.array([4, 14, 24]))
    simulator.run(40, spikes={"in": spikes}, signals={"out": setup.signal})
    # Spikes arrive at 5, 15, 25. The first event reads index 4 (zbar 0), the second index 14: there the spike of step 5 enters with 1.
    state = simulator.state()
    connect = setup.network.projection("in->hidden").connect
    assert isinstance(connect, Explicit)
    mine = state["last_spike"] == 25
    assert mine.sum() == (connect.pre == 0).sum() > 0
    alpha = np.exp(-1e-3 / setup.network.population("hidden").model.tau_mem)  # type: ignore[attr-defined]
    posts = np.sort(connect.post[connect.pre == 0])
    np.testing.assert_allclose(np.sort(state["zbar"][mine]), np.sort(alpha[posts] ** 9), rtol=1e-12)
