"""Builds to look at, and an HTML reader that knows nothing of the page's template."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest

from neurocompile.build_folder import assemble
from neurocompile.ir.yaml_reader import network_from_text
from neurocompile.pipeline import CompileOptions, compile_network

NET = """\
name: looked-at 2
dt: 1 ms
seed: 11
populations:
  in:     {model: spike_source, size: 30, params: {rate: 20 Hz}}
  hidden: {model: lif, size: 90, params: {tau_mem: 20 ms, v_threshold: 0.6, reset: subtract}}
  relay:  {model: lif, size: 70, params: {tau_mem: 20 ms, v_threshold: 0.6, reset: to_value}}
  out:    {model: leaky_readout, size: 3, params: {tau_mem: 20 ms}}
projections:
  - {pre: in, post: hidden, connect: {fixed_indegree: 9}, weight: {normal: [0, 0.1]}, delay: 1 ms, learning: rule}
  - {name: late, pre: hidden, post: relay, connect: {fixed_indegree: 5}, weight: 0.25, delay: {uniform: [2, 7]}}
  - {pre: hidden, post: out, connect: all_to_all, weight: {normal: [0, 0.02]}, delay: 1 ms, learning: rule}
learning:
  rule: {rule: eprop, kappa: 0.9, feedback: {random: {normal: [0, 1]}}}
task: {readout: out}
"""

BUILDS = {
    "loihi2": CompileOptions(target="loihi2", machine="kapoho-point", allow_approximation=True, overrides={"core.neurons": 7.0}),
    "loihi2, one chip": CompileOptions(target="loihi2", allow_approximation=True, extra={"error_scale": "0.5"}),
    "spinnaker": CompileOptions(target="spinnaker", allow_approximation=True),
    "nest": CompileOptions(target="nest", allow_approximation=True),
}


@dataclass(eq=False)
class Element:
    """An element: its attributes, children, and texts in order."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    parts: list[str | Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with white space as a browser shows it."""
        return " ".join("".join(p if isinstance(p, str) else f"{p.text} " if p.tag in BLOCKS else p.text for p in self.parts).split())

    def all(self, tag: str) -> list[Element]:
        """The element itself and descendants with this tag, in the order of the page."""
        return [e for child in self.children for e in ([child] if child.tag == tag else []) + child.all(tag)]

    def every(self) -> list[Element]:
        """All descendants."""
        return [e for child in self.children for e in [child, *child.every()]]


BLOCKS = {"td", "th", "tr", "dt", "dd", "p", "li", "caption", "small"}
VOID = {"meta", "br", "hr", "link", "img", "input", "base", "source", "embed", "rect"}


class Reader(HTMLParser):
    """Reads a page into elements; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert self._open == [self.root], f"not closed: {[e.tag for e in self._open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        self._open[-1].parts.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].parts.append(data)


@dataclass(frozen=True)
class Page:
    """A build's page and its report.json."""

    report: dict[str, Any]
    html: str

    @property
    def root(self) -> Element:
        return Reader(self.html).root

    def table(self, caption: str) -> list[dict[str, str]]:
        """Rows of the table whose caption begins so, by column heading."""
        (table,) = [t for t in self.root.all("table") if t.all("caption")[0].text.startswith(caption)]
        (head, *rows) = table.all("tr")
        columns = [cell.text for cell in head.children]
        return [dict(zip(columns, [cell.text for cell in row.children], strict=False)) for row in rows]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """One page for each of BUILDS."""
    network = network_from_text(NET, "net.yaml", tmp_path_factory.mktemp("report"))
    found = {}
    for name, options in BUILDS.items():
        files = assemble(compile_network(network, options), options, {"net.yaml": NET.encode()})
        found[name] = Page(json.loads(files["report.json"]), files["report.html"].decode())
    return found


@pytest.fixture(params=list(BUILDS))
def page(request: pytest.FixtureRequest, pages: dict[str, Page]) -> Page:
    """Each of the pages in turn."""
    found: Page = pages[request.param]
    return found
