"""Running a network from the command line: in slices, with checkpoints, and never beyond the memory that there is."""
