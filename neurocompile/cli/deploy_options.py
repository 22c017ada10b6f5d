"""Options of ``deploy`` that belong to one destination or another; which to which: ``OPTIONS`` of its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from neurocompile.deploy.inrc import COPIES, GENERATIONS, LAUNCHES

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--host", metavar="USER@HOST", help="inrc: where to log in, a name that your ssh knows."),
    click.option("--port", type=click.IntRange(1, 65535), help="inrc: port of the host's ssh; default: that of your configuration."),
    click.option("--ssh-config", type=click.Path(), help="inrc: configuration of ssh instead of ~/.ssh/config."),
    click.option("--partition", metavar="NAME", help="inrc: slurm partition."),
    click.option("--board", metavar="NAME", help="inrc: slurm node, instead of a partition."),
    click.option("--loihi-gen", type=click.Choice(GENERATIONS), help="inrc: generation of the chip; default: N3B3."),
    click.option("--no-hw", is_flag=True, help="inrc: run in Lava's CPU models on the host."),
    click.option("--python", metavar="PATH", help="inrc: Python on the host that has Lava; ~/ is the home folder there; default: python3."),
    click.option("--launch", type=click.Choice(LAUNCHES), help="inrc: as a job of slurm (default), or on the host itself."),
    click.option("--copy", type=click.Choice(COPIES), help="inrc: how files travel; default: rsync where both ends have it."),
    click.option("--remote-dir", metavar="PATH", help="inrc: folder there, below the home folder or absolute; default: .neurocompile."),
    click.option("--collab", metavar="NAME", help="spinnaker-cloud: the collab whose quota is used."),
    click.option(
        "--hours", type=click.IntRange(1, 168), help="spinnaker-cloud: end the program after so many hours; default: the service's."
    ),
    click.option("--service", metavar="URL", help="spinnaker-cloud: another job service than EBRAINS' own."),
    click.option("--userinfo", metavar="URL", help="spinnaker-cloud: where it is asked whose the token is, instead of EBRAINS'."),
    click.option("--server", metavar="SERVER", help="spalloc: HOST or HOST:PORT of a classic server, https://HOST/PATH of a new one."),
    click.option("--user", metavar="NAME", help="spalloc: whose boards they are; at a new server the name to log in with."),
    click.option("--machine", metavar="NAME", help="spalloc: this machine of the server's."),
    click.option("--group", metavar="NAME", help="spalloc: at a new server, the group whose quota is used."),
)


def destination_options(command: F) -> F:
    """Add the options, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
