"""The neurons of a population in s16.15, as sPyNNaker's combined and neuron binaries compute them (docs/spinnaker.md, "The twin")."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker import accum
from neurocompile.backends.spinnaker.accum import multiply, wrap
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.ir._types import IntArray
from neurocompile.ir.npz import AnyArray

EXCITATORY, INHIBITORY = 0, 1
_V, _TIMER, _EXC, _INH, _CA2 = range(5)
"""Columns of a neuron's state"""
REFRACTORY_MAX = 1 << 17
"""No refractory time has more steps: tau_refrac is s16.15 in ms, a step at least 0.1 ms, and the count ends at 2^16."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constants:
    """What a core makes of a cell's parameters when it starts, one number a neuron (s16.15 unless said otherwise).

    membrane : (6, n): resistance, decay, v_rest, v_reset, v_thresh, i_offset; silent : (n,) steps; first : (5, n) the state at tick 0;
    delta : whether an input lasts for its tick alone; scale : what such an input is multiplied by (1 / step in ms);
    current : (4, n) decay and initial factor of both currents, units of 2^-32; ca2 : (2, n) decay, i_alpha.
    """

    membrane: IntArray
    silent: IntArray
    first: IntArray
    delta: bool
    scale: int
    current: IntArray
    ca2: IntArray


def constants(cell: Cell, dt_ms: float) -> Constants:
    """Return the constants of a population's neurons. dt_ms : time step."""
    n = cell.size
    written = {name: np.broadcast_to(accum.encode(value), (n,)) for name, value in cell.params.items()}
    step = int(accum.encode(dt_ms))
    exponential, adaptive = cell.cell == "IF_curr_exp", cell.cell == "IF_curr_delta_ca2_adaptive"
    refractory = accum.divide(written["tau_refrac"], step)
    membrane = [
        accum.divide(written["tau_m"], written["cm"]),
        accum.exponential(-accum.divide(step, written["tau_m"])),
        *(written[name] for name in ("v_rest", "v_reset", "v_thresh", "i_offset")),
    ]
    current = np.zeros((4, n), np.int64)
    first = np.zeros((5, n), np.int64)
    first[_V] = written["v_init"]
    if exponential:
        for number, receptor in enumerate(("E", "I")):
            tau = written[f"tau_syn_{receptor}"]
            decay = accum.exponential_fraction(-accum.divide(step, tau))
            rest = 2**32 - 1 - decay  # the largest fraction of 32 bits stands for 1
            current[2 * number] = decay
            current[2 * number + 1] = (accum.divide(tau, step) * rest >> accum.BITS) & 0xFFFFFFFF
        first[_EXC], first[_INH] = written["isyn_exc"], written["isyn_inh"]
    ca2 = np.zeros((2, n), np.int64)
    if adaptive:
        ca2[0] = accum.exponential(-accum.divide(step, written["tau_ca2"]))
        ca2[1] = written["i_alpha"]
    return Constants(
        membrane=np.ascontiguousarray(membrane, np.int64),
        silent=-(-refractory >> accum.BITS),
        first=first,
        delta=not exponential,
        scale=int(accum.divide(accum.ONE, step)),
        current=current,
        ca2=ca2,
    )


@numba.njit(cache=True, nogil=True)
def _update(
    arrived: npt.NDArray[np.uint16],
    shift: IntArray,
    membrane: IntArray,
    silent: IntArray,
    delta: bool,
    scale: int,
    current: IntArray,
    ca2: IntArray,
    state: IntArray,
    spiked: IntArray,
) -> int:
    """Advance all neurons by a tick and clear what arrived (2, n); write those that spike and return how many."""
    count = 0
    n = state.shape[1]
    for i in range(n):
        exc = wrap(np.int64(arrived[0, i]) << shift[0])
        inh = wrap(np.int64(arrived[1, i]) << shift[1])
        arrived[0, i] = 0
        arrived[1, i] = 0
        if delta:
            drive = multiply(exc, scale) - multiply(inh, scale)
        else:
            state[_EXC, i] = wrap(state[_EXC, i] + (exc * current[1, i] >> 32))
            state[_INH, i] = wrap(state[_INH, i] + (inh * current[3, i] >> 32))
            drive = state[_EXC, i] - state[_INH, i]
        state[_CA2, i] = multiply(state[_CA2, i], ca2[0, i])
        if state[_TIMER, i] <= 0:
            alpha = wrap(multiply(wrap(drive - state[_CA2, i] + membrane[5, i]), membrane[0, i]) + membrane[2, i])
            state[_V, i] = wrap(alpha - multiply(membrane[1, i], wrap(alpha - state[_V, i])))
        else:
            state[_TIMER, i] -= 1
        if state[_V, i] >= membrane[4, i]:
            state[_V, i] = membrane[3, i]
            state[_TIMER, i] = silent[i]
            state[_CA2, i] = wrap(state[_CA2, i] + ca2[1, i])
            spiked[count] = i
            count += 1
        if not delta:
            state[_EXC, i] = state[_EXC, i] * current[0, i] >> 32
            state[_INH, i] = state[_INH, i] * current[2, i] >> 32
    return count


class Neurons:
    """The neurons of a population. state : (5, n): membrane, refractory steps left, both currents, adaptation."""

    def __init__(self, cell: Cell, dt_ms: float, shift: IntArray) -> None:
        self.constants = constants(cell, dt_ms)
        self.state = self.constants.first.copy()
        self._shift = shift.astype(np.int64)
        self._spiked = np.empty(cell.size, np.int64)

    def step(self, arrived: npt.NDArray[np.uint16]) -> IntArray:
        """Advance by a tick with the ring buffer's slot of this tick (2, n), which is cleared; return the neurons that spike."""
        c = self.constants
        count = _update(
            arrived, self._shift, c.membrane, c.silent, c.delta, c.scale, c.current, c.ca2, self.state, self._spiked
        )  # fmt: skip
        return self._spiked[:count].copy()

    @property
    def membrane(self) -> IntArray:
        """Membranes, s16.15."""
        values: IntArray = self.state[_V]
        return values

    def reset(self) -> None:
        """Go back to the first tick's state."""
        self.state[:] = self.constants.first

    def check(self, state: AnyArray) -> None:
        """Raise ValueError unless all numbers are words of 32 bits and refractory times are possible."""
        words, timer = np.asarray(state), np.asarray(state)[_TIMER]
        if words.size and (words.min() < -(2**31) or words.max() >= 2**31 or timer.min() < 0 or timer.max() > REFRACTORY_MAX):
            raise ValueError("neurons hold numbers that no core holds")
