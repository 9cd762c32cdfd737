"""The step of SGD in one pass over memory: all parameters of a group in one launch."""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from minidl.kernels import override, threads
from minidl.kernels.cpu.jit import exact_jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats

BLOCK = 1 << 15  # numbers per task


@intrinsic
def pointer(typingctx, address):
    """An address as a pointer."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), codegen


@exact_jit
def descend(start, stop, crew, addresses, sizes, ends, coefficients):
    """The step for blocks start..stop of the arrays at addresses (weight, dweight, velocity or 0), one row a parameter.

    g = dweight + decay weight, v = old v + new g, weight -= lr (by_g g + by_v v)
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    lr, decay, old, new, by_g, by_v = coefficients
    p = 0
    for task in range(start, stop):
        while ends[p] <= task:  # blocks before the end of parameter p
            p += 1
        begin = BLOCK * (task - (ends[p - 1] if p > 0 else 0))
        size, at = min(BLOCK, sizes[p] - begin), addresses[p] + begin * coefficients.itemsize
        weight = carray(pointer(at[0]), size, coefficients.dtype)
        dweight = carray(pointer(at[1]), size, coefficients.dtype)
        if addresses[p, 2]:
            velocity = carray(pointer(at[2]), size, coefficients.dtype)
            for i in range(size):
                g = dweight[i] + decay * weight[i]
                v = old * velocity[i] + new * g
                velocity[i] = v
                weight[i] -= lr * (by_g * g + by_v * v)
        else:
            for i in range(size):
                weight[i] -= lr * (dweight[i] + decay * weight[i])


def in_place(weights, dweights, velocities, **options):
    """Whether the arrays that change are contiguous, and all are of one dtype."""
    changing = [a for a in (*weights, *velocities) if a is not None]
    return floats(*changing, *dweights) and all(a.flags.c_contiguous for a in changing)


@override("sgd_step", "cpu", when=in_place)
def sgd_step(weights, dweights, velocities, *, lr, momentum, dampening, weight_decay, nesterov, first):
    coefficients = (momentum, 1 if first else 1 - dampening, 1 if nesterov else 0, momentum if nesterov else 1)
    if momentum and first:
        for velocity in velocities:
            velocity[...] = 0
    gradients = [np.ascontiguousarray(dweight) for dweight in dweights]
    rows = zip(weights, gradients, velocities, strict=True)
    addresses = np.array([[0 if a is None else a.ctypes.data for a in row] for row in rows])
    sizes = np.array([weight.size for weight in weights])
    ends = np.cumsum(-(-sizes // BLOCK))
    numbers = np.array([lr, weight_decay, *coefficients], weights[0].dtype)
    threads.run_over(int(sizes.sum()), descend, int(ends[-1]), addresses, sizes, ends, numbers)
