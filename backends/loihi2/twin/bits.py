"""Shifts that keep the width of what they shift (numba's widen 32-bit integers to 64, which halves the width of vectors)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir as llvm
from numba import types
from numba.extending import intrinsic


def _shift(name: str) -> Any:
    def typed(_context: Any, value: Any, _by: Any) -> Any:
        """numba widens int32 >> int32 to 64 bits, which halves the width of vectors."""

        def build(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            by = builder.sext(args[1], args[0].type) if args[0].type != llvm.IntType(32) else args[1]
            return getattr(builder, name)(args[0], by)

        return value(value, types.int32), build

    return intrinsic(typed)


shift_right, shift_left = _shift("ashr"), _shift("shl")
"""(value, int32) -> value shifted by so many bits, arithmetically to the right or to the left"""
