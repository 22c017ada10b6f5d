"""Learning rules as data: e-prop (three factors), STDP, and reward-modulated STDP.

``eprop`` means NEST's event-driven e-prop, recurrence by recurrence (docs/eprop.md has the formulas): filters are given per step, the
readout's error reaches entry t-1 of the hidden neuron's history, a weight changes when its source spikes and the spike travels with
the new weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from neurocompile.ir.errors import InputError
from neurocompile.ir.feedback import AdaptiveFeedback, ChainFeedback, Feedback, SymmetricFeedback


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


class KappaPer(str, Enum):
    """Who has a kappa of its own where kappa is learnt: every SYNAPSE, or every target NEURON."""

    SYNAPSE = "synapse"
    NEURON = "neuron"


@dataclass(frozen=True, slots=True, kw_only=True)
class KappaLearning:
    """Adaptive eligibility decay: kappa descends the gradient of the loss that it has through the weights (docs/eprop.md, "Learnt kappa").
    Onto readouts nothing is filtered by kappa, and nothing changes.

    Attributes
    ----------
    learning_rate : float
        >= 0; the largest step of log(1 - kappa), the logarithm of the filter's time constant, at one event: the gradient dE/dkappa is
        divided by its running maximum, so that the rate depends neither on the loss nor on the optimizer.
    per : KappaPer
    bounds : (low, high)
        0 <= low <= high < 1; the rule's ``kappa`` is where every kappa starts and lies within.
    """

    learning_rate: float
    per: KappaPer = KappaPer.SYNAPSE
    bounds: tuple[float, float] = (0.0, 0.995)

    def __post_init__(self) -> None:
        _range("kappa_learning", "learning_rate", self.learning_rate, 0.0, np.inf, open_high=True)
        if not 0.0 <= self.bounds[0] <= self.bounds[1] < 1.0:
            raise InputError.of(
                "NC201", f"kappa_learning.bounds are {list(self.bounds)}, must hold 0 <= low <= high < 1", field=("bounds",)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewiring:
    """DEEP R (Bellec et al. 2018, arXiv:1711.05136): synapses that reach weight 0 are moved to other pairs; their number stays.

    When a weight changes, n learning steps after it last did, w <- w - sign l1 n + noise sqrt(n) xi follows the gradient step, xi being
    standard normal, before w is clipped. The rule needs ``sign_constraint``: a synapse keeps its sign, so that 0 is where it ends. A moved
    synapse keeps sign and delay, has weight 0 and no trace, and joins a pair that is not connected yet (docs/eprop.md, "Rewiring").
    ``l1`` or ``noise`` must be above 0.

    Attributes
    ----------
    every_steps : int
        Learning steps between two rewirings, >= 1; several times the interval between two spikes of a source, so that a new synapse has a
        chance to grow.
    l1 : float
        Pull towards 0 in every learning step, membrane units, >= 0 (the paper's eta alpha).
    noise : float
        Standard deviation of the random walk of the weight in one learning step, membrane units, >= 0 (the paper's sqrt(2 eta T)).
    """

    every_steps: int
    l1: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        _range("rewiring", "every_steps", self.every_steps, 1, 2**31 - 1)
        _range("rewiring", "l1", self.l1, 0.0, np.inf, open_high=True)
        _range("rewiring", "noise", self.noise, 0.0, np.inf, open_high=True)
        if self.l1 == 0.0 and self.noise == 0.0:
            raise InputError.of(
                "NC201",
                "rewiring.l1 and rewiring.noise are both 0: a synapse that has no gradient would neither end nor come back from weight 0",
                help="set l1 > 0, noise > 0 or both",
                field=("l1",),
            )


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
    weight_decay : float
        Share of the weight that is lost in every learning step, in [0, 1): when a synapse changes, n steps after its last change, the
        weight is first multiplied by (1 - weight_decay)^n (decoupled from the learning rate, as in AdamW).
    kappa_learning : KappaLearning, optional
        None: kappa stays.
    rewiring : Rewiring, optional
        None: synapses stay where they are.
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
    weight_decay: float = 0.0
    kappa_learning: KappaLearning | None = None
    rewiring: Rewiring | None = None

    def __post_init__(self) -> None:
        _range("eprop", "kappa", self.kappa, 0.0, 1.0, open_high=True)
        _range("eprop", "kappa_reg", self.kappa_reg, 0.0, 1.0, open_high=True)
        _range("eprop", "weight_decay", self.weight_decay, 0.0, 1.0, open_high=True)
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
        self._check_interval_2020()
        if self.kappa_learning is not None:
            self._check_kappa_learning(self.kappa_learning)
        if self.rewiring is not None:
            self._check_rewiring()

    def _check_interval_2020(self) -> None:
        if not isinstance(self.update, Interval2020):
            return
        later = {
            "weight_decay": self.weight_decay != 0.0,
            "kappa_learning": self.kappa_learning is not None,
            "rewiring": self.rewiring is not None,
            "feedback": isinstance(self.feedback, AdaptiveFeedback | ChainFeedback),
        }
        for name, given in later.items():
            if given:
                raise InputError.of(
                    "NC210",
                    f"eprop.{name} is not part of the original formulation of e-prop (update: interval_2020)",
                    help=f"use update: per_event or per_interval, or leave out {name}",
                    field=(name,),
                )

    def _check_kappa_learning(self, learnt: KappaLearning) -> None:
        low, high = learnt.bounds
        if not low <= self.kappa <= high:
            raise InputError.of(
                "NC201",
                f"eprop.kappa is {self.kappa:g}, must lie within kappa_learning.bounds {list(learnt.bounds)}",
                help="change kappa or the bounds",
                field=("kappa",),
            )
        if isinstance(self.optimizer, Adam) or self.optimizer.each_step or self.trace_cutoff_steps is not None:
            raise InputError.of(
                "NC210",
                "eprop.kappa_learning follows how a weight depends on kappa, which is known for gradient descent once an event without a "
                "trace cutoff only",
                help="use optimizer: gradient_descent without each_step, and leave out trace_cutoff",
                field=("kappa_learning",),
            )

    def _check_rewiring(self) -> None:
        low, high = self.weight_bounds
        if not self.sign_constraint or not low <= 0.0 <= high:
            raise InputError.of(
                "NC210",
                "eprop.rewiring needs sign_constraint: true, and weight_bounds that hold 0: a synapse ends where its weight reaches 0",
                help="set sign_constraint: true",
                field=("rewiring",),
            )
        if isinstance(self.optimizer, Adam) or self.optimizer.each_step:
            raise InputError.of(
                "NC210",
                "eprop.rewiring draws its noise once an event and knows gradient descent only",
                help="use optimizer: gradient_descent without each_step",
                field=("rewiring",),
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
