"""A message of a prototxt, read field by field with checks; what nobody asked for is an error."""

import math
from typing import Any, NoReturn

from minidl.interop.prototxt import Field, Message, PrototxtError, Word

__all__ = ["Fields"]

_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_FLOATS = ("inf", "infinity", "nan")


class Fields:
    """Typed access to the fields of a message.

    Args:
        message: the message, or None for one that is not there.
        file: name of the file, for error messages.
        owner: what the message belongs to, e.g. 'layer "conv1"'.
        name: of the message itself within its owner, e.g. "convolution_param"; "" for the owner's own fields.
    """

    def __init__(self, message: Message | None, file: str, owner: str, name: str = "", line: int = 0):
        self.file, self.owner, self.name = file, owner, name
        self.line = message.line if message else line
        self.fields: dict[str, list[Field]] = {}
        for one in message.fields if message else ():
            self.fields.setdefault(one.name, []).append(one)
        self.known: dict[str, None] = {}  # names in the order they were asked for
        self.inner: list[Fields] = []

    def fail(self, problem: str, line: int | None = None) -> NoReturn:
        """Raise PrototxtError: file:line: owner: problem."""
        where = f"{self.owner}: " if self.owner else ""
        raise PrototxtError(f"{self.file}:{line or self.line}: {where}{problem}")

    def called(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> list[Field]:
        """All values of a field."""
        self.known[name] = None
        return self.fields.get(name, [])

    def one(self, name: str) -> Field | None:
        """The value of a field that may stand once."""
        found = self.all(name)
        if len(found) > 1:
            self.fail(f"{self.called(name)} is given twice (first in line {found[0].line})", found[1].line)
        return found[0] if found else None

    def ignore(self, *names: str) -> None:
        """Accept fields that mean nothing to minidl, whatever they hold."""
        self.known.update(dict.fromkeys(names))

    # --- one value, or the default ----------------------------------------------------------------------------------
    def integer(self, name: str, default: Any = None, least: int | None = None) -> Any:
        found = self.one(name)
        return default if found is None else self._integer(found, least)

    def number(self, name: str, default: Any = None, least: float = -math.inf) -> Any:
        found = self.one(name)
        return default if found is None else self._number(found, least)

    def boolean(self, name: str, default: Any = None) -> Any:
        found = self.one(name)
        if found is None:
            return default
        if isinstance(found.value, Word) and found.value in _BOOLS:
            return _BOOLS[found.value]
        if isinstance(found.value, int) and found.value in (0, 1):
            return bool(found.value)
        return self._wrong(found, "true or false")

    def string(self, name: str, default: Any = None) -> Any:
        found = self.one(name)
        return default if found is None else self._string(found)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """The name of an enum's value."""
        found = self.one(name)
        if found is None:
            return default
        if not isinstance(found.value, Word) or found.value not in choices:
            self._wrong(found, " or ".join(choices))
        return str(found.value)

    def message(self, name: str) -> "Fields":
        """A message, an empty one where it is not there."""
        found = self.one(name)
        return self._inner(found) if found else Fields(None, self.file, self.owner, self.called(name), self.line)

    # --- repeated values --------------------------------------------------------------------------------------------
    def integers(self, name: str, least: int | None = None) -> list[int]:
        return [self._integer(found, least) for found in self.all(name)]

    def numbers(self, name: str) -> list[float]:
        return [self._number(found) for found in self.all(name)]

    def strings(self, name: str) -> list[str]:
        return [self._string(found) for found in self.all(name)]

    def messages(self, name: str) -> list["Fields"]:
        return [self._inner(found) for found in self.all(name)]

    # --- checks -----------------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Raise PrototxtError if a field was not asked for, here or in a message within."""
        for name, found in self.fields.items():
            if name not in self.known:
                known = ", ".join(sorted(self.known)) or "none"
                self.fail(f"minidl does not know the field {self.called(name)}; it knows {known}", found[0].line)
        for inner in self.inner:
            inner.finish()

    def _inner(self, found: Field) -> "Fields":
        if not isinstance(found.value, Message):
            self._wrong(found, "a message in braces")
        inner = Fields(found.value, self.file, self.owner, self.called(found.name))
        self.inner.append(inner)
        return inner

    def _wrong(self, found: Field, expected: str) -> NoReturn:
        value = "a message" if isinstance(found.value, Message) else found.value
        value = value if isinstance(value, Word) or value == "a message" else repr(value)
        self.fail(f"{self.called(found.name)} must be {expected}, got {value}", found.line)

    def _integer(self, found: Field, least: int | None) -> int:
        bound = "" if least is None else f" >= {least}"
        if not isinstance(found.value, int) or (least is not None and found.value < least):
            self._wrong(found, f"an integer{bound}")
        if abs(found.value) >= 1 << 31:
            self._wrong(found, "an integer of 32 bits")
        return found.value

    def _number(self, found: Field, least: float = -math.inf) -> float:
        value: Any = found.value
        if isinstance(value, Word) and value.lower() in _FLOATS:
            value = float(value)
        if isinstance(value, str | Message) or not value >= least:
            self._wrong(found, "a number" + f" >= {least:g}" * (least > -math.inf))
        return float(value)

    def _string(self, found: Field) -> str:
        if isinstance(found.value, Word) or not isinstance(found.value, str):
            self._wrong(found, "a text in quotes")
        return found.value
