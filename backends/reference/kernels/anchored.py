"""Event-driven e-prop without a history: constant time per synaptic event, whatever the interval (docs/eprop.md, "Anchored form").

Between two spikes of its source the state of a synapse (zbar, epsilon, ebar, ebar_reg, g) changes linearly, by coefficients that depend
on the target alone. Every target therefore keeps the response of each to a unit state at a common step, the anchor b; a synapse keeps its
state extrapolated back to b, and its state at any later step is one dot product. With n = steps since the anchor:

    zbar     = z~ a^n                          eps = q~ m + z~ Aq
    ebar     = e~ k^n  + z~ A + q~ Ae          ebar_reg = r~ kr^n + z~ B + q~ Be
    gradient = g~ + e~ C + r~ D + z~ E + q~ Eq

The gradient lags one step behind the traces: the error of step t completes L(t-1). A spike that arrives in step t meets the traces after
index t-1 and the gradient after index t-2, which is where the update of step t stops reading. Since the traces are continuous there,
nothing needs to be corrected when index t-1 enters the gradient. zbar alone jumps (the spike enters at index t: a^-(n+1) at the anchor);
what that does to the other traces is taken back: JUMP, JUMP_REG, JUMP_EPS of the target's row. A readout's gradient reads zbar itself, so
its JUMP takes back err(t-1) / a.

Learning from reward filters gradients with the discount gamma before the temporal-difference error delta acts on them. The filtered
gradient G is one more linear state, which lags as the gradient does. What a G of 1 at the anchor has added to g is X, the same for all
targets of a group (``reach``):

    G = gamma^n G~ + e~ P + z~ Q + q~ Qe                    g = g~ + ... + G~ X
    at the end of step t:  X += delta gamma^n    C += delta P    E += delta Q    Eq += delta Qe    (delta of step t-1, known since t)
                           P <- gamma P + L k^n    Q <- gamma Q + L A    Qe <- gamma Qe + L Ae

A spike leaves G where it was: its JUMP is -(dz Q + de P + dq Qe) gamma^-n. A readout's index enters G before delta acts: first
Q <- gamma Q + err a^n, then E += delta Q, X += delta gamma^(n+1); and since G reads zbar itself, its JUMP also takes back
err(t-1) / a gamma^-(n+1).

Powers of 1/a and 1/k grow with n, so synapses are moved to a new anchor from time to time (``sweep``), or sooner where adaptive neurons
make m small. Most of them are not moved then but when their source spikes next (LATE): the coefficients of the window before are kept for
one window, and only what no spike has touched for all of it is moved by the next sweep. Groups with more state than the plain one are moved
at once. Synapses whose source has been silent for so long that their traces are below the precision are finished and not visited again.

The kernels by concern: ``anchored_rows`` (one spike on a row of synapses), ``anchored_deliver``, ``anchored_sweep``, ``anchored_signals``
and ``anchored_absorb``.
"""

from neurocompile.backends.reference.kernels.anchored_absorb import absorb, reach
from neurocompile.backends.reference.kernels.anchored_deliver import deliver, flush, mark_arrivals
from neurocompile.backends.reference.kernels.anchored_rows import AHEAD
from neurocompile.backends.reference.kernels.anchored_signals import chain
from neurocompile.backends.reference.kernels.anchored_sweep import move_anchor, settle, sweep

__all__ = ["AHEAD", "absorb", "chain", "deliver", "flush", "mark_arrivals", "move_anchor", "reach", "settle", "sweep"]
