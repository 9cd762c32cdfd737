"""Read pickled data without running code: a small stack machine over the opcodes that plain data needs.

Python's unpickler imports and calls whatever a file names. This one never imports anything: a *global* in the file is
looked up in an allow-list by module and name, and called only with the number of arguments the list gives. Everything
else is refused by name. Memory is bounded by the size of the input: arrays and byte strings together may take four
times as much, and the number of opcodes is limited.
"""

import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["NUMPY_GLOBALS", "Allowed", "loads"]

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")
_MARK = object()


@dataclass(frozen=True)
class Allowed:
    """A global that a file may name: `build(*arguments)` stands in for it, `arity` is how many arguments it takes.

    `arity` is a number or several. `build` must itself check its arguments; it receives values from the file. `size`
    maps the arguments to the number of bytes that the call is going to allocate. An `arity` of None: may be named, but
    not called; `build` is then the value itself.
    """

    build: Any
    arity: int | tuple[int, ...] | None
    size: Callable[..., int] = lambda *arguments: 0


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("_codecs.encode is allowed for text in latin1 only")
    return text.encode("latin1")


def _dtype(code: Any, align: Any, copy: Any) -> np.dtype:
    code = code.decode("ascii") if isinstance(code, bytes) else code
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise ValueError("numpy.dtype is allowed for plain numbers only")
    return np.dtype(code, align=False, copy=True)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not np.ndarray or shape != (0,) or code not in (b"b", "b"):
        raise ValueError("numpy's _reconstruct is allowed for an empty ndarray only")
    return np.ndarray((0,), "b")


def _shape(shape: Any) -> tuple[int, ...]:
    sizes_ok = isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
    if not sizes_ok:
        raise ValueError("the shape of an array must be a tuple of sizes")
    return shape


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(buffer, bytes | bytearray) or not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise ValueError("numpy's _frombuffer expects bytes, a dtype, a shape and an order")
    if _count(_shape(shape)) * dtype.itemsize != len(buffer):
        raise ValueError(f"an array holds {len(buffer):,} bytes, which is not its shape {shape} of {dtype}")
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _set_array_state(array: np.ndarray, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("the state of an array must have 5 parts")
    version, shape, dtype, fortran, content = state
    if version != 1 or not isinstance(dtype, np.dtype) or not isinstance(fortran, int | bool):
        raise ValueError("the state of an array must be version 1, a shape, a dtype, an order and bytes")
    if not isinstance(content, bytes):
        raise ValueError("the content of an array must be bytes")
    if _count(_shape(shape)) * dtype.itemsize != len(content):
        raise ValueError(f"an array holds {len(content):,} bytes, which is not its shape {shape} of {dtype}")
    array.__setstate__((1, shape, dtype, bool(fortran), content))


def _set_dtype_state(dtype: np.dtype, state: Any) -> None:
    plain = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None) and state[5:7] == (-1, -1)
    if not plain or state[0] != 3 or state[1] not in ("<", ">", "|", "=", b"<", b">", b"|", b"="):
        raise ValueError("the state of a dtype must be that of a plain number")
    order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    dtype.__setstate__((3, order, None, None, None, -1, -1, 0))


NUMPY_GLOBALS: Mapping[tuple[str, str], Allowed] = {
    ("_codecs", "encode"): Allowed(_encode, 2, lambda text, *_: len(text) if isinstance(text, str) else 0),
    ("numpy", "dtype"): Allowed(_dtype, 3),
    ("numpy", "ndarray"): Allowed(np.ndarray, None),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Allowed(_reconstruct, 3) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Allowed(_frombuffer, 4) for core in ("core", "_core")},
}


def loads(
    content: bytes,
    name: str,
    allowed: Mapping[tuple[str, str], Allowed] = NUMPY_GLOBALS,
    persistent: Callable[[Any], Any] | None = None,
    max_opcodes: int = 2_000_000,
    text: bool = False,
) -> Any:
    """Return the object pickled in `content`: numbers, strings, bytes, lists, tuples, dicts and allowed globals.

    Args:
        content: the pickle.
        name: the file's name, for messages.
        allowed: (module, name) -> what may stand for it.
        persistent: maps the file's persistent ids to objects; without it they are refused.
        max_opcodes: refuse a longer program.
        text: return Python 2's strings as text (Latin-1) instead of bytes.

    Raises:
        ValueError: a global that is not allowed (named in the message), any other forbidden or damaged content.
    """
    machine = _Machine(len(content), allowed, persistent, text)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(content)):
            if count >= max_opcodes:
                raise ValueError(f"more than {max_opcodes:,} opcodes")
            if opcode.name == "STOP":
                if position != len(content) - 1:
                    raise ValueError(f"{len(content) - 1 - position} bytes follow its end")
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, struct.error, Warning) as error:
        raise ValueError(f"{name}: refused as pickled data: {error}") from error
    raise ValueError(f"{name}: refused as pickled data: it has no end")


class _Machine:
    """The stack, the memo and what each opcode does to them."""

    def __init__(
        self,
        size: int,
        allowed: Mapping[tuple[str, str], Allowed],
        persistent: Callable[[Any], Any] | None,
        text: bool,
    ):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.allowed, self.persistent = allowed, persistent
        self.constants = {**_CONSTANTS, **dict.fromkeys(_PYTHON2_STRINGS, _same)} if text else _CONSTANTS
        self.budget = 4 * size  # bytes that calls may still allocate

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in self.constants:
            self.stack.append(self.constants[opcode](argument))
        elif action := _ACTIONS.get(opcode):
            action(self, argument)
        elif opcode == "INST":
            self.find_global(*argument.split(" ", 1))
            raise ValueError("opcode INST is not allowed")
        else:
            raise ValueError(f"opcode {opcode} is not allowed")

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} objects remain at the end, expected 1")
        return self.pop()

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("the stack is empty")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"expected a {kind.__name__} on the stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                items = self.stack[position + 1 :]
                del self.stack[position:]
                return items
        raise ValueError("there is no mark on the stack")

    def pop_tuple(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def put(self, key: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("there is nothing to memoise")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"memo {key} was never set")
        self.stack.append(self.memo[key])

    def set_items(self, items: list[Any], target: dict) -> None:
        if len(items) % 2:
            raise ValueError("a dict has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):  # hashing nested tuples can take exponential time
                raise ValueError(f"a dict key must be a string, bytes or an integer, not {type(key).__name__}")
            target[key] = value

    def find_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global must be named by two strings")
        entry = self.allowed.get((module, name))
        if entry is None:
            raise ValueError(f"it names {module:.100}.{name:.100}, which is not on the list of what may be used")
        self.stack.append(entry.build if entry.arity is None else entry)

    def spend(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise ValueError("it asks for more memory than four times its size")

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Allowed) or type(arguments) is not tuple:
            raise ValueError("only what is on the list of allowed functions may be called")
        arities = (function.arity,) if isinstance(function.arity, int) else function.arity
        if len(arguments) not in arities:
            name = function.build.__name__.lstrip("_")
            raise ValueError(f"{name} takes {' or '.join(map(str, arities))} arguments, got {len(arguments)}")
        self.spend(function.size(*arguments))
        self.stack.append(function.build(*arguments))

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if type(target) is np.ndarray:
            self.spend(len(state[4]) if isinstance(state, tuple) and len(state) == 5 and type(state[4]) is bytes else 0)
            _set_array_state(target, state)
        elif isinstance(target, np.dtype):
            _set_dtype_state(target, state)
        elif type(target) is not dict:  # an OrderedDict's attributes (`_metadata` of PyTorch's state dicts) are dropped
            raise ValueError(f"setting the state of a {type(target).__name__} is not allowed")

    def persist(self, key: Any) -> None:
        if self.persistent is None:
            raise ValueError("persistent ids are not allowed")
        self.stack.append(self.persistent(key))


def _text_to_bytes(text: str) -> bytes:
    return text.encode("latin1")  # Python 2's str; pickletools shows it as latin1 text


def _same(argument: Any) -> Any:
    return argument


_PYTHON2_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING")
_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"], _same),
    **dict.fromkeys(["UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"], _same),
    **dict.fromkeys(["SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"], _same),
    **dict.fromkeys(_PYTHON2_STRINGS, _text_to_bytes),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _MARK,
}

_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "LIST": lambda m, _: m.stack.append(m.pop_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.pop_tuple(1),
    "TUPLE2": lambda m, _: m.pop_tuple(2),
    "TUPLE3": lambda m, _: m.pop_tuple(3),
    "DICT": lambda m, _: (items := m.pop_mark(), made := {}, m.set_items(items, made), m.stack.append(made)),
    "APPEND": lambda m, _: (item := m.pop(), m.top(list).append(item)),
    "APPENDS": lambda m, _: (items := m.pop_mark(), m.top(list).extend(items)),
    "SETITEM": lambda m, _: (value := m.pop(), key := m.pop(), m.set_items([key, value], m.top(dict))),
    "SETITEMS": lambda m, _: (items := m.pop_mark(), m.set_items(items, m.top(dict))),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], lambda m, key: m.put(key)),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], lambda m, key: m.get(key)),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GLOBAL": lambda m, text: m.find_global(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: (name := m.pop(), module := m.pop(), m.find_global(module, name)),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, key: m.persist(key),
    "BINPERSID": lambda m, _: m.persist(m.pop()),
}
