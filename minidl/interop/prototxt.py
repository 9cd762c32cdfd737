"""The protobuf text format, in which Caffe's networks are written; nothing found in a file is ever run.

    message:  field ...
    field:    name ":" scalar      name ":" "[" scalar "," ... "]"      each may end with "," or ";"
              name [":"] "{" message "}"      name [":"] "<" message ">"      name ":" "[" "{" message "}" "," ... "]"
    scalar:   number      "text" 'that goes on'      a word: an enum's value, true, false, inf, nan
    comment:  "#" to the end of the line

Source: https://protobuf.dev/reference/protobuf/textformat-spec/.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

__all__ = ["Field", "Message", "PrototxtError", "Word", "parse", "read_source"]

MAX_DEPTH = 100  # nested messages; protobuf's own limit
MAX_BYTES = 1 << 26
MAX_DIGITS = 300

_TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t\r\f\v]++ | \#[^\n]*+ )
    | (?P<newline> \n )
    | (?P<string>  "(?:[^"\\\n]|\\[^\n])*+" | '(?:[^'\\\n]|\\[^\n])*+' )
    | (?P<number>  (?: 0[xX][0-9a-fA-F]++ | (?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+[fF]?+ )(?![\w.]) )
    | (?P<word>    [A-Za-z_]\w*+ )
    | (?P<mark>    [{}<>\[\]:,;-] )
    | (?P<odd>     [\w.]++ | . )
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIMPLE = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSING = {"{": "}", "<": ">"}


class PrototxtError(ValueError):
    """A prototxt that cannot be read; the message begins with file:line."""


class Word(str):
    """A value without quotes: an enum's name, true or false, inf or nan."""


class Field(NamedTuple):
    """One field of a message; a repeated one appears once for each value."""

    name: str
    value: "Message | Word | str | int | float"
    line: int


@dataclass
class Message:
    """The fields of a message in their order, and the line where it begins."""

    line: int
    fields: list[Field] = field(default_factory=list)


class Token(NamedTuple):
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end of the file"
        return self.text if self.kind == "string" else f'"{self.text}"'


def read_source(path_or_text: Any) -> tuple[str, str]:
    """Return (text, name for error messages) of a file, or of a string that holds "{" or more than one line.

    Raises:
        TypeError: neither a path nor a string. OSError: the file cannot be read.
        PrototxtError: the file is no UTF-8 text, or larger than 64 MB.
    """
    if not isinstance(path_or_text, str | os.PathLike):
        raise TypeError(f"prototxt: expected a path or the text itself, got {type(path_or_text).__name__}")
    if isinstance(path_or_text, str) and ("{" in path_or_text or "\n" in path_or_text):
        return path_or_text, "prototxt"
    path = Path(path_or_text)
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PrototxtError(f"{path.name}: a prototxt of more than {MAX_BYTES >> 20} MB is not read")
    try:
        return content.decode("utf-8-sig"), path.name
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PrototxtError(
            f"{path.name}:{line}: expected text in UTF-8, got the byte {content[error.start]}"
        ) from None


def parse(text: str, name: str = "prototxt") -> Message:
    """Read a message in the text format.

    Args:
        text: the text. name: of the file, for error messages.

    Returns:
        The message; integers, floats and strings are Python's, everything without quotes a `Word`.

    Raises:
        PrototxtError: the text is none of the format's; "name:line: " and what was expected.
    """
    parser = _Parser(text, name)
    return parser.message(Message(1), closing=None)


def _tokens(text: str) -> Iterator[Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "newline":
            line += 1
        elif kind != "blank":
            yield Token(str(kind), match.group(), line)
    yield Token("end", "", line)


class _Parser:
    """Reads tokens from left to right and looks at one of them, `next`."""

    def __init__(self, text: str, name: str):
        self.name, self.tokens, self.depth = name, _tokens(text), 0
        self.next = next(self.tokens)

    def fail(self, expected: str, token: Token | None = None) -> NoReturn:
        token = token or self.next
        raise PrototxtError(f"{self.name}:{token.line}: expected {expected}, got {token}")

    def take(self) -> Token:
        token = self.next
        if token.kind != "end":
            self.next = next(self.tokens)
        return token

    def take_mark(self, *marks: str) -> bool:
        """Take one of the marks if it is next, and tell so."""
        found = self.next.kind == "mark" and self.next.text in marks
        if found:
            self.take()
        return found

    def message(self, message: Message, closing: str | None) -> Message:
        """Read fields up to `closing` (None: the end of the file)."""
        while not (self.take_mark(closing) if closing else self.next.kind == "end"):
            if self.next.kind != "word":
                self.fail(f'a field or the "{closing}" of line {message.line}' if closing else "a field")
            self.field(message)
            self.take_mark(",", ";")
        return message

    def field(self, message: Message) -> None:
        name = self.take()
        colon = self.take_mark(":")
        if not colon and self.next.text not in _CLOSING:
            self.fail(f'":" or "{{" after {name.text}')
        if colon and self.take_mark("["):
            self.values(message, name)
        else:
            message.fields.append(self.value(name))

    def values(self, message: Message, name: Token) -> None:
        """Read the rest of a list: a repeated field in one."""
        if self.take_mark("]"):
            return
        while True:
            message.fields.append(self.value(name))
            if self.take_mark("]"):
                return
            if not self.take_mark(","):
                self.fail(f'"," or "]" in the list {name.text}')

    def value(self, name: Token) -> Field:
        """Read a message or a scalar; the field stands in the line where its value begins."""
        line = self.next.line
        if self.next.kind != "mark" or self.next.text not in _CLOSING:
            return Field(name.text, self.scalar(name), line)
        closing = _CLOSING[self.take().text]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PrototxtError(f"{self.name}:{line}: {name.text} is nested more than {MAX_DEPTH} messages deep")
        message = self.message(Message(name.line), closing)
        self.depth -= 1
        return Field(name.text, message, name.line)

    def scalar(self, name: Token) -> Any:
        minus = self.take_mark("-")
        token = self.next
        if token.kind == "string" and not minus:
            return self.string()
        if token.kind == "number":
            value = self.number(self.take())
            return -value if minus else value
        if token.kind == "word" and not minus:
            return Word(self.take().text)
        if token.kind == "word" and token.text.lower() in ("inf", "infinity", "nan"):
            return -float(self.take().text)
        if token.text in ("'", '"'):
            self.fail(f"the closing {token.text[0]} in the same line", token)
        self.fail(f"a {'number' if minus else 'value'} for {name.text}")

    def number(self, token: Token) -> int | float:
        text = token.text
        if len(text) > MAX_DIGITS:
            raise PrototxtError(f"{self.name}:{token.line}: a number of {len(text)} digits is not read")
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        if not text.isdigit():
            return float(text.rstrip("fF"))
        if text[0] == "0" and len(text) > 1:
            if set(text) - set("01234567"):
                self.fail("octal digits after the leading 0", token)
            return int(text, 8)
        return int(text)

    def string(self) -> str:
        """Read strings that stand side by side as one."""
        parts, first = [], self.next
        while self.next.kind == "string":
            token = self.take()
            parts.append(_ESCAPE.sub(lambda match, token=token: self.unescape(match, token), token.text[1:-1].encode()))
        try:
            return b"".join(parts).decode()
        except UnicodeDecodeError:
            self.fail("a string whose escaped bytes are UTF-8", first)

    def unescape(self, match: re.Match, token: Token) -> bytes:
        octal, hexadecimal, short, long, simple = match.groups()
        if simple is not None:
            if simple[0] not in _SIMPLE:
                self.fail("an escape that exists, such as \\n", token)
            return bytes([_SIMPLE[simple[0]]])
        code = int(octal, 8) if octal else int(hexadecimal or short or long, 16)
        if (octal or hexadecimal) and code < 256:
            return bytes([code])
        if octal or code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self.fail("an escape that is a character", token)
        return chr(code).encode()
