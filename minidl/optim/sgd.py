"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minidl.kernels import kernel
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor

__all__ = ["SGD"]


@kernel
def sgd_step(weights, dweights, velocities, *, lr, momentum, dampening, weight_decay, nesterov, first):
    """Change each weight and its velocity (None without momentum) in place.

    g = dweight + weight_decay weight
    v = momentum v + (1 - dampening) g          (the first time: v = g)
    weight = weight - lr (g + momentum v)       with Nesterov, else weight - lr v
    """
    for weight, dweight, velocity in zip(weights, dweights, velocities, strict=True):
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

    def update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("lr", "momentum", "dampening", "weight_decay", "nesterov")}
        begun = [p for p in params if not group["momentum"] or "momentum_buffer" in self.state.get(p, {})]
        new = [p for p in params if group["momentum"] and "momentum_buffer" not in self.state.get(p, {})]
        self.state.update({p: {"momentum_buffer": Tensor(np.zeros_like(p.array))} for p in new})
        for chosen, first in ((begun, False), (new, True)):
            if chosen:
                velocities = [self.state[p]["momentum_buffer"].array if group["momentum"] else None for p in chosen]
                dweights = [-p.grad.array if group["maximize"] else p.grad.array for p in chosen]
                sgd_step([p.array for p in chosen], dweights, velocities, first=first, **options)
