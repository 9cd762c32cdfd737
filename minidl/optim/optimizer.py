"""Optimizer: parameter groups, state by parameter, and both as a state dict."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.tensor import Tensor

__all__ = ["Optimizer"]


class Optimizer:
    """Base of all rules.

    Args:
        params: Tensors, or dicts {"params": Tensors, option: value, ...} that override the defaults for a group.
        defaults: the options of a group.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: params must be a list of Tensors or of dicts, got a Tensor")
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: params is empty; pass model.parameters()")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add Tensors with options of their own."""
        if not isinstance(group, dict) or "params" not in group:
            raise ValueError(f"{type(self).__name__}: a group must be a dict with 'params', got {group!r}")
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: can only optimise Tensors, got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"{type(self).__name__}: can only optimise leaves, got one of shape {p.shape} with a graph"
                )
            if id(p) in known:
                raise ValueError(f"{type(self).__name__}: a parameter of shape {p.shape} appears twice")
            known.add(id(p))
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown - {"initial_lr"}:
            raise ValueError(
                f"{type(self).__name__}: unknown options {sorted(unknown)}; known are {sorted(self.defaults)}"
            )
        group = {**self.defaults, **group, "params": params}
        self.check(group)
        self.param_groups.append(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError or TypeError for options out of range."""
        for name in ("lr", "momentum", "weight_decay"):
            value = group.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise TypeError(f"{type(self).__name__}: {name} must be a number, got {value!r}")
            if not value >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must be >= 0, got {value}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or make them zeros)."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = None if set_to_none else p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; `closure` computes the loss and its gradients before."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if p.grad.shape != p.shape:
                    raise ValueError(f"step: a gradient of shape {p.grad.shape} for a parameter of shape {p.shape}")
            if params:
                self.update(params, group)
            for p in params:
                p.memory.changes += 1
        return loss

    def update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Change the arrays of a group's parameters in place by their gradients."""
        raise NotImplementedError(f"{type(self).__name__} defines no update(params, group)")

    def state_dict(self) -> dict[str, Any]:
        """Return state and groups; parameters appear by their number, in the order of the groups."""
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[id(p)]: dict(values) for p, values in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; nothing is changed unless everything fits.

        Raises:
            ValueError: the groups, their sizes or the shapes of the state differ.
        """
        if not isinstance(state_dict, dict) or not state_dict.keys() >= {"state", "param_groups"}:
            raise ValueError("load_state_dict: state_dict must be a dict with 'state' and 'param_groups'")
        groups = state_dict["param_groups"]
        sizes, expected = ([len(g["params"]) for g in gs] for gs in (groups, self.param_groups))
        if sizes != expected:
            raise ValueError(f"load_state_dict: groups hold {sizes} parameters, expected {expected}")
        own = [p for group in self.param_groups for p in group["params"]]
        numbers = [number for group in groups for number in group["params"]]
        params = dict(zip(numbers, own, strict=True))
        state: dict[Tensor, dict[str, Any]] = {}
        for number, values in state_dict["state"].items():
            if int(number) not in params:
                raise ValueError(f"load_state_dict: state for parameter {number}, which no group holds")
            p = params[int(number)]
            state[p] = {name: self._copied(name, value, p) for name, value in values.items()}
        for group, new in zip(self.param_groups, groups, strict=True):
            self.check({**group, **new})
        self.state = state
        for group, new in zip(self.param_groups, groups, strict=True):
            group.update({name: value for name, value in new.items() if name != "params"})

    def _copied(self, name: str, value: Any, p: Tensor) -> Any:
        if not hasattr(value, "shape") or value.shape == ():
            return value
        if tuple(value.shape) != p.shape:
            raise ValueError(f"load_state_dict: {name} has shape {tuple(value.shape)}, its parameter {p.shape}")
        return Tensor(np.array(value, p.dtype))

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])
