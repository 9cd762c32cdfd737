"""Networks to draw, and reading a drawing back: where boxes stand and edges run, from the SVG text alone."""

import re
from xml.etree import ElementTree

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.models import resnet20

SVG = "{http://www.w3.org/2000/svg}"
STEPS = 60  # points looked at on a curve


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.a(x)
        return minidl.cat([F.relu(self.b(h)), self.c(h).exp(), (h * 2).abs(), x], 1)


def lenet():
    features = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(features, nn.Linear(4 * 12 * 12, 10))


NETWORKS = {
    "block": (lambda: nn.ResidualBlock(8, 8), (2, 8, 6, 6)),
    "block A": (lambda: nn.ResidualBlock(8, 16, 2, shortcut="A"), (2, 8, 6, 6)),
    "block B": (lambda: nn.ResidualBlock(8, 16, 2, shortcut="B"), (2, 8, 6, 6)),
    "bottleneck": (lambda: nn.Bottleneck(8, 4, 2), (2, 8, 6, 6)),
    "two blocks": (lambda: nn.Sequential(nn.Bottleneck(16, 4), nn.Bottleneck(16, 4, shortcut="C")), (2, 16, 6, 6)),
    "branches": (Branches, (2, 4)),
    "lenet": (lenet, (2, 1, 28, 28)),
    "resnet20": (resnet20, (2, 3, 8, 8)),
}


def network(name):
    make, shape = NETWORKS[name]
    return make(), minidl.randn(*shape)


def texts(svg):
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def boxes(svg):
    """(left, top, right, bottom) of each box in the order of drawing; of a stack, the one in front."""
    found = []
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if group.find(f"{SVG}title") is not None:
            rect = group.findall(f"{SVG}rect")[-1]
            x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


def routes(svg):
    """Points along each edge, in the order of the drawing's edges."""
    edges = ElementTree.fromstring(svg).find(f"{SVG}g")
    return [list(points(path.get("d"))) for path in edges.iter(f"{SVG}path")]


def points(text):
    now = (0.0, 0.0)
    for command, rest in re.findall("([MLC])([^MLC]*)", text):
        numbers = [float(n) for n in re.split("[ ,]+", rest.strip())]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        for i in range(1, STEPS + 1):
            t = i / STEPS
            if command == "C":
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                corners = [now, *pairs]
            else:
                weights, corners = (1 - t, t), [pairs[0] if command == "M" else now, pairs[0]]
            yield tuple(sum(w * c[axis] for w, c in zip(weights, corners, strict=True)) for axis in (0, 1))
        now = pairs[-1]


def overlapping(rects):
    """Pairs of boxes that share more than an edge."""
    return [
        (i, j)
        for i, a in enumerate(rects)
        for j, b in enumerate(rects[:i])
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def run_through(svg, edges, slack=0.2):
    """(edge, box) for every box that an edge enters without beginning or ending there."""
    rects, found = boxes(svg), set()
    for edge, route in zip(edges, routes(svg), strict=True):
        for x, y in route:
            for i, (left, top, right, bottom) in enumerate(rects):
                if left + slack < x < right - slack and top + slack < y < bottom - slack:
                    found.add((edge, i))
    return sorted(found)


def loose_ends(svg, edges, slack=0.2):
    """Edges that do not begin on the border of their first box and end on that of their second."""
    rects = boxes(svg)

    def on_border(point, rect):
        (x, y), (left, top, right, bottom) = point, rect
        inside = left - slack <= x <= right + slack and top - slack <= y <= bottom + slack
        return inside and min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) <= slack

    return [
        (u, v)
        for (u, v), route in zip(edges, routes(svg), strict=True)
        if not (on_border(route[0], rects[u]) and on_border(route[-1], rects[v]))
    ]
