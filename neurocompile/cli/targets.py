"""``targets``: what can be compiled for, and on which machines."""

from __future__ import annotations

import shutil

import click

from neurocompile.backends.base import Target, load_targets
from neurocompile.cli.common import Output, common_options, table
from neurocompile.machine import Machine, machines_of_family
from neurocompile.pipeline import find_target

_LEAST_WIDTH = 120
"""Of the tables of machines: names of quantities, which ``--set machine.QUANTITY`` takes, are never cut."""


def _machines(target: Target) -> list[Machine]:
    return [machine for family in target.machine_families for machine in machines_of_family(family)]


@click.command()
@click.argument("name", required=False)
@common_options
def targets(name: str | None, output: Output) -> None:
    """List the targets; with NAME, what it supports and its machines with every number's source and confidence."""
    if name is None:
        rows = table("targets", "target", "machines", "SDK")
        payload = []
        for target in load_targets().values():
            machines = [m.name for m in _machines(target)]
            sdk = target.sdk_versions()
            rows.add_row(target.name, ", ".join(machines) or "-", ", ".join(f"{k} {v or 'missing'}" for k, v in sdk.items()))
            payload.append({"name": target.name, "title": target.title, "machines": machines, "sdk": sdk})
        output.result("targets", {"targets": payload}, rows)
        return
    target = find_target(name)
    features = table(f"{target.name}: {target.title}", "feature", "how")
    features.columns[1].justify = "left"
    for feature, how in target.capabilities().items():
        features.add_row(feature, how)
    texts: list[object] = [features]
    machines_json = []
    for machine in _machines(target):
        rows = table(f"\n{machine.name} ({machine.family}): {machine.title}", "quantity", "value", "unit", "confidence", "source")
        for column in rows.columns[2:]:
            column.justify = "left"
        for column in rows.columns[:-1]:
            column.no_wrap = True
        rows.width = max(shutil.get_terminal_size().columns, _LEAST_WIDTH)
        for key, q in sorted(machine.quantities.items()):
            rows.add_row(key, f"{q.value:g}", q.unit, q.confidence, q.source)
        texts.append(rows)
        machines_json.append(
            {
                "name": machine.name,
                "family": machine.family,
                "default": machine.name == target.default_machine,
                "quantities": {
                    k: {"value": q.value, "unit": q.unit, "source": q.source, "confidence": q.confidence}
                    for k, q in machine.quantities.items()
                },
            }
        )
    payload_one = {
        "name": target.name,
        "title": target.title,
        "capabilities": target.capabilities(),
        "sdk": target.sdk_versions(),
        "machines": machines_json,
    }
    output.result("targets", payload_one, *texts)
