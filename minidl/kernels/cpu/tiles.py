"""The transforms of Winograd's F(4x4, 3x3) and F(2x2, 5x5) as generated code over vectors of channels.

Four outputs of a 3-tap filter, or two of a 5-tap filter, are a product of two polynomials taken at six points: 0, ±a,
±b, ∞. With a = 1/√2 and b = √2 most constants are powers of two and float32 loses about half of what it loses at the
usual 0, ±1, ±2, ∞. Each function below is one of the matrices (Lavin & Gray 2015, arXiv 1509.09308:
y = Aᵀ [(G g) * (Bᵀ d)]), written out; a tile takes it along its columns, then along its rows. `*_tile` move one tile of
one vector of channels, here for F(4x4, 3x3):

    input_tile            6x6 pixels of an image   -> Bᵀ d B   -> 36 planes
    gradient_tile         4x4 pixels of dy         -> A dy Aᵀ  -> 36 planes
    output_tile           36 planes                -> Aᵀ m A   -> 4x4 pixels
    weight_tile           3x3 taps                 -> G g Gᵀ   -> 36 planes
    weight_gradient_tile  36 planes                -> Gᵀ u G   -> 3x3 taps

Pixels are named by the offsets of their rows and columns; what lies outside of the image (a negative sum) is read as
zero and not written.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidl.kernels.cpu.signs import EVERY, passed
from minidl.kernels.cpu.vectors import I8, I32, I64, Emitter, Vector, data

__all__ = ["gradient_tile_2", "gradient_tile_4", "input_tile", "output_tile_2", "output_tile_4"]
__all__ += ["read_soon_2", "read_soon_4", "weight_gradient_tile_3", "weight_gradient_tile_5", "weight_tile_3"]
__all__ += ["weight_tile_5", "write_soon_2", "write_soon_4"]

a, b = math.sqrt(0.5), math.sqrt(2)  # a² = 1/2, b² = 2


# fmt: off
def bt(d0, d1, d2, d3, d4, d5):
    even_a, odd_a = d4 - 2.0 * d2, a * (d3 - 2.0 * d1)
    even_b, odd_b = d4 - 0.5 * d2, b * (d3 - 0.5 * d1)
    return (d0 - 2.5 * d2 + d4, even_a + odd_a, even_a - odd_a,
            even_b + odd_b, even_b - odd_b, d1 - 2.5 * d3 + d5)


def at_4(m0, m1, m2, m3, m4, m5):
    sum_a, dif_a = m1 + m2, m1 - m2
    sum_b, dif_b = m3 + m4, m3 - m4
    return (m0 + sum_a + sum_b,
            a * dif_a + b * dif_b,
            0.5 * sum_a + 2.0 * sum_b,
            a / 2 * dif_a + 2 * b * dif_b + m5)


def at_2(m0, m1, m2, m3, m4, m5):
    return m0 + (m1 + m2) + (m3 + m4), a * (m1 - m2) + b * (m3 - m4) + m5


def transposed_at_4(y0, y1, y2, y3):
    even_a, odd_a = y0 + 0.5 * y2, a * y1 + a / 2 * y3
    even_b, odd_b = y0 + 2.0 * y2, b * y1 + 2 * b * y3
    return y0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y3


def transposed_at_2(y0, y1):
    odd_a, odd_b = a * y1, b * y1
    return y0, y0 + odd_a, y0 - odd_a, y0 + odd_b, y0 - odd_b, y1


def g_3(g0, g1, g2):
    even_a, odd_a = -2 / 3 * (g0 + 0.5 * g2), -2 / 3 * a * g1
    even_b, odd_b = 1 / 6 * (g0 + 2.0 * g2), 1 / 6 * b * g1
    return g0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, g2


def g_5(g0, g1, g2, g3, g4):
    even_a, odd_a = -2 / 3 * (g0 + 0.5 * g2 + 0.25 * g4), -2 / 3 * a * (g1 + 0.5 * g3)
    even_b, odd_b = 1 / 6 * (g0 + 2.0 * g2 + 4.0 * g4), 1 / 6 * b * (g1 + 2.0 * g3)
    return g0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, g4


def transposed_g_3(u0, u1, u2, u3, u4, u5):
    sum_a, dif_a = -2 / 3 * (u1 + u2), -2 / 3 * a * (u1 - u2)
    sum_b, dif_b = 1 / 6 * (u3 + u4), 1 / 6 * b * (u3 - u4)
    return u0 + sum_a + sum_b, dif_a + dif_b, 0.5 * sum_a + 2.0 * sum_b + u5


def transposed_g_5(u0, u1, u2, u3, u4, u5):
    sum_a, dif_a = -2 / 3 * (u1 + u2), -2 / 3 * a * (u1 - u2)
    sum_b, dif_b = 1 / 6 * (u3 + u4), 1 / 6 * b * (u3 - u4)
    return (u0 + sum_a + sum_b, dif_a + dif_b,
            0.5 * sum_a + 2.0 * sum_b, 0.5 * dif_a + 2.0 * dif_b,
            0.25 * sum_a + 4.0 * sum_b + u5)
# fmt: on


def both_ways(transform, tile, part=slice(None)):
    """The transform of each column of a tile (a list of rows), then of each row, or of part of them."""
    columns = [transform(*column)[part] for column in zip(*tile, strict=True)]
    return [transform(*row) for row in zip(*columns, strict=True)]


def offsets(context, builder, kind, array, n):
    """The first n numbers of an array of offsets."""
    start = data(context, builder, kind, array)
    return [builder.load(builder.gep(start, [I64(i)])) for i in range(n)]


def pixels_to_planes(transform, n, parts=(slice(None),)):
    """Make the intrinsic that takes n x n pixels of `image` from channel c on to planes[i + k plane].

    The rows of planes are made in parts, for which the pixels are loaded again: all 36 do not fit into the registers,
    and what does not fit would be stored and loaded, too.
    """

    @intrinsic
    def tile(typingctx, image, rows, columns, c, planes, i, plane):
        def codegen(context, builder, signature, args):
            image, rows, columns, c, planes, i, plane = args
            emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype))
            image = data(context, builder, signature.args[0], image)
            planes = data(context, builder, signature.args[4], planes, i)
            rows = offsets(context, builder, signature.args[1], rows, n)
            columns = [builder.add(x, c) for x in offsets(context, builder, signature.args[2], columns, n)]

            nothing = cgutils.global_constant(builder, "nothing", emitter.zero)
            nothing = builder.bitcast(nothing, image.type)

            def pixel(row, column):
                offset = builder.add(row, column)
                inside = builder.icmp_signed(">=", offset, I64(0))
                place = builder.select(inside, builder.gep(image, [offset]), nothing)
                return Vector(emitter, emitter.load(place, I64(0)))

            for part in parts:
                pixels = [[pixel(row, column) for column in columns] for row in rows]
                store_planes(emitter, both_ways(transform, pixels, part), planes, plane, 6 * (part.start or 0))
            return context.get_dummy_value()

        n_ = types.intp
        return types.void(image, rows, columns, n_, planes, n_, n_), codegen

    return tile


def planes_to_planes(transform, n):
    """Make the intrinsic that takes n x n vectors source[i + k step] to planes[j + k plane]."""

    @intrinsic
    def tile(typingctx, source, i, step, planes, j, plane):
        def codegen(context, builder, signature, args):
            source, i, step, planes, j, plane = args
            emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype))
            source = data(context, builder, signature.args[0], source, i)
            planes = data(context, builder, signature.args[3], planes, j)
            store_planes(emitter, both_ways(transform, load_planes(emitter, source, step, n)), planes, plane)
            return context.get_dummy_value()

        n_ = types.intp
        return types.void(source, n_, n_, planes, n_, n_), codegen

    return tile


def load_planes(emitter, source, step, n):
    offset = [emitter.builder.mul(I64(k), step) for k in range(n * n)]
    return [[Vector(emitter, emitter.load(source, offset[n * i + j])) for j in range(n)] for i in range(n)]


def store_planes(emitter, tile, planes, plane, first=0):
    for k, value in enumerate((value for row in tile for value in row), first):
        emitter.store(value.value, planes, emitter.builder.mul(I64(k), plane))


def planes_to_pixels(transform, n):
    """Make the intrinsic that writes the n x n transform of planes[i + k plane] + bias[c:] to pixels of `image`.

    What lies outside goes to `waste`. `finish` is (), or has all parts (minidl.kernels.cpu.finish).
    """

    @intrinsic
    def tile(typingctx, planes, i, plane, bias, image, rows, columns, c, waste, finish):
        def codegen(context, builder, signature, args):
            planes, i, plane, bias, image, rows, columns, c, waste, finish = args
            kinds = signature.args
            emitter = Emitter(builder, context.get_value_type(kinds[0].dtype))

            def vector(kind, array, offset):
                return Vector(emitter, emitter.load(data(context, builder, kind, array), offset))

            planes = data(context, builder, kinds[0], planes, i)
            result = both_ways(transform, load_planes(emitter, planes, plane, 6))
            bias = vector(kinds[3], bias, c)
            image, waste = data(context, builder, kinds[4], image), data(context, builder, kinds[8], waste)
            rows = offsets(context, builder, kinds[5], rows, n)
            columns = [builder.add(x, c) for x in offsets(context, builder, kinds[6], columns, n)]
            if len(kinds[9]):
                scale, low, other, signs = (builder.extract_value(finish, k) for k in range(4))
                scale, low = vector(kinds[9][0], scale, c), emitter.splat(low)
                other, others = data_or(context, builder, kinds[9][2], other, emitter.zero)
                signs, bits = data_or(context, builder, kinds[9][3], signs, EVERY)
            for row, values in zip(rows, result, strict=True):
                for column, value in zip(columns, values, strict=True):
                    offset = builder.add(row, column)
                    inside = builder.icmp_signed(">=", offset, I64(0))
                    if len(kinds[9]):
                        more = emitter.load(other, builder.select(builder.and_(inside, others), offset, I64(0)))
                        more = passed(emitter, more, signs, builder.select(builder.and_(inside, bits), offset, I64(0)))
                        value = (scale * value + bias + Vector(emitter, more)).value
                        value = builder.select(builder.fcmp_ordered("<=", value, low), low, value)  # NaN passes
                    else:
                        value = (value + bias).value
                    emitter.store(value, builder.select(inside, builder.gep(image, [offset]), waste), I64(0))
            return context.get_dummy_value()

        n_ = types.intp
        return types.void(planes, n_, n_, bias, image, rows, columns, n_, waste, finish), codegen

    return tile


def data_or(context, builder, kind, array, constant):
    """The address of an array's data, of a constant if it is empty, and whether it is not."""
    array = context.make_array(kind)(context, builder, array)
    instead = builder.bitcast(cgutils.global_constant(builder, "constant", constant), array.data.type)
    has_some = builder.icmp_signed(">", array.nitems, I64(0))
    return builder.select(has_some, array.data, instead), has_some


input_tile = pixels_to_planes(bt, 6, (slice(0, 3), slice(3, 6)))
gradient_tile_4, gradient_tile_2 = pixels_to_planes(transposed_at_4, 4), pixels_to_planes(transposed_at_2, 2)
output_tile_4, output_tile_2 = planes_to_pixels(at_4, 4), planes_to_pixels(at_2, 2)
weight_tile_3, weight_tile_5 = planes_to_planes(g_3, 3), planes_to_planes(g_5, 5)
weight_gradient_tile_3 = planes_to_planes(transposed_g_3, 6)
weight_gradient_tile_5 = planes_to_planes(transposed_g_5, 6)


def prefetch_pixels(n, write):
    """Make the intrinsic that asks for the cache lines of n x n pixels from image[i] on; any i will do."""

    @intrinsic
    def tile(typingctx, image, i, row, column):
        def codegen(context, builder, signature, args):
            image, i, row, column = args
            line = I8.as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [line, I32, I32, I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            place = data(context, builder, signature.args[0], image, i)
            for _ in range(n):
                pixel = place
                for _ in range(n):
                    builder.call(function, [builder.bitcast(pixel, line), I32(int(write)), I32(3), I32(1)])
                    pixel = builder.gep(pixel, [column])
                place = builder.gep(place, [row])
            return context.get_dummy_value()

        n_ = types.intp
        return types.void(image, n_, n_, n_), codegen

    return tile


read_soon_4, read_soon_2 = prefetch_pixels(4, write=False), prefetch_pixels(2, write=False)
write_soon_4, write_soon_2 = prefetch_pixels(4, write=True), prefetch_pixels(2, write=True)
