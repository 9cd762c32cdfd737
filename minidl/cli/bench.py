"""`minidl bench`: how fast minidl is beside PyTorch, on this machine, in this run."""

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minidl
from minidl.bench.compare import compare
from minidl.bench.job import measure_job
from minidl.bench.layers import DIRECTIONS, LAYERS, LINEARS, bandwidth, measure_layers, peak
from minidl.bench.memory import peak_memory
from minidl.bench.networks import WORKS
from minidl.bench.operations import OPERATIONS, measure_operations
from minidl.bench.sides import MODES, torch_version
from minidl.cli.common import UsageError, add_command, positive
from minidl.cli.info import cpu_name
from minidl.interop.safetensors import write_atomically

_EXAMPLES = """\
  minidl bench                           everything, about a quarter of an hour
  minidl bench resnet20 --no-compile     one network beside eager PyTorch, half a minute
  minidl bench resnet20-compiled --batch 8
                                         a smaller batch, through minidl.compile
  minidl bench --layers                  single layers: GFLOP/s and share of the peak
  minidl bench --operations              activations, normalisation, pooling and losses
  minidl bench --job                     whether the loader keeps up with training
  minidl bench --json bench.json         the figures for another program

Nothing else should run: PyTorch's threads wait for each other in loops, and one busy process slows it many times."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "bench", run, "time minidl beside PyTorch", _EXAMPLES)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"{', '.join(WORKS)} (default: all)")
    parser.add_argument("--layers", action="store_true", help="single layers instead of networks")
    parser.add_argument("--operations", action="store_true", help="single operations that pass over memory")
    parser.add_argument("--job", action="store_true", help="training with loader and augmentation beside bare steps")
    parser.add_argument("--batch", type=positive, metavar="N", help="images of a step (default: the work's own)")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="turns of each side (default: 7)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of both libraries (default: one per core)")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of a process of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")


def run(args: argparse.Namespace) -> int:
    """Time, and print each result as it is known."""
    unknown = [name for name in args.works if name not in WORKS]
    if unknown:
        raise UsageError(f"there is no work {unknown[0]!r}; there are {', '.join(WORKS)}")
    fixed = [option for option in FIXED if getattr(args, option)]
    if fixed and (args.works or args.memory or args.batch or len(fixed) > 1):
        raise UsageError(f"--{fixed[0]} times something fixed; leave networks and other choices out")
    if args.batch and args.memory:
        raise UsageError("--memory measures each work with its own number of images; leave --batch out")
    if args.threads is not None:
        minidl.set_num_threads(args.threads)
    report: dict[str, Any] = machine()
    print(f"{report['cpu']}, {report['threads']} threads, load {report['load']}; PyTorch {report['torch'] or 'absent'}")
    report.update(FIXED[fixed[0]](args.rounds) if fixed else networks(args))
    if args.json is not None:
        write_atomically(args.json, [(json.dumps(report, indent=1) + "\n").encode()])
    return 0


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "minidl": minidl.__version__,
        "torch": torch_version(),
        "numpy": sys.modules["numpy"].__version__,
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "threads": minidl.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def networks(args: argparse.Namespace) -> dict[str, Any]:
    """Time the networks."""
    modes = MODES if args.compile else MODES[:-1]
    sides = 1 + len(modes) if torch_version() else 1
    names, results = args.works or list(WORKS), []
    with tqdm(total=len(names) * (sides + args.rounds), leave=False, disable=None) as bar:
        for name in names:
            bar.set_description_str(name)
            results.append(compare(name, args.rounds, modes=modes, tick=bar.update, batch=args.batch))
            if args.memory:
                both = ("minidl", *modes) if torch_version() else ("minidl",)
                results[-1]["peak_megabytes"] = {side: peak_memory(name, side) for side in both}
            with tqdm.external_write_mode(file=sys.stdout):
                print(_describe(results[-1]), flush=True)
    return {"networks": results}


def _describe(result: dict[str, Any]) -> str:
    lines = [f"\n{result['title']}, batch {result['batch']}"]
    for side, ms in result["milliseconds"].items():
        rate = f"{1e3 * result['batch'] / ms:8,.0f} images/s"
        lines.append(f"  {side:28} {ms:9.2f} ms ±{100 * result['spread'][side]:3.0f} %  {rate}")
    if "ratio" in result:
        low, high = result["ratio_quartiles"]
        lines.append(
            f"  {result['ratio']:.2f} times as fast as {result['yardstick']} (quartiles {low:.2f} to {high:.2f}; "
            f"wanted {result['wanted']}); first steps differ by {result['difference']:.0e}"
        )
    if "peak_megabytes" in result:
        peaks = (f"{side} {megabytes:,.0f} MB" for side, megabytes in result["peak_megabytes"].items())
        lines.append(f"  peak memory: {', '.join(peaks)}")
    return "\n".join(lines)


def job(rounds: int) -> dict[str, Any]:
    """Time training as `minidl train` does it."""
    with tqdm(total=2 * rounds, leave=False, disable=None) as bar:
        result = measure_job(rounds, tick=bar.update)
    low, high = (100 * share for share in result["share_quartiles"])
    print(
        f"ResNet-20 on images of CIFAR-10's size: {result['job']:,.0f} images/s with loader and augmentation, "
        f"{result['bare']:,.0f} on one batch, {100 * result['share']:.1f} % "
        f"(quartiles {low:.1f} to {high:.1f}; wanted 95)"
    )
    return {"job": result}


def layers(rounds: int) -> dict[str, Any]:
    """Time single layers."""
    top, stream, results = peak(), bandwidth(), []
    print(f"the micro-kernel alone: {top:.0f} GFLOP/s; adding large arrays: {stream:.0f} GB/s\n")
    print(f"{'layer':42} {'direction':16} {'ms':>8} {'GFLOP/s':>8} {'of peak':>8} {'PyTorch ms':>11} {'ratio':>6}")
    with tqdm(total=len(LAYERS + LINEARS) * len(DIRECTIONS), leave=False, disable=None) as bar:
        for result in measure_layers(rounds, bar.update):
            results.append({**result, "share_of_peak": result["gflops"] / top})
            row = f"{result['layer']:42} {result['direction']:16} {result['milliseconds']:8.2f} {result['gflops']:8.0f}"
            row += f" {100 * result['gflops'] / top:6.0f} %"
            if result["ratio"] is not None:
                row += f" {result['torch_milliseconds']:11.2f} {result['ratio']:6.2f}"
            with tqdm.external_write_mode(file=sys.stdout):
                print(row, flush=True)
    return {"peak_gflops": top, "bandwidth": stream, "layers": results}


def operations(rounds: int) -> dict[str, Any]:
    """Time single operations."""
    results = []
    print(f"{'':54} {'forward':>19} {'forward and back':>19}\n{'operation':34} {'shape':19} ", end="")
    print(f"{'ms':>9} {'PyTorch':>9} {'ms':>9} {'PyTorch':>9} {'ratio':>6}")
    with tqdm(total=len(OPERATIONS), leave=False, disable=None) as bar:
        for result in measure_operations(rounds, bar.update):
            results.append(result)
            times = [result[key] for key in ("forward", "torch_forward", "both", "torch_both")]
            row = " ".join(f"{'-' if ms is None else f'{ms:.3f}':>9}" for ms in times)
            ratio = "" if result["ratio"] is None else f" {result['ratio']:6.2f}"
            with tqdm.external_write_mode(file=sys.stdout):
                print(f"{result['operation']:34} {'x'.join(map(str, result['shape'])):19} {row}{ratio}", flush=True)
    return {"operations": results}


FIXED = {"layers": layers, "operations": operations, "job": job}
