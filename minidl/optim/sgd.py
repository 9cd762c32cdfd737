"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minidl.kernels import kernel
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor

__all__ = ["SGD"]


@kernel
def sgd_step(weight, dweight, velocity, *, lr, momentum, dampening, weight_decay, nesterov, first):
    """Change weight and velocity in place.

    g = dweight + weight_decay weight
    v = momentum v + (1 - dampening) g          (the first time: v = g)
    weight = weight - lr (g + momentum v)       with Nesterov, else weight - lr v
    """
    g = dweight + weight_decay * weight if weight_decay else dweight
    if momentum:
        velocity[...] = g if first else momentum * velocity + (1 - dampening) * g
        g = g + momentum * velocity if nesterov else velocity
    weight -= lr * g


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov's variant, and weight decay (see `sgd_step`).

    Args:
        params: Tensors or groups. lr: learning rate. momentum, dampening: of the velocity.
        weight_decay: factor of the L2 penalty's gradient. nesterov: look ahead by the new velocity.
        maximize: ascend instead.

    Source: Sutskever et al. 2013, in PyTorch's form (the learning rate outside the velocity).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        defaults = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
        super().__init__(params, {**defaults, "maximize": maximize})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov=True needs a momentum > 0 and dampening 0")

    def update(self, p: Tensor, group: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("momentum", "dampening", "weight_decay", "nesterov")}
        velocity = self.state.get(p, {}).get("momentum_buffer")
        first = velocity is None
        if group["momentum"] and first:
            velocity = Tensor(np.zeros_like(p.array))
            self.state[p] = {"momentum_buffer": velocity}
        buffer = None if velocity is None else velocity.array
        dweight = -p.grad.array if group["maximize"] else p.grad.array
        sgd_step(p.array, dweight, buffer, lr=group["lr"], first=first, **options)
