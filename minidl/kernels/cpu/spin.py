"""Waiting for a moment without sleeping: waking a thread that sleeps takes longer than many a kernel."""

from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.vectors import data

__all__ = ["spin"]


@intrinsic
def look(typingctx, counter):
    """counter[0] of int64 as it is in memory now."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(data(context, builder, signature.args[0], args[0]), "acquire", 8)

    return types.int64(counter), codegen


@jit
def spin(counter, seen, looks):
    """Return when counter[0] is no longer `seen`, or after so many looks."""
    for _ in range(looks):
        if look(counter) != seen:
            return
