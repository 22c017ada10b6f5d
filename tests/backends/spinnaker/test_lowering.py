"""Learning rules, number formats, cost, and every refusal of the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions, Target
from neurocompile.backends.spinnaker import TARGET
from neurocompile.backends.spinnaker.lowering import resolution
from neurocompile.ir import (
    ALIF,
    LIF,
    RSTDP,
    STDP,
    CubaLIF,
    EProp,
    Explicit,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    SpikeSource,
)
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import DoesNotFitError, ExitCode, InputError, UnsupportedError
from neurocompile.ir.neurons import Reset
from neurocompile.ir.realise import realise_all
from neurocompile.machine import Machine, load_machine
from neurocompile.mapping import MapOptions, map_network

STAND_IN = {"eprop": "r_stdp"}
HARD: dict[str, Any] = {"v_threshold": 0.03, "reset": Reset.TO_VALUE}


def codes(error: pytest.ExceptionInfo[Any]) -> list[str]:
    assert all(d.help for d in error.value.diagnostics)
    return [d.code for d in error.value.diagnostics]


def test_target_is_complete() -> None:
    assert isinstance(TARGET, Target)
    assert TARGET.sdk_versions()["spynnaker"] is not None
    assert "NC325" in TARGET.capabilities()["eprop, --set eprop=r_stdp or static"]
    assert {f"NC32{i}" for i in range(10)} | {"NC340", "NC341", "NC620", "NC621"} <= set(CODES)


def test_static_network_needs_no_approximation(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    network, connections = build()
    lowered = TARGET.lower(network, connections, spin5, strict)
    assert lowered.approximations == ()
    assert lowered.split.tolist() == [0, 0, 0, 0]
    assert lowered.steps == 30


def test_stdp_keeps_amplitudes_and_bounds(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    rule = STDP(a_plus=0.02, a_minus=0.03, weight_bounds=(0.01, 0.2), tau_plus=0.01)
    network, connections = build(rule=rule, mean=0.1)
    (made,) = TARGET.lower(network, connections, spin5, approximate).learning.rules
    scale = 512.0  # threshold 0.03 -> 15.36, in (8, 16]
    assert (made.w_min, made.w_max) == pytest.approx((0.01 * scale, 0.2 * scale))
    longer, shorter = np.exp(1 / 10), np.exp(-1 / 20)  # the delay of a step, which sPyNNaker leaves out of its pairs
    assert (made.a_plus, made.a_minus) == pytest.approx((0.02 * made.w_max * longer, 0.03 * made.w_max * shorter))
    assert (made.tau_plus, made.tau_minus) == (10.0, 20.0)
    network, connections = build(rule=STDP(multiplicative=True, a_plus=0.02, weight_bounds=(0.0, 0.2)), mean=0.1)
    lowered = TARGET.lower(network, connections, spin5, approximate)
    assert lowered.learning.rules[0].a_plus == pytest.approx(0.02 * np.exp(1 / 20))
    assert lowered.split.tolist() == [0, 1, 0, 0]  # no combined binary for multiplicative STDP on delta input


def test_reward_modulation(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    rule = RSTDP(reward="rew", weight_bounds=(0.0, 0.2), tau_c=0.5, tau_d=0.1, reward_weight=-0.25)
    network, connections = build(rule=rule, mean=0.1)
    lowered = TARGET.lower(network, connections, spin5, approximate)
    (m,) = lowered.learning.modulations
    assert (m.pre, m.post, m.receptor, m.weight, m.tau_c, m.tau_d) == ("rew", "hid", "punishment", 4 / 2048, 500.0, 100.0)
    assert lowered.split.tolist() == [0, 1, 0, 0]
    assert lowered.problem is not None
    assert lowered.problem.core_width.tolist() == [1, 2, 1, 1]
    assert "not e-prop" in lowered.summary["learning"][0]["rule"]


def test_eprop_runs_on_cores_of_our_own_unless_told_otherwise(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    feedback = RandomFeedback(weight=Normal(mean=0.0, std=1.0))
    network, connections = build(model=LIF(tau_mem=0.02, v_threshold=0.03), rule=EProp(feedback=feedback), readout=True)
    lowered = TARGET.lower(network, connections, spin5, strict)
    assert lowered.eprop is not None
    assert {c.cell for c in lowered.cells} == {"source", "eprop"}
    assert lowered.approximations == ()
    note, *ends = lowered.summary["notes"]
    assert all("weights into" in n for n in ends)
    assert "binaries" in note


def test_what_cores_of_our_own_refuse_names_the_stand_ins(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    taus = np.linspace(0.01, 0.02, 20)
    network, connections = build(model=LIF(tau_mem=taus, v_threshold=0.03), rule=EProp(), readout=True)
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, spin5, strict)
    assert codes(error) == ["NC327"]
    assert "--set eprop=r_stdp" in str(error.value.diagnostics[0].help)
    frozen = TARGET.lower(network, connections, spin5, replace(strict, learning=False))  # of learning, what is not used is not refused
    assert frozen.eprop is not None
    assert not frozen.eprop.learns
    assert frozen.approximations == ()


def test_eprop_is_refused_and_approximated(
    build: Callable[..., Any], spin5: Machine, strict: BuildOptions, approximate: BuildOptions
) -> None:
    network, connections = build(model=LIF(tau_mem=0.02, v_threshold=0.03), rule=EProp(), readout=True)
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, spin5, replace(strict, extra=STAND_IN))
    assert set(codes(error)) == {"NC322", "NC325", "NC326"}
    lowered = TARGET.lower(network, connections, spin5, replace(approximate, extra=STAND_IN))
    assert [m.receptor for m in lowered.learning.modulations] == ["reward", "punishment"]
    assert lowered.learning.plastic == {"in->hid": 0}  # the readout's weights are static
    assert [c.name for c in lowered.cells][-2:] == ["eprop_reward", "eprop_punishment"]
    assert lowered.problem is not None
    assert lowered.problem.n_neurons == network.n_neurons + 2
    text = " ".join(a.effect for a in lowered.approximations)
    assert "this is not e-prop" in text
    frozen = TARGET.lower(network, connections, spin5, BuildOptions(allow_approximation=True, extra={"eprop": "static"}))
    assert frozen.learning.rules == ()
    assert [c.name for c in frozen.cells] == ["in", "hid", "out", "rew"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": ALIF(tau_mem=0.02, v_threshold=0.03, adapt_beta=0.1, adapt_tau=0.2, reset=Reset.TO_VALUE)}, {"NC324"}),
        ({"model": LIF(tau_mem=0.02, v_threshold=0.03)}, {"NC322"}),
        ({"model": LIF(tau_mem=0.02, v_threshold=0.03, v_min=-1.0, reset=Reset.TO_VALUE)}, {"NC323"}),
        ({"model": LIF(tau_mem=np.inf, v_threshold=0.03, reset=Reset.TO_VALUE)}, {"NC328"}),
        ({"model": ALIF(tau_mem=0.02, v_threshold=0.03, adapt_beta=0.1, adapt_tau=0.2)}, {"NC322", "NC324"}),
        ({"model": LIF(tau_mem=0.02, v_threshold=0.03, v_reset=0.03, reset=Reset.TO_VALUE)}, {"NC321"}),
        ({"model": CubaLIF(tau_mem=0.02, tau_syn=100.0, v_threshold=0.03, reset=Reset.TO_VALUE)}, {"NC328"}),
        ({"rule": EProp(), "mean": 0.1, "spread": 0.001}, {"NC325"}),
        ({"rule": STDP(), "mean": 0.1, "spread": 0.001}, {"NC340"}),
        ({"rule": STDP(weight_bounds=(-1.0, 1.0)), "mean": 0.0}, {"NC326", "NC340"}),
        ({"rule": STDP(a_plus=1e-5), "mean": 0.1, "spread": 0.001}, {"NC328", "NC340"}),
        ({"rule": STDP(tau_plus=1e-5), "mean": 0.1}, {"NC328"}),
        ({"rule": STDP(tau_minus=3.0), "mean": 0.1}, {"NC328"}),
        ({"rule": STDP(), "model": CubaLIF(tau_mem=0.02, tau_syn=np.linspace(0.004, 0.009, 20), **HARD), "mean": 0.1}, {"NC327"}),
        ({"rule": RSTDP(reward="rew"), "mean": 0.1, "spread": 0.001}, {"NC340", "NC341"}),
        ({"rule": RSTDP(reward="rew", reward_weight=200.0), "mean": 0.1}, {"NC328"}),
        ({"rule": RSTDP(reward="rew", multiplicative=True), "mean": 0.1}, {"NC327"}),
        ({"dt": 1.5e-7}, {"NC320"}),
        ({"dt": 1.0005e-3}, {"NC320"}),
    ],
)
def test_what_cannot_be_expressed(
    build: Callable[..., Any], spin5: Machine, strict: BuildOptions, approximate: BuildOptions, changes: dict[str, Any], expected: set[str]
) -> None:
    """Each finding has its code and a way out; what is an approximation is accepted and listed with the flag, what is not stays refused."""
    network, connections = build(**changes)
    strict, approximate = replace(strict, extra=STAND_IN), replace(approximate, extra=STAND_IN)
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, spin5, strict)
    assert set(codes(error)) == expected
    offers = [d.help is not None and "--allow-approximation" in d.help for d in error.value.diagnostics]
    assert len(set(offers)) == 1
    if offers[0]:
        accepted = TARGET.lower(network, connections, spin5, approximate).approximations
        assert {a.code for a in accepted} == expected
        assert all(a.where and a.what and a.instead and a.effect for a in accepted)
    else:
        with pytest.raises(UnsupportedError) as error:
            TARGET.lower(network, connections, spin5, approximate)
        assert set(codes(error)) == expected


def test_two_rules_on_one_population_are_refused(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    network, connections = build(rule=STDP(), mean=0.1)
    projections = list(network.projections)
    object.__setattr__(projections[1], "learning", "other")
    network = Network(
        name="two", dt=1e-3, populations=network.populations, projections=tuple(projections), rules=(STDP(), STDP(name="other")), task=None
    )
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, spin5, approximate)
    assert codes(error) == ["NC327"]


def test_unknown_stand_in_for_eprop_is_refused(build: Callable[..., Any], spin5: Machine) -> None:
    network, connections = build(rule=EProp(), mean=0.1)
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, spin5, BuildOptions(allow_approximation=True, extra={"eprop": "magic"}))
    assert codes(error) == ["NC325"]
    assert "r_stdp" in str(error.value)


@pytest.mark.parametrize(
    "extra", [{"eprops": "static"}, {"rate": "fast"}, {"source_rate": "-3"}, {"rate": "inf"}, {"rate": "nan"}, {"packets": "some"}]
)
def test_bad_options(build: Callable[..., Any], spin5: Machine, extra: dict[str, str]) -> None:
    network, connections = build()
    with pytest.raises(InputError, match="NC320"):
        TARGET.lower(network, connections, spin5, BuildOptions(extra=extra))


def test_spinnaker2_is_mapping_only(build: Callable[..., Any], strict: BuildOptions, approximate: BuildOptions) -> None:
    network, connections = build()
    machine = load_machine("spinnaker2-48")
    with pytest.raises(UnsupportedError) as error:
        TARGET.lower(network, connections, machine, strict)
    assert codes(error) == ["NC329"]
    lowered = TARGET.lower(network, connections, machine, approximate)
    assert lowered.machine_version == 248
    assert "cannot run" in lowered.mapping_only


def test_resolution_is_spynnakers() -> None:
    """PopulationVertex.get_ring_buffer_shifts, written again: ceil(log2) of the largest sum, one more at a power of two."""
    for expected in (0.0, 0.3, 1.0, 1.5, 2.0, 3.0, 100.0, 128.0):
        power = 0 if expected <= 0 else int(np.ceil(max(0.0, np.log2(expected))))
        power += 2.0**power <= expected
        assert resolution(expected) == 2.0 ** -(16 - (power + 1))


def test_buffers_plan_for_the_largest_weight_and_not_more_than_all(build: Callable[..., Any], spin5: Machine, strict: BuildOptions) -> None:
    network, connections = build()
    lowered = TARGET.lower(network, connections, spin5, strict)
    total = np.zeros((2, 20))
    top = np.zeros(2)
    for name in ("in->hid", "hid->hid"):
        c = connections[name]
        for post, weight in zip(c.post, c.weight * 512.0, strict=True):
            total[int(weight < 0), post] += abs(weight)
            top[int(weight < 0)] = max(top[int(weight < 0)], abs(weight))
    expected = np.asarray(lowered.buffers["hid"].expected)
    assert (expected >= top * (1 - 1e-12)).all()
    assert (expected <= total.max(axis=1) * (1 + 1e-12)).all()


def test_problem_counts_every_synapse(build: Callable[..., Any], spin5: Machine, approximate: BuildOptions) -> None:
    network, connections = build(rule=STDP(weight_bounds=(0.0, 0.2)), mean=0.1)
    problem = TARGET.lower(network, connections, spin5, approximate).problem
    assert problem is not None
    offsets = network.offsets
    pairs = {
        (int(a) + offsets[p.pre], int(b) + offsets[p.post])
        for p in network.projections
        for a, b in zip(connections[p.name].pre, connections[p.name].post, strict=True)
    }
    rows = np.repeat(np.arange(problem.n_neurons), np.diff(problem.indptr))
    assert set(zip(rows.tolist(), problem.indices.tolist(), strict=True)) == pairs
    plastic = int(np.count_nonzero(connections["in->hid"].weight >= 0))
    n_synapses = sum(len(c.pre) for c in connections.values())
    assert problem.chip_resources[0].per_neuron.sum() == 4 * n_synapses + 2 * plastic
    kind = {"hid": "neurons", "in": "spike sources"}
    limits = {r.name: r for r in problem.resources}
    assert {name: limits[name].limit for name in kind.values()} == {"neurons": 256, "spike sources": 500}
    for population, own in kind.items():
        assert {name: limits[name].per_neuron[offsets[population]] for name in kind.values()} == {n: float(n == own) for n in kind.values()}


BROKEN_MACHINES = {
    "no local memory": (
        {"core.dtcm": 1.0},
        r"one neuron of population '\w+' needs \d+ byte of local memory beside 33792 byte .* a core has 1 \(override\)",
    ),
    "buffers alone fill it": ({"core.ring_buffer_bits": 17.0}, r"beside 263168 byte of ring buffers .* a core has 65536 \("),
    "a row shorter than one neuron needs": ({"core.row_synapses": 0.0}, r"alone needs 2 share of a core of synaptic rows"),
    "fewer delay slots than receptors": ({"core.ring_buffer_bits": 0.0}, r"alone needs 2 share of a core of delay slots"),
    "no neurons": ({"core.neurons": 0.0}, r"alone needs 1 neuron of neurons; a core has 0 \(override\)"),
    "no sources": ({"core.neurons_source": 0.5}, r"alone needs 1 source of spike sources; a core has 0\.5 \(override\)"),
    "no memory on the chip": ({"chip.sdram": 0.0}, r"of SDRAM; a chip has 0 \(override\)"),
}


@pytest.mark.parametrize("case", BROKEN_MACHINES)
@pytest.mark.parametrize("rule", [None, STDP(weight_bounds=(0.0, 0.2)), RSTDP(reward="rew", weight_bounds=(0.0, 0.2))])
def test_a_core_too_small_for_one_neuron(
    build: Callable[..., Any], spin5: Machine, approximate: BuildOptions, case: str, rule: STDP | None
) -> None:
    """NC401, exit 4, whatever number makes it so; no cost is ever negative."""
    overrides, says = BROKEN_MACHINES[case]
    network, connections = build(rule=rule, mean=0.1)
    machine = spin5.with_overrides(overrides)

    def compile_it() -> None:
        problem = TARGET.lower(network, connections, machine, approximate).problem
        assert problem is not None
        assert all((r.per_neuron >= 0).all() and r.limit >= 0 for r in (*problem.resources, *problem.chip_resources))
        map_network(problem, machine, MapOptions(seed=1))

    with pytest.raises(DoesNotFitError, match=says) as error:
        compile_it()
    assert error.value.exit_code == ExitCode.DOES_NOT_FIT
    assert {d.code for d in error.value.diagnostics} == {"NC401"}
    assert all(d.help for d in error.value.diagnostics)


LIMITS = {
    # machine's number -> (what one neuron or the network needs, a little less, rule, what the error says)
    "core.neurons": (1.0, 0.99, None, r"alone needs 1 neuron of neurons; a core has 0\.99"),
    "core.dtcm": (33_792 + 64.0, 33_792 + 63.0, None, r"needs 64 byte of local memory beside 33792 byte .* a core has 33855"),
    "core.row_synapses": (1.0, 0.0, None, r"of synaptic rows"),
    "core.ring_buffer_bits": (8.0, 7.0, None, r"of delay slots"),  # 255 steps: 128 slots, a stage of 128; a bit for the receptor
    "router.usable_entries": (1.0, 0.0, None, r"entr"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_at_each_limit(build: Callable[..., Any], spin5: Machine, strict: BuildOptions, name: str) -> None:
    """The number that is needed fits; a little less is an error with the limit's name and both numbers."""
    enough, less, rule, says = LIMITS[name]
    network, connections = build(rule=rule)
    if name == "core.ring_buffer_bits":
        connections["hid->hid"] = replace(connections["hid->hid"], delay=np.full_like(connections["hid->hid"].delay, 255))

    def compile_it(value: float) -> None:
        machine = spin5.with_overrides({name: value})
        problem = TARGET.lower(network, connections, machine, strict).problem
        assert problem is not None
        map_network(problem, machine, MapOptions(seed=1))

    compile_it(enough)
    with pytest.raises(DoesNotFitError, match=says) as error:
        compile_it(less)
    assert error.value.exit_code == ExitCode.DOES_NOT_FIT


@pytest.mark.parametrize(
    ("name", "enough", "says"),
    [
        ("core.incoming_spike_buffer", 1.0, r"alone needs 1 packet a step of incoming packets; a core has 0\.99"),  # 10 sources of 100 Hz
        ("chip.sdram", 160.0, r"160 byte of SDRAM; a chip has 159\.99"),  # 10 synapses of 4 byte, 10 rows with 3 words before them
    ],
)
def test_at_the_limits_of_packets_and_memory(spin5: Machine, name: str, enough: float, says: str) -> None:
    """One neuron with ten sources; what is counted is written out beside each case."""
    ten, zeros = np.arange(10), np.zeros(10, int)
    network = Network(
        name="one",
        dt=1e-3,
        populations=(
            Population(name="in", size=10, model=SpikeSource(rate=100.0)),
            Population(name="a", size=1, model=LIF(**HARD, tau_mem=0.02)),
        ),
        projections=(Projection(pre="in", post="a", connect=Explicit(pre=ten, post=zeros, weight=np.ones(10), delay=zeros + 1)),),
    )
    connections = realise_all(network)

    def compile_it(value: float) -> None:
        machine = spin5.with_overrides({name: value})
        problem = TARGET.lower(network, connections, machine, BuildOptions(extra={"packets": "limit"})).problem
        assert problem is not None
        map_network(problem, machine, MapOptions(seed=1))

    compile_it(enough)
    with pytest.raises(DoesNotFitError, match=says) as error:
        compile_it(enough - 0.01)
    assert error.value.exit_code == ExitCode.DOES_NOT_FIT


def test_packets_limit_the_neurons_of_a_core(spin5: Machine) -> None:
    """40 neurons with 10 sources of 100 Hz each, no source shared: a buffer for 20 packets takes 20 neurons; without the option, all 40."""
    each = np.arange(400)
    network = Network(
        name="many",
        dt=1e-3,
        populations=(
            Population(name="in", size=400, model=SpikeSource(rate=100.0)),
            Population(name="a", size=40, model=LIF(**HARD, tau_mem=0.02)),
        ),
        projections=(
            Projection(pre="in", post="a", connect=Explicit(pre=each, post=each // 10, weight=np.ones(400), delay=np.ones(400, int))),
        ),
    )
    machine = spin5.with_overrides({"core.incoming_spike_buffer": 20.0})
    for packets, parts in (("limit", 2), ("free", 1)):
        problem = TARGET.lower(network, realise_all(network), machine, BuildOptions(extra={"packets": packets})).problem
        assert problem is not None
        mapping = map_network(problem, machine, MapOptions(seed=1))
        assert len(np.unique(mapping.partition.part[400:])) == parts


def test_faster_sources_need_more_synapse_cores(build: Callable[..., Any], spin5: Machine) -> None:
    """N = ceil(events a second of a core's neurons / 1.4e6), sPyNNaker's capacity; at most what a chip holds beside the neurons."""
    network, connections = build(rule=RSTDP(reward="rew", weight_bounds=(0.0, 0.2)), mean=0.1)
    fan_in = {name: np.bincount(connections[name].post, minlength=20) for name in ("in->hid", "hid->hid")}
    for source_rate in (1e3, 1e5, 1e6, 1e9):
        options = BuildOptions(allow_approximation=True, extra={"source_rate": str(source_rate)})
        lowered = TARGET.lower(network, connections, spin5, options)
        events = fan_in["in->hid"].mean() * source_rate + fan_in["hid->hid"].mean() * 30.0 + 2 * 5.0  # rew: two neurons of 5 Hz, all to all
        assert lowered.split[1] == min(int(np.ceil(events * 20 / 1.4e6)), 14)


def test_dense_plastic_rows_limit_the_core(spin5: Machine, approximate: BuildOptions, build: Callable[..., Any]) -> None:
    """sPyNNaker refused 256 reward synapses in a row; ours stay below its limits (255 reward, 168 modulated, 252 STDP, 256 static)."""
    network, connections = build(rule=RSTDP(reward="rew", weight_bounds=(0.0, 0.2)), mean=0.1)
    big = Population(name="hid", size=400, model=network.population("hid").model)
    pre, post = (a.ravel().astype(np.int32) for a in np.meshgrid(np.arange(8), np.arange(400), indexing="ij"))
    synapses = type(connections["in->hid"])(pre=pre, post=post, weight=np.full(3200, 0.1), delay=np.ones(3200, np.uint8))
    populations = tuple(big if p.name == "hid" else p for p in network.populations)
    network = Network(name="big", dt=1e-3, populations=populations, projections=network.projections, rules=network.rules)
    lowered = TARGET.lower(network, {**connections, "in->hid": synapses}, spin5, approximate)
    assert lowered.problem is not None
    rows = next(r for r in lowered.problem.resources if r.name == "synaptic rows")
    assert int(rows.limit / rows.per_neuron[8] + 1e-9) == 168
    assert isinstance(network.population("in").model, SpikeSource)


@pytest.mark.parametrize(("delay", "most"), [(1, 8192), (2, 8192), (3, 4096), (64, 256), (65, 128), (128, 128), (129, 64), (255, 64)])
def test_long_delays_leave_fewer_neurons_a_core(
    build: Callable[..., Any], spin5: Machine, strict: BuildOptions, delay: int, most: int
) -> None:
    """2^14 slots / 2 receptors / n neurons, in powers of two: half the longest delay fits the ring buffer, the rest one delay stage."""
    network, connections = build()
    connections["hid->hid"] = replace(connections["hid->hid"], delay=np.full_like(connections["hid->hid"].delay, delay))
    problem = TARGET.lower(network, connections, spin5, strict).problem
    assert problem is not None
    slots = next(r for r in problem.resources if r.name == "delay slots")
    assert 1 / slots.per_neuron[network.offsets["hid"]] == most
    assert 2 * (2**14 / 2 / most) >= delay
    assert 1 / slots.per_neuron[network.offsets["out"]] == 8192
