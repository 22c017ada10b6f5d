"""Numbers as people read them, and the report in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neurocompile.report import render_text
from neurocompile.report.data import bottleneck
from neurocompile.report.text import number, percent, si, times
from tests.report.conftest import Page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0, "0"), (0.0, "0"), (7, "7"), (7.0, "7"), (1234567, "1,234,567"), (217963.625, "217,964"), (999.25, "999.2"),
        (0.47062, "0.4706"), (-0.5, "-0.5"), (-1234.5, "-1,234"), (1.5e-9, "1.5e-09"), (1e300, "1e+300"), (float("inf"), "inf"),
        (float("nan"), "nan"), (2**70, "1,180,591,620,717,411,303,424"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "-"), (0.0, "0.0 %"), (1e-9, "< 0.1 %"), (0.0005, "0.1 %"), (0.208, "20.8 %"), (0.9994, "99.9 %"),
        (0.99999, "> 99.9 %"), (1.0, "100.0 %"), (1.5, "150.0 %"),
    ],
)  # fmt: skip
def test_shares_never_round_to_empty_or_full(share: float | None, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"), (0.0, "0 J"), (1.0, "1 J"), (2.23e-8, "22.3 nJ"), (1e-3, "1 mJ"), (1e-6, "1 µJ"), (1.41e-3, "1.41 mJ"),
        (6.8e-12, "6.8 pJ"), (1e-18, "0.001 fJ"), (1500.0, "1.5 kJ"), (2e12, "2e+03 GJ"),
    ],
)  # fmt: skip
def test_prefixes(value: float | None, text: str) -> None:
    assert si(value, "J") == text


def test_ratios() -> None:
    assert (times(1.0, 4.0), times(0.0, 3.0), times(1.0, 0.0), times(1.0, None)) == ("0.25 x", "0 x", "-", "-")


def test_the_bottleneck_ignores_what_has_no_limit_and_what_only_divides() -> None:
    def row(name: str, used: float, available: float | None, unit: str) -> dict[str, object]:
        return {"name": name, "used": used, "available": available, "unit": unit}

    rows = [row("labels", 1, 1, "label"), row("chips", 1, 1, "chip"), row("strays", 9, None, "packet"), row("off", 3, 0, "bit")]
    assert bottleneck(rows) is None
    found = bottleneck([*rows, row("a", 1, 4, "bit"), row("b", 2, 4, "bit"), row("c", 5, 10, "axon")])
    assert found is not None
    assert (found["name"], found["fill"]) == ("b", 0.5)


def test_the_terminal_shows_what_the_page_shows(page: Page) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, soft_wrap=True)
    for piece in render_text(page.report):
        console.print(piece)
    shown = out.getvalue()
    assert "looked-at 2 for " in shown
    for row in page.report["usage"]:
        (line,) = [line for line in shown.splitlines() if line.startswith(row["name"] + "  ")]
        assert number(row["used"]) in line
        assert row["confidence"] in line
    if page.report["partition"]:
        quality = page.report["partition"]
        assert f"packets between parts: {number(quality['weighted_km1'])} a step" in shown
        assert f"no partition has fewer than {number(quality['lower_bound'])}, which {quality['bound_by']} enforces" in shown
        assert f"energy of a step: {si(page.report['cost']['energy']['value'], 'J')} " in shown
        assert f"{number(page.report['routing']['hops_per_step'])} packets x links a step" in shown
    if page.report["bottleneck"]:
        assert f"fullest: {page.report['bottleneck']['name']} on {page.report['bottleneck']['worst']}" in shown
    assert shown.count("instead:") == len(page.report["approximations"])
