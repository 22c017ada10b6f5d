"""BPTT by hand: the spiking network of docs/eprop.md in plain NumPy, its adjoint, and e-prop's gradient from the engine.

``forward`` is written once for real and for complex numbers. A complex number a + 1e-30j b is a dual number (the product of two
imaginary parts is far below rounding), and its real part is what "no gradient flows here" means. So the same lines are the
network, its tangent (with ``hard_spike``: a step whose slope is the surrogate) and a smooth network whose true derivative the surrogate is
(``smooth_spike``). ``adjoint`` is the reverse of these equations, written independently, line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    ALIF,
    LIF,
    ChainFeedback,
    EProp,
    Explicit,
    ExplicitFeedback,
    GradientDescent,
    LeakyReadout,
    Loss,
    Network,
    Normal,
    PerEvent,
    PerInterval,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.feedback import Feedback
from neurocompile.ir.signals import Signal, Spikes

Array = npt.NDArray[np.float64]
Any1 = npt.NDArray[Any]  # float64 or complex128
Mask = npt.NDArray[np.bool_]
Weights = dict[str, Array]
Path = Literal["full", "detached", "linear"]
STEP = 1e-30


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A network (dt = 1 ms), its input and its loss. Weights are (pre, post): "in" (n_in, n), "rec" (n, n), "out" (n, k).

    ``layers`` are the sizes of the hidden populations, whose neurons are numbered through. ``tau`` in ms, ``t_ref`` in steps.
    ``feedback`` (k, n) replaces the readout weights on the way back, ``way_back`` is what
    e-prop has instead of it. ``rate`` (spikes/ms) is the target of the rate regularisation,
    E_reg = ``strength``/2 sum (f - rate)^2. ``delays`` in steps, of the shape of the weights.
    """

    layers: tuple[int, ...]
    weights: Weights
    masks: dict[str, Mask]
    delays: dict[str, npt.NDArray[np.int64]]
    tau: Array
    tau_out: Array
    threshold: Array
    spikes: Mask
    target: Array
    window: Mask
    surrogate: Surrogate = Surrogate()
    loss: Loss = Loss.MEAN_SQUARED_ERROR
    hard: bool = False
    v_reset: float = 0.0
    v_leak: float = 0.0
    v_min: float = -np.inf
    t_ref: int = 0
    beta: float = 0.0
    tau_adapt: float = 100.0
    feedback: Array | None = None
    way_back: Feedback = SymmetricFeedback()
    strength: float = 0.0
    rate: float = 0.01
    kappa_reg: float = 0.9


@dataclass(frozen=True)
class Route:
    """Where gradients flow backwards.

    ``reset``: "full": also through the spike that resets; "detached": along the membrane, the resetting spike is a constant (a soft reset
    passes everything, a hard one nothing); "linear": as if the membrane were a filter that is never reset, clamped nor limited, which is
    what an eligibility trace is. ``recurrent``: through the spikes that hidden neurons send to hidden neurons.
    """

    reset: Path = "detached"
    recurrent: bool = True


EPROP = Route(reset="linear", recurrent=False)
BPTT = Route(reset="detached", recurrent=True)


def psi_of(s: Surrogate, x: Array) -> Array:
    r: Array = np.abs(x) / s.width
    if s.kind is SurrogateKind.PIECEWISE_LINEAR:
        shape = np.maximum(0, 1 - r)
    elif s.kind is SurrogateKind.EXPONENTIAL:
        shape = np.exp(-r)
    elif s.kind is SurrogateKind.FAST_SIGMOID_DERIVATIVE:
        shape = (1 + r) ** -2.0
    else:
        shape = 1 / (1 + r**2)
    return s.height * shape


def hard_spike(s: Surrogate, x: Any1) -> Any1:
    """Return the step function; its tangent is psi's."""
    spikes: Any1 = (x.real >= 0) + psi_of(s, x.real) * (x - x.real)
    return spikes


def smooth_spike(s: Surrogate, x: Any1) -> Any1:
    """Return the antiderivative of psi: spikes of every size, so that the surrogate gradient is the true one."""
    sign = np.where(x.real < 0, -1.0, 1.0)
    r: Any1 = x * sign / s.width
    if s.kind is SurrogateKind.PIECEWISE_LINEAR:
        shape = np.where(r.real < 1, r - r * r / 2, 0.5)
    elif s.kind is SurrogateKind.EXPONENTIAL:
        shape = 1 - np.exp(-r)
    elif s.kind is SurrogateKind.FAST_SIGMOID_DERIVATIVE:
        shape = r / (1 + r)
    else:
        shape = np.arctan(r)
    area: Any1 = s.height * s.width * sign * shape
    return area


def by_delay(p: Problem, name: str, weights: Any1) -> list[tuple[int, Any1]]:
    """Return (delay, the weights that have it) of a kind of synapses."""
    return [(int(d), np.where(p.delays[name] == d, weights, 0.0)) for d in np.unique(p.delays[name])]


@dataclass(frozen=True)
class Trajectory:
    """``energy``, and per step what the adjoint needs: distance to the threshold, which membranes ``moved`` and which were ``held``
    (neither: at their floor), which were ``open`` to spike, v before the reset, spikes, readout, filtered rate."""

    energy: complex
    distance: Any1
    moved: Mask
    held: Mask
    open: Mask
    v: Any1
    z: Any1
    y: Any1
    f: Any1


def forward(p: Problem, weights: dict[str, Any1], spike: Callable[[Surrogate, Any1], Any1] = hard_spike, route: Route = BPTT) -> Trajectory:
    """Run the network. With complex weights the imaginary part of every quantity is its derivative along ``route``."""
    steps, n, k = len(p.spikes), len(p.tau), len(p.tau_out)
    a, a_out, rho = np.exp(-1 / p.tau), np.exp(-1 / p.tau_out), np.exp(-1 / p.tau_adapt)
    kind = np.result_type(*weights.values())
    distance, v_all, z_all, f_all = (np.zeros((steps, n), kind) for _ in range(4))
    y_all, moved_all, held_all, open_all = np.zeros((steps, k), kind), *(np.zeros((steps, n), bool) for _ in range(3))
    v, b, f, z, r = np.full(n, p.v_leak, kind), np.zeros(n, kind), np.zeros(n, kind), np.zeros(n, kind), np.zeros(n, int)
    y = np.zeros(k, kind)
    enter, recur, leave = (by_delay(p, name, weights[name]) for name in ("in", "rec", "out"))
    back = leave if p.feedback is None else [(1, p.feedback.T)]
    energy: complex = 0.0
    for t in range(steps):
        moved = a * v + (1 - a) * p.v_leak
        for d, w in enter:
            moved = moved + (p.spikes[t - d] @ w if t >= d else 0.0)
        for d, w in recur:
            moved = moved + ((z_all[t - d] if route.recurrent else z_all[t - d].real) @ w if t >= d else 0.0)
        y = a_out * y
        for d, w in leave:
            y = y + (z_all[t - d].real @ w if t >= d else 0.0)
        for d, w in back:
            y = y + ((z_all[t - d] - z_all[t - d].real) @ w if t >= d else 0.0)
        held, r = (r > 0) & p.hard, np.maximum(r - 1, 0)
        floored = ~held & (moved.real < p.v_min)
        left = np.where(held, v, p.v_min)
        v = np.where(held | floored, left.real + (moved - moved.real) if route.reset == "linear" else left, moved)
        b = rho * b + z
        d = v - p.threshold - p.beta * b
        ready = r == 0
        z = np.where(ready, spike(p.surrogate, d), 0)
        r = np.where(ready & (d.real >= 0), p.t_ref, r)
        distance[t], open_all[t], v_all[t], z_all[t] = d, ready, v, z
        moved_all[t], held_all[t] = ~(held | floored), held
        resets = z if route.reset == "full" else z.real
        if p.hard:
            before = v.real if route.reset == "linear" else v
            v = v + (p.v_reset - before) * resets
        else:
            v = v - (p.threshold - p.v_leak) * resets
        f = p.kappa_reg * f + (1 - p.kappa_reg) * z
        y_all[t], f_all[t] = y, f
        if p.loss is Loss.CROSS_ENTROPY:
            top = y.real.max()
            part = -np.sum(p.target[t] * (y - top - np.log(np.sum(np.exp(y - top)))))
        else:
            part = 0.5 * np.sum((y - p.target[t]) ** 2)
        energy += p.window[t] * part
        if t < steps - 1:  # entry steps-1 of the engine's histories is not complete
            energy += p.strength / 2 * np.sum((f - p.rate) ** 2)
    return Trajectory(energy, distance, moved_all, held_all, open_all, v_all, z_all, y_all, f_all)


def tangent(p: Problem, direction: Weights, spike: Callable[[Surrogate, Any1], Any1] = hard_spike, route: Route = BPTT) -> float:
    """Return the derivative of the energy along ``direction``: forward mode, exact to rounding."""
    return float(np.imag(forward(p, {name: w + STEP * 1j * direction[name] for name, w in p.weights.items()}, spike, route).energy)) / STEP


def adjoint(p: Problem, run: Trajectory, route: Route = BPTT) -> Weights:
    """Return dE/dw of all pairs (pre, post): reverse mode, from the last step to the first. ``g_x`` is dE/dx."""
    steps = len(p.spikes)
    a, a_out, rho = np.exp(-1 / p.tau), np.exp(-1 / p.tau_out), np.exp(-1 / p.tau_adapt)
    psi = psi_of(p.surrogate, run.distance) * run.open
    enter, recur, leave = (by_delay(p, name, p.weights[name]) for name in ("in", "rec", "out"))
    back = leave if p.feedback is None else [(1, p.feedback.T)]
    if p.loss is Loss.CROSS_ENTROPY:
        y = np.exp(run.y - run.y.max(axis=1, keepdims=True))
        error = y / y.sum(axis=1, keepdims=True) * p.target.sum(axis=1, keepdims=True) - p.target
    else:
        error = run.y - p.target
    error = error * p.window[:, None]
    grad = {name: np.zeros_like(w) for name, w in p.weights.items()}
    n, late = len(p.tau), max(int(d.max()) for d in p.delays.values())
    g_y, g_drive = np.zeros((steps + late, len(p.tau_out))), np.zeros((steps + late, n))  # nothing acts after the end
    g_f, g_b, g_v_after = np.zeros(n), np.zeros(n), np.zeros(n)
    for t in range(steps - 1, -1, -1):
        g_f = p.kappa_reg * g_f + (p.strength * (run.f[t] - p.rate) if t < steps - 1 else 0.0)
        g_z = g_b + (1 - p.kappa_reg) * g_f  # g_b still belongs to step t+1, whose adaptation takes the spike
        for d, w in back:
            g_z += w @ g_y[t + d]
        for d, w in recur if route.recurrent else []:
            g_z += w @ g_drive[t + d]
        if route.reset == "full":
            g_z += ((p.v_reset - run.v[t]) if p.hard else -(p.threshold - p.v_leak)) * g_v_after
        g_d = psi[t] * g_z
        g_v = g_v_after * (1 - run.z[t]) if p.hard and route.reset != "linear" else g_v_after
        g_v = g_v + g_d
        g_b = rho * g_b - p.beta * g_d
        g_drive[t] = g_v if route.reset == "linear" else g_v * run.moved[t]
        g_v_after = a * g_drive[t] + (0.0 if route.reset == "linear" else g_v * run.held[t])
        g_y[t] = a_out * (g_y[t + 1] if t + 1 < steps else 0.0) + error[t]
    for name, kinds, source, g in (("in", enter, p.spikes, g_drive), ("rec", recur, run.z, g_drive), ("out", leave, run.z, g_y)):
        for d, _ in kinds:
            grad[name] += np.where(p.delays[name] == d, source[: steps - d].T @ g[d:steps], 0.0)
    return grad


def make_network(p: Problem, rule: EProp) -> Network:
    """Return the same network for the engine; one projection for each pair of populations that has synapses."""
    names = ["hidden"] if len(p.layers) == 1 else [f"h{i + 1}" for i in range(len(p.layers))]
    edges = np.concatenate([[0], np.cumsum(p.layers)])
    parts = {name: slice(lo, hi) for name, lo, hi in zip(names, edges[:-1], edges[1:], strict=True)}
    reset = Reset.TO_VALUE if p.hard else Reset.SUBTRACT

    def model(part: slice) -> LIF:
        common: dict[str, Any] = {
            "tau_mem": p.tau[part] / 1e3,
            "v_threshold": p.threshold[part],
            "v_reset": p.v_reset,
            "v_leak": p.v_leak,
            "v_min": p.v_min,
        }
        common |= {"t_ref": p.t_ref / 1e3, "reset": reset}
        return ALIF(**common, adapt_beta=p.beta, adapt_tau=p.tau_adapt / 1e3) if p.beta else LIF(**common)

    projections = []
    ends = [("in", "in", b) for b in names] + [("rec", a, b) for a in names for b in names] + [("out", a, "out") for a in names]
    for kind, a, b in ends:
        pre, post = np.nonzero(p.masks[kind][parts.get(a, slice(None)), parts.get(b, slice(None))])
        if len(pre):
            block = parts.get(a, slice(None)), parts.get(b, slice(None))
            connect = Explicit(pre=pre, post=post, weight=p.weights[kind][block][pre, post], delay=p.delays[kind][block][pre, post])
            projections.append(Projection(pre=a, post=b, connect=connect, learning="eprop"))
    return Network(
        name="gradient",
        dt=1e-3,
        populations=(
            Population(name="in", size=p.spikes.shape[1], model=SpikeSource()),
            *(Population(name=name, size=size, model=model(parts[name])) for name, size in zip(names, p.layers, strict=True)),
            Population(name="out", size=len(p.tau_out), model=LeakyReadout(tau_mem=p.tau_out / 1e3)),
        ),
        projections=tuple(projections),
        rules=(rule,),
        task=Task(readout="out", loss=p.loss),
    )


def make_rule(p: Problem, *, kappa: float | None, learning_rate: float | None) -> EProp:
    """Return a rule under which all weights stand still until the flush at the end (``learning_rate`` None: eta 1e6, so that a weight's
    own rounding is far below its change), or that changes them at every event. kappa None: the decay of the first readout."""
    feedback = p.way_back
    if p.feedback is not None:
        assert len(p.layers) == 1, "a list of feedback weights belongs to one population"
        k, j = np.nonzero(np.ones_like(p.feedback))
        feedback = ExplicitFeedback(connections=Explicit(pre=k, post=j, weight=p.feedback[k, j]))
    return EProp(
        surrogate=p.surrogate,
        kappa=float(np.exp(-1 / p.tau_out[0])) if kappa is None else kappa,
        kappa_reg=p.kappa_reg,
        regularization=Regularization(strength=p.strength, rate=p.rate * 1e3) if p.strength else None,
        feedback=feedback,
        optimizer=GradientDescent(learning_rate=1e6 if learning_rate is None else learning_rate),
        update=PerInterval(steps=len(p.spikes) - 1) if learning_rate is None else PerEvent(),
        weight_bounds=(-1e15, 1e15),
    )


def eprop(p: Problem, algorithm: str, *, kappa: float | None = None, learning_rate: float | None = None) -> tuple[Weights, Mask, Array]:
    """Return e-prop's gradient as the engine applies it (0 where there is no synapse), hidden spikes and readouts.

    A run over N steps and its flush read the entries up to N-2: L up to err(N-1), but a readout's errors up to N-2. So the window of the
    last step must be 0. With updates per interval of N-1 steps the flush, of index N-1, is the first to end an interval: every weight
    changes once.
    """
    steps, n = len(p.spikes), len(p.tau)
    assert not p.window[-1]
    rule = make_rule(p, kappa=kappa, learning_rate=learning_rate)
    network = make_network(p, rule)
    simulator = Simulator(network, algorithm=algorithm)
    assert algorithm in {simulator.algorithm, "auto"}
    step, neuron = np.nonzero(p.spikes)
    recording = simulator.run(
        steps, spikes={"in": Spikes(neuron=neuron, step=step)}, signals={"out": Signal(target=p.target, window=p.window)}
    )
    simulator.flush()
    fired = np.zeros((steps, n), bool)
    names = list(recording.spikes)[1:]
    first = dict(zip(names, np.cumsum([0, *p.layers]), strict=False))
    for name in names:
        fired[recording.spikes[name].step, first[name] + recording.spikes[name].neuron] = True
    gradient = {name: np.zeros_like(w) for name, w in p.weights.items()}
    for projection in network.projections:
        connect = projection.connect
        assert isinstance(connect, Explicit)
        assert connect.weight is not None
        kind = "in" if projection.pre == "in" else "out" if projection.post == "out" else "rec"
        change = connect.weight - simulator.weight(projection.name)
        assert isinstance(rule.optimizer, GradientDescent)
        change /= rule.optimizer.learning_rate
        if isinstance(rule.update, PerInterval):
            change *= rule.update.steps
        gradient[kind][connect.pre + first.get(projection.pre, 0), connect.post + first.get(projection.post, 0)] = change
    return gradient, fired, recording.outputs["out"]


def make_problem(
    seed: int,
    *,
    layers: tuple[int, ...] = (12,),
    recurrent: float = 0.0,
    steps: int = 120,
    delays: dict[str, int] | None = None,
    **change: Any,
) -> Problem:
    """Return a random network of time constants 8 .. 30 ms and thresholds around 0.5 that spikes at some 20 to 150 Hz.

    ``recurrent``: standard deviation of recurrent weights times sqrt(n); 0: no recurrent synapses. Several layers: a chain; all layers
    reach the readout. ``delays``: the longest delay by kind of synapses, each with its own from 1 to that; 1 where not named.
    """
    rng = np.random.default_rng(seed)
    n_in, n, k = 8, sum(layers), 3
    masks = {"in": rng.random((n_in, n)) < 0.8, "rec": np.zeros((n, n), bool), "out": rng.random((n, k)) < 0.9}
    of_layer = np.repeat(np.arange(len(layers)), layers)
    masks["in"][:, of_layer > 0] = False
    if recurrent:
        masks["rec"] |= (of_layer[:, None] == of_layer) & (rng.random((n, n)) < 0.8) & ~np.eye(n, dtype=bool)
    forward_mask = of_layer[:, None] + 1 == of_layer
    weights = {
        "in": rng.normal(0.12, 0.2, (n_in, n)),
        "rec": np.where(forward_mask, rng.normal(0.08, 0.2, (n, n)), rng.normal(0, max(recurrent, 1e-9) / np.sqrt(n), (n, n))),
        "out": rng.normal(0, 0.6 / np.sqrt(n), (n, k)),
    }
    masks["rec"] |= forward_mask
    weights = {name: np.where(masks[name], w, 0.0) for name, w in weights.items()}
    if change.get("loss") is Loss.CROSS_ENTROPY:
        target = rng.dirichlet(np.ones(k), steps)
    else:
        target = np.sin(2 * np.pi * (np.arange(steps)[:, None] / rng.uniform(30, 200, k) + rng.random(k)))
    window = rng.random(steps) < 0.8
    window[-1] = False
    common: dict[str, Any] = {
        "tau": rng.uniform(8, 30, n),
        "tau_out": np.full(k, 20.0),
        "threshold": rng.uniform(0.4, 0.6, n),
        "surrogate": Surrogate(kind=SurrogateKind.EXPONENTIAL, height=0.8, width=0.4),
        "spikes": rng.random((steps, n_in)) < 0.08,
    }
    given = {**common, "layers": layers, "masks": masks, "weights": weights, "target": target, "window": window, **change}
    for name, size in (("tau", n), ("threshold", n), ("tau_out", k)):
        given[name] = np.broadcast_to(given[name], size).astype(float)
    given["delays"] = {name: np.ones(w.shape, np.int64) for name, w in weights.items()} | {
        name: rng.integers(1, longest + 1, weights[name].shape) for name, longest in (delays or {}).items()
    }
    return Problem(**given)


def cosine_and_norm(a: Array, b: Array) -> tuple[float, float]:
    """Return the cosine between two gradients and the length of ``a`` over that of ``b``."""
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return float(np.sum(a * b)) / (lengths[0] * lengths[1]), lengths[0] / lengths[1]


@dataclass(frozen=True, kw_only=True)
class Bias:
    """A case in which e-prop is not BPTT: a ``problem`` by seed, the ``route`` of BPTT, and e-prop's kappa if not the readout's decay."""

    problem: Callable[[int], Problem]
    route: Route = BPTT
    kappa: float | None = None

    def measure(self, seeds: range, algorithm: str = "auto") -> dict[str, list[tuple[float, float]]]:
        """Return (cosine, relative norm) of e-prop's gradient to BPTT's for "in", "rec", "out" and every seed."""
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in seeds:
            p = self.problem(seed)
            true = replace(p, feedback=None)
            expected = adjoint(true, forward(true, p.weights, route=self.route), self.route)
            got, _, _ = eprop(p, algorithm, kappa=self.kappa)
            for name, mask in p.masks.items():
                if mask.any():
                    found.setdefault(name, []).append(cosine_and_norm(got[name], np.where(mask, expected[name], 0.0)))
        return found


def _of(**change: Any) -> Callable[[int], Problem]:
    usual = Surrogate(height=0.6, width=0.5)  # Bellec et al. 2020 with dampening 0.3 for a threshold of 0.5
    return lambda seed: make_problem(seed, **{"layers": (40,), "steps": 200, "surrogate": usual, **change})


def _random_feedback(seed: int, *, signs: bool) -> Problem:
    p = _of()(seed)
    drawn = np.random.default_rng(seed + 1000).normal(0, 0.1, p.weights["out"].T.shape)
    return replace(p, feedback=np.abs(drawn) * np.sign(p.weights["out"].T) if signs else drawn)


def _deep(layers: tuple[int, ...], way_back: Feedback) -> Callable[[int], Problem]:
    """Return stacks of which only the last layer reaches the readout."""

    def problem(seed: int) -> Problem:
        p = _of(layers=layers)(seed)
        last = np.arange(sum(layers)) >= sum(layers[:-1])
        masks = {**p.masks, "out": p.masks["out"] & last[:, None]}
        return replace(p, masks=masks, weights={**p.weights, "out": np.where(masks["out"], p.weights["out"], 0.0)}, way_back=way_back)

    return problem


_DRAWN = RandomFeedback(weight=Normal(mean=0.0, std=0.1))

BIASES = {
    "recurrent, weights 0.1/sqrt(n)": Bias(problem=_of(recurrent=0.1)),
    "recurrent, weights 0.2/sqrt(n)": Bias(problem=_of(recurrent=0.2)),
    "recurrent, weights 0.4/sqrt(n)": Bias(problem=_of(recurrent=0.4)),
    "recurrent alif, weights 0.2/sqrt(n)": Bias(problem=_of(recurrent=0.2, beta=0.05)),
    "two layers, both reach the readout": Bias(problem=_of(layers=(30, 20))),
    "last of two layers reaches the readout, chain": Bias(problem=_deep((30, 20), ChainFeedback())),
    "last of two layers reaches the readout, random chain": Bias(problem=_deep((30, 20), ChainFeedback(weights=_DRAWN))),
    "last of two layers reaches the readout, random": Bias(problem=_deep((30, 20), _DRAWN)),
    "last of three layers reaches the readout, chain": Bias(problem=_deep((30, 20, 15), ChainFeedback())),
    "last of three layers reaches the readout, random chain": Bias(problem=_deep((30, 20, 15), ChainFeedback(weights=_DRAWN))),
    "last of three layers reaches the readout, random": Bias(problem=_deep((30, 20, 15), _DRAWN)),
    "random feedback": Bias(problem=lambda seed: _random_feedback(seed, signs=False)),
    "random feedback with the readout's signs": Bias(problem=lambda seed: _random_feedback(seed, signs=True)),
    "hard reset, t_ref 0": Bias(problem=_of(hard=True)),
    "hard reset, t_ref 4": Bias(problem=_of(hard=True, t_ref=4)),
    "soft reset, floor at rest": Bias(problem=_of(v_min=0.0)),
    "soft reset, gradient through the reset": Bias(problem=_of(), route=Route(reset="full")),
    "kappa 0 for a decay of 0.951": Bias(problem=_of(), kappa=0.0),
    "kappa 0.9 for a decay of 0.951": Bias(problem=_of(), kappa=0.9),
    "delays 1 .. 30 to the readout": Bias(problem=_of(delays={"out": 30})),
    "readouts of 10, 20 and 40 ms, kappa of 20 ms": Bias(problem=_of(tau_out=np.array([20.0, 10.0, 40.0]))),
}
