"""Transposed copies of matrices, a square of vectors at a time."""

from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import VECTOR_BYTES, jit
from minidl.kernels.cpu.vectors import I32, I64, Emitter, data, ir

__all__ = ["copy_transposed"]


@intrinsic
def transpose_square(typingctx, source, i, step, target, j, width):
    """target[j + k width + q] = source[i + k + q step] for k, q < lanes.

    Blocks on both sides of the diagonal change places: those of one number, then of 2 x 2 numbers, 4 x 4, ...
    """

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype))
        source, i, step, target, j, width = args
        source = data(context, builder, signature.args[0], source, i)
        target = data(context, builder, signature.args[3], target, j)
        lanes = emitter.lanes
        rows = [emitter.load(source, builder.mul(step, I64(q))) for q in range(lanes)]
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
    return types.void(source, n, n, target, n, n), codegen


@jit
def copy_transposed(source, first, step, columns, length, target, width):
    """target[k width + q] = source[first + k + q step] for k < length, q < columns, in flat arrays."""
    lanes = VECTOR_BYTES // target.itemsize
    whole_columns, whole_length = columns - columns % lanes, length - length % lanes
    for q in range(0, whole_columns, lanes):
        for k in range(0, whole_length, lanes):
            transpose_square(source, first + k + q * step, step, target, k * width + q, width)
    for q in range(columns):
        for k in range(whole_length if q < whole_columns else 0, length):
            target[k * width + q] = source[first + k + q * step]
