"""Which numbers of an activation are positive (or NaN), one bit each: what the gradient of a ReLU has to know.

A bit is kept beside the numbers by the kernel that makes them, in the order of memory; backward then reads a 32nd of
what it would read otherwise.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.buffers import empty, is_buffer, owner
from minidl.kernels.cpu.jit import routine
from minidl.kernels.cpu.layout import is_channels_last
from minidl.kernels.cpu.vectors import Emitter, data

__all__ = ["EVERY", "GROUP", "cut", "keep_signs", "new_signs", "signs_of"]

GROUP = 16  # numbers whose bits are one uint16
BITS = ir.IntType(GROUP)
EVERY = ir.Constant(BITS, -1)


@intrinsic
def keep_group(typingctx, y, i, signs):
    """signs[i / 16] = the bits of y[i : i + 16]."""

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype), GROUP)
        y, i, signs = args
        values = emitter.load(data(context, builder, signature.args[0], y), i)
        bits = builder.bitcast(builder.fcmp_unordered(">", values, emitter.zero), BITS)
        builder.store(bits, data(context, builder, signature.args[2], signs, builder.sdiv(i, i.type(GROUP))))
        return context.get_dummy_value()

    return types.void(y, types.intp, signs), codegen


def passed(emitter, values, signs, i):
    """The vector `values`, from place i of an array on, where the bits of its signs are set, else 0."""
    builder, lanes = emitter.builder, emitter.lanes
    bits = builder.load(builder.gep(signs, [builder.sdiv(i, i.type(GROUP))]))
    if lanes < GROUP:
        bits = builder.lshr(bits, builder.trunc(builder.srem(i, i.type(GROUP)), BITS))
        bits = builder.trunc(bits, ir.IntType(lanes))
    return builder.select(builder.bitcast(bits, ir.VectorType(ir.IntType(1), lanes)), values, emitter.zero)


@intrinsic
def cut_group(typingctx, dy, i, signs, out, k):
    """out[k : k + 16] = dy[i : i + 16] where the bit is set, else 0."""

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype), GROUP)
        dy, i, signs, out, k = args
        kinds = signature.args
        values = emitter.load(data(context, builder, kinds[0], dy), i)
        values = passed(emitter, values, data(context, builder, kinds[2], signs), i)
        emitter.store(values, data(context, builder, kinds[3], out), k)
        return context.get_dummy_value()

    n = types.intp
    return types.void(dy, n, signs, out, n), codegen


@routine
def keep_signs(y, first, count, signs):
    """The bits of y[first : first + count], flat; `first` is a multiple of 16."""
    whole = first + count // GROUP * GROUP
    for i in range(first, whole, GROUP):
        keep_group(y, i, signs)
    if whole < first + count:
        bits = 0
        for k in range(first + count - whole):
            bits |= (0 if y[whole + k] <= 0 else 1) << k
        signs[whole // GROUP] = bits


@routine
def cut(dy, first, count, signs, out):
    """out[:count] = dy[first : first + count], flat, where the bit is set, else 0; `first` is a multiple of 16."""
    whole = count // GROUP * GROUP
    for k in range(0, whole, GROUP):
        cut_group(dy, first + k, signs, out, k)
    for k in range(whole, count):
        bit = signs[(first + k) // GROUP] >> (first + k) % GROUP & 1
        out[k] = dy[first + k] if bit else dy.dtype.type(0)


def new_signs(y):
    """Room for the signs of a new array, found later by `signs_of(y)`; none for small ones."""
    if not is_buffer(y):
        return np.empty(0, np.uint16)
    signs = owner(y).signs = empty((-(-y.size // GROUP),), np.uint16)
    return signs


def signs_of(y, dy):
    """The signs of y if they are known and dy lies in memory as y does, else None."""
    same = dy.flags.c_contiguous and y.flags.c_contiguous or is_channels_last(dy) and is_channels_last(y)
    return owner(y).signs if same and is_buffer(y) else None
