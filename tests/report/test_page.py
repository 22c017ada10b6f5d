"""report.html: every number equals report.json's, nothing leaves the page, nothing of the user's becomes markup."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from neurocompile.report import render_html
from neurocompile.report.text import number, percent, si, times
from tests.report.conftest import NET, Element, Page, Reader

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</style></title>&amp;"


def test_the_page_is_made_of_report_json_alone(page: Page) -> None:
    assert render_html(page.report) == page.html


def test_resources_equal_the_report(page: Page) -> None:
    shown = {}
    for scope, caption in (("core", "Used by the fullest core"), ("chip", "Used by the fullest chip"), ("machine", "Used by the whole")):
        rows = [r for r in page.report["usage"] if r["scope"] == scope]
        if not rows:
            continue
        table = page.table(caption)
        rows.sort(key=lambda r: -(r["used"] / r["available"] if r["available"] else 0.0))
        by_name = {row["resource"]: row for row in table}
        assert [row["resource"] for row in table] == [r["name"].replace("_", " ") for r in rows]
        shown |= {(scope, name): row for name, row in by_name.items()}
    assert len(shown) == len(page.report["usage"])
    for r in page.report["usage"]:
        row = shown[r["scope"], r["name"].replace("_", " ")]
        assert (row["used"], row["available"], row["unit"]) == (number(r["used"]), number(r["available"]), r["unit"])
        assert row["limit is"].removeprefix("? ") == r["confidence"]
        assert row["limit is"].startswith("? ") == (r["confidence"] == "guess")  # said in words, not by colour
        assert row.get("where", "") == r.get("worst", "")
        assert row["fill"].startswith(percent(r["used"] / r["available"]) if r["available"] else "no limit")


def test_the_bottleneck_is_the_fullest_limit_and_is_named_with_its_core(page: Page) -> None:
    limits = [r for r in page.report["usage"] if r["available"] and r["unit"] not in {"label", "chip"}]
    found = page.report["bottleneck"]
    if not limits:
        assert found is None
        assert page.report["target"] == "nest"
        return
    assert found["fill"] == found["used"] / found["available"] == max(r["used"] / r["available"] for r in limits)
    (fact,) = [div for div in page.root.all("div") if div.all("dt") and div.all("dt")[0].text == "fullest resource"]
    assert found["name"].replace("_", " ") in fact.text
    assert found["worst"] in fact.text
    assert found["confidence"] in fact.text


def test_bars_are_as_long_as_their_numbers(page: Page) -> None:
    fills = [cell for cell in page.root.all("td") if cell.attributes.get("class") == "fill" and cell.all("i")]
    assert len(fills) >= sum(1 for r in page.report["usage"] if r["available"])
    for cell in fills:
        (inner,) = cell.all("i")
        width = float(inner.attributes["style"].removeprefix("width:").removesuffix("%"))
        shown = float(re.sub(r"[<>%]|nearly|full", "", cell.text))
        assert width == pytest.approx(shown, abs=0.11)  # both are rounded to 0.1 %; "< 0.1 %" may be a bar of 0
        assert "full" not in cell.text or width > 90.0


def test_network_placement_and_chips_equal_the_report(page: Page) -> None:
    network = page.report["network"]
    assert [(r["population"], r["model"], r["neurons"]) for r in page.table("Populations")] == [
        (p["name"], p["model"], number(p["size"])) for p in network["populations"]
    ]
    projections = page.table("Projections")
    assert [(r["projection"], r["from"], r["to"], r["synapses"]) for r in projections] == [
        (p["name"], p["pre"], p["post"], number(p["n_synapses"])) for p in network["projections"]
    ]
    late = projections[1]
    assert (late["learning"], late["delay, steps"], late["weights, lowest to highest"]) == ("static", "2 to 7", "0.25 to 0.25")
    assert projections[0]["learning"] == "rule (eprop)"
    if not page.report["chips"]:
        assert page.report["machine"] is None
        return
    for row, p in zip(page.table("Where they went"), page.report["placement"], strict=True):
        assert (row["population"], row["neurons"]) == (p["population"], number(p["neurons"]))
        assert row["cores"] == (number(p["cores"]) if p["cores"] else "outside (host input)")
    rows = page.table(f"{len(page.report['chips'])} of {page.report['machine']['chips']} chips")
    for row, chip in zip(rows, page.report["chips"], strict=True):
        assert row["chip"] == f"({chip['x']}, {chip['y']})"
        assert row["cores"] == f"{chip['cores']} / {chip['cores_available']}"
        assert row["neurons by population"] == ", ".join(f"{n}: {k}" for n, k in chip["populations"].items())
        if chip["table_entries_available"] is not None:
            assert row["router entries"] == f"{chip['table_entries']} / {chip['table_entries_available']:,}"


def test_partition_cost_and_loads_equal_the_report(page: Page) -> None:
    quality = page.report["partition"]
    if quality is None:
        assert page.report["target"] == "nest"
        assert "Energy and time" not in page.root.text
        return
    shown = [tuple(row.values())[1:] for row in page.table("Beside sequential fill")]
    pairs = [(quality[key], quality[f"sequential_{key}"]) for key in ("cores", "km1", "weighted_km1")]
    assert shown == [(number(a), number(b), times(a, b)) for a, b in pairs]
    assert {row["limit"]: row["parts"] for row in page.table("Parts that each limit")} == {
        name.replace("_", " "): number(parts) for name, parts in quality["bounds"].items()
    }
    for title, unit in (("Energy", "J"), ("Time", "s")):
        total = page.report["cost"][title.lower()]
        rows = page.table(f"{title} of a step: {si(total['value'], unit)}")
        assert [row["constant"] for row in rows] == [t["constant"] for t in total["terms"]]
        for row, term in zip(rows, total["terms"], strict=True):
            assert row["count"] == number(term["count"])
            if term["part_of"]:
                assert row[title.lower()] == f"part of {term['part_of']}"
            else:
                assert row[title.lower()] == si(term["value"], unit)
                assert row["confidence"].removeprefix("? ") == term["confidence"]
        for name in total["unknown"]:
            assert name in next(c.text for c in page.root.all("caption") if c.text.startswith(f"{title} of a step"))
    for key, caption, what in (("link_load", "Links by packets", "links"), ("table_fill", "Router tables by", "tables")):
        if key in page.report["routing"]:
            histogram = page.report["routing"][key]["histogram"]
            counts = [number(n) for n in histogram["count"] if n]
            if not counts:  # a machine of one chip has no links
                assert not [t for t in page.root.all("caption") if t.text.startswith(caption)]
                continue
            assert [row[what] for row in page.table(caption)] == counts[::-1]


def test_weights_say_how_they_are_rounded(pages: dict[str, Page]) -> None:
    for name in ("loihi2", "spinnaker"):
        page = pages[name]
        table = {r["projection"]: r for r in page.table("What the target's number format")}
        for p in page.report["network"]["projections"]:
            rounding = p["rounding"]
            assert rounding["step"] > 0
            # rounding to the nearest is off by half a step at most; Loihi's mixed weights have no lowest bit, so by one step
            assert rounding["max_abs_error"] <= rounding["step"] * (1.0 + 1e-9)
            assert table[p["name"]]["largest error"] == number(rounding["max_abs_error"])
            assert table[p["name"]]["rounded to zero"] == f"{number(rounding['rounded_to_zero'])} of {number(p['n_synapses'])}"
    assert all(p["rounding"] is None for p in pages["nest"].report["network"]["projections"])
    assert "keeps weights as floating-point numbers" in pages["nest"].root.text


def test_approximations_guesses_and_overrides_are_listed(page: Page) -> None:
    approximations = page.report["approximations"]
    if approximations:
        rows = page.table("Accepted with --allow-approximation")
        assert [(r["code"], r["where"], r["target does"], r["effect"]) for r in rows] == [
            (a["code"], " ".join(a["where"].split()), a["instead"], a["effect"]) for a in approximations
        ]
    else:
        assert "Nothing: the target has every feature" in page.root.text
    machine = page.report["machine"]
    if machine is not None:
        limits = {r["quantity"]: r for r in page.table(machine["title"])}
        assert set(limits) == {q["name"] for q in machine["quantities"]}
        for q in machine["quantities"]:
            row = limits[q["name"]]
            assert (row["value"], row["unit"], row["source"]) == (number(q["value"]), q["unit"], " ".join(q["source"].split()))
            assert (q["name"] in machine["guesses"]) == (row["confidence"] == "? guess")
            assert (q["name"] in machine["overrides"]) == (row["confidence"] == "override")


def test_provenance_equals_the_manifest(pages: dict[str, Page]) -> None:
    import hashlib

    page = pages["loihi2, one chip"]
    assert page.table("Inputs") == [{"file": "net.yaml", "digest": f"sha256:{hashlib.sha256(NET.encode()).hexdigest()}"}]
    values = {r["what"]: r["value"] for r in page.table("Versions, seed and options")}
    assert (values["seed"], values["--allow-approximation"], values["--set error_scale"]) == ("11", "yes", "0.5")
    assert values["--partition"] == "auto"
    assert values["neurocompile"] == page.report["provenance"]["versions"]["neurocompile"]
    assert {r["what"]: r["value"] for r in pages["loihi2"].table("Versions, seed")}["--set machine.core.neurons"] == "7"


def test_the_drawing_has_one_square_per_chip_and_the_numbers_of_the_table(pages: dict[str, Page]) -> None:
    page = pages["loihi2"]
    (svg,) = page.root.all("svg")
    squares = svg.all("rect")
    assert sum(r.attributes.get("class") != "used" for r in squares) == page.report["machine"]["chips"] == 8
    assert sorted(int(t.text) for t in svg.all("text")) == sorted(c["cores"] for c in page.report["chips"])
    assert svg.attributes["role"] == "img"
    assert svg.attributes["aria-label"]
    assert pages["loihi2, one chip"].root.all("svg") == []


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    for element in page.root.every():
        assert element.tag not in {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "data", "action", "poster"}
            if name == "href":
                assert value.startswith("#"), value
    assert "@import" not in page.html
    assert "url(" not in page.html
    assert "default-src 'none'" in page.html


def test_links_lead_to_sections_and_ids_are_unique(page: Page) -> None:
    ids = [e.attributes["id"] for e in page.root.every() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    targets = {a.attributes["href"].removeprefix("#") for a in page.root.all("a")}
    assert targets <= set(ids)
    assert set(ids) <= targets


def test_tables_are_readable_without_seeing_them(page: Page) -> None:
    root = page.root
    assert root.all("html")[0].attributes["lang"] == "en"
    assert [len(root.all(tag)) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    for table in root.all("table"):
        assert table.all("caption")[0].text
        head = table.all("thead")[0].all("tr")[0]
        assert all(c.attributes.get("scope") == "col" and c.text for c in head.all("th"))
        width = len(head.children)
        for row in table.all("tbody")[0].all("tr"):
            assert sum(int(c.attributes.get("colspan", "1")) for c in row.children) == width
            assert row.all("th") == [] or all(c.attributes.get("scope") == "row" for c in row.all("th"))
    for bar in (e for e in root.all("span") if e.attributes.get("class", "").startswith("bar")):
        assert bar.attributes["aria-hidden"] == "true"  # the number stands beside it


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_light_and_dark_have_enough_contrast(page: Page) -> None:
    """WCAG 2.1 AA: 4.5 for text, 3 for graphics such as bars."""
    blocks = re.findall(r":root \{([^}]*)\}", page.html)
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", block)) for block in blocks]
    schemes = [s for s in schemes if "ink" in s]
    assert len(schemes) == 2
    for colours in schemes:
        for front, back, least in (
            ("ink", "paper", 4.5), ("soft", "paper", 4.5), ("ink", "note", 4.5),
            ("fill", "paper", 4.5), ("fill", "track", 3.0), ("full", "paper", 3.0),
        ):  # fmt: skip
            high, low = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, f"{front} on {back}"


def replace_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Replace every text in a report, keys of users' names included."""
    if isinstance(value, dict):
        return {k: replace_texts(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [replace_texts(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def skeleton(root: Element) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.tag, tuple(e.attributes)) for e in root.every() if e.attributes.get("class") != "name"]


def test_hostile_text_anywhere_stays_text(page: Page) -> None:
    """Every text of a report becomes an attack; the page keeps exactly its tags and attributes."""
    plain = skeleton(page.root)
    structural = {"core", "chip", "machine", "label", "guess"}  # words that decide what is shown
    report = copy.deepcopy(page.report)
    rules = report["network"]["rules"]
    hostile = replace_texts(report, lambda text: text if text in structural or text in rules else text + HOSTILE)
    hostile["provenance"]["inputs"] = {HOSTILE: HOSTILE}
    hostile["network"]["rules"] = rules
    for chip in hostile["chips"]:
        chip["populations"] = {k + HOSTILE: v for k, v in chip["populations"].items()}
    root = Reader(render_html(hostile)).root
    assert skeleton(root) == plain
    shown = root.text
    assert shown.count("<script>alert(1)</script>") > 10
    assert "{{ 7*7 }}" in shown
    assert root.all("h1")[0].text == page.report["name"] + HOSTILE + " for " + page.report["target"] + HOSTILE


def test_many_chips_are_cut_to_the_fullest_and_it_is_said(pages: dict[str, Page]) -> None:
    report = copy.deepcopy(pages["spinnaker"].report)
    chip = report["chips"][0]
    report["chips"] = [{**chip, "chip": i, "x": i % 20, "y": i // 20, "cores": 1 + (i >= 100)} for i in range(300)]
    page = Page(report, render_html(report))
    rows = page.table("300 of 48 chips in use; the 200 fullest are listed, report.json has all")
    assert len(rows) == 200
    assert all(row["cores"].startswith("2 /") for row in rows)
