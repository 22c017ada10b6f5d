"""docs/yaml.md: its generated part is up to date, its example is read."""

from __future__ import annotations

import re
from pathlib import Path

from neurocompile.ir.spec_docs import BEGIN, END, reference_markdown, updated
from neurocompile.ir.yaml_reader import network_from_text


def test_the_reference_is_up_to_date(root: Path) -> None:
    page = (root / "docs" / "yaml.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert updated(page) == page, "run: python -m neurocompile.ir.spec_docs docs/yaml.md"


def test_an_old_page_is_noticed() -> None:
    assert updated(f"a\n{BEGIN}\nold\n{END}\nb\n") == f"a\n{BEGIN}\n{reference_markdown()}\n{END}\nb\n"


def test_the_example_is_read(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "yaml.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 1
    assert network_from_text(blocks[0], "docs/yaml.md", tmp_path).n_neurons == 201


def test_every_key_is_documented() -> None:
    text = reference_markdown()
    for key in ("adapt_beta", "fixed_outdegree", "learning_rate", "reward_weight", "learning_window", "periodic", "beta_2", "unit"):
        assert f"`{key}`" in text, key
