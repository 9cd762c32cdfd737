"""`minidl data`: what is there, fetch it, look at it."""

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from minidl.cli.common import UsageError, add_command
from minidl.data import ArrayDataset, available, cache_folder, download
from minidl.interop import write_atomically
from minidl.training import Recipe, load_dataset
from minidl.training.recipe import DEFAULTS

_EXAMPLES = """\
  minidl data list
  minidl data download cifar10
  minidl data show shapes10 --out shapes10.png"""

DOWNLOADS = {"cifar10": "170 MB", "cifar10-python": "170 MB", "mnist": "12 MB"}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "data", run_list, "list, download or show datasets", _EXAMPLES)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add_command(actions, "list", run_list, "list the datasets and where they are", "  minidl data list")
    listing.add_argument("--data", type=Path, metavar="DIR", help="folder to look in first")
    fetch = add_command(
        actions,
        "download",
        run_download,
        "download a dataset, resuming what was begun",
        "  minidl data download cifar10",
    )
    fetch.add_argument(
        "name", metavar="NAME", choices=DOWNLOADS, help=", ".join(f"{n} ({s})" for n, s in DOWNLOADS.items())
    )
    fetch.add_argument("--data", type=Path, metavar="DIR", help=f"where to put it (default: {cache_folder()})")
    show = add_command(
        actions, "show", run_show, "write a sheet with images of each class", "  minidl data show shapes10"
    )
    show.add_argument("name", metavar="NAME", choices=DEFAULTS, help=", ".join(DEFAULTS))
    show.add_argument("--data", type=Path, metavar="DIR", help="folder of the dataset (default: it is looked for)")
    show.add_argument("--split", choices=["train", "val", "test"], default="train", help="(default: train)")
    show.add_argument("--out", type=Path, metavar="PNG", help="the file to write (default: NAME.png)")


def run_list(args: argparse.Namespace) -> int:
    """List."""
    found = available(args.data)
    for name in DEFAULTS:
        if name in found:
            place = found[name] if found[name] is not None else "made from a seed, needs no files"
        else:
            place = f"not found; `minidl data download {name}` fetches it ({DOWNLOADS[name]})"
        print(f"{name:10} {place}")
    return 0


def run_download(args: argparse.Namespace) -> int:
    """Download."""
    print(f"{args.name} is in {download(args.name, args.data)}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Write a sheet of images."""
    out = args.out or Path(f"{args.name}.png")
    if not out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")
    dataset = load_dataset(Recipe.of(args.name), args.split, args.data)
    write_atomically(out, [contact_sheet(dataset, f"{args.name}, {args.split}: {len(dataset):,} images")])
    print(out)
    return 0


def contact_sheet(dataset: ArrayDataset, title: str, columns: int = 16) -> bytes:
    """Draw the first images of each class, one class per row.

    Args:
        dataset: the images.
        title: a line above them.
        columns: images per class.

    Returns:
        A PNG file's bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    H, W, C = dataset.data.shape[1:]
    gap, rows = 2, len(dataset.classes)
    sheet = np.full((rows * (H + gap), columns * (W + gap), C), 255, np.uint8)
    for row in range(rows):
        for column, index in enumerate(np.flatnonzero(dataset.targets == row)[:columns]):
            top, left = row * (H + gap), column * (W + gap)
            sheet[top : top + H, left : left + W] = dataset.data[index]
    figure = Figure(figsize=(1 + columns * 0.5, 0.4 + rows * 0.5), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(sheet if C == 3 else sheet[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_yticks([row * (H + gap) + H / 2 for row in range(rows)], dataset.classes)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11, loc="left")
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
