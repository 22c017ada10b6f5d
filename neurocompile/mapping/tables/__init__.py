"""Routes to tables: ``tabulate(n_neurons, partition, placement, routes, machine) -> RoutingTables``."""

from neurocompile.mapping.tables.build import tabulate
from neurocompile.mapping.tables.minimise import minimise

__all__ = ["minimise", "tabulate"]
