"""Softmax and cross-entropy, each in as few passes over memory as there are arrays to read and write."""

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.elementary import exp, of_numbers
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats
from minidl.kernels.cpu.vectors import I32, I64, Emitter, data, loop
from minidl.kernels.tape import compute, contiguous

BLOCK = 1 << 13  # numbers per task, in whole rows
FEW = 1 << 12  # numbers for which NumPy's passes take hardly longer, and nothing has to be compiled

exp_of = of_numbers(exp)


@intrinsic
def largest_of_vectors(typingctx, x, count):
    """The largest of the numbers in `count` > 0 whole vectors from the beginning of x."""

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(x.dtype))
        start, one = data(context, builder, x, args[0]), I64(1)

        def compare(i, values):
            here = emitter.load(start, builder.mul(builder.add(i, one), I64(emitter.lanes)))
            return [greater(builder, here, values[0])]

        (most,) = loop(builder, builder.sub(args[1], one), [emitter.load(start, I64(0))], compare)
        lanes = [builder.extract_element(most, I32(k)) for k in range(emitter.lanes)]
        while len(lanes) > 1:
            lanes = [greater(builder, a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return x.dtype(x, types.intp), codegen


def greater(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@routine
def largest(row):
    """The largest of some numbers; of a NaN among them the sum of the row tells."""
    lanes = VECTOR_BYTES // row.itemsize
    whole = len(row) // lanes
    result = largest_of_vectors(row, whole) if whole else row[0]
    for i in range(whole * lanes, len(row)):
        result = row[i] if row[i] > result else result
    return result


@routine
def take_exp(x, y):
    """y = exp(x) for rows as one long row: the compiler makes vectors of it whatever the length of a row."""
    x, y = x.reshape(-1), y.reshape(-1)
    for i in range(len(x)):
        y[i] = exp_of(x[i])


@routine
def subtract_largest(x, y):
    """y = x - max x in each row."""
    for r in range(len(x)):
        here, there = x[r], y[r]
        most = largest(here)
        for i in range(len(here)):
            there[i] = here[i] - most


@routine
def sum_of(x):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i]
    return total


@routine
def write_log_p(x, log_p):
    e = np.empty_like(log_p)
    subtract_largest(x, log_p)
    take_exp(log_p, e)
    for r in range(len(x)):
        there, log_total = log_p[r], x.dtype.type(math.log(sum_of(e[r])))
        for i in range(len(there)):
            there[i] -= log_total


@jit
def log_softmax_rows(start, stop, crew, x, rows, log_p):
    """log_p = x - ln Σ exp(x) for blocks start..stop of so many rows."""
    if crew:
        return share_out(job_of(start, stop), crew)
    for first in range(start * rows, min(stop * rows, len(x)), rows):
        write_log_p(x[first : first + rows], log_p[first : first + rows])


@jit
def log_softmax_backward_rows(start, stop, crew, dy, log_p, rows, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    for first in range(start * rows, min(stop * rows, len(dy)), rows):
        take_exp(log_p[first : first + rows], dx[first : first + rows])
        for r in range(first, min(first + rows, len(dy))):
            d, there = dy[r], dx[r]
            total = sum_of(d)
            for i in range(len(d)):
                there[i] = d[i] - there[i] * total


@jit
def softmax_rows(start, stop, crew, x, rows, p):
    if crew:
        return share_out(job_of(start, stop), crew)
    for first in range(start * rows, min(stop * rows, len(x)), rows):
        here = p[first : first + rows]
        d = np.empty_like(here)
        subtract_largest(x[first : first + rows], d)
        take_exp(d, here)
        for r in range(len(here)):
            there = here[r]
            total = sum_of(there)
            for i in range(len(there)):
                there[i] /= total


@jit
def softmax_backward_rows(start, stop, crew, dy, p, rows, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    for r in range(start * rows, min(stop * rows, len(dy))):
        d, here, there, total = dy[r], p[r], dx[r], dy.dtype.type(0)
        for i in range(len(d)):
            total += here[i] * d[i]
        for i in range(len(d)):
            there[i] = here[i] * (d[i] - total)


@jit
def cross_entropy_rows(start, stop, crew, x, q, rows, loss, log_p):
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = x.dtype.type(0)
    for first in range(start * rows, min(stop * rows, len(x)), rows):
        write_log_p(x[first : first + rows], log_p[first : first + rows])
        for r in range(first, min(first + rows, len(x))):
            here, weight, total = log_p[r], q[r], zero
            for i in range(len(here)):
                total += zero if weight[i] == zero else weight[i] * here[i]
            loss[r] = -total


@jit
def cross_entropy_backward_rows(start, stop, crew, dloss, log_p, q, rows, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    for first in range(start * rows, min(stop * rows, len(q)), rows):
        take_exp(log_p[first : first + rows], dx[first : first + rows])
        for r in range(first, min(first + rows, len(q))):
            d, weight, there = dloss[r], q[r], dx[r]
            total = sum_of(weight)
            for i in range(len(weight)):
                there[i] = d * (there[i] * total - weight[i])


@jit
def class_target_rows(start, stop, crew, labels, counts, weight, hot, other, rows, q):
    """q = weight times `hot` at the label and `other` elsewhere."""
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = q.dtype.type(0)
    for r in range(start * rows, min(stop * rows, len(q))):
        row, factor = q[r], other if counts[r] else zero
        for c in range(len(row)):
            row[c] = factor * weight[c]
        if counts[r]:
            row[labels[r]] = hot * weight[labels[r]]


def by_rows(kernel, *args, out, others=()):
    """Run a kernel over rows (M, C) of `out` and of the arrays; returns `out`."""
    M, C = out.shape
    rows = max(1, BLOCK // C)
    threads.run_over(out.size, kernel, -(-M // rows), *args, rows, *others, out)
    return out


def along(axis, kernel, *arrays):
    """What a kernel makes of rows of the arrays along an axis, as an array of their shape."""
    order = list(range(arrays[0].ndim))
    order.append(order.pop(axis))
    turned = [contiguous(a.transpose(order)) for a in arrays]
    rows = [a.reshape(-1, a.shape[-1]) for a in turned]
    y = by_rows(kernel, *rows, out=empty(rows[0].shape, rows[0].dtype))
    return y.reshape(turned[0].shape).transpose(np.argsort(order))


def fits(x, *, axis):
    return x.size >= FEW and floats(x)


def fits_backward(dy, saved, needs):
    return dy.size >= FEW and floats(dy, saved[0])


def register(op, rows, backward_rows):
    @override(f"{op}_forward", "cpu", when=fits)
    def forward(x, *, axis):
        y = along(axis, rows, x)
        return y, (y, axis)

    @override(f"{op}_backward", "cpu", when=fits_backward)
    def backward(dy, saved, needs):
        y, axis = saved
        return (along(axis, backward_rows, dy, y),)


register("log_softmax", log_softmax_rows, log_softmax_backward_rows)
register("softmax", softmax_rows, softmax_backward_rows)


@override("cross_entropy_forward", "cpu", when=lambda x, q: q.size >= FEW and floats(x, q))
def cross_entropy_forward(x, q):
    x, q = contiguous(x), contiguous(q)
    loss, log_p = empty((len(x),), x.dtype), empty(x.shape, x.dtype)
    by_rows(cross_entropy_rows, x, q, out=log_p, others=(loss,))
    return loss, (log_p, q)


@override(
    "cross_entropy_backward", "cpu", when=lambda dloss, saved, needs: saved[1].size >= FEW and floats(dloss, *saved)
)
def cross_entropy_backward(dloss, saved, needs):
    log_p, q = saved
    dx = dq = None
    if needs[0]:
        dx = by_rows(cross_entropy_backward_rows, contiguous(dloss), log_p, q, out=empty(q.shape, q.dtype))
    if needs[1]:
        dq = compute(gradient_of_target, dloss, log_p)
    return dx, dq


def gradient_of_target(dloss, log_p):
    return -dloss[:, None] * log_p


def many_targets(labels, counts, weight, *, smoothing):
    return labels.size * len(weight) >= FEW and floats(weight)


@override("class_targets", "cpu", when=many_targets)
def class_targets(labels, counts, weight, *, smoothing):
    C, number = len(weight), weight.dtype.type
    q, labels = empty((labels.size, C), weight.dtype), labels.astype(np.int64, copy=False)
    hot, other = number(1 - smoothing + smoothing / C), number(smoothing / C)
    return by_rows(class_target_rows, labels, counts, contiguous(weight), hot, other, out=q)
