"""Compiled kernels of the reference engine (numba, float64, one thread, cached on disk).

numba's cache of a function looks at the file of that function alone, not at those of the functions it calls: after an edit of one kernel
file, touch all of them (an installation writes them all anew).
"""
