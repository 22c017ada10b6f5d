"""Learning rules as data: e-prop (three factors), STDP, and reward-modulated STDP.

``eprop`` means NEST's event-driven e-prop, recurrence by recurrence (docs/eprop.md has the formulas): filters are given per step, the
readout's error reaches entry t-1 of the hidden neuron's history, a weight changes when its source spikes and the spike travels with
the new weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import InputError
from neurocompile.ir.values import ValueSpec


def _range(
    owner: str,
    field: str,
    value: float,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
    help: str | None = None,
) -> None:
    fine = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if not fine:
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise InputError.of("NC201", f"{owner}.{field} is {value:g}, must lie in {left}{low:g}, {high:g}{right}", help=help, field=(field,))


class SurrogateKind(str, Enum):
    """Shape of the surrogate gradient psi; x = v - threshold (the raised one for alif), h = height, w = width; 0 while refractory.

    piecewise_linear h max(0, 1-|x|/w); exponential h exp(-|x|/w); fast_sigmoid_derivative h (1+|x|/w)^-2;
    arctan_derivative h / (1+(x/w)^2).
    """

    PIECEWISE_LINEAR = "piecewise_linear"
    EXPONENTIAL = "exponential"
    FAST_SIGMOID_DERIVATIVE = "fast_sigmoid_derivative"
    ARCTAN_DERIVATIVE = "arctan_derivative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """Surrogate gradient: ``height`` > 0 (1/membrane unit), ``width`` > 0 (membrane units)."""

    kind: SurrogateKind = SurrogateKind.PIECEWISE_LINEAR
    height: float = 0.3
    width: float = 1.0

    def __post_init__(self) -> None:
        _range("surrogate", "height", self.height, 0.0, np.inf, open_low=True, open_high=True)
        _range("surrogate", "width", self.width, 0.0, np.inf, open_low=True, open_high=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regularization:
    """Firing-rate regularisation: ``strength`` >= 0 (NEST c_reg) pulls the filtered rate to ``rate`` (Hz, NEST f_target)."""

    strength: float
    rate: float

    def __post_init__(self) -> None:
        _range("regularization", "strength", self.strength, 0.0, np.inf, open_high=True)
        _range("regularization", "rate", self.rate, 0.0, np.inf, open_high=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SymmetricFeedback:
    """B_jk = the current weight of the readout synapse j -> k (0 where there is none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomFeedback:
    """B_jk drawn once for every pair of readout neuron k and hidden neuron j (e-prop's "random" / broadcast alignment)."""

    weight: ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExplicitFeedback:
    """B_jk from a list: pre = readout neuron k, post = hidden neuron j, weight required."""

    connections: Explicit

    def __post_init__(self) -> None:
        if self.connections.weight is None:
            raise InputError.of("NC202", f"{self.connections.source}: feedback needs 'weight'", field=("feedback",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionFeedback:
    """B_jk = the initial weights of a projection from the readout to the hidden population (which carries nothing else)."""

    projection: str


Feedback = SymmetricFeedback | RandomFeedback | ExplicitFeedback | ProjectionFeedback


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientDescent:
    """w -= learning_rate * g. ``each_step``: apply at every step of the replayed history (NEST optimize_each_step), not once an event."""

    learning_rate: float = 1e-4
    each_step: bool = False

    def __post_init__(self) -> None:
        _range("gradient_descent", "learning_rate", self.learning_rate, 0.0, np.inf, open_high=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """Adam as NEST computes it (idle steps are replayed with zero gradient, epsilon outside the bias correction).

    ``epsilon`` > 0: a synapse that has seen no gradient yet moves by 0 / (0 + epsilon).
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    each_step: bool = True

    def __post_init__(self) -> None:
        _range("adam", "learning_rate", self.learning_rate, 0.0, np.inf, open_high=True)
        _range("adam", "beta_1", self.beta_1, 0.0, 1.0, open_high=True)
        _range("adam", "beta_2", self.beta_2, 0.0, 1.0, open_high=True)
        no_zero = "a synapse that has seen no gradient yet divides 0 by epsilon; NEST and TensorFlow take 1e-7"
        _range("adam", "epsilon", self.epsilon, 0.0, np.inf, open_low=True, open_high=True, help=no_zero)


Optimizer = GradientDescent | Adam


@dataclass(frozen=True, slots=True, kw_only=True)
class PerEvent:
    """The weight changes at every presynaptic spike (NEST batch_size 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerInterval:
    """Gradients are averaged over intervals of ``steps`` steps and applied at the first presynaptic spike after an interval's end
    (NEST's ``batch_size`` = steps in the event-driven family)."""

    steps: int

    def __post_init__(self) -> None:
        _range("per_interval", "steps", self.steps, 1, 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval2020:
    """The original formulation of e-prop (Bellec et al. 2020, NEST's ``*_bsshslm_2020`` models): the network runs in update intervals,
    a gradient belongs to one interval and is applied at the first presynaptic spike after it (docs/eprop.md).

    It changes the neurons too (reset one step after the spike, restart at each interval), so all learning rules of a network share one.
    ``kappa`` is NEST's exp(-dt/tau_m_readout) there, with the factor (1 - kappa); ``kappa_reg`` and ``each_step`` have no meaning.

    Attributes
    ----------
    interval_steps : int
        Length T of an update interval, >= 2 (NEST ``eprop_update_interval``).
    learning_window_steps : int, optional
        Errors count in the last so many steps of an interval, 1 .. T (NEST ``eprop_learning_window``); None: in all.
    reset_neurons : bool
        Membranes, adaptation and refractoriness start anew with each interval (NEST ``eprop_reset_neurons_on_update``).
    average_gradient : bool
        Gradients are divided by the learning window.
    regular_spike_arrival : bool
        A spike adds its weight to the membrane; False: its weight times (1 - alpha), as in the paper.
    batch_size : int
        Intervals over whose mean gradient an optimizer steps, >= 1.
    """

    interval_steps: int
    learning_window_steps: int | None = None
    reset_neurons: bool = True
    average_gradient: bool = False
    regular_spike_arrival: bool = True
    batch_size: int = 1

    def __post_init__(self) -> None:
        _range("interval_2020", "interval_steps", self.interval_steps, 2, 2**31 - 1)
        _range("interval_2020", "batch_size", self.batch_size, 1, 2**31 - 1)
        if self.learning_window_steps is not None:
            _range("interval_2020", "learning_window_steps", self.learning_window_steps, 1, self.interval_steps)

    @property
    def window_steps(self) -> int:
        """Length of the learning window."""
        return self.interval_steps if self.learning_window_steps is None else self.learning_window_steps


Update = PerEvent | PerInterval | Interval2020


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EProp:
    """Event-driven e-prop, or with ``update`` :class:`Interval2020` its original form.

    Attributes
    ----------
    name : str
    kappa, kappa_reg : float
        Low-pass filters of the eligibility trace, per step, in [0, 1): ebar <- kappa ebar + e; ebar_reg <- kappa_reg ebar_reg +
        (1 - kappa_reg) e. ``kappa_reg`` also filters the firing rate.
    weight_bounds : (low, high)
        Membrane units; weights are clamped at every update.
    sign_constraint : bool
        A weight never changes its sign: it is clamped at 0 (Dale's law).
    trace_cutoff_steps : int, optional
        Traces stop being integrated this many steps after a presynaptic spike (NEST ``eprop_isi_trace_cutoff``); None: never.
    learning_window_steps : int, optional
        Errors count in the last so many steps of a sample only; None: in all. ``simulate --signal`` overrides it by its ``window``.
    """

    name: str = "eprop"
    surrogate: Surrogate = Surrogate()
    kappa: float = 0.97
    kappa_reg: float = 0.97
    regularization: Regularization | None = None
    feedback: Feedback = SymmetricFeedback()
    optimizer: Optimizer = GradientDescent()
    update: Update = PerEvent()
    weight_bounds: tuple[float, float] = (-100.0, 100.0)
    sign_constraint: bool = False
    trace_cutoff_steps: int | None = None
    learning_window_steps: int | None = None

    def __post_init__(self) -> None:
        _range("eprop", "kappa", self.kappa, 0.0, 1.0, open_high=True)
        _range("eprop", "kappa_reg", self.kappa_reg, 0.0, 1.0, open_high=True)
        if not self.weight_bounds[0] <= self.weight_bounds[1]:
            raise InputError.of(
                "NC201", f"eprop.weight_bounds are {list(self.weight_bounds)}, low must not exceed high", field=("weight_bounds",)
            )
        for name in ("trace_cutoff_steps", "learning_window_steps"):
            value = getattr(self, name)
            if value is not None:
                _range("eprop", name, value, 1, 2**31 - 1)
        if isinstance(self.update, Interval2020) and self.trace_cutoff_steps is not None:
            raise InputError.of(
                "NC210",
                "eprop.trace_cutoff_steps has no meaning with update interval_2020, whose traces end with the interval",
                help="leave out trace_cutoff",
                field=("trace_cutoff_steps",),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class STDP:
    """Pair-based, all-to-all STDP with additive or multiplicative weight dependence (PyNN ``SpikePairRule``).

    At a post spike the weight rises by a_plus * x_pre (times w_max, or w_max - w if multiplicative), at a pre spike it falls by
    a_minus * y_post (times w_max, or w - w_min); traces decay with tau_plus / tau_minus (s, > 0) and rise by 1 a spike. A spike pair at
    the same step counts as pre before post nowhere: traces are read before the step's own spikes enter them.
    """

    name: str = "stdp"
    tau_plus: float = 0.02
    tau_minus: float = 0.02
    a_plus: float = 0.01
    a_minus: float = 0.012
    weight_bounds: tuple[float, float] = (0.0, 1.0)
    multiplicative: bool = False

    def __post_init__(self) -> None:
        for field in ("tau_plus", "tau_minus"):
            _range(type(self).__name__, field, getattr(self, field), 0.0, np.inf, open_low=True, open_high=True)
        for field in ("a_plus", "a_minus"):
            _range(type(self).__name__, field, getattr(self, field), 0.0, np.inf, open_high=True)
        if not -np.inf < self.weight_bounds[0] <= self.weight_bounds[1] < np.inf:  # changes are multiples of the bounds
            raise InputError.of(
                "NC201",
                f"weight_bounds are {list(self.weight_bounds)}, must be finite, and low must not exceed high",
                field=("weight_bounds",),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RSTDP(STDP):
    """Reward-modulated STDP (Izhikevich 2007): STDP writes an eligibility trace c (tau_c), reward spikes raise a per-neuron trace d
    (tau_d) by the reward projection's weight, dw/dt = c d.

    Attributes
    ----------
    reward : str
        Name of the population whose spikes are the reward.
    tau_c, tau_d : float
        s, > 0.
    reward_weight : float
        What one reward spike adds to d.
    """

    name: str = "r_stdp"
    reward: str = ""
    tau_c: float = 1.0
    tau_d: float = 0.2
    reward_weight: float = 1.0

    def __post_init__(self) -> None:
        STDP.__post_init__(self)
        for field in ("tau_c", "tau_d"):
            _range("r_stdp", field, getattr(self, field), 0.0, np.inf, open_low=True, open_high=True)
        _range("r_stdp", "reward_weight", self.reward_weight, -np.inf, np.inf, open_low=True, open_high=True)


LearningRule = EProp | STDP | RSTDP
