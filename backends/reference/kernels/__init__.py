"""Compiled kernels of the reference engine (numba, float64, one thread, cached on disk)."""
