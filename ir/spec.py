"""The file format as a table: sections, keys, kinds, defaults, descriptions. The YAML reader and the JSON Schema are both made from it.

Where the dataclasses of :mod:`neurocompile.ir` have another name for a key, ``attr`` says so. Descriptions appear in editors (hover),
in error messages (help) and in docs/yaml.md.
"""

from __future__ import annotations

from neurocompile.ir.spec_kinds import TIME
from neurocompile.ir.spec_learning import RULE, RULE_FIELDS
from neurocompile.ir.spec_network import CONNECT, MODEL_PARAMS, POPULATION, PROJECTION
from neurocompile.ir.spec_sections import AnyList, Field, NamedMap, Section
from neurocompile.ir.spec_task import DATA, LOSS, MAPPING, TASK
from neurocompile.ir.spec_types import Number, Text

ROOT = Section(
    name="network",
    doc="A spiking network: populations, projections, learning rules and a task.",
    fields=(
        Field(key="name", kind=Text(what="a name"), doc="Name of the network.", default="the file's name"),
        Field(key="dt", kind=TIME, doc="Time step, > 0, e.g. 1 ms.", required=True),
        Field(key="seed", kind=Number(whole=True, low=0, high=2**63 - 1), doc="Seed of everything random.", default="1"),
        Field(key="populations", kind=NamedMap(item=POPULATION, what="population"), doc="Populations by name.", required=True),
        Field(key="projections", kind=AnyList(item=PROJECTION, what="projection"), doc="Projections."),
        Field(key="learning", kind=NamedMap(item=RULE, what="learning rule"), doc="Learning rules by name."),
        Field(key="task", kind=TASK, doc="What the network is for."),
        Field(key="mapping", kind=MAPPING, doc="What the mapper is told (docs/mapping.md)."),
    ),
)

__all__ = ["CONNECT", "DATA", "LOSS", "MAPPING", "MODEL_PARAMS", "POPULATION", "PROJECTION", "ROOT", "RULE", "RULE_FIELDS", "TASK"]
