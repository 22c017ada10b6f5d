"""Numbers of synapses between the same two neurons."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2.repeats import number_repeats
from neurocompile.ir.errors import InputError


@settings(deadline=None)  # compiles
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60), st.sampled_from(["as drawn", "by target", "by source"]))
def test_numbers_rise_in_the_order_of_the_list(pairs: list[tuple[int, int]], order: str) -> None:
    if order != "as drawn":
        pairs = sorted(pairs, key=lambda pair: pair[:: -1 if order == "by target" else 1])
    seen: Counter[tuple[int, int]] = Counter()
    expected = []
    for pair in pairs:
        expected.append(seen[pair])
        seen[pair] += 1
    pre, post = np.array(pairs, np.int32).reshape(-1, 2).T
    assert number_repeats(pre.copy(), post.copy()).tolist() == expected


@pytest.mark.parametrize(("n", "fits"), [(256, True), (257, False)])
def test_at_most_256(n: int, fits: bool) -> None:
    pre, post = np.repeat(np.array([[0, 3], [1, 2]], np.int32), [1, n], axis=1)
    if fits:
        assert number_repeats(pre, post).tolist() == [0, *range(256)]
    else:
        with pytest.raises(InputError, match="257 synapses") as error:
            number_repeats(pre, post)
        assert error.value.diagnostics[0].code == "NC201"
