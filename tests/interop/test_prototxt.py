"""The parser of the protobuf text format: what it reads, and where it says that a text is wrong."""

import math

import pytest

from minidl.interop.prototxt import MAX_DEPTH, Message, PrototxtError, Word, parse, read_source


def plain(message):
    """A message as lists of pairs, without lines."""
    return [(f.name, plain(f.value) if isinstance(f.value, Message) else f.value) for f in message.fields]


GOOD = {
    "empty": ("", []),
    "comment": ("# nothing\n#\n a: 1 # one\n", [("a", 1)]),
    "scalars": ('a: 1 b: "x" c: MAX d: true', [("a", 1), ("b", "x"), ("c", "MAX"), ("d", "true")]),
    "numbers": (
        "a: -3 a: - 4 a: 2.5 a: .5 a: 1. a: 1e3 a: 2.5E-3 a: 1f a: 0x1F a: -0xff a: 017 a: 0",
        [("a", n) for n in (-3, -4, 2.5, 0.5, 1.0, 1000.0, 0.0025, 1.0, 31, -255, 15, 0)],
    ),
    "message": ("a { b: 1 c { d: 2 } }", [("a", [("b", 1), ("c", [("d", 2)])])]),
    "colon": ("a: { b: 1 }", [("a", [("b", 1)])]),
    "angles": ("a < b: 1 > c: < >", [("a", [("b", 1)]), ("c", [])]),
    "repeated": ("a: 1 b: 2 a: 3", [("a", 1), ("b", 2), ("a", 3)]),
    "list": ("a: [1, -2, 0x3]", [("a", 1), ("a", -2), ("a", 3)]),
    "empty list": ("a: [] b: 1", [("b", 1)]),
    "list of messages": ("a: [{ b: 1 }, < b: 2 >]", [("a", [("b", 1)]), ("a", [("b", 2)])]),
    "separators": ("a: 1, b: 2; c { d: 3; }, e: 4;", [("a", 1), ("b", 2), ("c", [("d", 3)]), ("e", 4)]),
    "no blanks": ("a:1b:2c{d:3}".replace("1b", "1 b").replace("2c", "2 c"), [("a", 1), ("b", 2), ("c", [("d", 3)])]),
    "strings": ("""a: "it's" b: 'say "so"' c: ''""", [("a", "it's"), ("b", 'say "so"'), ("c", "")]),
    "escapes": (r'a: "\n\t\\\"\'\101\x42\u00e9\U0001F600\?"', [("a", "\n\t\\\"'AB\u00e9\U0001f600?")]),
    "bytes": (r'a: "\303\251\xc3\xa9"', [("a", "\u00e9\u00e9")]),
    "side by side": ('a: "one" \'two\'\n  # and\n "three" b: 1', [("a", "onetwothree"), ("b", 1)]),
    "unicode": ('a: "\u00e9"', [("a", "\u00e9")]),
    "windows": ("a: 1\r\nb: 2\r\n", [("a", 1), ("b", 2)]),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_read(case):
    text, expected = GOOD[case]
    found = plain(parse(text))
    assert found == expected
    assert [type(value) for _, value in found if isinstance(value, float)] == [
        type(value) for _, value in expected if isinstance(value, float)
    ]


def test_words_are_told_from_strings_and_signed_ones_are_numbers():
    a, b, c, d = (field.value for field in parse('a: MAX b: "MAX" c: -inf d: -nan').fields)
    assert isinstance(a, Word) and not isinstance(b, Word) and a == b
    assert c == -math.inf and math.isnan(d)


def test_lines_are_those_where_a_field_stands():
    message = parse('a: 1\n\nb {\n  c:\n 2\n d: "x"\n "y"\n}\n')
    assert [field.line for field in message.fields] == [1, 3]
    assert [field.line for field in message.fields[1].value.fields] == [5, 6]
    assert message.fields[1].value.line == 3


BAD = {
    "value missing": ("a: 1\nb:", "2", "expected a value for b, got the end of the file"),
    "colon missing": ("a: 1\nb 5", "2", 'expected ":" or "{" after b, got "5"'),
    "name missing": ("a: 1\n: 5", "2", 'expected a field, got ":"'),
    "closed too often": ("a {\n}\n}", "3", 'expected a field, got "}"'),
    "not closed": ("a: 1\nb {\n c: 2\n", "4", 'expected a field or the "}" of line 2, got the end of the file'),
    "closed otherwise": ("a {\n b: 1 >", "2", 'expected a field or the "}" of line 1, got ">"'),
    "string not closed": ('\n\na: "abc\nb: 1', "3", 'expected the closing " in the same line'),
    "number of a word": ("a: 12abc", "1", 'expected a value for a, got "12abc"'),
    "two dots": ("a: 1.2.3", "1", 'got "1.2.3"'),
    "hex": ("a: 0xZZ", "1", 'got "0xZZ"'),
    "octal": ("a: 089", "1", "octal digits"),
    "minus a string": ('a: -"1"', "1", "expected a number for a"),
    "minus a word": ("a: -MAX", "1", 'expected a number for a, got "MAX"'),
    "list not closed": ("a: [1\nb: 2", "2", 'expected "," or "]" in the list a, got "b"'),
    "list without colon": ("a [1]", "1", 'expected ":" or "{" after a, got "["'),
    "list with a gap": ("a: [1,,2]", "1", 'expected a value for a, got ","'),
    "escape": (r'a: "\q"', "1", "an escape that exists"),
    "escaped surrogate": (r'a: "\uD800"', "1", "an escape that is a character"),
    "escaped byte": (r'a: "\xff"', "1", "UTF-8"),
    "extension": ("[a.b]: 1", "1", 'got "["'),
    "symbol": ("a: 1\nb: @", "2", 'expected a value for b, got "@"'),
    "zero byte": ("a: 1\n\0", "2", "expected a field"),
    "slashes": ("// Caffe\na: 1", "1", 'expected a field, got "/"'),
    "two colons": ("a:: 1", "1", 'expected a value for a, got ":"'),
    "many digits": ("a: " + "9" * 5000, "1", "a number of 5000 digits is not read"),
    "deep": ("a {\n" * (MAX_DEPTH + 1), str(MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} messages deep"),
    "deeper": ("a: [{" * 100_000, "1", "messages deep"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_and_in_which_line(case):
    text, line, message = BAD[case]
    with pytest.raises(PrototxtError) as error:
        parse(text, "net.prototxt")
    assert str(error.value).startswith(f"net.prototxt:{line}: ") and message in str(error.value)


def test_as_deep_as_allowed():
    assert parse("a {" * MAX_DEPTH + "}" * MAX_DEPTH).fields[0].name == "a"


def test_large_files_take_linear_time():
    """Half a million fields, a long string, a long comment and a long run of backslashes: no stack, no backtracking."""
    text = "a: 1 " * 200_000 + 'b: "' + "x" * 1_000_000 + '" # ' + "y" * 1_000_000 + '\nc: "' + "\\\\" * 500_000 + '"'
    message = parse(text)
    assert len(message.fields) == 200_002 and len(message.fields[-1].value) == 500_000
    with pytest.raises(PrototxtError, match="closing"):
        parse('a: "' + "\\\\" * 500_000)


def test_nothing_is_executed():
    text = "a: \"__import__('os').system('false')\" b: __import__ c: \"${HOME}\" d: '%s'"
    assert [field.value for field in parse(text).fields] == [
        "__import__('os').system('false')",
        "__import__",
        "${HOME}",
        "%s",
    ]


def test_sources_are_paths_or_texts(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('\ufeffname: "x"', encoding="utf-8")
    assert read_source(path) == ('name: "x"', "net.prototxt") == read_source(str(path))
    assert read_source("layer { }") == ("layer { }", "prototxt")
    assert read_source("a: 1\n")[0] == "a: 1\n"
    with pytest.raises(FileNotFoundError):
        read_source(tmp_path / "none.prototxt")
    with pytest.raises(TypeError, match="expected a path or the text itself, got int"):
        read_source(3)
    path.write_bytes(b"a: 1\nb: \xff\xfe")
    with pytest.raises(PrototxtError, match=r"net.prototxt:2: expected text in UTF-8, got the byte 255"):
        read_source(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("minidl.interop.prototxt.MAX_BYTES", 1 << 20)
    (tmp_path / "big.prototxt").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(PrototxtError, match="big.prototxt: a prototxt of more than 1 MB"):
        read_source(tmp_path / "big.prototxt")
