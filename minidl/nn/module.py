"""Module: parameters, buffers and children by name, training mode, hooks, state dict."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.arguments import as_dtype, require_cpu
from minidl.primitives import is_floating, unwrap
from minidl.tensor import Handle, Tensor
from minidl.watch import here

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A Tensor that a Module lists among its parameters."""

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True):
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, got {type(data).__name__}")
        super().__init__(data.array)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` returns."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _first(items: list[Any], separator: str = ", ") -> str:
    more = [f"... ({len(items)} in all)"] if len(items) > 8 else []
    return separator.join([str(item) for item in items[:8]] + more)


class Module:
    """Base of all layers and networks: assign Parameters and Modules as attributes, define `forward`."""

    training: bool
    _changes = 0  # of attributes other than parameters, buffers and children

    def __init__(self) -> None:
        for name in ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "_non_persistent", set())
        object.__setattr__(self, "training", True)

    # --- attributes -----------------------------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
        homes = {Parameter: self._parameters, Module: self._modules}
        home = next((homes[kind] for kind in homes if isinstance(value, kind)), None)
        if home is None:
            home = next((h for h in (*homes.values(), self._buffers) if name in h), None)
            if home is self._parameters and value is not None:
                raise TypeError(f"{name} is a Parameter of {type(self).__name__}; assign a Parameter or None")
        if home is None:
            object.__setattr__(self, name, value)
            object.__setattr__(self, "_changes", self._changes + 1)
            return
        for other in (*homes.values(), self._buffers, self.__dict__):
            if other is not home:
                other.pop(name, None)
        home[name] = value

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if "_parameters" in own:
            for home in (own["_parameters"], own["_buffers"], own["_modules"]):
                if name in home:
                    return home[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for home in (self._parameters, self._buffers, self._modules):
            if name in home:
                del home[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def _check(self, what: str, kind: type, name: str, value: Any) -> None:
        if (
            not isinstance(name, str)
            or not name
            or "." in name
            or (hasattr(self, name) and name not in self._own(name))
        ):
            raise KeyError(f"{type(self).__name__}: {name!r} cannot name a {what}: it holds a dot or is taken")
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}: a {what} must be a {kind.__name__} or None, got {type(value).__name__}")

    def _own(self, name: str) -> dict[str, Any]:
        """The first of the registers that holds `name`, or an empty one."""
        return next((h for h in (self._parameters, self._buffers, self._modules) if name in h), {})

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a Tensor that is state but no parameter; a persistent one is in the state dict."""
        self._check("buffer", Tensor, name, tensor)
        self._buffers[name] = tensor
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Add a Parameter under a name that is no attribute yet; None reserves the name."""
        self._check("parameter", Parameter, name, parameter)
        self._parameters[name] = parameter

    def add_module(self, name: str, module: "Module | None") -> None:
        """Add a child."""
        self._check("child", Module, name, module)
        self._modules[name] = module

    # --- calls ----------------------------------------------------------------------------------------------------
    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward(self, x)")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if self._forward_pre_hooks:
            for hook in list(self._forward_pre_hooks.values()):
                changed = hook(self, inputs)
                if changed is not None:
                    inputs = changed if isinstance(changed, tuple) else (changed,)
        here.modules.append(self)
        try:
            output = self.forward(*inputs, **options)
        finally:
            here.modules.pop()
        if self._forward_hooks:
            for hook in list(self._forward_hooks.values()):
                changed = hook(self, inputs, output)
                output = output if changed is None else changed
        return output

    def register_forward_hook(self, hook: Callable[["Module", tuple, Any], Any]) -> Handle:
        """Call `hook(module, inputs, output)` after forward; what it returns takes the output's place."""
        return Handle(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[["Module", tuple], Any]) -> Handle:
        """Call `hook(module, inputs)` before forward; what it returns takes the inputs' place."""
        return Handle(self._forward_pre_hooks, hook)

    # --- walks ----------------------------------------------------------------------------------------------------
    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        return ((name, child) for name, child in self._modules.items() if child is not None)

    def children(self) -> Iterator["Module"]:
        return (child for _, child in self.named_children())

    def named_modules(self, memo: set | None = None, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield (dotted name, module), this one first, each module once."""
        memo = set() if memo is None else memo
        if id(self) not in memo:
            memo.add(id(self))
            yield prefix, self
            for name, child in self.named_children():
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def get_submodule(self, target: str) -> "Module":
        """The module of a dotted name; "" is this one.

        Raises:
            AttributeError: there is none.
        """
        module = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"get_submodule: {target!r} of {type(self).__name__} is no module")
        return module

    def modules(self) -> Iterator["Module"]:
        return (module for _, module in self.named_modules())

    def _named(self, home: str, recurse: bool = True) -> Iterator[tuple[str, Any]]:
        seen = set()
        for prefix, module in self.named_modules() if recurse else [("", self)]:
            for name, value in getattr(module, home).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, parameter), each once."""
        return ((f"{prefix}.{name}" if prefix else name, p) for name, p in self._named("_parameters", recurse))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers")

    def buffers(self) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers())

    def apply(self, function: Callable[["Module"], Any]) -> "Module":
        """Call `function` on every module, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- modes ----------------------------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> "Module":
        """Switch to training (True) or evaluation (False)."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be True or False, got {mode!r}")
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> "Module":
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else parameter.grad.zero_()

    def to(self, *target: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> "Module":
        """Convert floating-point parameters and buffers to a dtype, in place; "cpu" is where they are."""
        for t in (*target, device, dtype):
            if isinstance(t, str) and t.split(":")[0] in ("cpu", "cuda"):
                require_cpu("to", t)
            elif t is not None:
                self._convert(t.dtype if isinstance(t, Tensor) else t)
        return self

    def _convert(self, dtype: Any) -> None:
        if as_dtype("to", dtype).kind != "f":
            raise TypeError(f"to: a module can be converted to a floating-point dtype, got {dtype!r}")
        for tensor in (*self.parameters(), *self.buffers()):
            if is_floating(tensor):
                tensor.array = tensor.detach().to(dtype).array
                tensor.grad = None if tensor.grad is None else tensor.grad.to(dtype)

    def cpu(self) -> "Module":
        """Itself: this is where parameters are."""
        return self

    def cuda(self, device: Any = None) -> "Module":
        """Raise NotImplementedError: there are no parameters on a GPU yet."""
        require_cpu("cuda", "cuda")

    def float(self) -> "Module":
        return self.to(np.float32)

    def double(self) -> "Module":
        return self.to(np.float64)

    # --- state ----------------------------------------------------------------------------------------------------
    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Return parameters and persistent buffers by dotted name; the Tensors share memory with the module."""
        state: dict[str, Tensor] = OrderedDict()
        for name, value in (*self._parameters.items(), *self._buffers.items()):
            if value is not None and name not in self._non_persistent:
                state[prefix + name] = value.detach()
        for name, child in self.named_children():
            state.update(child.state_dict(f"{prefix}{name}."))
        return state

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into parameters and buffers by name; nothing is changed unless everything fits.

        Raises:
            RuntimeError: a shape differs; or with `strict` a key is missing or unexpected.
            TypeError: `state_dict` is no dict, or holds what is no array of numbers.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: state_dict must be a dict, got {type(state_dict).__name__}")
        own = self.state_dict()
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        problems = []
        if strict and missing:
            problems.append(f"missing keys: {_first(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected keys: {_first(unexpected)}")
        shapes = []
        for key in [key for key in own if key in state_dict]:
            if getattr(getattr(state_dict[key], "dtype", None), "kind", "?") not in "biuf":
                raise TypeError(
                    f"load_state_dict: {key} must be a Tensor or an array, got {type(state_dict[key]).__name__}"
                )
            if tuple(state_dict[key].shape) != own[key].shape:
                shapes.append(f"{key} has shape {tuple(state_dict[key].shape)}, expected {own[key].shape}")
        if shapes:
            problems.append(_first(shapes, "; "))
        if problems:
            raise RuntimeError(f"load_state_dict of {type(self).__name__}: " + "; ".join(problems))
        values = {key: np.asarray(unwrap(state_dict[key]), own[key].dtype) for key in own if key in state_dict}
        for key, value in values.items():
            own[key].copy_(value)
        return IncompatibleKeys(missing, unexpected)

    # --- text -----------------------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """What stands between the brackets of the module's line."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}({extra}", *lines]) + "\n)"
