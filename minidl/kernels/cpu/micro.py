"""The micro-kernel: P x Q vectors of a matrix product kept in registers, with strides for everything.

    C[p, q] (+)= Σ_{r < R} Σ_{k < K} A[p rs + r as + k cs] B[r bs + k ldb + q]

Two loops over the summed index, because a window of a channels-last image is KH runs of KW * C contiguous numbers:
neighbouring output pixels are rows of A that overlap (rs = stride * C), so no im2col copy is made. The same kernel is
the weight gradient (rs = 1, cs = stride * C: A transposed) and a plain matrix product (R = 1).
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import VECTOR_BYTES, jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.vectors import I64, Emitter, data, loop

__all__ = ["product", "product_many", "special_product"]


def micro_kernel(P, Q, vector=True):
    """Make the intrinsic for P rows and Q vectors (or Q single numbers) of C.

    Each sum is one chain of fma, in order: what the compiler makes of sums that it may reorder differs between callers.
    """

    @intrinsic
    def kernel(typingctx, a, ia, rs, as_, cs, b, ib, bs, ldb, c, ic, ldc, R, K, accumulate):
        def codegen(context, builder, signature, args):
            return emit(context, builder, signature, args, P, Q, vector)

        n = types.intp
        return types.void(a, n, n, n, n, b, n, n, n, c, n, n, n, n, n), codegen

    return kernel


def emit(context, builder, signature, args, P, Q, vector):
    a, ia, rs, as_, cs, b, ib, bs, ldb, c, ic, ldc, R, K, accumulate = args
    emitter = Emitter(builder, context.get_value_type(signature.args[0].dtype), None if vector else 1)
    fma, columns = emitter.fma(), [I64(q * emitter.lanes) for q in range(Q)]
    a, b, c = (data(context, builder, signature.args[i], x, o) for i, x, o in ((0, a, ia), (5, b, ib), (9, c, ic)))
    rows = [builder.gep(c, [builder.mul(I64(p), ldc)]) for p in range(P)]
    a_rows = [builder.mul(I64(p), rs) for p in range(P)]

    def add_terms(_, values):
        a_k, b_k, *sums = values
        vectors, new = [emitter.load(b_k, column) for column in columns], []
        for p in range(P):
            a_p = emitter.splat(builder.load(builder.gep(a_k, [a_rows[p]])))
            new += [builder.call(fma, [a_p, vectors[q], sums[p * Q + q]]) for q in range(Q)]
        return [builder.gep(a_k, [cs]), builder.gep(b_k, [ldb]), *new]

    def add_run(_, values):
        a_r, b_r = values[:2]
        _, _, *sums = loop(builder, K, values, add_terms)
        return [builder.gep(a_r, [as_]), builder.gep(b_r, [bs]), *sums]

    entry = builder.block
    with builder.if_then(builder.icmp_signed("!=", accumulate, I64(0))):
        before, reload = [emitter.load(row, column) for row in rows for column in columns], builder.block
    start = [builder.phi(emitter.type) for _ in range(P * Q)]
    for phi, value in zip(start, before, strict=True):
        phi.add_incoming(emitter.zero, entry)
        phi.add_incoming(value, reload)
    _, _, *sums = loop(builder, R, [a, b, *start], add_run)
    for place in range(P * Q):
        emitter.store(sums[place], rows[place // Q], columns[place % Q])
    return context.get_dummy_value()


# Rows of C at a time: 8 or more sums in flight hide the latency of fma, and all must fit into the registers.
TALL = 8  # rows of one vector
WIDE = 4 if VECTOR_BYTES == 32 else 8  # rows of two vectors (AVX2 has 16 registers, AVX-512 and NEON 32)
ODD = 9  # rows of a last piece that leave none over: a row of 3 taps of 3 colours

wide, tall = micro_kernel(WIDE, 2), micro_kernel(TALL, 1)
odd_wide, odd_tall = micro_kernel(ODD if WIDE == TALL else WIDE, 2), micro_kernel(ODD, 1)
four_wide, four = micro_kernel(4, 2), micro_kernel(4, 1)
three_wide, three = micro_kernel(3, 2), micro_kernel(3, 1)
vector = micro_kernel(1, 1)
single = micro_kernel(1, 1, vector=False)


@jit
def special_product(M, N, a, ia, rs, as_, cs, b, ib, bs, ldb, c, ic, ldc, R, K, accumulate):
    """As `product` for whole vectors, N a multiple of them, and M mostly one of 8.

    Compiled for the constants among its arguments: that pays where K is small.
    """
    lanes = VECTOR_BYTES // a.itemsize
    q = 0
    while q < N:
        p = 0
        if N - q >= 2 * lanes:
            while p + WIDE <= M:
                wide(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
                p += WIDE
        else:
            while p + TALL <= M:
                tall(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
                p += TALL
        last = min(N, q + 2 * lanes)
        while p < M:
            for s in range(q, last, lanes):
                vector(a, ia + p * rs, rs, as_, cs, b, ib + s, bs, ldb, c, ic + p * ldc + s, ldc, R, K, accumulate)
            p += 1
        q = last


@routine
def product(M, N, a, ia, rs, as_, cs, b, ib, bs, ldb, c, ic, ldc, R, K, accumulate):
    """C (M, N) (+)= A B for flat arrays a, b, c from their offsets ia, ib, ic on; R, K >= 1.

    Compiled once for all callers.
    """
    lanes = VECTOR_BYTES // a.itemsize
    q = 0
    while q < N:
        left, p = N - q, 0
        while p < M:
            rows, pa, pb, pc = M - p, ia + p * rs, ib + q, ic + p * ldc + q
            if left >= 2 * lanes:
                if rows == ODD and WIDE == TALL:
                    odd_wide(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += ODD
                elif rows >= WIDE:
                    wide(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += WIDE
                elif rows >= 4:
                    four_wide(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += 4
                elif rows == 3:
                    three_wide(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += 3
                else:
                    vector(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    vector(a, pa, rs, as_, cs, b, pb + lanes, bs, ldb, c, pc + lanes, ldc, R, K, accumulate)
                    p += 1
            elif left >= lanes:
                if rows == ODD:
                    odd_tall(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += ODD
                elif rows >= TALL:
                    tall(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += TALL
                elif rows >= 4:
                    four(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += 4
                elif rows == 3:
                    three(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += 3
                else:
                    vector(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                    p += 1
            else:
                single(a, pa, rs, as_, cs, b, pb, bs, ldb, c, pc, ldc, R, K, accumulate)
                p += 1
        q += 2 * lanes if left >= 2 * lanes else lanes if left >= lanes else 1


@jit
def product_many(start, stop, crew, repeats, M, N, K, a, b):
    """Multiply A (M, K) by B (K, N) `repeats` times for tasks start..stop: how fast the micro-kernel alone is."""
    if crew:
        return share_out(job_of(start, stop), crew)
    c = np.empty(M * N, a.dtype)
    for _ in range((stop - start) * repeats):
        product(M, N, a, 0, K, 0, 1, b, 0, 0, N, c, 0, N, 1, K, 0)
