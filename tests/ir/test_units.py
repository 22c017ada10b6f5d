"""Units and YAML 1.2 numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.ir.errors import InputError
from neurocompile.ir.units import UNITS, Dimension, parse_quantity, scale, whole_steps
from neurocompile.ir.yaml_source import MappingNode, ScalarNode, compose, resolve_plain


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("20 ms", Dimension.TIME, 0.02),
        ("35 ms", Dimension.TIME, 0.035),
        ("0.1 s", Dimension.TIME, 0.1),
        ("7us", Dimension.TIME, 7e-6),
        (" 1.5e1 µs ", Dimension.TIME, 15e-6),
        ("10 Hz", Dimension.FREQUENCY, 10.0),
        ("2 kHz", Dimension.FREQUENCY, 2000.0),
        ("15 mV", Dimension.MEMBRANE, 0.015),
        ("-70 mV", Dimension.MEMBRANE, -0.07),
        ("0.3 1/mV", Dimension.PER_MEMBRANE, 300.0),
        ("0.3", Dimension.MEMBRANE, 0.3),
        (0.3, Dimension.MEMBRANE, 0.3),
        (0, Dimension.TIME, 0.0),
        (math.inf, Dimension.TIME, math.inf),
    ],
)
def test_quantities(text: str | float, dimension: Dimension, value: float) -> None:
    assert parse_quantity(text, dimension).value == value


@pytest.mark.parametrize(
    ("text", "dimension", "code", "help"),
    [
        ("20", Dimension.TIME, "NC115", "'20 ms' or '20 s'"),
        (20, Dimension.FREQUENCY, "NC115", "'20 Hz'"),
        ("20 Hz", Dimension.TIME, "NC116", "use s, ms"),
        ("20 mv", Dimension.MEMBRANE, "NC116", "did you mean 'mV'?"),
        ("20 MV", Dimension.MEMBRANE, "NC116", "did you mean 'mV'?"),
        ("20 A", Dimension.MEMBRANE, "NC116", "use V, mV, uV"),
        ("3 mV", Dimension.NUMBER, "NC116", "alone"),
        ("ms", Dimension.TIME, "NC114", "20 ms"),
        ("", Dimension.TIME, "NC114", "20 ms"),
        ("1e400 s", Dimension.TIME, "NC114", ".inf"),
        ("1e99999999999999999999 s", Dimension.TIME, "NC116", ""),
        (math.nan, Dimension.MEMBRANE, "NC114", "15 mV"),
        (10**400, Dimension.MEMBRANE, "NC114", "15 mV"),
    ],
)
def test_bad_quantities(text: str | float, dimension: Dimension, code: str, help: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_quantity(text, dimension)
    found = caught.value.diagnostics[0]
    if text == "1e99999999999999999999 s":
        assert found.code in {"NC114", "NC116"}
    else:
        assert found.code == code
    assert help in (found.help or "")


@given(st.decimals(-(10**6), 10**6, places=5), st.sampled_from([(d, u) for d, units in UNITS.items() for u in units]))
def test_text_is_rounded_once(number: object, unit: tuple[Dimension, str]) -> None:
    """The value is the float64 nearest to the exact product (oracle: rational arithmetic)."""
    exact = Fraction(str(number)) * Fraction(10) ** UNITS[unit[0]][unit[1]]
    assert parse_quantity(f"{number} {unit[1]}", unit[0]).value == float(exact)


def test_arrays_are_scaled() -> None:
    np.testing.assert_array_equal(scale(np.array([20.0, 35.0]), "ms", Dimension.TIME), [0.02, 0.035])
    np.testing.assert_array_equal(scale(np.array([2.0]), "kHz", Dimension.FREQUENCY), [2000.0])


@given(st.integers(1, 10**6), st.sampled_from([1e-4, 1e-3, 0.1e-3, 0.5e-3, 7e-4, 1 / 3]))
def test_whole_steps(n: int, dt: float) -> None:
    assert whole_steps(n * dt, dt) == n
    assert whole_steps((n + 0.01) * dt, dt) is None


def test_whole_steps_of_what_is_no_time() -> None:
    assert whole_steps(math.inf, 1e-3) is None
    assert whole_steps(1e-3 * (1 + 1e-8), 1e-3) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e5", 1e5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+.5e-3", 0.5e-3),
        ("-0", 0),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        *[
            (t, t)
            for t in (
                "yes",
                "no",
                "on",
                "off",
                "Yes",
                "y",
                "1_000",
                "1:30",
                "0b11",
                "2024-01-01",
                "tRuE",
                "1e",
                "e5",
                ".",
                "-",
                "0x",
                "=",
                "<<",
            )
        ],
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2(text: str, value: object) -> None:
    got = resolve_plain(text)
    assert got == value
    assert type(got) is type(value)
    if text not in {"", "-", "="}:
        _, root = compose(f"key: {text}", "t.yaml")
        assert isinstance(root, MappingNode)
        assert isinstance(root.pairs[0][1], ScalarNode)
        assert root.pairs[0][1].value == value


def test_quoted_scalars_are_texts_and_nodes_know_their_place() -> None:
    source, root = compose("\ufeffa: '1'\nb:\n  - \"true\"\n  - |\n    1\n  - é: x\r\nc: 2", "t.yaml")
    assert isinstance(root, MappingNode)
    assert root.keys() == ["a", "b", "c"]
    values = [n for _, n in root.pairs]
    assert isinstance(values[0], ScalarNode)
    assert values[0].value == "1"
    items = values[1].items  # type: ignore[attr-defined]
    assert [i.value for i in items[:2]] == ["true", "1\n"]
    x = items[2].pairs[0][1]
    assert (x.line, x.column) == (6, 8)
    assert source.span(x).text == "  - é: x"
    assert (values[2].line, values[2].column) == (7, 4)
