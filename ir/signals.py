"""What goes into a network at run time: input spikes, and the signals that a readout is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompile.ir._types import BoolArray, FloatArray, Int32Array, IntArray, frozen_array
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, load_npz


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spikes:
    """Spikes of one population, sorted by step, then neuron.

    neuron : int32 (m,), index within the population; step : int64 (m,), >= 0. A spike at step s is integrated by a target behind
    delay d in update step s + d.
    """

    neuron: Int32Array
    step: IntArray

    def __post_init__(self) -> None:
        neuron, step = np.asarray(self.neuron), np.asarray(self.step)
        if neuron.ndim != 1 or neuron.shape != step.shape:
            raise InputError.of(
                "NC202", f"spikes: 'neuron' has shape {neuron.shape}, 'step' has {step.shape}; both are 1-D of equal length"
            )
        for name, values in (("neuron", neuron), ("step", step)):
            if values.size and not np.issubdtype(values.dtype, np.integer):
                raise InputError.of("NC202", f"spikes: '{name}' holds {values.dtype}, must hold integers")
            if values.size and values.min() < 0:
                raise InputError.of("NC204", f"spikes: {name}[{int(values.argmin())}] is {values.min()}, must be >= 0")
            largest = np.iinfo(np.int32 if name == "neuron" else np.int64).max
            if values.size and values.max() > largest:  # a conversion would wrap around to another neuron
                raise InputError.of("NC204", f"spikes: {name}[{int(values.argmax())}] is {values.max()}, at most {largest} is possible")
        order = np.lexsort((neuron, step))
        object.__setattr__(self, "neuron", frozen_array(neuron[order], np.int32))
        object.__setattr__(self, "step", frozen_array(step[order], np.int64))

    @classmethod
    def load(cls, path: str | Path, *, size: int) -> Spikes:
        """Read spikes.npz (1-D ints ``neuron``, ``step``) for a population of ``size`` neurons."""
        arrays = _need(path, ("neuron", "step"))
        try:
            spikes = cls(neuron=arrays["neuron"], step=arrays["step"])  # type: ignore[arg-type]
        except InputError as error:
            raise _in_file(error, path) from None
        if spikes.neuron.size and int(spikes.neuron.max()) >= size:
            raise InputError.of(
                "NC204",
                f"neuron {int(spikes.neuron.max())} spikes, but the population has {size} neurons",
                file=str(path),
                help=f"indices count from 0 to {size - 1}",
            )
        return spikes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signal:
    """What a readout is compared with.

    target : float64 (n_steps, n_readout), membrane units (class probabilities for cross-entropy, the rewards of actions for
    actor_critic); row t is compared with the readout in update step t. window : bool (n_steps,), where errors count and actions are drawn.
    reward : float64 (n_steps,), optional: what an environment gives in each step, beside the rewards of ``target`` (actor_critic only).
    """

    target: FloatArray
    window: BoolArray
    reward: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("target", "window", "reward"):
            given = np.asarray(0.0 if getattr(self, name) is None else getattr(self, name))
            if given.dtype.kind not in "iufb":
                raise InputError.of("NC202", f"signal: '{name}' holds {given.dtype}, must hold numbers")
        target, window = frozen_array(self.target, np.float64), frozen_array(self.window, np.bool_)
        if target.ndim != 2 or window.shape != target.shape[:1]:
            raise InputError.of(
                "NC202",
                f"signal: 'target' has shape {target.shape}, 'window' has {window.shape}; expected (n_steps, n_readout) and (n_steps,)",
            )
        if not np.isfinite(target).all():
            row = int(np.argwhere(~np.isfinite(target))[0, 0])
            raise InputError.of("NC203", f"signal: target row {row} is not finite")
        if self.reward is not None:
            reward = frozen_array(self.reward, np.float64)
            if reward.shape != window.shape:
                raise InputError.of("NC202", f"signal: 'reward' has shape {reward.shape}, expected {window.shape}, one number a step")
            if not np.isfinite(reward).all():
                raise InputError.of("NC203", f"signal: reward {int(np.argmin(np.isfinite(reward)))} is not finite")
            object.__setattr__(self, "reward", reward)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "window", window)

    def part(self, start: int, stop: int) -> Signal:
        """Return the rows start .. stop-1."""
        reward = None if self.reward is None else self.reward[start:stop]
        return Signal(target=self.target[start:stop], window=self.window[start:stop], reward=reward)

    @classmethod
    def load(cls, path: str | Path, *, size: int) -> Signal:
        """Read signal.npz (``target`` (n_steps, n_readout) float, ``window`` (n_steps,) bool; window absent: everywhere; ``reward``
        (n_steps,) float, may be absent)."""
        arrays = _need(path, ("target",))
        target = np.asarray(arrays["target"])
        window = arrays.get("window", np.ones(target.shape[:1], np.bool_))
        try:
            signal = cls(target=target, window=window, reward=arrays.get("reward"))  # type: ignore[arg-type]
        except InputError as error:
            raise _in_file(error, path) from None
        if signal.target.shape[1] != size:
            raise InputError.of("NC202", f"'target' has {signal.target.shape[1]} columns, the readout has {size} neurons", file=str(path))
        return signal


def _need(path: str | Path, names: tuple[str, ...]) -> dict[str, AnyArray]:
    arrays = load_npz(path)
    missing = [n for n in names if n not in arrays]
    if missing:
        raise InputError.of("NC107", f"has no array '{missing[0]}' (it has: {', '.join(sorted(arrays)) or 'none'})", file=str(path))
    return arrays


def _in_file(error: InputError, path: str | Path) -> InputError:
    first = error.diagnostics[0]
    return InputError.of(first.code, first.message, file=str(path), help=first.help)  # type: ignore[return-value]
