"""The JSON Schema (draft-07) of the file format, made from the same table as the reader (:mod:`neurocompile.ir.spec`).

Editors use it for completion and hover: ``neurocompile schema > neurocompile.schema.json`` and, as the first line of a description,
``# yaml-language-server: $schema=neurocompile.schema.json``.
"""

from __future__ import annotations

from typing import Any

from neurocompile.ir.spec import ROOT
from neurocompile.ir.spec_types import Definitions

DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema() -> dict[str, Any]:
    """Return the schema: keys, types, ranges of plain numbers, unit patterns. What crosses sections (names, shapes, dt) it cannot say."""
    definitions: Definitions = {}
    root = ROOT.schema(definitions)
    return {"$schema": DRAFT, "title": "neurocompile network description", **root, "definitions": dict(sorted(definitions.items()))}
