"""The command line: `minidl train | eval | bench | data | summary | graph | gradcheck | weights | plot | info`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import minidl
from minidl.cli import bench, data, evaluate, gradcheck, graph, info, plot, summary, train, weights
from minidl.cli.common import Parser, UsageError, one_line
from minidl.training import TrainingInterrupted

__all__ = ["main"]

_EPILOG = """\
examples:
  minidl train                                      train a small residual network, in about three minutes
  minidl data download cifar10                      fetch CIFAR-10 (170 MB) into the cache folder
  minidl train --dataset cifar10 --epochs 10        the real thing
  minidl train --resume runs/resnet20-cifar10-1     go on with an interrupted run
  minidl eval runs/resnet20-cifar10-1               measure it on the test set
  minidl plot runs/resnet20-cifar10-1 runs/mine     draw runs in one picture
  minidl summary resnet20                           show its layers and what they cost
  minidl graph resnet20 --out resnet20.svg          draw it
  minidl gradcheck all                              check every derivative
  minidl weights resnet20.pth                       list what a file of weights holds
  minidl bench                                      time minidl beside PyTorch

`minidl COMMAND --help` lists the options of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after `minidl`, by default those of this process.

    Returns:
        The exit code: 0; 1 for a failure; 2 for wrong usage; 130 or 143 after Ctrl-C or SIGTERM.
    """
    debug = False
    try:
        args = _parser().parse_args(arguments)
        debug = args.debug
        code = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        return stop.code if isinstance(stop.code, int) else 0
    except TrainingInterrupted as stop:
        if stop.path is not None:
            sys.stderr.write(f"minidl: saved {stop.path}; go on with: minidl train --resume {stop.path.parent}\n")
        return 128 + stop.signum
    except KeyboardInterrupt:
        sys.stderr.write("minidl: interrupted\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has left, as in `minidl info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"minidl: error: {_describe(error)}\n")
        return 2 if isinstance(error, UsageError) else 1


def _describe(error: Exception) -> str:
    text = one_line(error)
    if isinstance(error, UsageError | ValueError | OSError | FloatingPointError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (--debug shows where)"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        print(f"minidl {minidl.__version__}")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(
        prog="minidl",
        description="Deep learning from scratch on NumPy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (train, evaluate, bench, data, summary, graph, gradcheck, weights, plot, info):
        module.add_parser(commands)
    return parser
