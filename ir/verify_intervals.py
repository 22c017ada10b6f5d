"""What the original formulation of e-prop asks of a whole network (``update: interval_2020``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import Diagnostic
from neurocompile.ir.learning import EProp, Interval2020, LearningRule
from neurocompile.ir.neurons import LIF, CubaLIF, LeakyReadout, NeuronModel, Reset
from neurocompile.ir.values import Constant, Uniform, Values

if TYPE_CHECKING:
    from neurocompile.ir.network import Network, Projection


def verify_intervals(network: Network) -> Iterator[Diagnostic]:
    """Yield what keeps a network from running in update intervals; nothing if no rule that it uses asks for them."""
    names = dict.fromkeys(p.learning for p in network.projections)
    used = [rule for rule in network.rules if rule.name in names]
    first = next((rule for rule in used if _update(rule) is not None), None)
    if first is None:
        return
    for rule in used:
        if _update(rule) != _update(first):
            yield Diagnostic(
                code="NC210",
                message=f"rule '{rule.name}' has another update than '{first.name}': update intervals (interval_2020) belong to the whole "
                "network, whose neurons start anew with each",
                help=f"give '{rule.name}' the same update as '{first.name}', or make its projections static",
                field=("rules", rule.name, "update"),
            )
    for population in network.populations:
        why = _why_not(population.model)
        if why is not None:
            yield Diagnostic(
                code="NC210",
                message=f"population '{population.name}': {why}, which the original formulation of e-prop (interval_2020) does not have",
                help="use lif or alif with reset: subtract, and leaky_readout without tau_syn; or update: per_event",
                field=("populations", population.name, "model"),
            )
    for index, projection in enumerate(network.projections):
        if projection.learning in {rule.name for rule in used} and not _one_step(projection):
            yield Diagnostic(
                code="NC209",
                message=f"projection '{projection.name}': in the original formulation of e-prop (interval_2020) plastic synapses have a "
                f"delay of one step ({network.dt * 1e3:g} ms)",
                help="set delay to dt, leave out 'learning', or use update: per_event",
                field=("projections", index, "delay"),
            )
    if network.task is not None and network.task.data is not None and network.task.data.options.get("reset_between_samples"):
        yield Diagnostic(
            code="NC210",
            message="task: reset_between_samples would cut the update intervals (interval_2020), whose last steps run into the next sample",
            help="leave it out: reset_neurons starts each interval anew",
            field=("task", "data"),
        )


def _one_step(projection: Projection) -> bool:
    explicit = projection.connect.delay if isinstance(projection.connect, Explicit) else None
    if explicit is not None:
        return bool(np.all(explicit == 1))
    delay = projection.delay
    if isinstance(delay, Values):
        return bool(np.all(delay.values == 1.0))
    return delay in (Constant(value=1.0), Uniform(low=1.0, high=1.0))


def _update(rule: LearningRule) -> Interval2020 | None:
    if not isinstance(rule, EProp) or not isinstance(rule.update, Interval2020):
        return None
    return replace(rule.update, learning_window_steps=rule.update.window_steps)


def _why_not(model: NeuronModel) -> str | None:
    if isinstance(model, CubaLIF) or (isinstance(model, LeakyReadout) and model.tau_syn != 0.0):
        return f"a {model.kind} with a synaptic current"
    if isinstance(model, LIF) and model.reset is not Reset.SUBTRACT:
        return f"a {model.kind} that is reset to a value"
    return None
