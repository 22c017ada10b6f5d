"""Arithmetic that keeps the width of its operands (numba's widens to 64 bits, which makes vectors shorter), and one that saturates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir as llvm
from numba import types
from numba.extending import intrinsic

Builder = Callable[[Any, Any, Any], Any]
"""(builder, a, b) -> the value, all of one integer type"""


def _binary(make: Builder, *, second: Any = None) -> Any:
    """Return an intrinsic of two integers of one type, or of a value and a ``second`` that is cast to its type."""

    def typed(_context: Any, a: Any, b: Any) -> Any:
        def build(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            value, other = args
            if other.type.width > value.type.width:
                other = builder.trunc(other, value.type)
            elif other.type.width < value.type.width:
                other = builder.sext(other, value.type)
            return make(builder, value, other)

        return (a(a, second or b), build) if second is not None or a == b else None

    return intrinsic(typed)


def _saturating(builder: Any, a: Any, b: Any) -> Any:
    name = f"llvm.sadd.sat.i{a.type.width}"
    function = builder.module.globals.get(name) or llvm.Function(builder.module, llvm.FunctionType(a.type, (a.type, a.type)), name)
    return builder.call(function, (a, b))


shift_right = _binary(lambda builder, a, b: builder.ashr(a, b), second=types.int32)
"""(value, int32) -> value shifted by so many bits to the right, arithmetically"""
shift_left = _binary(lambda builder, a, b: builder.shl(a, b), second=types.int32)
"""(value, int32) -> value shifted by so many bits to the left"""
add = _binary(lambda builder, a, b: builder.add(a, b))
"""a + b; wraps"""
subtract = _binary(lambda builder, a, b: builder.sub(a, b))
"""a - b; wraps"""
multiply = _binary(lambda builder, a, b: builder.mul(a, b))
"""a b; wraps"""
saturating_add = _binary(_saturating)
"""a + b, limited to the range of the type"""
smaller = _binary(lambda builder, a, b: builder.select(builder.icmp_signed("<", a, b), a, b))
larger = _binary(lambda builder, a, b: builder.select(builder.icmp_signed(">", a, b), a, b))
