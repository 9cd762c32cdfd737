"""What the pickle in a PyTorch file may name: storages, Tensors over them, and plain values. Nothing else is built.

A Tensor is saved as a call, `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`; its
numbers are elsewhere in the file, under the storage's key. Here the call makes a Tensor that looks into the storage's
array, so that what shared memory when it was saved shares it again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.creation import from_numpy
from minidl.data.restricted_pickle import NUMPY_GLOBALS, Allowed, loads
from minidl.tensor import Tensor

__all__ = ["MAX_OPCODES", "Kind", "Storages", "load_pickle"]

MAX_EXPANDED = 2**24  # elements of a Tensor that repeats its storage by strides of 0
MAX_DEPTH = 100  # of lists and dicts within each other
MAX_OPCODES = 1_000_000  # a network of 1,202 layers with Adam's state takes half of them


@dataclass(frozen=True)
class Kind:
    """A class of storages, such as torch.HalfStorage."""

    name: str
    stored: np.dtype
    dtype: np.dtype  # in memory

    def numbers(self, raw: np.ndarray, order: str) -> np.ndarray:
        """Interpret bytes of the file: half precision becomes float32, exactly. `order` is "<" or ">"."""
        if self.stored.kind == "b" and raw.size and raw.max() > 1:
            raise ValueError(f"a bool of a {self.name} must be 0 or 1, found {raw.max()}")
        numbers = raw.view(self.stored.newbyteorder(order))
        if self.name == "BFloat16Storage":  # the upper half of a float32
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers


_STORED = {"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "u2"}
_STORED |= {"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?", "Untyped": "u1"}
_KINDS = {
    f"{name}Storage": Kind(
        f"{name}Storage", np.dtype(code), np.dtype(np.float32 if name in ("Half", "BFloat16") else code)
    )
    for name, code in _STORED.items()
}


@dataclass(frozen=True)
class Storage:
    """One block of numbers; `array` is filled by whoever reads the file."""

    kind: Kind
    array: np.ndarray


class Storages:
    """The storages that a pickle asks for, by key.

    Args:
        available: bytes that the file has for all of them together.
        read: maps (key, kind, count) to the numbers at once; without it they are filled in later.
    """

    def __init__(self, available: int, read: Callable[[str, Kind, int], np.ndarray] | None = None):
        self.left, self.read = available, read
        self.found: dict[str, Storage] = {}

    def persistent(self, key: Any) -> Storage:
        """Answer a persistent id: ("storage", kind, key, device, count), in the legacy format with a view behind it."""
        if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage":
            raise ValueError("a persistent id must be that of a storage")
        _, kind, name, _, count, *view = key
        if not isinstance(kind, Kind) or not isinstance(name, str) or not _natural(count):
            raise ValueError("a storage must be given by its class, a key and a number of elements")
        storage = self.found.get(name)
        if storage is None:
            storage = self.found[name] = self._new(name, kind, count)
        elif (storage.kind, storage.array.size) != (kind, count):
            raise ValueError(f"storage {name[:80]!r} is announced twice, differently")
        if not view or view[0] is None:
            return storage
        if not isinstance(view[0], tuple) or len(view[0]) != 3 or not all(map(_natural, view[0][1:])):
            raise ValueError("the view of a storage must be a key, an offset and a number of elements")
        _, offset, extent = view[0]
        if offset + extent > count:
            raise ValueError(f"a view reaches element {offset + extent:,} of a storage of {count:,}")
        return Storage(kind, storage.array[offset : offset + extent])

    def _new(self, name: str, kind: Kind, count: int) -> Storage:
        self.left -= count * kind.stored.itemsize
        if self.left < 0:
            raise ValueError(f"storage {name[:80]!r} of {count:,} elements is larger than what the file holds")
        array = np.empty(count, kind.dtype)
        if self.read is not None:
            array[...] = self.read(name, kind, count)
        return Storage(kind, array)


def load_pickle(content: bytes, storages: Storages | None = None) -> Any:
    """Return what a PyTorch file's pickle holds: dicts, lists, plain values, and Tensors over `storages`.

    Raises:
        ValueError: it names anything else (the message says what), is damaged, or is nested beyond reason.
    """
    persistent = None if storages is None else storages.persistent
    value = loads(content, "its pickle", _GLOBALS, persistent, MAX_OPCODES, text=True)
    _check_nesting(value, min(MAX_OPCODES, 100_000 + 2 * len(content)))  # a value takes a byte or more if not repeated
    return value


def _check_nesting(value: Any, most: int) -> None:
    """Refuse what could not be walked or printed: cycles, and lists of lists that repeat each other."""
    waiting, met = [(value, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
        met += len(items)
        if depth > MAX_DEPTH or met > most:
            raise ValueError(f"values are nested deeper than {MAX_DEPTH}, or more than {most:,} with repetitions")
        waiting.extend((item, depth + 1) for item in items if type(item) in (dict, list, tuple))


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Stand in for _rebuild_tensor and _rebuild_tensor_v2; gradients, hooks and metadata are left out."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor must be made of a storage")
    return from_numpy(_view(storage.array, offset, shape, strides))


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Stand in for _rebuild_tensor_v3, which gives bytes a dtype; PyTorch uses it for uint16, uint32 and uint64."""
    dtype = rest[2]
    if not isinstance(storage, Storage) or not isinstance(dtype, np.dtype) or dtype.kind != "u":
        raise ValueError("_rebuild_tensor_v3 is read for unsigned integers only")
    raw = storage.array.view(np.uint8)
    return from_numpy(_view(raw[: raw.size - raw.size % dtype.itemsize].view(dtype), offset, shape, strides))


def _view(array: np.ndarray, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    ok = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) <= 64
    if not ok or not all(map(_natural, (offset, *shape, *strides))):
        raise ValueError("a tensor needs an offset, sizes and as many strides, all integers from 0 on")
    if math.prod(n or 1 for n in shape) * array.itemsize >= 2**63:
        raise ValueError(f"a tensor of shape {str(shape)[:80]} overflows")
    if math.prod(shape) == 0:
        return np.empty(shape, array.dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= array.size:
        raise ValueError(
            f"a tensor of shape {str(shape)[:80]} reaches element {last:,}, its storage has {array.size:,}"
        )
    if math.prod(shape) > max(array.size, MAX_EXPANDED):
        raise ValueError(f"a tensor repeats the {array.size:,} elements of its storage to shape {str(shape)[:80]}")
    steps = tuple(stride * array.itemsize if n > 1 else 0 for n, stride in zip(shape, strides, strict=True))
    return np.ndarray(shape, array.dtype, array, offset * array.itemsize, steps)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a Parameter must be made of a tensor")
    return data


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Build a dict; Python 2 passed the items along, as a list of pairs."""
    for pair in pairs if type(pairs) in (list, tuple) else [None]:
        if type(pair) not in (list, tuple) or len(pair) != 2 or not isinstance(pair[0], str | int):
            raise ValueError("an OrderedDict must be made of pairs of a name and a value")
    return dict(pairs)


def _counter(counts: Any = None) -> dict[Any, Any]:
    if type(counts) not in (dict, type(None)):
        raise ValueError("a Counter must be made of a dict")
    return {} if counts is None else counts


def _size(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or not all(map(_natural, shape)):
        raise ValueError("torch.Size must be made of a tuple of sizes")
    return shape


def _device(kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or type(index) not in (int, type(None)):
        raise ValueError("torch.device must be made of a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _scalar(dtype: Any, content: Any) -> Any:
    content = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise ValueError("a scalar of NumPy must be a dtype and its bytes")
    return np.frombuffer(content, dtype)[0]


class _Globals(dict):
    """The allow-list; what is not on it is refused by name."""

    def get(self, key: tuple[str, str], default: Any = None) -> Allowed:
        if key not in self:
            raise ValueError(
                f"it wants to call {key[0][:100]}.{key[1][:100]}; only tensors and plain values are read, "
                "as torch.save(model.state_dict(), path) writes them"
            )
        return self[key]


_DTYPES = {
    **{"float64": "f8", "double": "f8", "float32": "f4", "float": "f4"},
    **{"float16": "f4", "half": "f4", "bfloat16": "f4"},  # as their Tensors are read
    **{"int64": "i8", "long": "i8", "int32": "i4", "int": "i4", "int16": "i2", "short": "i2", "int8": "i1"},
    **{"uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8", "bool": "?"},
}
_TENSOR = 128  # bytes that a Tensor itself takes, counted so that a small file cannot make millions of them

_GLOBALS = _Globals(
    {
        **NUMPY_GLOBALS,
        **{("torch", name): Allowed(kind, None) for name, kind in _KINDS.items()},
        **{("torch.cuda", name): Allowed(kind, None) for name, kind in _KINDS.items()},
        ("torch.storage", "UntypedStorage"): Allowed(_KINDS["UntypedStorage"], None),
        **{("torch", name): Allowed(np.dtype(code), None) for name, code in _DTYPES.items()},
        ("torch._utils", "_rebuild_tensor"): Allowed(_tensor, 4, lambda *_: _TENSOR),
        ("torch._utils", "_rebuild_tensor_v2"): Allowed(_tensor, (6, 7), lambda *_: _TENSOR),
        ("torch._utils", "_rebuild_tensor_v3"): Allowed(_tensor_v3, (7, 8), lambda *_: _TENSOR),
        ("torch._utils", "_rebuild_parameter"): Allowed(_parameter, 3),
        ("torch", "Size"): Allowed(_size, 1),
        ("torch", "device"): Allowed(_device, (1, 2)),
        ("collections", "OrderedDict"): Allowed(
            _ordered_dict,
            (0, 1),
            lambda *pairs: 16 * len(pairs[0]) if pairs and isinstance(pairs[0], list | tuple) else 0,
        ),
        ("collections", "Counter"): Allowed(_counter, (0, 1)),
        **{(f"numpy.{core}.multiarray", "scalar"): Allowed(_scalar, 2) for core in ("core", "_core")},
    }
)
