"""Docstrings in the house's style as reStructuredText, for autodoc.

They are plain text: paragraphs, indented equations, names in backticks, and the sections Args, Attributes, Returns,
Raises and Source, where a line may hold several names ("x: (..., IN). weight: (OUT, IN)."). Whatever would mean
something to reStructuredText, such as * and |, stands for itself.
"""

import inspect
import re
import textwrap

SECTIONS = {"Args": "Parameters", "Attributes": "Attributes", "Returns": "Returns", "Raises": "Raises"}
SECTION = re.compile(rf"({'|'.join(SECTIONS)}|Yields):$")
ENTRY = re.compile(r"(?:^|(?<=[.;)] ))(\*{0,2}\w+(?:, \*{0,2}\w+)*): ")
CODE = re.compile(r"`([^`]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


def inline(text):
    """A line of prose: code in backticks, which becomes a link where it names something documented."""
    parts = CODE.split(text)
    for i in range(1, len(parts), 2):
        code = parts[i].replace("\\", r"\\")
        # Markup needs a border; an escaped blank is one that is not shown.
        before = r"\ " if re.search(r"[^\s(]$", parts[i - 1]) else ""
        after = r"\ " if re.match(r"[\w-]", parts[i + 1]) else ""
        parts[i] = f"{before}:{'py:obj' if NAME.fullmatch(code) else 'code'}:`{code}`{after}"
    parts[::2] = [re.sub(r"([\\*_|<>`\[\]])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def blocks(lines):
    """Split into paragraphs, and say of each whether it is preformatted: indented, or a list of equations."""
    text = "\n".join(lines).strip("\n")
    for block in re.split(r"\n\s*\n", text) if text else ():
        rows = block.split("\n")
        start = next((i for i, row in enumerate(rows) if row.startswith(" " * 4)), len(rows))
        if all(re.match(r"[\w\[\], ]+ = ", row) for row in rows) and len(rows) > 1:
            start = 0
        if rows[:start]:
            yield rows[:start], False
        if rows[start:]:
            yield rows[start:], True


def body(lines):
    result = []
    for rows, formatted in blocks(lines):
        if formatted:
            result += ["::", "", *textwrap.indent(textwrap.dedent("\n".join(rows)), "    ").split("\n"), ""]
        else:
            result += [inline(" ".join(row.strip() for row in rows)), ""]
    return result


def entries(lines, known):
    """(names, what is said of them): names are those that `known` accepts, so that a colon in prose is no name."""
    found = []
    for line in textwrap.dedent("\n".join(lines)).split("\n"):
        starts = [] if line.startswith(" ") else [m for m in ENTRY.finditer(line) if all(map(known, names_in(m[1])))]
        if not starts or starts[0].start():
            if not found:
                return None
            found[-1][1].append(line.strip())
            continue
        ends = [m.start() for m in starts[1:]] + [len(line)]
        found += [(m[1], [line[m.end() : end].strip()]) for m, end in zip(starts, ends, strict=True)]
    return [(names, " ".join(text)) for names, text in found]


def names_in(text):
    return [name.strip("* ") for name in text.split(",")]


def section(title, lines, known):
    known = known if title == "Args" else (lambda name: True)
    pairs = entries(lines, known) if title in ("Args", "Attributes", "Raises") else None
    if pairs is None:
        text = " ".join(body(textwrap.dedent("\n".join(lines)).split("\n"))).strip()
        return [f":{SECTIONS.get(title, title)}: {text}", ""]
    rows = []
    for names, text in pairs:
        bold = ", ".join(f"**{inline(name)}**" for name in names.split(", "))
        rows.append(f"    * {bold}: {inline(text)}")
    return [f":{SECTIONS[title]}:", *rows, ""]


def parameters(thing):
    try:
        return set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return set()


def to_restructured_text(lines, names=frozenset()):
    """Translate the lines of a docstring of something with parameters `names`."""
    result, prose, i = [], [], 0
    lines = [line.rstrip() for line in lines]
    while i < len(lines):
        if not (title := SECTION.match(lines[i])):
            prose.append(lines[i])
            i += 1
            continue
        end = next((j for j in range(i + 1, len(lines)) if lines[j] and not lines[j].startswith(" ")), len(lines))
        result += body(prose) + section(title[1], lines[i + 1 : end], lambda name: name in names or not names)
        prose, i = [], end
    return result + body(prose)


def process(app, what, name, thing, options, lines):
    lines[:] = to_restructured_text(lines, parameters(thing))


def name_types(app, what, name, thing, options, signature, returns):
    """dtype=<class 'numpy.float32'> is dtype=float32."""
    return signature and re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature), returns


def setup(app):
    app.connect("autodoc-process-signature", name_types)
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
