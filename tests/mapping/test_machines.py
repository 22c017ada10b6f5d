"""Machine files: every number says where it comes from; bad files are refused with positions; SpiNNMachine as oracle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import Diagnostic, InputError
from neurocompile.machine import CONFIDENCES, Topology, list_machines, load_machine, machines_of_family

EXPECTED = {  # chips, usable cores
    "oheo-gulch": (1, 120),
    "kapoho-point": (8, 960),
    "hala-point": (1152, 140_544),  # published number of cores
    "nahuku-32": (32, 4096),
    "spin3": (4, 63),
    "spin5": (48, 808 - 48 - 1),  # virtual board: 808 user cores; an extra monitor a chip, a gatherer on the Ethernet chip
    "spin5x18": (864, 18 * 759),
    "spinnaker2-48": (48, 7234),
    "generic": (16, 240),
}


def test_all_machines_load() -> None:
    assert {name: (m.n_chips, m.n_cores) for name in list_machines() for m in [load_machine(name)]} == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_number_has_value_unit_source_confidence(root: Path, name: str) -> None:
    content = yaml.safe_load((root / "hw_configs" / f"{name}.yaml").read_text("utf-8"))
    facts = [fact for group in content["quantities"].values() for fact in group.values()]
    facts += content["topology"].get("cores", []) + content["topology"].get("reserved_cores", [])
    for fact in facts:
        assert {"value", "unit", "source", "confidence"} <= set(fact)
        assert isinstance(fact["value"], int | float)
        assert fact["source"].strip()
        assert fact["confidence"] in CONFIDENCES
        if "memory" in fact["source"].split("from ")[-1] and "quoted from memory" in fact["source"]:
            assert fact["confidence"] == "guess"
    assert content["topology"]["confidence"] in CONFIDENCES
    assert set(content) == {"name", "family", "title", "topology", "routing", "quantities"}
    assert content["name"] == name


def test_code_holds_no_hardware_numbers(root: Path) -> None:
    """Numbers that only describe a machine must not stand in the mapper: it takes them from the machine."""
    telling = {120, 128, 1023, 1024, 8192, 4096, 152, 153, 123_469_792, 256, 18, 17, 48, 1152}
    for folder in ("neurocompile/mapping", "neurocompile/machine.py", "neurocompile/machine_file.py"):
        path = root / folder
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            constants = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.Constant) and type(n.value) is int]
            assert not [(file.name, c.lineno, c.value) for c in constants if c.value in telling]


def test_families_are_sorted_by_size() -> None:
    assert [m.name for m in machines_of_family("loihi2")] == ["oheo-gulch", "kapoho-point", "hala-point"]
    assert [m.name for m in machines_of_family("spinnaker1")] == ["spin3", "spin5", "spin5x18"]
    assert machines_of_family("nothing") == ()


@pytest.mark.parametrize(
    ("name", "version", "boards"), [("spin3", "3", 1), ("spin5", "5", 1), ("spin5x18", "5", 18), ("spinnaker2-48", "248", 1)]
)
def test_topology_equals_spinnmachine(name: str, version: str, boards: int) -> None:
    pytest.importorskip("spinn_machine", reason="SpiNNMachine is not installed")
    from spinn_machine.config_setup import unittest_setup
    from spinn_machine.virtual_machine import virtual_machine_by_boards
    from spinn_utilities.config_holder import set_config

    unittest_setup()
    set_config("Machine", "version", version)
    theirs = virtual_machine_by_boards(boards)
    ours = load_machine(name).topology
    assert sorted(y * ours.width + x for x, y in theirs.chip_coordinates) == ours.chips.tolist()
    for chip in theirs.chips:
        number = chip.y * ours.width + chip.x
        assert ours.n_cores[number] == chip.n_processors
        links = np.full(6, -1)
        for link in chip.router.links:
            links[link.source_link_id] = link.destination_y * ours.width + link.destination_x
        assert ours.neighbours[number].tolist() == links.tolist()


def test_links_are_symmetric() -> None:
    for name in list_machines():
        t: Topology = load_machine(name).topology
        for chip in t.chips.tolist():
            for link, other in enumerate(t.neighbours[chip].tolist()):
                if other >= 0:
                    assert t.neighbours[other, (link + t.n_links // 2) % t.n_links] == chip


def test_overrides_show_as_such() -> None:
    machine = load_machine("spin5", {"core.neurons": 100})
    assert machine.value("core.neurons") == 100
    assert machine.quantity("core.neurons").confidence == "override"
    assert "256" in machine.quantity("core.neurons").source
    assert load_machine("spin5").value("core.neurons") == 256


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("core.neuron", 1.0, r"no quantity 'core.neuron' to override[\s\S]*did you mean 'core.neurons'"),
        ("core.neurons", -1.0, r"'core.neurons' cannot be -1 neuron: a number >= 0 and <= 1e\+18 is needed"),
        ("core.neurons", float("nan"), "cannot be nan neuron"),
        ("core.neurons", float("inf"), "cannot be inf neuron"),
        ("chip.cores", 4.0, r"cannot be overridden: chips differ[\s\S]*copy spin5.yaml"),
        ("chip.reserved_cores", 4.0, "cannot be overridden"),
        ("router.usable_entries", 1000.5, r"cannot be 1000.5 entry: a whole number >= 0 and <= 1e\+18 is needed"),
        ("core.ring_buffer_bits", 1001.0, "cannot be 1001 bit: a number >= 0 and <= 1000 is needed"),
        ("core.neurons", 1e19, "cannot be 1e"),
        ("core.neurons_source", 0.0, "cannot be 0 neuron: a number > 0 and <="),
        ("link.packets_per_second", 0.0, "cannot be 0 1/s: a number > 0 and <="),
        ("router.key_bits", 33.0, "cannot be 33 bit: a whole number >= 0 and <= 32 is needed"),
    ],
)
def test_bad_overrides(key: str, value: float, says: str) -> None:
    with pytest.raises(InputError, match=rf"NC157.*{says}"):
        load_machine("spin5", {key: value})


def test_every_quantity_is_documented_with_its_unit(root: Path) -> None:
    text = (root / "docs" / "machines.md").read_text("utf-8")
    rows = [line.split("|")[1:3] for line in text[text.index("## Quantities") :].splitlines() if line.startswith("| ")]
    units = {name: unit.strip() for names, unit in rows for name in re.findall(r"[\w.]+", names)}
    for machine in map(load_machine, list_machines()):
        for key, quantity in machine.quantities.items():
            found = units.get(key, units.get(key.removeprefix("core.")))
            assert found is not None, f"{key} is not documented"
            assert quantity.unit in re.split(r",\s*", found), f"{key}: {quantity.unit} is not in '{found}'"


def test_every_machine_is_documented_with_its_size(root: Path) -> None:
    text = (root / "docs" / "machines.md").read_text("utf-8")
    found = {}
    for line in text[: text.index("## Every number")].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] not in {"name", "---"}:
            names = re.split(r",\s+", cells[0])
            sizes = [[int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d|\d", cell)] for cell in cells[2:]]
            found.update(dict(zip(names, zip(*sizes, strict=True), strict=True)))
    assert found == EXPECTED


def test_pure_numbers_may_be_negative() -> None:
    """Exponents: unit 1. -8 is in the files, so it can also be overridden."""
    assert load_machine("oheo-gulch").value("core.weight_exponent_min") == -8
    assert load_machine("oheo-gulch", {"core.weight_exponent_min": -7.0}).value("core.weight_exponent_min") == -7


def test_a_quantity_has_the_same_unit_in_all_files() -> None:
    units: dict[str, set[str]] = {}
    for name in list_machines():
        for key, quantity in load_machine(name).quantities.items():
            units.setdefault(key, set()).add(quantity.unit)
    assert {key: found for key, found in units.items() if len(found) > 1} == {}


def test_missing_quantity_and_machine() -> None:
    machine = load_machine("generic")
    with pytest.raises(InputError, match=r"NC156.*does not state 'core.neuron'[\s\S]*did you mean 'core.neurons'"):
        machine.value("core.neuron")
    assert machine.value("core.dtcm", 7.0) == 7.0
    assert not machine.has("core.dtcm")
    with pytest.raises(InputError, match=r"NC151[\s\S]*oheo-gulch"):
        load_machine("oheo-gulf")


def _edit(root: Path, tmp_path: Path, old: str, new: str) -> str:
    text = (root / "hw_configs" / "generic.yaml").read_text("utf-8")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("kind: mesh ", "kind: mash ", "NC153", "did you mean 'mesh'"),
        ("width: 4", "width: four", "NC153", "whole number >= 1"),
        ("width: 4", "width: 4.5", "NC153", "whole number"),
        ("width: 4", "width: 4000000", "NC155", "at most"),
        ("value: 256, ", "value: .nan, ", "NC153", "value must be a number"),
        ("value: 256, ", "", "NC152", "'value' is missing"),
        (
            'source: "example", confidence: guess}\n    synapse_memory',
            "confidence: guess}\n    synapse_memory",
            "NC154",
            "'source' is missing",
        ),
        ("confidence: guess}", "confidence: sure}", "NC153", "did you mean 'measured'?"),
        ("value: 256, ", "value: -256, ", "NC153", "core.neurons: value must be a number >= 0"),
        ("value: 256, ", 'value: "256", ', "NC153", "value must be a number"),
        ("value: 256, ", "value: [256], ", "NC153", "value must be a number"),
        ("value: 256, ", "value: 1e999, ", "NC153", "value must be a number"),
        ("value: 16, unit: core", "value: -16, unit: core", "NC153", "chip.cores: value must be a whole number >= 0"),
        ("value: 16, unit: core", "value: 15.5, unit: core", "NC153", "chip.cores: value must be a whole number >= 0"),
        ("value: 16, unit: core", "value: 1e12, unit: core", "NC153", "whole number >= 0 and <= 65536"),
        ("value: 1, unit: core", "value: -1, unit: core", "NC153", "chip.reserved_cores: value must be a whole number >= 0"),
        ("  width: 4                 # chips\n  height: 4", "  width: 1000\n  height: 1000", "NC155", "at most 10000000 cores"),
        ("  core:\n", "  core: 5\n  kore:\n", "NC153", "quantities: core must be a mapping"),
        ("  chip:\n    cores:", "  chip:\n    kores:", "NC152", "quantity 'chip.cores' is missing"),
        ("routing: {kind: destination}", "routing: {}", "NC152", "'kind' is missing"),
        ("family: generic", "famili: generic", "NC152", "unknown key 'famili'"),
        ("unit: neuron, ", "", "NC154", "'unit' is missing"),
        ("unit: neuron, ", "unit: neuron, colour: red, ", "NC152", "unknown key 'colour'"),
        ("routing: {kind: destination}", "routing: {kind: pigeon}", "NC153", "pigeon"),
        ("routing: {kind: destination}", "routing: {kind: multicast_tcam}", "NC152", "router.usable_entries"),
        ("io_chip: [0, 0]", "io_chip: [4, 0]", "NC155", "outside 4 x 4"),
        ("io_chip: [0, 0]", "io_chip: [0]", "NC153", "needs 2"),
        ("dead_chips: []", "dead_chips: [[0, 0]]", "NC155", "io_chip"),
        ("dead_links: []", "dead_links: [[0, 0, NE]]", "NC153", "NE"),
        ("dead_links: []", "dead_links: [[9, 0, E]]", "NC155", "outside"),
        ("dead_cores: []", "dead_cores: [[0, 0, 16]]", "NC155", "no core 16"),
        ("  cores: []", "  board: {rows: [[0, 1]], origins: [[3, 0]]}", "NC155", "outside the machine"),
        ("  cores: []", "  board: {rows: [[0, 1]], origins: [[0, 0], [1, 0]]}", "NC155", "on top of"),
        ("  cores: []", "  cores: [{chips: [[1, 1]], value: 0, unit: core, source: x, confidence: guess}]", "NC155", "reserved"),
        ("  cores: []", "  cores: 3", "NC153", "must be a list"),
        (
            "  cores: []",
            "  cores: [{chips: [[1, 1]], value: 2.5, unit: core, source: x, confidence: guess}]",
            "NC153",
            "a whole number >= 0",
        ),
        ("  cores: []", "  cores: [{chips: [[1, 1]], value: 9, unit: core, source: x}]", "NC154", "'confidence' is missing"),
        (
            "  cores: []",
            "  cores: [{chips: [[4, 1]], value: 9, unit: core, source: x, confidence: guess}]",
            "NC155",
            "there is no chip (4, 1)",
        ),
        ("name: generic", "name: generic\nname: twice", "NC152", "given twice"),
        ("name: generic", "name: &a generic\ntitel: *a", "NC150", "aliases"),
        ("name: generic", "name: [", "NC150", "not YAML"),
        ("name: generic", "name: !!python/object/apply:os.system [id]", "NC153", "name must be a text"),
    ],
)
def test_bad_files(root: Path, tmp_path: Path, old: str, new: str, code: str, says: str) -> None:
    path = _edit(root, tmp_path, old, new)
    with pytest.raises(InputError) as error:
        load_machine(path)
    assert code in {d.code for d in error.value.diagnostics}
    assert says in str(error.value)
    for d in error.value.diagnostics:
        assert d.span is not None
        assert str(d.span).startswith(f"{path}:{d.span.line}:{d.span.column}")
        assert d.span.text == Path(path).read_text("utf-8").splitlines()[d.span.line - 1]


@pytest.mark.parametrize(
    ("old", "new", "points_at"),
    [
        ("value: 256, ", "value: -256, ", "-256, unit: neuron"),
        ("value: 256, ", "", '{unit: neuron, source: "example"'),
        ("unit: neuron, ", "unit: neuron, colour: red, ", "colour: red"),
        ("confidence: guess}\n    axons_in", "confidence: sure}\n    axons_in", "sure}"),
        ("dead_links: []", "dead_links: [[9, 0, E]]", "[9, 0, E]]"),
        ("kind: mesh ", "kind: mash ", "mash "),
    ],
)
def test_the_position_is_that_of_the_wrong_thing(root: Path, tmp_path: Path, old: str, new: str, points_at: str) -> None:
    with pytest.raises(InputError) as error:
        load_machine(_edit(root, tmp_path, old, new))
    span = error.value.diagnostics[0].span
    assert span is not None
    assert span.text is not None
    assert span.text[span.column - 1 :].startswith(points_at)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(root: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Words of a good file deleted, doubled, or replaced by others; what still reads is a machine whose numbers all have a source."""
    words = re.findall(r"\s+|[^\s,:{}\[\]]+|[,:{}\[\]]", (root / "hw_configs" / "generic.yaml").read_text("utf-8"))
    others = [
        "-1",
        "1e400",
        "0",
        "99999999999999999999",
        "~",
        "[]",
        "{}",
        "*a",
        "&a",
        "!!int",
        "E",
        "hex_torus",
        "multicast_tcam",
        '"',
        "\t",
        "é",
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        words[at : at + 1] = data.draw(st.sampled_from([[], [words[at], words[at]], *([other] for other in others)]))
    path = tmp_path / "damaged.yaml"
    path.write_text("".join(words), "utf-8")
    found: tuple[Diagnostic, ...] = ()
    try:
        machine = load_machine(path)
    except InputError as error:
        found = error.diagnostics
    if found:
        assert {d.code for d in found} <= {"NC150", "NC152", "NC153", "NC154", "NC155"}
        assert all(d.span is not None or d.file == str(path) for d in found)
    else:
        assert machine.n_cores >= 0
        assert all(q.unit and q.source and q.confidence in CONFIDENCES for q in machine.quantities.values())


def test_all_errors_of_a_file_in_one_run(root: Path, tmp_path: Path) -> None:
    path = _edit(root, tmp_path, "unit: neuron, ", "colour: red, ")
    with pytest.raises(InputError) as error:
        load_machine(path)
    assert {d.code for d in error.value.diagnostics} == {"NC152", "NC154"}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", None])
def test_unreadable_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="NC150"):
        load_machine(path)


def test_dead_things(root: Path, tmp_path: Path) -> None:
    path = _edit(root, tmp_path, "dead_links: []", "dead_links: [[0, 0, E]]")
    t = load_machine(path).topology
    assert t.neighbours[0].tolist() == [-1, 4, -1, -1]
    assert t.neighbours[1].tolist() == [2, 5, -1, -1]
    path = _edit(root, tmp_path, "dead_cores: []", "dead_cores: [[1, 0, 3], [1, 0, 0]]")
    machine = load_machine(path)
    assert machine.topology.usable_cores(1) == (1, 2, *range(4, 16))
    assert machine.n_cores == 239
