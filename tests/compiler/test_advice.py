"""What does not fit says why, and what it proposes fits: every proposal is applied to the description and compiled again."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile import advice
from neurocompile.advice import largest
from neurocompile.ir.errors import DoesNotFitError
from neurocompile.ir.yaml_reader import network_from_text
from neurocompile.pipeline import Compiled, CompileOptions, compile_network

NET = """\
name: dense
dt: 1 ms
seed: {seed}
populations:
  in:     {{model: spike_source, size: 60, params: {{rate: 20 Hz}}}}
  other:  {{model: spike_source, size: 60, params: {{rate: 20 Hz}}}}
  hidden: {{model: lif, size: {size}, params: {{tau_mem: 20 ms, v_threshold: 0.6, reset: to_value}}}}
  out:    {{model: leaky_readout, size: 5, params: {{tau_mem: 20 ms}}}}
projections:
  - {{name: first, pre: in, post: hidden, connect: {{fixed_indegree: {first}}}, weight: 0.1, delay: 1 ms}}
  - {{name: second, pre: other, post: hidden, connect: {{fixed_indegree: {second}}}, weight: 0.1, delay: 3 ms}}
  - {{name: read, pre: hidden, post: out, connect: {{fixed_indegree: {read}}}, weight: 0.1, delay: 1 ms}}
"""
DEGREE = re.compile(r"lower the in-degree of (each of )?([^;]*?) to at most (\d+) \(now up to (\d+)\)")


def attempt(
    folder: Path,
    degrees: dict[str, int],
    *,
    size: int = 40,
    seed: int = 1,
    target: str = "loihi2",
    routes: str = "auto",
    **limits: float,
) -> Compiled:
    text = NET.format(size=size, seed=seed, **degrees)
    overrides = {key.replace("__", "."): value for key, value in limits.items()}
    options = CompileOptions(target=target, allow_approximation=True, overrides=overrides, partition="refined", routes=routes)
    return compile_network(network_from_text(text, "net.yaml", folder), options)


def refused(folder: Path, degrees: dict[str, int], **options: float) -> tuple[str, str, str]:
    """Code, message and way out of the finding."""
    with pytest.raises(DoesNotFitError) as error:
        attempt(folder, degrees, **options)  # type: ignore[arg-type]
    (found,) = error.value.diagnostics
    return found.code, found.message, str(found.help)


def proposed(help_: str) -> dict[str, int]:
    """Projection -> in-degree that is proposed; 0 where it is to be left out."""
    found = DEGREE.search(help_)
    if found is not None:
        return dict.fromkeys(re.findall(r"'(\w+)'", found[2]), int(found[3]))
    left_out = re.search(r"leave out ([^:]*): no lower in-degree fits", help_)
    return dict.fromkeys(re.findall(r"'(\w+)'", left_out[1]), 0) if left_out else {}


def capped(degrees: dict[str, int], caps: dict[str, int], more: int = 0) -> dict[str, int]:
    return {name: min(degree, caps.get(name, degree) + more) for name, degree in degrees.items()}


@settings(max_examples=300, deadline=None)
@given(too_many=st.integers(1, 2000), share=st.floats(-0.01, 1.0), guess=st.integers(-50, 2500))
def test_the_largest_that_fits_is_found_with_few_trials(too_many: int, share: float, guess: int) -> None:
    limit = min(math.floor(share * too_many), too_many - 1)
    tried = []

    def fits(d: int) -> bool:
        tried.append(d)
        return d <= limit

    found = largest(fits, too_many, guess)
    assert all(0 <= d < too_many for d in tried)
    if limit < 0:
        assert found is None
    else:
        assert found is not None
        assert found <= limit <= found + max(1, found // 50) - 1
        assert found in tried
    assert len(tried) <= 2 * math.log2(too_many) + 4
    if guess == limit and too_many > 1:
        assert len(tried) <= 2


@settings(max_examples=12, deadline=None)
@given(
    first=st.integers(1, 60),
    second=st.integers(1, 60),
    limit=st.sampled_from(
        [{"core__axons_in": 25.0}, {"core__synapse_memory": 3000.0}, {"core__axons_in": 50.0, "core__synapse_memory": 5000.0}]
    ),
    seed=st.integers(0, 100),
)
def test_one_neuron_too_big_fits_with_the_in_degree_that_is_proposed(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int, limit: dict[str, float], seed: int
) -> None:
    """The sources of two projections are of different populations, so what a neuron takes depends on its in-degrees alone."""
    folder = tmp_path_factory.getbasetemp()
    degrees = {"first": first, "second": second, "read": 5}
    try:
        attempt(folder, degrees, seed=seed, **limit)  # type: ignore[arg-type]
    except DoesNotFitError:
        pass
    else:
        return
    code, message, help_ = refused(folder, degrees, seed=seed, **limit)
    assert code == "NC401"
    numbers = re.search(r"needs (\S+) \w+ of (\w+); a core has (\S+) \(override\): (\S+) too many; (\S+) \w+ of that .*'(\w+)'", message)
    assert numbers is not None, message
    need, _, has, over, share, name = numbers.groups()
    assert float(need) - float(has) == pytest.approx(float(over), rel=1e-4)  # each is printed with six digits
    assert degrees[name] == max(first, second)
    assert 0 < float(share) <= float(need)
    caps = proposed(help_)
    assert caps, help_
    attempt(folder, capped(degrees, caps), seed=seed, **limit)  # type: ignore[arg-type]
    assert refused(folder, capped(degrees, caps, more=1), seed=seed, **limit)[0] == "NC401"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "limits", [{"core__synapse_memory": 9000.0}, {"core__axons_in": 52.0}, {"core__axons_in": 60.0, "core__synapse_memory": 7000.0}]
)
def test_too_many_cores_are_few_enough_with_the_in_degree_that_is_proposed(tmp_path: Path, seed: int, limits: dict[str, float]) -> None:
    degrees = {"first": 25, "second": 20, "read": 40}
    size = 500
    code, message, help_ = refused(tmp_path, degrees, size=size, seed=seed, **limits)
    assert code == "NC402"
    need, has, over = map(int, re.findall(r"needs (\d+) cores .* has (\d+) usable cores on 1 chips: (\d+) too few", message)[0])
    assert need - has == over > 0
    assert re.search(r"no partition has fewer than \d+ parts, which \w+ enforces", message)
    now, name, left = re.findall(r"filled in index order it takes (\d+) parts, without projection '(\w+)' (\d+)", message)[0]
    without = {**degrees, name: 0}
    fill = CompileOptions(
        target="loihi2", partition="sequential", machine="kapoho-point", overrides={k.replace("__", "."): v for k, v in limits.items()}
    )
    for counts, parts in ((degrees, now), (without, left)):
        made = compile_network(network_from_text(NET.format(size=size, seed=seed, **counts), "net.yaml", tmp_path), fill)
        assert made.mapping is not None
        assert int((~made.mapping.partition.external).sum()) == int(parts)
    caps = proposed(help_)
    assert caps, help_
    attempt(tmp_path, capped(degrees, caps), size=size, seed=seed, **limits)  # type: ignore[arg-type]
    assert "smallest machine of the family 'loihi2' that fits is kapoho-point" in help_


def test_where_neurons_are_too_many_no_projection_is_blamed(tmp_path: Path) -> None:
    degrees = {"first": 3, "second": 3, "read": 3}
    code, message, help_ = refused(tmp_path, degrees, size=200, core__neurons=1.0)
    assert code == "NC402"
    assert "which neurons enforces; no projection is to blame: population 'hidden' has 200 neurons" in message
    assert not proposed(help_)


@pytest.mark.parametrize(("key", "value", "code"), [("router__usable_entries", 3.0, "NC404"), ("router__key_bits", 8.0, "NC406")])
def test_tables_and_keys_fit_with_what_is_proposed(tmp_path: Path, key: str, value: float, code: str) -> None:
    degrees = {"first": 20, "second": 20, "read": 150}
    options = {"size": 160, "target": "spinnaker", "core__neurons": 4.0, "routes": "core", key: value}
    found, message, help_ = refused(tmp_path, degrees, **options)  # type: ignore[arg-type]
    assert found == code
    over = int(re.findall(r": (\d+) (?:keys )?too few", message)[0])
    assert over > 0
    assert re.search(r"projection '(first|second|read)' connects most pairs of cores \(\d+\)", message)
    caps = proposed(help_)
    if code == "NC404":
        assert caps, help_
    if caps:
        attempt(tmp_path, capped(degrees, caps), **options)  # type: ignore[arg-type]
    if code == "NC406":
        bits = float(re.findall(r"packets with (\d+) key bits", help_)[0])
        attempt(tmp_path, degrees, **{**options, key: bits})  # type: ignore[arg-type]
        assert refused(tmp_path, degrees, **{**options, key: bits - 1})[0] == "NC406"  # type: ignore[arg-type]


def test_out_degrees_are_proposed_where_axons_out_are_short(tmp_path: Path) -> None:
    """Targets of one source lie on many cores because each core holds one neuron."""
    text = NET.format(size=40, seed=1, first=2, second=2, read=2).replace(
        "{name: read, pre: hidden, post: out, connect: {fixed_indegree: 2}",
        "{name: spread, pre: hidden, post: hidden, connect: {fixed_outdegree: 9}",
    )
    options = CompileOptions(target="loihi2", overrides={"core.axons_out": 5.0, "core.neurons": 1.0}, partition="refined")
    with pytest.raises(DoesNotFitError) as error:
        compile_network(network_from_text(text, "net.yaml", tmp_path), options)
    (found,) = error.value.diagnostics
    assert found.code == "NC401"
    assert "needs 9 axon of axons_out, with its targets on" in found.message
    assert "9 axon of that because of projection 'spread' (9 synapses)" in found.message
    assert "lower the out-degree of 'spread' to at most 5 (now up to 9)" in str(found.help)
    compile_network(network_from_text(text.replace("outdegree: 9", "outdegree: 5"), "net.yaml", tmp_path), options)


@pytest.mark.parametrize("limits", [{"core.neurons": 7.0}, {"core.axons_in": 15.0}])
def test_a_group_too_big_for_a_core_fits_in_the_pieces_that_are_proposed(tmp_path: Path, limits: dict[str, float]) -> None:
    text = NET.format(size=40, seed=1, first=2, second=2, read=2)
    options = CompileOptions(target="loihi2", overrides=limits, partition="refined")

    def grouped(pieces: int) -> str:
        at = [i * 40 // pieces for i in range(pieces + 1)]
        groups = [f"[{{population: hidden, first: {a}, size: {b - a}}}]" for a, b in pairwise(at)]
        return text + f"mapping: {{together: [{', '.join(groups)}]}}\n"

    with pytest.raises(DoesNotFitError) as error:
        compile_network(network_from_text(grouped(1), "net.yaml", tmp_path), options)
    pieces = int(re.findall(r"split the group that must stay together into (\d+) pieces", str(error.value.diagnostics[0].help))[0])
    compile_network(network_from_text(grouped(pieces), "net.yaml", tmp_path), options)
    with pytest.raises(DoesNotFitError, match="NC401"):
        compile_network(network_from_text(grouped(pieces - 1), "net.yaml", tmp_path), options)


def test_a_readout_too_big_for_its_core_fits_with_the_neurons_that_are_proposed(tmp_path: Path) -> None:
    """It is the target that keeps them on one core: there is no group in the description that could be split."""
    text = (
        NET.format(size=40, seed=1, first=2, second=2, read=20)
        .replace("size: 5,", "size: {out},")
        .replace("weight: 0.1, delay: 1 ms", "weight: 0.1")
    )
    text = text.replace("connect: {fixed_indegree: 20}", "connect: {fixed_indegree: 20}, learning: eprop")
    text += "learning: {eprop: {rule: eprop, feedback: {random: {normal: [0, 1]}}}}\ntask: {readout: out, sample: 100 ms}\n"
    options = CompileOptions(target="spinnaker", partition="sequential")
    with pytest.raises(DoesNotFitError) as error:
        compile_network(network_from_text(text.replace("{out}", "400"), "net.yaml", tmp_path), options)
    help_text = str(error.value.diagnostics[0].help)
    assert "group" not in help_text
    (most,) = re.findall(r"population 'out' must lie on one core of this target: (\d+) neurons of it fit", help_text)
    compile_network(network_from_text(text.replace("{out}", most), "net.yaml", tmp_path), options)


def test_a_larger_machine_is_named_where_the_neuron_fits(tmp_path: Path, root: Path) -> None:
    own = (root / "hw_configs" / "oheo-gulch.yaml").read_text()
    own = re.sub(r"name: oheo-gulch", "name: own", own, count=1)
    own = re.sub(r"axons_in: \{value: \d+", "axons_in: {value: 30", own)
    own = re.sub(r"(  chip:\n    cores: \{value: )\d+", r"\g<1>40", own)
    (tmp_path / "own.yaml").write_text(own)
    network = network_from_text(NET.format(size=40, seed=1, first=20, second=20, read=5), "net.yaml", tmp_path)
    with pytest.raises(DoesNotFitError) as error:
        compile_network(network, CompileOptions(target="loihi2", machine=str(tmp_path / "own.yaml")))
    assert "take oheo-gulch (--machine oheo-gulch), where it fits" in str(error.value.diagnostics[0].help)
    compile_network(network, CompileOptions(target="loihi2", machine="oheo-gulch"))


def test_a_part_wider_than_a_chip_fits_in_the_pieces_that_are_proposed(tmp_path: Path, root: Path) -> None:
    """Synapses changed by reward need helper cores by their events; here chips have fewer cores than those that the target plans with."""
    own = re.sub(r"name: spin3", "name: own", (root / "hw_configs" / "spin3.yaml").read_text(), count=1)
    chips = "[[0, 0], [1, 0], [0, 1], [1, 1]]"
    own = re.sub(r"\n  cores:.*?(?=\n  \w|\n\w)", "", own, flags=re.DOTALL)
    own = own.replace(
        "\nrouting:", f'\n  cores:\n    - {{chips: {chips}, value: 8, unit: core, source: "x", confidence: guess}}\nrouting:', 1
    )
    (tmp_path / "own.yaml").write_text(own)
    text = """\
name: wide
dt: 1 ms
populations:
  in:     {model: spike_source, size: 400, params: {rate: 400 Hz}}
  reward: {model: spike_source, size: 1}
  hidden: {model: lif, size: 100, params: {tau_mem: 20 ms, v_threshold: 0.6, reset: to_value}}
projections:
  - {name: learns, pre: in, post: hidden, connect: {fixed_indegree: 300}, weight: 0.01, delay: 1 ms, learning: rule}
learning:
  rule: {rule: r_stdp, reward: reward, a_plus: 0.1, a_minus: 0.1}
"""
    network = network_from_text(text, "net.yaml", tmp_path)
    options = CompileOptions(target="spinnaker", machine=str(tmp_path / "own.yaml"), allow_approximation=True, partition="refined")
    with pytest.raises(DoesNotFitError) as error:
        compile_network(network, options)
    (found,) = error.value.diagnostics
    assert found.code == "NC403"
    pieces, most = map(int, re.findall(r"split 'hidden' into (\d+) pieces or more, of at most (\d+) neurons", str(found.help))[0])
    assert pieces == -(-100 // most)
    smaller = CompileOptions(
        target="spinnaker",
        machine=str(tmp_path / "own.yaml"),
        allow_approximation=True,
        partition="refined",
        overrides={"core.neurons": float(most)},
    )
    compile_network(network, smaller)
    assert "most synapses onto it are of projection 'learns'" in found.message


def test_large_networks_are_refused_without_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "MOST_SYNAPSES", 100)
    _, message, help_ = refused(tmp_path, {"first": 50, "second": 50, "read": 5}, core__axons_in=20.0)
    assert message.endswith("80 too many")
    assert "lower its fan-in or fan-out" in help_
    assert not proposed(help_)
