"""`minidl graph`: the graph of a network, drawn."""

import argparse
from pathlib import Path
from typing import Any

from minidl.cli.common import UsageError, add_command, add_network, load_network, natural
from minidl.study import show_graph

_EXAMPLES = """\
  minidl graph resnet20                                    an outline, in the terminal
  minidl graph resnet50 --out resnet50.svg                 a drawing, for a browser
  minidl graph resnet20 --depth 3 --direction LR --out resnet20.svg
  minidl graph mynet.py:MyNet --input 3 32 32 --out mynet.dot"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "graph", run, "draw the graph of a network", _EXAMPLES)
    add_network(parser)
    parser.add_argument(
        "--depth", type=natural, metavar="N", help="draw modules that lie deeper as boxes (default: at most 60 boxes)"
    )
    parser.add_argument("--no-fold", action="store_true", help="draw equal modules in a row each by itself")
    parser.add_argument(
        "--direction", choices=["TB", "LR"], default="TB", help="top to bottom or left to right (default: TB)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="FILE.svg, or FILE.dot for Graphviz")


def run(args: argparse.Namespace) -> int:
    """Draw."""
    if args.out is not None and args.out.suffix.lower() not in (".svg", ".dot"):
        raise UsageError(f"--out: expected FILE.svg or FILE.dot, got {args.out}")
    model, size = load_network(args)
    drawing = show_graph(model, input_size=size, depth=args.depth, fold=not args.no_fold, direction=args.direction)
    if args.out is None:
        print(drawing)
    else:
        drawing.save(args.out)
        print(f"{args.out}: {len(drawing.boxes)} boxes, {len(drawing.edges)} edges")
    return 0
