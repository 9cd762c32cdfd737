"""Modules that hold others: a chain, a list, a dict; and a list of parameters."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minidl.nn.module import Module, Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Sequential"]


class _Numbered(Module):
    """What a chain and a list share: children in order, reached by position."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        names = list(self._modules)
        if isinstance(index, slice):
            if isinstance(self, Sequential):
                return Sequential(OrderedDict((name, self._modules[name]) for name in names[index]))
            return ModuleList([self._modules[name] for name in names[index]])
        try:
            return self._modules[names[index]]
        except IndexError:
            raise IndexError(f"{type(self).__name__}: index {index} is outside its {len(self)} modules") from None

    def __setitem__(self, index: int, module: Module) -> None:
        self[index]  # an IndexError where there is none
        self._modules[list(self._modules)[index]] = self._checked(index, module)

    def _checked(self, name: Any, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: {name} must be a Module, got {type(module).__name__}")
        return module

    def append(self, module: Module) -> "_Numbered":
        self._modules[str(len(self))] = self._checked(len(self), module)
        return self

    def insert(self, index: int, module: Module) -> "_Numbered":
        """Put a module before position `index`; those after it move on by one."""
        modules = list(self)
        modules.insert(index, self._checked(index, module))
        self._modules.clear()
        return self.extend(modules)

    def extend(self, modules: Iterable[Module]) -> "_Numbered":
        for module in modules:
            self.append(module)
        return self

    def __delitem__(self, index: Any) -> None:
        """Take modules out; those after them move on, if they are numbered."""
        names = list(self._modules)
        gone = names[index] if isinstance(index, slice) else [names[index]]
        numbered = names == [str(i) for i in range(len(names))]
        left = [(name, module) for name, module in self._modules.items() if name not in gone]
        self._modules.clear()
        for i, (name, module) in enumerate(left):
            self._modules[str(i) if numbered else name] = module

    def pop(self, index: int = -1) -> Module:
        """Take a module out and return it."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules: Iterable[Module]) -> "_Numbered":
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> "_Numbered":
        """A new chain or list of these modules and more."""
        both = type(self)()
        return both.extend(self).extend(modules)


class Sequential(_Numbered):
    """Apply modules one after the other: Sequential(a, b, ...) or Sequential(OrderedDict(name=a, ...))."""

    def __init__(self, *modules: Any):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], OrderedDict | dict):
            named = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            self.add_module(name, self._checked(name, module))

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list whose modules are registered."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def __repr__(self) -> str:
        """As any module's, with equal neighbours on one line: (0-2): 3 x ReLU()."""
        lines: list[list[Any]] = []  # [first, last, text]
        for i, text in enumerate(map(repr, self)):
            if lines and lines[-1][2] == text:
                lines[-1][1] = i
            else:
                lines.append([i, i, text])
        if not lines:
            return "ModuleList()"
        shown = [f"({a}): {t}" if a == b else f"({a}-{b}): {b - a + 1} x {t}" for a, b, t in lines]
        return "ModuleList(\n  " + "\n  ".join(text.replace("\n", "\n  ") for text in shown) + "\n)"


class ModuleDict(Module):
    """A dict whose modules are registered."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()

    def update(self, modules: Mapping[str, Module]) -> None:
        for name, module in modules.items():
            self[name] = module


class ParameterList(Module):
    """A list whose parameters are registered."""

    def __init__(self, parameters: Iterable[Parameter] = ()):
        super().__init__()
        self.extend(parameters)

    def __getitem__(self, index: int) -> Parameter:
        return list(self._parameters.values())[index]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def append(self, parameter: Parameter) -> "ParameterList":
        if not isinstance(parameter, Parameter):
            parameter = Parameter(parameter)
        self.register_parameter(str(len(self)), parameter)
        return self

    def extend(self, parameters: Iterable[Parameter]) -> "ParameterList":
        for parameter in parameters:
            self.append(parameter)
        return self

    def __repr__(self) -> str:
        """As PyTorch's: one line for each parameter."""
        lines = [f"  ({i}): Parameter containing: [{p.dtype} of size {size(p)}]" for i, p in enumerate(self)]
        return "\n".join(["ParameterList(", *lines, ")"]) if lines else "ParameterList()"


def size(parameter: Parameter) -> str:
    return "x".join(map(str, parameter.shape))
