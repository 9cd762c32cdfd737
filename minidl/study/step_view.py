"""How a step looks: as text for a terminal, as HTML with LaTeX for a notebook."""

import html
import textwrap

from minidl.study.formulas import latex_equation, plain, symbol
from minidl.study.graph_text import shape_text
from minidl.study.steps import UNKNOWN, Line, Step
from minidl.study.values import bytes_text, describe

__all__ = ["html_of", "text_of", "title_of"]

FRAME = "border-left:3px solid rgba(128,128,128,.5);padding:2px 0 2px 10px;margin:6px 0"
CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0;background:transparent"
PLAIN = "tex2jax_ignore mathjax_ignore"  # classes whose text MathJax leaves alone
FAINT = "opacity:.65"
WIDTHS = (
    "white-space:nowrap",
    "white-space:normal;min-width:14em",
    "white-space:normal;min-width:8em",
)  # or it scrolls
GAP = "\u2003"  # a wide space, which HTML keeps

Section = tuple[str, list[Line], bool]  # heading, lines, whether they are derivatives


def title_of(step: Step, between: str = "  ") -> str:
    """3  conv2d  layer1.0.conv1 (Conv2d)  → 8×16×32×32"""
    number = "" if step.number is None else str(step.number)
    where = f"{step.path} ({step.kind})".strip() if step.kind else ""
    shape = "" if step.shape is None else f"→ {shape_text(step.shape)}"
    return between.join(filter(None, [number, step.name, where, shape]))


def sections(step: Step) -> list[Section]:
    """What is to be said of a step, in order."""
    options = [Line(name, "", value) for name, value in step.options.items()]
    heading = "kept for backward" + (f", {bytes_text(step.bytes)}" if step.bytes else "")
    if step.kept is None:
        heading = "kept for backward: freed by a backward pass"
    kept = (heading, step.kept or [], False)
    found = [("inputs", [*step.inputs, *options], False), ("forward", step.forward, False)]
    found += [kept, ("backward", step.backward, True)]
    return [part for part in found if part[1] or part[0].endswith("pass")]


def remark_of(line: Line) -> str:
    """Where it comes from, and how far it is from what autograd finds."""
    off = "" if line.difference is None else "differs from autograd by {:.1e}, largest {:.1e}".format(*line.difference)
    return "; ".join(filter(None, [line.note, off]))


def value_of(line: Line, brief: bool) -> str:
    """The value in words; of what is only kept, shape and dtype."""
    if brief and hasattr(line.value, "shape"):
        return f"{shape_text(line.value.shape)} {line.value.dtype}"
    return "" if line.value is UNKNOWN else describe(line.value)


def text_of(step: Step) -> str:
    """The step as lines of text."""
    lines = [title_of(step)]
    for heading, parts, _ in sections(step):
        lines.append(f"   {heading}")
        for line in parts:
            value = value_of(line, heading.startswith("kept"))
            remark = f"  ({remark_of(line)})" if remark_of(line) else ""
            equation = f"{line.name} = {plain(line.formula)}" if line.formula else ""
            shown = [equation, value + remark] if equation else [f"{line.name}: {value}{remark}"]
            lines.append("      " + shown[0])
            lines += [textwrap.indent(text.strip(), " " * 10) for text in shown[1:] if text.strip()]
    return "\n".join(lines)


def html_of(step: Step, opened: bool) -> str:
    """The step as a block that opens and closes."""
    rows = []
    for heading, parts, derivative in sections(step):
        rows.append(f"<tr><td colspan='3' style='{CELL};{FAINT}'><i>{html.escape(heading)}</i></td></tr>")
        for line in parts:
            if line.formula:
                name = rf"\(\displaystyle {html.escape(latex_equation(line.name, line.formula, derivative))}\)"
            elif line.name.isidentifier():
                name = rf"\({html.escape(symbol(line.name))}\)"
            else:
                name = f"<code>{html.escape(line.name)}</code>"
            value = html.escape(value_of(line, heading.startswith("kept")))
            remark = f"<span class='{PLAIN}' style='{FAINT}'>{html.escape(remark_of(line))}</span>"
            code = f"<code style='white-space:pre-wrap;background:transparent;color:inherit'>{value}</code>"
            cells = zip((name, code if value else "", remark), WIDTHS, strict=True)
            rows.append("<tr>" + "".join(f"<td style='{CELL};{w}'>{cell}</td>" for cell, w in cells) + "</tr>")
    summary = f"<summary class='{PLAIN}' style='cursor:pointer'>{html.escape(title_of(step, GAP))}</summary>"
    table = f"<table style='border-collapse:collapse;margin:0'>{''.join(rows)}</table>"
    scroll = f"<div style='overflow-x:auto'>{table}</div>"
    return f"<details style='{FRAME}'{' open' if opened else ''}>{summary}{scroll}</details>"
