"""The step of SGD in one pass over memory."""

from minidl.kernels import override, threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats

BLOCK = 1 << 15  # numbers per task


@jit
def descend(start, stop, crew, weight, dweight, lr, decay):
    """weight -= lr (dweight + decay weight) for blocks start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    part = slice(start * BLOCK, stop * BLOCK)
    weight, dweight = weight[part], dweight[part]
    for i in range(weight.size):
        weight[i] -= lr * (dweight[i] + decay * weight[i])


@jit
def descend_with_momentum(start, stop, crew, weight, dweight, lr, decay, velocity, old, new, by_g, by_v):
    """g = dweight + decay weight, v = old v + new g, weight -= lr (by_g g + by_v v) for blocks start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    part = slice(start * BLOCK, stop * BLOCK)
    weight, dweight, velocity = weight[part], dweight[part], velocity[part]
    for i in range(weight.size):
        g = dweight[i] + decay * weight[i]
        v = old * velocity[i] + new * g
        velocity[i] = v
        weight[i] -= lr * (by_g * g + by_v * v)


def contiguous(*arrays):
    return floats(*arrays) and all(a is None or a.flags.c_contiguous for a in arrays)


@override("sgd_step", "cpu", when=lambda weight, dweight, velocity, **_: contiguous(weight, dweight, velocity))
def sgd_step(weight, dweight, velocity, *, lr, momentum, dampening, weight_decay, nesterov, first):
    kind = weight.dtype.type
    tasks, args = -(-weight.size // BLOCK), [weight.reshape(-1), dweight.reshape(-1), kind(lr), kind(weight_decay)]
    if not momentum:
        return threads.run(descend, tasks, *args)
    if first:
        velocity[...] = 0
    coefficients = (momentum, 1 if first else 1 - dampening, 1 if nesterov else 0, momentum if nesterov else 1)
    return threads.run(descend_with_momentum, tasks, *args, velocity.reshape(-1), *map(kind, coefficients))
