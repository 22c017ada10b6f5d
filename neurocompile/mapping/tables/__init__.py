"""Routes to tables: ``tabulate(n_neurons, partition, placement, routes, machine) -> RoutingTables``."""

from neurocompile.mapping.tables.build import tabulate
from neurocompile.mapping.tables.minimise import minimise
from neurocompile.mapping.tables.ordered import minimise_ordered

__all__ = ["minimise", "minimise_ordered", "tabulate"]
