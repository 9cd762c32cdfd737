"""`minidl summary`: the layers of a network, and what they cost."""

import argparse
from typing import Any

from minidl.cli.common import add_command, add_network, load_network, natural, positive
from minidl.study.summary import summary
from minidl.study.summary_view import COLUMNS

_EXAMPLES = """\
  minidl summary resnet20
  minidl summary resnet50 --tree --depth 2
  minidl summary resnet20 --input 3 64 64 --batch-size 32 --time
  minidl summary mynet.py:MyNet --input 3 32 32            a class, or a function, of a file of yours"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "summary", run, "show a network's layers and what they cost", _EXAMPLES)
    add_network(parser)
    parser.add_argument("--batch-size", type=positive, metavar="N", help="for memory and time (default: one example)")
    parser.add_argument("--tree", action="store_true", help="the tree of modules instead of the calls in order")
    parser.add_argument("--depth", type=natural, metavar="N", help="how deep to look into modules of modules")
    parser.add_argument("--functional", action="store_true", help="rows for operations that no layer runs")
    parser.add_argument("--time", action="store_true", help="measure each layer's forward time")
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=COLUMNS,
        default=["parameters", "multiply_adds"],
        metavar="NAME",
        help=f"among {', '.join(COLUMNS)} (default: parameters multiply_adds)",
    )


def run(args: argparse.Namespace) -> int:
    """Show."""
    model, size = load_network(args)
    shown = summary(
        model,
        size,
        batch_size=args.batch_size,
        depth=args.depth,
        columns=args.columns,
        timing=args.time,
        tree=args.tree,
        functional=args.functional,
        verbose=False,
    )
    print(shown)
    return 0
