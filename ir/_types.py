"""Array types shared by the whole package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

Param = float | FloatArray
"""A parameter of a population: one number for all its neurons, or an array of shape (n,). A scalar stays a scalar (NIR #176)."""


def frozen_array(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Return a read-only copy of ``values`` with the given dtype."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
