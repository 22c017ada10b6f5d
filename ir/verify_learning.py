"""What learning rules and losses ask of a whole network, beside update intervals (``verify_intervals``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from neurocompile.ir.connectivity import DistanceDependent
from neurocompile.ir.errors import Diagnostic, did_you_mean
from neurocompile.ir.feedback import AdaptiveFeedback, ChainFeedback
from neurocompile.ir.learning import EProp
from neurocompile.ir.neurons import LeakyReadout
from neurocompile.ir.task import ActorCritic

if TYPE_CHECKING:
    from neurocompile.ir.network import Network, Population, Projection


def readout_distance(network: Network) -> dict[str, int]:
    """Return how many projections lie between a population and the task's readout (or the critic) at least, by name: 0 the readout, 1 those
    that reach it, ...; populations without a way to it are absent."""
    if network.task is None:
        return {}
    frontier = [network.task.readout, *([network.task.loss.critic] if isinstance(network.task.loss, ActorCritic) else [])]
    found = dict.fromkeys(frontier, 0)
    while frontier:
        near = set(frontier)
        frontier = []
        for projection in network.synaptic_projections:
            if projection.post in near and projection.pre not in found:
                found[projection.pre] = found[projection.post] + 1
                frontier.append(projection.pre)
    return found


def chain_projections(network: Network, population: str) -> tuple[Projection, ...]:
    """Return the projections whose synapses carry learning signals back to a population with feedback through the chain."""
    distance = readout_distance(network)
    if population not in distance:
        return ()
    nearer = distance[population] - 1
    return tuple(p for p in network.synaptic_projections if p.pre == population and distance.get(p.post) == nearer)


def verify_learning(network: Network, populations: Mapping[str, Population]) -> Iterator[Diagnostic]:
    """Yield what keeps rules and losses from working in a network whose names are all known."""
    task = network.task
    if task is not None and isinstance(task.loss, ActorCritic):
        yield from _verify_critic(network, populations, task.loss, task.readout)
    for rule in network.rules:
        if isinstance(rule, EProp):
            yield from _verify_feedback(network, populations, rule)
            yield from _verify_rewiring(network, rule)
            if rule.kappa_learning is not None and task is not None and isinstance(task.loss, ActorCritic):
                yield Diagnostic(
                    code="NC210",
                    message=f"rule '{rule.name}': kappa_learning does not go with actor_critic: how the filtered gradient depends on "
                    "kappa is not computed",
                    help="use a fixed kappa",
                    field=("rules", rule.name, "kappa_learning"),
                )


def _verify_critic(network: Network, populations: Mapping[str, Population], loss: ActorCritic, readout: str) -> Iterator[Diagnostic]:
    place = ("task", "loss", "critic")
    critic = populations.get(loss.critic)
    if critic is None:
        yield Diagnostic(
            code="NC207", message=f"task: critic '{loss.critic}' does not exist", help=did_you_mean(loss.critic, populations), field=place
        )
        return
    why = None
    if not isinstance(critic.model, LeakyReadout):
        why = f"is a {critic.model.kind}, must be a leaky_readout"
    elif critic.size != 1:
        why = f"has {critic.size} neurons, must have one"
    elif critic.name == readout:
        why = "is the readout itself, which is the policy"
    if why is not None:
        yield Diagnostic(
            code="NC210",
            message=f"task: critic '{critic.name}' {why}",
            help="add a population {model: leaky_readout, size: 1} that hears the hidden neurons",
            field=place,
        )
    if network.interval_2020 is not None:
        yield Diagnostic(
            code="NC210",
            message="task: actor_critic does not go with the original formulation of e-prop (interval_2020): its third factor belongs to "
            "steps, not to intervals",
            help="use update: per_event or per_interval",
            field=("task", "loss"),
        )


def _verify_feedback(network: Network, populations: Mapping[str, Population], rule: EProp) -> Iterator[Diagnostic]:
    place, task = ("rules", rule.name, "feedback"), network.task
    if task is None or not isinstance(rule.feedback, AdaptiveFeedback | ChainFeedback):
        return
    hidden = {
        p.post
        for p in network.synaptic_projections
        if p.learning == rule.name and p.post in populations and not isinstance(populations[p.post].model, LeakyReadout)
    }
    chain = isinstance(rule.feedback, ChainFeedback)
    weights = rule.feedback.weights if isinstance(rule.feedback, ChainFeedback) else rule.feedback
    distance = readout_distance(network)
    for name in sorted(hidden):
        carriers = chain_projections(network, name)
        if chain and not carriers:
            yield Diagnostic(
                code="NC210",
                message=f"rule '{rule.name}': no way leads from '{name}' to the readout '{task.readout}', so feedback through the chain "
                "never reaches it",
                help="connect it, or use feedback: {random: SPEC}, which reaches every population",
                field=place,
            )
        for projection in carriers if chain else ():
            if distance[projection.post] != 0 and not _learns(network, projection.post):
                yield Diagnostic(
                    code="NC210",
                    message=f"rule '{rule.name}': feedback through the chain reaches '{name}' through '{projection.post}', whose neurons "
                    "have no learning signal, since no projection to it learns by e-prop",
                    help=f"let a projection to '{projection.post}' learn by e-prop (learning_rate: 0 leaves its weights alone), or use "
                    "feedback: {random: SPEC}",
                    field=place,
                )
        if not isinstance(weights, AdaptiveFeedback):
            continue
        for projection in carriers if chain else [p for p in carriers if distance[p.post] == 0]:
            by = next((r for r in network.rules if r.name == projection.learning), None)
            if not isinstance(by, EProp) or by.weight_decay == 0.0:
                why = "is static" if by is None else f"learns by '{by.name}', which has no weight_decay"
                yield Diagnostic(
                    code="NC210",
                    message=f"rule '{rule.name}': adaptive feedback follows the weights of '{projection.name}', which {why}: the two would "
                    "never align",
                    help="give its e-prop rule a weight_decay > 0, for example 1e-5, or use random or symmetric feedback",
                    field=place,
                )


def _learns(network: Network, population: str) -> bool:
    """Return whether some projection to a population learns by e-prop."""
    rules = {rule.name for rule in network.rules if isinstance(rule, EProp)}
    return any(p.post == population and p.learning in rules for p in network.synaptic_projections)


def _verify_rewiring(network: Network, rule: EProp) -> Iterator[Diagnostic]:
    if rule.rewiring is None:
        return
    for index, projection in enumerate(network.projections):
        if projection.learning == rule.name and isinstance(projection.connect, DistanceDependent):
            yield Diagnostic(
                code="NC210",
                message=f"projection '{projection.name}': rewiring draws new pairs evenly, so distance_dependent connectivity would fade",
                help="use another connect rule, or leave out rewiring",
                field=("projections", index, "connect"),
            )
        if projection.learning == rule.name and any(projection in carriers for carriers in _path_projections(network)):
            yield Diagnostic(
                code="NC210",
                message=f"projection '{projection.name}': its synapses carry adaptive feedback or feedback through the chain, and cannot "
                "be rewired",
                help="use feedback: symmetric or {random: SPEC}, or leave out rewiring",
                field=("rules", rule.name, "rewiring"),
            )


def _path_projections(network: Network) -> Iterator[tuple[Projection, ...]]:
    """Yield the projections whose synapses carry learning signals one by one."""
    for projection in network.synaptic_projections:
        rule = next((r for r in network.rules if r.name == projection.learning), None)
        if isinstance(rule, EProp) and isinstance(rule.feedback, AdaptiveFeedback | ChainFeedback):
            yield chain_projections(network, projection.post)
