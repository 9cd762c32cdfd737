"""Copies of parts of matrices, as they are, or transposed, a square of vectors at a time."""

from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import VECTOR_BYTES, routine
from minidl.kernels.cpu.vectors import I32, I64, Emitter, data, ir

__all__ = ["copy_rows", "copy_transposed"]


@routine
def copy_rows(source, first, step, target, begin, stride, rows, length):
    """target[begin + i stride:] = source[first + i step:] for rows of a length, in flat arrays.

    Plain loops, as in all kernels: numba compiles assignments between slices for seconds.
    """
    for i in range(rows):
        here, there = source[first + i * step :], target[begin + i * stride :]  # then no index can be negative
        for k in range(length):
            there[k] = here[k]


@intrinsic
def transpose_square(typingctx, source, i, step, columns, target, j, width):
    """target[j + k width + q] = source[i + k + min(q, columns - 1) step] for k, q < lanes.

    Blocks on both sides of the diagonal change places: those of one number, then of 2 x 2 numbers, 4 x 4, ...
    """

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype))
        source, i, step, columns, target, j, width = args
        source = data(context, builder, signature.args[0], source, i)
        target = data(context, builder, signature.args[4], target, j)
        lanes, rows, last = emitter.lanes, [], builder.sub(columns, I64(1))
        for q in range(lanes):
            there = builder.select(builder.icmp_signed("<", I64(q), last), I64(q), last)
            rows.append(emitter.load(source, builder.mul(step, there)))
        size = 1
        while size < lanes:
            numbers = range(lanes)
            upper = [lane if not lane & size else lanes + lane - size for lane in numbers]
            lower = [lane + size if not lane & size else lanes + lane for lane in numbers]
            masks = [ir.Constant(ir.VectorType(I32, lanes), mask) for mask in (upper, lower)]
            for q in numbers:
                if not q & size:
                    pair = rows[q], rows[q + size]
                    rows[q], rows[q + size] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            size *= 2
        for k, row in enumerate(rows):
            emitter.store(row, target, builder.mul(width, I64(k)))
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, n, target, n, n), codegen


@routine
def copy_transposed(source, first, step, columns, length, target, width):
    """target[k width + q] = source[first + k + q step] for k < length, q < columns, in flat arrays.

    Vectors are whole: if columns end inside of one, it is filled up with the last.
    """
    lanes = VECTOR_BYTES // target.itemsize
    squares = length - length % lanes
    for q in range(0, columns, lanes):
        here = min(lanes, columns - q)
        for k in range(0, squares, lanes):
            transpose_square(source, first + k + q * step, step, here, target, k * width + q, width)
        for k in range(squares, length):
            for lane in range(lanes):
                target[k * width + q + lane] = source[first + k + (q + min(lane, here - 1)) * step]
