"""The micro-kernel: P x Q vectors of a matrix product kept in registers, with strides for everything.

    C[p, q] (+)= Σ_{r < R} Σ_{k < K} A[p rs + r as + k cs] B[r bs + k ldb + q]

Two loops over the summed index, because a window of a channels-last image is KH runs of KW * C contiguous numbers:
neighbouring output pixels are rows of A that overlap (rs = stride * C), so no im2col copy is made. The same kernel is
the weight gradient (rs = 1, cs = stride * C: A transposed) and a plain matrix product (R = 1).
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import VECTOR_BYTES, jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.vectors import I64, Emitter, data

__all__ = ["product", "product_many"]


def micro_kernel(P, Q, vector=True):
    """Make the intrinsic for P rows and Q vectors (or Q single numbers) of C."""

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
    load, packed, lanes, fma = emitter.load, emitter.type, emitter.lanes, emitter.fma()
    a, b, c = (data(context, builder, signature.args[i], x, o) for i, x, o in ((0, a, ia), (5, b, ib), (9, c, ic)))
    columns = [I64(q * lanes) for q in range(Q)]
    rows = [builder.gep(c, [builder.mul(I64(p), ldc)]) for p in range(P)]
    a_rows = [builder.mul(I64(p), rs) for p in range(P)]

    entry, function = builder.block, builder.function
    reload, outer, inner, next_r, end = (
        function.append_basic_block(name) for name in ("reload", "outer", "inner", "next_r", "end")
    )
    builder.cbranch(builder.icmp_signed("!=", accumulate, I64(0)), reload, outer)
    builder.position_at_end(reload)
    start = [load(row, column) for row in rows for column in columns]
    builder.branch(outer)

    builder.position_at_end(outer)
    r, a_r, b_r = builder.phi(I64), builder.phi(a.type), builder.phi(b.type)
    sums_r = [builder.phi(packed) for _ in range(P * Q)]
    for block, sums in ((entry, [emitter.zero] * (P * Q)), (reload, start)):
        r.add_incoming(I64(0), block)
        a_r.add_incoming(a, block)
        b_r.add_incoming(b, block)
        for phi, value in zip(sums_r, sums, strict=True):
            phi.add_incoming(value, block)
    builder.branch(inner)

    builder.position_at_end(inner)
    k, a_k, b_k = builder.phi(I64), builder.phi(a.type), builder.phi(b.type)
    sums_k = [builder.phi(packed) for _ in range(P * Q)]
    vectors = [load(b_k, column) for column in columns]
    new = []
    for p in range(P):
        a_p = emitter.splat(builder.load(builder.gep(a_k, [a_rows[p]])))
        new += [builder.call(fma, [a_p, vectors[q], sums_k[p * Q + q]]) for q in range(Q)]
    k_next = builder.add(k, I64(1))
    for phi, first, later in (
        (k, I64(0), k_next),
        (a_k, a_r, builder.gep(a_k, [cs])),
        (b_k, b_r, builder.gep(b_k, [ldb])),
        *zip(sums_k, sums_r, new, strict=True),
    ):
        phi.add_incoming(first, outer)
        phi.add_incoming(later, inner)
    builder.cbranch(builder.icmp_signed("<", k_next, K), inner, next_r)

    builder.position_at_end(next_r)
    r_next = builder.add(r, I64(1))
    for phi, later in (
        (r, r_next),
        (a_r, builder.gep(a_r, [as_])),
        (b_r, builder.gep(b_r, [bs])),
        *zip(sums_r, new, strict=True),
    ):
        phi.add_incoming(later, next_r)
    builder.cbranch(builder.icmp_signed("<", r_next, R), outer, end)

    builder.position_at_end(end)
    for p in range(P):
        for q in range(Q):
            emitter.store(new[p * Q + q], rows[p], columns[q])
    return context.get_dummy_value()


# Rows of C at a time: 8 or more sums in flight hide the latency of fma, and all must fit into the registers.
TALL = 8  # rows of one vector
WIDE = 4 if VECTOR_BYTES == 32 else 8  # rows of two vectors (AVX2 has 16 registers, AVX-512 and NEON 32)

wide = micro_kernel(WIDE, 2)
tall = micro_kernel(TALL, 1)
vector = micro_kernel(1, 1)
single = micro_kernel(1, 1, vector=False)


@jit
def product(M, N, a, ia, rs, as_, cs, b, ib, bs, ldb, c, ic, ldc, R, K, accumulate):
    """C (M, N) (+)= A B for flat arrays a, b, c from their offsets ia, ib, ic on; R, K >= 1."""
    lanes = VECTOR_BYTES // a.itemsize
    q = 0
    while q < N:
        left = N - q
        if left >= 2 * lanes:
            p = 0
            while p + WIDE <= M:
                wide(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
                p += WIDE
            while p < M:
                for s in range(q, q + 2 * lanes, lanes):
                    vector(a, ia + p * rs, rs, as_, cs, b, ib + s, bs, ldb, c, ic + p * ldc + s, ldc, R, K, accumulate)
                p += 1
            q += 2 * lanes
        elif left >= lanes:
            p = 0
            while p + TALL <= M:
                tall(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
                p += TALL
            while p < M:
                vector(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
                p += 1
            q += lanes
        else:
            for p in range(M):
                single(a, ia + p * rs, rs, as_, cs, b, ib + q, bs, ldb, c, ic + p * ldc + q, ldc, R, K, accumulate)
            q += 1


@jit
def product_many(start, stop, crew, repeats, M, N, K, a, b):
    """Multiply A (M, K) by B (K, N) `repeats` times for tasks start..stop: how fast the micro-kernel alone is."""
    if crew:
        return share_out(job_of(start, stop), crew)
    c = np.empty(M * N, a.dtype)
    for _ in range((stop - start) * repeats):
        product(M, N, a, 0, K, 0, 1, b, 0, 0, N, c, 0, N, 1, K, 0)
