"""Modules that hold others: a chain, and a list."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from minidl.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


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
