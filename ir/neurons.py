"""Neuron models: what a population computes, one update a step.

One convention for all models. In update step t, with ``input(t)`` the sum of the weights of all spikes that arrive in that step
(a spike emitted in step t over a delay of d steps arrives in step t + d):

    v <- a v + (1 - a) v_leak + bias + input(t)        a = exp(-dt / tau_mem)   (integration "exact")
                                                       a = 1 - dt / tau_mem     (integration "euler")

An input spike adds its weight to the membrane: NEST's delta input with C_m = 1 and E_L = 0. ``bias`` is added in every step.
Membrane quantities (v, weights, thresholds, bias) share one unit of the user's choice; times are seconds.
Names are NIR's (``LIF``, ``CubaLIF``, ``LI``): tau_mem, tau_syn, v_leak, v_threshold, v_reset.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, Param, frozen_array
from neurocompile.ir.errors import Diagnostic, InputError


class Reset(str, Enum):
    """What a spike does to the membrane.

    SUBTRACT: ``v -= v_threshold - v_leak`` in the step of the spike; the membrane goes on integrating while refractory, only spiking and
    the surrogate gradient are gated (NEST ``eprop_iaf``).
    TO_VALUE: ``v = v_reset``, and the membrane is clamped there while refractory, input lost (NEST ``eprop_iaf_psc_delta``).
    """

    SUBTRACT = "subtract"
    TO_VALUE = "to_value"


class Integration(str, Enum):
    """How a time constant becomes a decay per step: ``exp(-dt/tau)`` (EXACT) or ``1 - dt/tau`` (EULER, as NIR's platforms do)."""

    EXACT = "exact"
    EULER = "euler"


def _check(model: object, name: str, value: Param, *, low: float, strict: bool, finite: bool = True) -> Param:
    """Return ``value`` as a float or a read-only float64 array; raise InputError NC201/NC202/NC203 otherwise."""
    kind = type(model).__name__
    array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1:
        raise InputError.of("NC202", f"{kind}.{name} has shape {array.shape}: give one number or one per neuron", field=("params", name))
    if np.isnan(array).any() or (finite and not np.isfinite(array).all()):
        raise InputError.of("NC203", f"{kind}.{name} is not finite", field=("params", name))
    bad = array <= low if strict else array < low
    if np.any(bad):
        where = "" if array.ndim == 0 else f" at index {int(np.argmax(bad))}"
        worst = float(np.atleast_1d(array)[np.argmax(np.atleast_1d(bad))])
        raise InputError.of(
            "NC201", f"{kind}.{name} is {worst:g}{where}, must be {'>' if strict else '>='} {low:g}", field=("params", name)
        )
    return float(array) if array.ndim == 0 else frozen_array(array, np.float64)  # type: ignore[return-value]


def expand(value: Param, n: int) -> FloatArray:
    """Return a parameter as a read-only array of shape (n,)."""
    return frozen_array(np.broadcast_to(np.asarray(value, dtype=np.float64), (n,)), np.float64)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeuronModel:
    """Base of the neuron models. ``kind`` is the name in YAML files; each model lists its limits in ``_limits``."""

    kind: ClassVar[str] = ""
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {}
    """parameter -> (lower limit, limit excluded?, must be finite?)"""

    def __post_init__(self) -> None:
        found: list[Diagnostic] = []
        for name, (low, strict, finite) in self._limits.items():
            try:
                object.__setattr__(self, name, _check(self, name, getattr(self, name), low=low, strict=strict, finite=finite))
            except InputError as error:
                found.extend(error.diagnostics)
        if found:
            raise InputError(found)

    def array_lengths(self) -> dict[str, int]:
        """Return the length of every parameter that is given per neuron."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: len(value) for name, value in values.items() if isinstance(value, np.ndarray)}

    @property
    def spikes(self) -> bool:
        """Whether the model sends spikes."""
        return True

    @property
    def receives(self) -> bool:
        """Whether the model takes input."""
        return True


_ANY = -np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpikeSource(NeuronModel):
    """Neurons that repeat given spikes: those of ``--input``, of a task, or Poisson spikes.

    Attributes
    ----------
    rate : Param, optional
        Hz, >= 0. With a rate the source is Poisson (one Bernoulli draw a step) wherever no spikes are given for it.
    """

    kind: ClassVar[str] = "spike_source"
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {"rate": (0.0, False, True)}
    rate: Param = 0.0

    @property
    def receives(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LIF(NeuronModel):
    """Leaky integrate-and-fire with delta input (NIR ``LIF``; NEST ``eprop_iaf`` / ``eprop_iaf_psc_delta`` by ``reset``).

    Attributes
    ----------
    tau_mem : Param
        Membrane time constant, s, > 0 (infinite: no leak, NIR ``IF``).
    v_threshold : Param
        A spike is sent when v >= v_threshold and the neuron is not refractory.
    v_leak, v_reset, bias : Param
        Resting value, reset value (``reset: to_value`` only), and input added in every step; membrane units.
    v_min : Param
        Lower bound of the membrane (NEST ``V_min``).
    t_ref : Param
        Refractory time, s, >= 0: the shortest interval between spikes is max(1, t_ref / dt) steps (to_value: t_ref / dt + 1).
    """

    kind: ClassVar[str] = "lif"
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {
        "tau_mem": (0.0, True, False),
        "v_threshold": (_ANY, True, True),
        "v_leak": (_ANY, True, True),
        "v_reset": (_ANY, True, True),
        "bias": (_ANY, True, True),
        "v_min": (_ANY, False, False),
        "t_ref": (0.0, False, True),
    }
    tau_mem: Param
    v_threshold: Param
    v_leak: Param = 0.0
    v_reset: Param = 0.0
    bias: Param = 0.0
    v_min: Param = -np.inf
    t_ref: Param = 0.0
    reset: Reset = Reset.SUBTRACT
    integration: Integration = Integration.EXACT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ALIF(LIF):
    """LIF with an adaptive threshold (NEST ``eprop_iaf_adapt``): b <- rho b + z(t-1), threshold = v_threshold + adapt_beta b.

    ``rho = exp(-dt/adapt_tau)``; a reset by subtraction subtracts v_threshold, not the raised threshold.

    Attributes
    ----------
    adapt_beta : Param
        Rise of the threshold per spike, membrane units, >= 0.
    adapt_tau : Param
        Time constant of the adaptation, s, > 0.
    """

    kind: ClassVar[str] = "alif"
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {
        **LIF._limits,
        "adapt_beta": (0.0, False, True),
        "adapt_tau": (0.0, True, True),
    }
    adapt_beta: Param
    adapt_tau: Param


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CubaLIF(LIF):
    """Current-based LIF (NIR ``CubaLIF``): i <- s i + input(t), then v <- a v + (1-a) v_leak + bias + i.

    ``s = exp(-dt/tau_syn)`` (or 1 - dt/tau_syn with Euler). The current that a spike brings acts on the membrane in the same step.
    Weights are membrane units per step at the first step; NIR's gains r dt/tau and w_in dt/tau are folded into them by the reader.

    Attributes
    ----------
    tau_syn : Param
        Synaptic time constant, s, > 0.
    i_init : Param
        The current before step 0 (and after a reset of the network's state), membrane units.
    """

    kind: ClassVar[str] = "cuba_lif"
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {
        **LIF._limits,
        "tau_syn": (0.0, True, True),
        "i_init": (_ANY, True, True),
    }
    tau_syn: Param
    i_init: Param = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeakyReadout(NeuronModel):
    """Leaky integrator without spikes (NIR ``LI``; NEST ``eprop_readout``): its membrane is the network's output.

    With ``tau_syn`` > 0 the input is a current as in :class:`CubaLIF` (NIR ``CubaLI``).

    Attributes
    ----------
    tau_mem : Param
        s, > 0 (infinite: an integrator).
    v_leak, bias : Param
        As in :class:`LIF`.
    tau_syn : Param
        s, >= 0; 0 means delta input.
    i_init : Param
        With tau_syn: the current before step 0, as in :class:`CubaLIF`.
    """

    kind: ClassVar[str] = "leaky_readout"
    _limits: ClassVar[dict[str, tuple[float, bool, bool]]] = {
        "tau_mem": (0.0, True, False),
        "v_leak": (_ANY, True, True),
        "bias": (_ANY, True, True),
        "v_min": (_ANY, False, False),
        "tau_syn": (0.0, False, True),
        "i_init": (_ANY, True, True),
    }
    tau_mem: Param
    v_leak: Param = 0.0
    bias: Param = 0.0
    v_min: Param = -np.inf
    tau_syn: Param = 0.0
    i_init: Param = 0.0
    integration: Integration = Integration.EXACT

    @property
    def spikes(self) -> bool:
        return False


MODELS: dict[str, type[NeuronModel]] = {m.kind: m for m in (SpikeSource, LIF, ALIF, CubaLIF, LeakyReadout)}


def decay(tau: Param, dt: float, integration: Integration, n: int) -> FloatArray:
    """Return the decay factor per step, shape (n,), of time constants ``tau`` (s) at step ``dt`` (s); 0 where tau is 0."""
    values: npt.NDArray[np.float64] = expand(tau, n)
    with np.errstate(divide="ignore"):
        ratio = np.where(values > 0, dt / values, np.inf)
    return np.exp(-ratio) if integration is Integration.EXACT else np.maximum(1.0 - ratio, 0.0)


__all__ = [
    "ALIF",
    "LIF",
    "MODELS",
    "CubaLIF",
    "Integration",
    "LeakyReadout",
    "NeuronModel",
    "Param",
    "Reset",
    "SpikeSource",
    "decay",
    "expand",
]
