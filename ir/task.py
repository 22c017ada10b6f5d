"""What a network is for: the readout, the loss, and the data it learns from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from neurocompile.ir.errors import InputError


class Loss(str, Enum):
    """MEAN_SQUARED_ERROR: E = 1/2 sum (y - y*)^2, error y - y*. CROSS_ENTROPY: E = -sum y* log softmax(y), error softmax(y) - y*."""

    MEAN_SQUARED_ERROR = "mean_squared_error"
    CROSS_ENTROPY = "cross_entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCritic:
    """Learning from reward (reward-based e-prop, Bellec et al. 2020; docs/eprop.md, "Reward").

    The readout is a policy: in every step of the window an action a is drawn from softmax(y); its reward is ``target[t, a]`` of the
    signal, to which the signal may add the ``reward`` of an environment. A second readout, the critic, estimates the discounted reward to
    come; the third factor of the e-prop synapses onto hidden neurons, policy and critic is the temporal-difference error.

    Attributes
    ----------
    critic : str
        Name of a ``leaky_readout`` population of size 1.
    discount : float
        gamma of one step, in [0, 1).
    critic_weight : float
        Weight of the critic's error beside the policy's, >= 0.
    reward_delay_steps : int
        Steps between an action and its reward, >= 0.
    """

    critic: str
    discount: float = 0.99
    critic_weight: float = 0.5
    reward_delay_steps: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount < 1.0:
            raise InputError.of("NC201", f"actor_critic.discount is {self.discount:g}, must lie in [0, 1)", field=("discount",))
        if not 0.0 <= self.critic_weight < float("inf"):
            raise InputError.of(
                "NC201", f"actor_critic.critic_weight is {self.critic_weight:g}, must be >= 0 and finite", field=("critic_weight",)
            )
        if not 0 <= self.reward_delay_steps < 2**20:
            raise InputError.of(
                "NC201",
                f"actor_critic.reward_delay is {self.reward_delay_steps} steps, must lie in 0 .. {2**20 - 1}",
                field=("reward_delay_steps",),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set that ``train`` and ``evaluate`` turn into events.

    Attributes
    ----------
    kind : str
        ``digits`` (scikit-learn's 1,797 digits, no file needed) or ``nmnist`` (folder in the data set's own layout).
    path : str, optional
        Absolute path of the data, where the kind needs one.
    options : dict
        Encoder settings of the kind, as in its section of the YAML file (docs/tasks.md).
    """

    kind: str
    path: str | None = None
    options: dict[str, float | int | str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Task of a network.

    Attributes
    ----------
    readout : str
        Name of a ``leaky_readout`` population.
    loss : Loss or ActorCritic
    input : str, optional
        The spike source that the data drives; None: the only one.
    data : DataSet, optional
        None: the user gives spikes and signals (``simulate``).
    sample_steps : int
        Length of a sample in steps, >= 1 (data sets only).
    learning_window_steps : int, optional
        Errors count in the last so many steps of a sample; None: in all.
    epochs : int
        Default of ``train --epochs``.
    """

    readout: str
    loss: Loss | ActorCritic = Loss.MEAN_SQUARED_ERROR
    input: str | None = None
    data: DataSet | None = None
    sample_steps: int = 100
    learning_window_steps: int | None = None
    epochs: int = 10

    def __post_init__(self) -> None:
        for name in ("sample_steps", "epochs"):
            if getattr(self, name) < 1:
                raise InputError.of("NC201", f"task.{name} is {getattr(self, name)}, must be >= 1", field=(name,))
        window = self.learning_window_steps
        if window is not None and not 1 <= window <= self.sample_steps:
            raise InputError.of(
                "NC201", f"task.learning_window is {window} steps, must lie in 1 .. {self.sample_steps}", field=("learning_window",)
            )
