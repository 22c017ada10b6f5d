"""What numba has no word for: a barrier for threads that run without the interpreter's lock, and prefetching.

Barrier: every thread counts its arrivals in a place of its own and waits until all others have counted as far: single writers, so plain
stores with release and loads with acquire order are enough. Waiting threads spin for a while, then give their core away: machines are often
shared.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from neurocompile.backends.reference.kernels.tables import F8, I8

LINE = 8
"""int64 numbers in a cache line: threads count in lines of their own."""
_SPINS = 2000
_sched_yield = types.ExternalFunction("sched_yield", types.int32())


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _load_rule(_typing: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature, arguments), "acquire", 8)

    return types.int64(array, types.intp), generate


def _store_rule(_typing: Any, array: Any, _index: Any, _value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[2], _pointer(context, builder, signature, arguments), "release", 8)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(array, types.intp, types.int64), generate


def _prefetch_rule(_typing: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        name, kind = "llvm.prefetch.p0i8", ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        address = builder.bitcast(_pointer(context, builder, signature, arguments), byte)
        builder.call(function, [address, ir.Constant(word, 1), ir.Constant(word, 3), ir.Constant(word, 1)])  # to write, keep, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_prefetch: Any = intrinsic(_prefetch_rule)
_load: Any = intrinsic(_load_rule)
_store: Any = intrinsic(_store_rule)


@njit(cache=True, nogil=True)
def wait(arrivals: I8, thread: int, n_threads: int) -> None:
    """Return when all ``n_threads`` threads have called this as often as this one. arrivals: int64 (n_threads * LINE,), zeros at first."""
    if n_threads == 1:
        return
    mine = arrivals[thread * LINE] + 1
    _store(arrivals, thread * LINE, mine)
    for other in range(n_threads):
        spins = 0
        while _load(arrivals, other * LINE) < mine:
            spins += 1
            if spins > _SPINS:
                _sched_yield()


@njit(cache=True, nogil=True)
def prefetch(array: F8, index: int) -> None:
    """Ask for ``array[index]`` to be brought into the cache; ``index`` is not checked but for being of the array's memory."""
    _prefetch(array, index)
