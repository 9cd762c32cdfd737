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
            chosen = [self._modules[name] for name in names[index]]
            return Sequential(*chosen) if isinstance(self, Sequential) else ModuleList(chosen)
        try:
            return self._modules[names[index]]
        except IndexError:
            raise IndexError(f"{type(self).__name__}: index {index} is outside its {len(self)} modules") from None

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[list(self._modules)[index]] = module

    def append(self, module: Module) -> "_Numbered":
        self._modules[str(len(self))] = module
        return self

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
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: {name} must be a Module, got {type(module).__name__}")
            self._modules[name] = module

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list whose modules are registered."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)
