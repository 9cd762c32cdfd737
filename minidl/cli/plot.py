"""`minidl plot`: pictures of runs beside each other."""

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

from minidl.cli.common import CHECKPOINT, LOG, UsageError, add_command, load_run
from minidl.interop import write_atomically
from minidl.study import Recording, draw_recordings
from minidl.study.compare_recordings import PICTURES
from minidl.training import plot_curves, read_log
from minidl.training.fit import recording_path

_EXAMPLES = """\
  minidl plot runs/plain56-cifar10-1 runs/resnet56-cifar10-1                   loss and accuracy in one picture
  minidl plot runs/plain56-cifar10-1 runs/resnet56-cifar10-1 --what depth --out depth.png
  minidl plot runs/resnet20-cifar10-1 --what activations --layer bn1           of `minidl train --record`"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "plot", run, "draw runs beside each other, as a PNG file", _EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run of `minidl train`")
    parser.add_argument(
        "--what",
        choices=["curves", *PICTURES],
        default="curves",
        help="curves of loss and accuracy (the default), or from runs with --record: activations or gradients by step, "
        "both by depth, the size of updates by step, dead channels",
    )
    parser.add_argument("--layer", metavar="NAME", help="only this layer of activations or gradients, with histograms")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="(default: plot-WHAT.png in the first run's folder)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw."""
    if args.out is not None and args.out.suffix != ".png":
        raise UsageError(f"--out: expected FILE.png, got {args.out}")
    if args.layer is not None and args.what not in ("activations", "gradients"):
        raise UsageError(f"--layer is for `--what activations` and `--what gradients`, not for {args.what}")
    for folder in args.runs:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
        if not (folder / CHECKPOINT).exists() and not (folder / LOG).exists():
            raise UsageError(f"{folder} is no run: it holds neither {CHECKPOINT} nor {LOG}")
    path = args.out or args.runs[0] / f"plot-{args.what}.png"
    runs = dict(zip(names(args.runs), args.runs, strict=True))
    if args.what == "curves":
        plot_curves({name: history(folder) for name, folder in runs.items()}, path)
    else:
        png = BytesIO()
        recordings = {name: recording(folder) for name, folder in runs.items()}
        draw_recordings(recordings, args.what, args.layer).savefig(png, format="png")
        write_atomically(path, [png.getvalue()])
    print(path)
    return 0


def names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell all runs from each other."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UsageError("the same run is given twice")
    length = 1
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ["/".join(part[-length:]) for part in parts]


def history(folder: Path) -> list[dict[str, Any]]:
    """The finished epochs of a run: of its checkpoint, which knows the curve within them too, or of its log."""
    found = load_run(folder)[1].history if (folder / CHECKPOINT).exists() else read_log(folder / LOG)
    if not found:
        raise UsageError(f"{folder} has not finished an epoch yet")
    return found


def recording(folder: Path) -> Recording:
    """The recorded steps of a run."""
    path = recording_path(folder / CHECKPOINT)
    if not path.exists():
        raise UsageError(f"{folder} holds no recording: `minidl train --record` makes one")
    found = Recording.load(path)
    if not found.steps:
        raise UsageError(f"{folder} has not recorded a step yet")
    return found
