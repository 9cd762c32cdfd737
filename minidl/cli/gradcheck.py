"""`minidl gradcheck`: derivatives against finite differences."""

import argparse
from typing import Any

import numpy as np
from tqdm import tqdm

import minidl
from minidl.cli.common import UsageError, add_command, load_network, natural, positive
from minidl.study.gradcheck import gradcheck, gradgradcheck
from minidl.study.gradcheck_cases import CASES
from minidl.study.table import Table

_EXAMPLES = """\
  minidl gradcheck all                           every operation and layer of minidl, in half a minute
  minidl gradcheck all --second                  their second derivatives
  minidl gradcheck resnet20                      a network: a few elements of each parameter, and a direction
  minidl gradcheck mynet.py:MyLayer --input 3 8 8 --elements 0      every element of a layer of yours"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "gradcheck", run, "check derivatives against finite differences", _EXAMPLES)
    parser.add_argument("model", metavar="WHAT", help="all, a network's name, or FILE.py:NAME, which is run")
    parser.add_argument(
        "--input", type=positive, nargs="+", action="append", metavar="N", help="extents of an input without the batch"
    )
    parser.add_argument("--batch-size", type=positive, default=2, metavar="N", help="examples (default: 2)")
    parser.add_argument(
        "--elements", type=natural, default=4, metavar="N", help="compared of each parameter; 0 for all (default: 4)"
    )
    parser.add_argument("--second", action="store_true", help="second derivatives")
    parser.add_argument("--rtol", type=float, default=1e-6, metavar="X", help="relative tolerance (default: 1e-6)")


def run(args: argparse.Namespace) -> int:
    """Check; 1 if a gradient is wrong."""
    if not args.rtol > 0:
        raise UsageError(f"--rtol must be above 0, got {args.rtol}")
    return check_cases(args) if args.model == "all" else check_network(args)


def check_cases(args: argparse.Namespace) -> int:
    """Check every case of minidl's own and print a line for each name."""
    if args.input:
        raise UsageError("--input goes with a network, not with all")
    cases = [case for case in CASES if case.twice or not args.second]
    found: dict[str, list[Any]] = {}
    for case in tqdm(cases, desc="gradcheck", delay=2, leave=False):
        found.setdefault(case.name, []).append(case.check(args.second, args.rtol))
    rows = []
    for name, reports in found.items():
        worst = max(reports, key=lambda report: (not report, report.worst.relative))
        kinks = sum(len(check.kinks) for report in reports for check in report.checks)
        verdict = "ok" if all(reports) else "WRONG"
        rows.append([name, str(len(reports)), worst.worst.name, f"{worst.worst.relative:.1e}", str(kinks), verdict])
    wrong = [i for i, row in enumerate(rows) if row[-1] != "ok"]
    order = "second derivatives" if args.second else "derivatives"
    largest = max(report.worst.relative for reports in found.values() for report in reports)
    remark = f"{len(cases)} cases, {len(wrong)} wrong; worst relative error {largest:.1e} (tolerance {args.rtol:g})"
    columns = ("operation or layer", ">cases", "worst input", ">relative error", ">kinks", "verdict")
    print(Table(columns, rows, f"{order} in float64 against finite differences", [remark], wrong))
    return 1 if wrong else 0


def check_network(args: argparse.Namespace) -> int:
    """Check a network, or a layer, on random inputs, and print a line for each parameter."""
    model, sizes = load_network(args)
    sizes = sizes if isinstance(sizes[0], list | tuple) else [sizes]
    rng = np.random.default_rng(0)
    minidl.manual_seed(0)
    inputs = tuple(rng.standard_normal((args.batch_size, *size)) for size in sizes)
    check = gradgradcheck if args.second else gradcheck
    report = check(model, inputs, rtol=args.rtol, max_elements=args.elements or None)
    print(report)
    return 0 if report else 1
