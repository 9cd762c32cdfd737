"""A graph of cards as SVG text: no other program, no ids, no scripts, and the same text for the same graph.

The page has a light ground of its own, so that it reads the same in light and in dark notebooks.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from minidl.study.graph_layout import Layout, Shape, place

__all__ = ["Card", "draw", "printable"]

TITLE, TEXT, LABEL = 13, 11, 10.5  # font sizes, in pixels
LINE, LABEL_LINE = 15, 13  # from one line of text to the next
PADDING = 9
MARGIN = 16
LONGEST = 44  # characters in a line
STACK = 6  # by which the last of the boxes behind stands out
ASIDE = 11  # between a box and the path around it
BESIDE = 7  # between an edge and its label
GROUND, INK, FAINT, GRADIENT, EDGE = "#fcfcfa", "#20262e", "#5b6572", "#b03a2e", "#6b7683"

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NARROW, WIDE = set("iljtfrI.,:;|!'()[]/ "), set("mwMWQO@%×‖")


class Card(NamedTuple):
    """A box: a title, lines below it, the label of what leaves it, a tooltip.

    A line is a pair of texts, the second one in colour. `round` is for a value rather than something that is done,
    `stacked` for what stands for several, `shortcut` draws a path around the box.
    """

    title: str
    lines: Sequence[tuple[str, str]]
    label: Sequence[tuple[str, str]]
    tooltip: str
    fill: str
    stroke: str
    round: bool = False
    stacked: bool = False
    shortcut: bool = False


def draw(cards: Sequence[Card], edges: Sequence[tuple[int, int]], direction: str) -> str:
    """Draw cards and the edges between them.

    Args:
        cards: the boxes.
        edges: (from, to) by number, without cycles.
        direction: "TB" from top to bottom, or "LR" from left to right.
    """
    down = direction == "TB"
    shapes = []
    for card in cards:
        width, height = size(card)
        wide = max((text_width("  ".join(line), LABEL) for line in card.label), default=-BESIDE) + BESIDE
        tall = LABEL_LINE * len(card.label)
        shapes.append(Shape(width, height, wide, tall) if down else Shape(height, width, tall + BESIDE, wide + 4))
    layout = place(shapes, edges)
    extent = (layout.across, layout.along) if down else (layout.along, layout.across)
    width, height = (round(e + 2 * MARGIN, 1) for e in extent)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="{-MARGIN} {-MARGIN} {width:g} {height:g}" '
        "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">",
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="{width:g}" height="{height:g}" rx="8" fill="{GROUND}"/>',
        f'<g fill="none" stroke="{EDGE}" stroke-width="1.3">',
        *(f'<path d="{path(route, down)}"/>' for route in layout.routes),
        "</g>",
        f'<g fill="{EDGE}">',
        *(f'<path d="{arrow(route[-1], down)}"/>' for route in layout.routes),
        "</g>",
    ]
    leaving = {u for u, _ in edges}
    for number, card in enumerate(cards):
        if card.shortcut:
            parts.append(around(layout.centres[number], shapes[number], down))
        parts += box(card, layout, number, down)
        if number in leaving:
            parts += label(card, layout, number, shapes[number], down)
    return "\n".join([*parts, "</svg>\n"])


def size(card: Card) -> tuple[float, float]:
    """Width and height of a box."""
    widths = [text_width(card.title, TITLE) * 1.06, *(text_width("  ".join(line), TEXT) for line in card.lines)]
    width, height = max(widths) + 2 * PADDING + 4, TITLE + LINE * len(card.lines) + 2 * PADDING
    behind = STACK if card.stacked else 0
    return max(round(width), 64) + behind, height + behind


def text_width(text: str, font_size: float) -> float:
    """About how wide a text is in the widest of the usual fonts."""
    text = shortened(text)
    units = sum(0.36 if c in NARROW else 0.9 if c in WIDE else 0.66 if c.isupper() else 0.6 for c in text)
    return units * font_size


def shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def coloured(line: tuple[str, str]) -> str:
    plain, accent = (clean(shortened(text)) for text in line)
    space = "\u2002" if plain and accent else ""
    return plain + (f'{space}<tspan fill="{GRADIENT}">{accent}</tspan>' if accent else "")


def clean(text: str) -> str:
    """Text as XML holds it."""
    return escape(printable(text))


def printable(text: str) -> str:
    """Text without control characters and halves of characters."""
    return NO_XML.sub("\ufffd", text)


def path(route: Sequence[tuple[float, float]], down: bool) -> str:
    """Straight where the route keeps its place across, else an S-curve that starts and ends along."""
    a, b = route[0]
    text = f"M{point(a, b, down)}"
    for c, d in route[1:]:
        if c == a:
            text += f" L{point(c, d, down)}"
        else:
            middle = (b + d) / 2
            text += f" C{point(a, middle, down)} {point(c, middle, down)} {point(c, d, down)}"
        a, b = c, d
    return text


def point(across: float, along: float, down: bool) -> str:
    x, y = (across, along) if down else (along, across)
    return f"{x:.1f},{y:.1f}"


def arrow(tip: tuple[float, float], down: bool) -> str:
    across, along = tip
    corners = ((across, along), (across - 3.5, along - 8), (across + 3.5, along - 8))
    return "M" + " L".join(point(a, b, down) for a, b in corners) + " Z"


def around(centre: tuple[float, float], shape: Shape, down: bool) -> str:
    """A path from the edge before a box to the edge behind it."""
    across, along = centre
    right, first, last = across + shape.across / 2 + ASIDE, along - shape.along / 2 - 9, along + shape.along / 2 + 9
    corners = [
        (right - 8, first),
        (right, first),
        (right, first + 8),
        (right, last - 8),
        (right, last),
        (right - 8, last),
    ]
    a, b, c, d, e, f = (point(*corner, down) for corner in corners)
    tip = [point(across + 1 + back, last + side, down) for back, side in ((0, 0), (8, -3.5), (8, 3.5))]
    return (
        f'<path d="M{point(across, first, down)} L{a} Q{b} {c} L{d} Q{e} {f} L{tip[0]}" fill="none" '
        f'stroke="{EDGE}" stroke-width="1.3"/><path d="M{" L".join(tip)} Z" fill="{EDGE}"/>'
    )


def box(card: Card, layout: Layout, number: int, down: bool) -> list[str]:
    """The box with its text; those behind it where it stands for several."""
    across, along = layout.centres[number]
    x, y = (across, along) if down else (along, across)
    width, height = size(card)
    left, top = x - width / 2, y - height / 2
    if card.stacked:
        x, top, width, height = x - STACK / 2, top + STACK, width - STACK, height - STACK
    radius = height / 2 if card.round and not card.lines else 12 if card.round else 5
    frame = f'width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}" fill="{card.fill}" stroke="{card.stroke}"'
    parts = ["<g>", f"<title>{clean(card.tooltip)}</title>"]
    for shift in (STACK, STACK / 2, 0) if card.stacked else (0,):
        parts.append(f'<rect x="{left + shift:.1f}" y="{top - shift:.1f}" {frame}/>')
    baseline = top + PADDING + TITLE - 2
    text = f'<text x="{x:.1f}" text-anchor="middle"'
    parts.append(
        f'{text} y="{baseline:.1f}" font-size="{TITLE}" font-weight="600" fill="{INK}">'
        f"{clean(shortened(card.title))}</text>"
    )
    for i, line in enumerate(card.lines, start=1):
        parts.append(f'{text} y="{baseline + LINE * i:.1f}" font-size="{TEXT}" fill="{FAINT}">{coloured(line)}</text>')
    return [*parts, "</g>"]


def label(card: Card, layout: Layout, number: int, shape: Shape, down: bool) -> list[str]:
    """What leaves the box, on the left of (or above) the first piece of its edges."""
    across, along = layout.centres[number]
    along += shape.along / 2
    lines = card.label
    parts = []
    for i, line in enumerate(lines):
        if down:
            place_, anchor = (across - BESIDE, along + LABEL_LINE * (i + 1) - 1), "end"
        else:
            place_, anchor = (across - BESIDE + 2 - LABEL_LINE * (len(lines) - 1 - i), along + BESIDE), "start"
        x, y = place_ if down else place_[::-1]
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{LABEL}" fill="{FAINT}">'
            f"{coloured(line)}</text>"
        )
    return parts
