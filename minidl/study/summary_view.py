"""How a summary looks: as text of fixed columns, and as an HTML table."""

import html
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minidl.study.summary_rows import Row

__all__ = ["COLUMNS", "View", "html_of", "text_of"]


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        rows: with numbers for the batch that was run.
        columns: names of the columns after the shape.
        tree: whether rows are indented.
        examples: extent of the batch that was run.
        shown: extent of the batch that shapes and memory are shown for; None for -1, and memory of one example.
        parameters: of the whole network.
        totals: groups of (label, value). notes: sentences.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    tree: bool
    examples: int
    shown: int | None
    parameters: int
    totals: Sequence[Sequence[tuple[str, str]]]
    notes: Sequence[str]


def parameters_text(row: Row, view: View) -> str:
    if row.parameters is None:
        return ""
    shared = f"({row.shared:,})" if row.shared else ""
    return shared if shared and not row.parameters else f"{row.parameters:,} {shared}".rstrip()


def share_text(row: Row, view: View) -> str:
    return f"{100 * row.parameters / view.parameters:.1f} %" if row.parameters and view.parameters else ""


def per_example(value: float, view: View) -> str:
    return f"{round(value / view.examples):,}"


def megabytes(row: Row, view: View) -> str:
    return f"{row.kept * (view.shown or 1) / view.examples / 1024**2:.2f}"


def milliseconds(row: Row, view: View) -> str:
    return "" if row.seconds is None else f"{1e3 * row.seconds:.3f}"


#: what `summary(columns=...)` offers: the heading, and what stands in a row
COLUMNS: dict[str, tuple[str, Callable[[Row, View], str]]] = {
    "parameters": ("Param #", parameters_text),
    "multiply_adds": ("Mult-adds", lambda row, view: per_example(row.cost.multiply_adds, view)),
    "flops": ("FLOPs", lambda row, view: per_example(row.cost.forward, view)),
    "flops_backward": ("FLOPs backward", lambda row, view: per_example(row.cost.backward, view)),
    "kept": ("Kept (MB)", megabytes),
}
TORCHSUMMARY = (20, 25, 15)  # least widths of its columns
OTHERS = {"time": ("Time (ms)", milliseconds), "share": ("Share", share_text)}


def shape_text(row: Row, view: View) -> str:
    """[-1, 64, 32, 32], or a list of such where a module returns several Tensors."""
    batch = view.shown or -1
    shapes = [[batch if i == 0 and n == view.examples else n for i, n in enumerate(shape)] for shape in row.shapes]
    return "" if not shapes else str(shapes[0] if len(shapes) == 1 else shapes)


def cells(view: View) -> tuple[list[str], list[list[str]]]:
    """Headings, and the texts of each row."""
    names = list(view.columns)
    if view.tree:
        names.insert(names.index("parameters") + 1 if "parameters" in names else len(names), "share")
    chosen = [{**COLUMNS, **OTHERS}[name] for name in names]
    rows = [
        [row.label, *([row.kind] if view.tree else []), shape_text(row, view), *(text(row, view) for _, text in chosen)]
        for row in view.rows
    ]
    first = ["Module", "Type"] if view.tree else ["Layer (type)"]
    return [*first, "Output Shape", *(heading for heading, _ in chosen)], rows


def line(texts: Sequence[str], widths: Sequence[int], tree: bool) -> str:
    """Texts side by side: torchsummary's distances, or in a tree the first two columns on the left."""
    if tree:
        placed = [t.ljust(w) if i < 2 else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths, strict=True))]
        return "  ".join(placed)
    label, *rest = (text.rjust(width) for text, width in zip(texts, widths, strict=True))
    return f"{label}  {' '.join(rest)}"


def text_of(view: View) -> str:
    """The table in torchsummary's form, the totals and the notes."""
    headings, rows = cells(view)
    if view.tree:
        rows = [["  " * row.indent + texts[0], *texts[1:]] for row, texts in zip(view.rows, rows, strict=True)]
        least = [0] * len(headings)
    else:
        least = [*TORCHSUMMARY, *[12] * len(headings)][: len(headings)]
    widths = [max(n, *map(len, texts)) for n, *texts in zip(least, headings, *rows, strict=True)]
    lines = [line(texts, widths, view.tree) for texts in (headings, *rows)]
    width = len(lines[0]) + 1
    thin, thick = "-" * width, "=" * width
    out = [thin, lines[0], thick, *lines[1:], thick]
    for group in view.totals:
        out += [*(f"{label}: {value}" for label, value in group), thin]
    for note in view.notes:
        out += textwrap.wrap(note, max(64, min(width, 100)))
    return "\n".join(text.rstrip() for text in out)


def html_of(view: View) -> str:
    """The same as an HTML table."""
    headings, rows = cells(view)
    left = 2 if view.tree else 1
    align = ["left" if i < left else "right" for i in range(len(headings))]

    def row_of(tag: str, texts: Sequence[str], indent: int = 0) -> str:
        styles = [f"padding:0.1em 0.7em;text-align:{side}" for side in align]
        styles[0] += f";padding-left:{0.7 + 1.2 * indent:.1f}em"
        parts = (f'<{tag} style="{s}">{html.escape(t)}</{tag}>' for s, t in zip(styles, texts, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(row_of("td", texts, row.indent) for row, texts in zip(view.rows, rows, strict=True))
    totals = "\n".join(
        f'<tr><td style="padding:0.1em 0.7em;text-align:left">{html.escape(label)}</td>'
        f'<td style="padding:0.1em 0.7em;text-align:right">{html.escape(value)}</td></tr>'
        for group in view.totals
        for label, value in group
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in view.notes)
    return (
        f"<table>\n<thead>{row_of('th', headings)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
        f"<table>\n<tbody>\n{totals}\n</tbody>\n</table>\n{notes}"
    )
