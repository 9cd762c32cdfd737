"""`minidl train`: a recipe, a run folder, the loop, and the one look at the test set."""

import argparse
from pathlib import Path
from typing import Any

import minidl
from minidl.cli.common import (
    CHECKPOINT,
    CURVES,
    LOG,
    UsageError,
    add_command,
    add_machine_options,
    apply_machine_options,
    load_run,
    natural,
    percent,
    positive,
)
from minidl.data import find
from minidl.interop.prototxt import read_source
from minidl.kernels.algorithms import ALGORITHMS
from minidl.models import list_models
from minidl.study import Recorder, Recording
from minidl.training import Checkpoint, Recipe, build, evaluate, evaluation_loader, fit, load_dataset, plot_curves
from minidl.training.fit import recording_path
from minidl.training.recipe import DEFAULTS, FLIPS, NO_BATCH_NORM_LR, PADDING_MODES, SCHEDULES, Parts

_EXAMPLES = """\
  minidl train                                             CIFAR-10 if it is there, else Shapes10; three minutes
  minidl train --dataset cifar10 --data DIR --epochs 10    the real thing
  minidl train --limit 500 --epochs 1                      a quick try
  minidl train --schedule multistep --milestones 80 120 --lr 0.1 --epochs 160
  minidl train --net lenet.prototxt --dataset mnist        a network of Caffe's
  minidl train --record                                    `minidl plot RUN --what gradients` then looks into it
  minidl train --resume runs/resnet20-cifar10-1            go on; the same weights as without the interruption"""

RECORD_EVERY = 50

# What a resumed run may not change: the option's name -> the recipe's.
_CHOICES = ("dataset", "model", "epochs", "batch_size", "lr", "momentum", "weight_decay", "label_smoothing")
_CHOICES += ("schedule", "milestones", "seed", "holdout", "limit", "padding", "padding_mode")
_CHOICES += ("flip", "kernels", "conv_algorithm", "net")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "train", run, "train a network", _EXAMPLES)
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--dataset",
        choices=["auto", *DEFAULTS],
        help="auto takes CIFAR-10 if it finds it, else Shapes10 (default: auto)",
    )
    network = what.add_mutually_exclusive_group()
    network.add_argument(
        "--model", choices=list_models(), metavar="NAME", help="`minidl info` lists them (default: resnet20)"
    )
    network.add_argument(
        "--net",
        type=Path,
        metavar="FILE",
        help="a Caffe prototxt from data to SoftmaxWithLoss; batch size and learning rate (0.01) are then its own",
    )
    what.add_argument("--epochs", type=positive, metavar="N", help=f"passes over the data (default: {_each('epochs')})")
    what.add_argument(
        "--batch-size", type=positive, metavar="N", help=f"images per step (default: {_each('batch_size')})"
    )
    what.add_argument(
        "--lr",
        type=float,
        metavar="X",
        help=f"peak learning rate (default: {_each('lr')}; networks without batch norm {NO_BATCH_NORM_LR:g})",
    )
    what.add_argument("--momentum", type=float, metavar="X", help="Nesterov momentum (default: 0.9)")
    what.add_argument("--weight-decay", type=float, metavar="X", help="on all parameters (default: 0.0005)")
    what.add_argument(
        "--label-smoothing", type=float, metavar="X", help=f"in [0, 1) (default: {_each('label_smoothing')})"
    )
    what.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate (default: onecycle)")
    what.add_argument(
        "--milestones", type=positive, nargs="+", metavar="N", help="epochs at which multistep divides by 10"
    )
    what.add_argument("--padding", type=natural, metavar="N", help=f"of the random crop (default: {_each('padding')})")
    each = _each("padding_mode")
    what.add_argument("--padding-mode", choices=PADDING_MODES, help=f"what the crop pads with (default: {each})")
    what.add_argument("--flip", choices=FLIPS, help=f"how images are mirrored (default: {_each('flip')})")
    what.add_argument("--seed", type=natural, metavar="N", help="same seed, same weights (default: 0)")
    what.add_argument("--holdout", type=natural, metavar="N", help=f"validation images (default: {_each('holdout')})")
    what.add_argument(
        "--limit", type=positive, metavar="N", help="use only so many images of each split (default: all)"
    )
    what.add_argument("--no-kernels", dest="kernels", action="store_false", default=None, help="run on the plain texts")
    what.add_argument("--conv-algorithm", choices=ALGORITHMS, help="how convolutions are computed (default: auto)")
    how = parser.add_argument_group("where and how")
    how.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/MODEL-DATASET-n)")
    how.add_argument("--resume", type=Path, metavar="PATH", help="go on with a run: its folder, or a checkpoint in it")
    how.add_argument("--save-every", type=float, default=60, metavar="S", help="seconds between saves (default: 60)")
    how.add_argument(
        "--record",
        action="store_true",
        help="keep activations, gradients and updates of some steps by layer in RUN/recording.npz; see `minidl plot`",
    )
    how.add_argument(
        "--record-every",
        type=positive,
        metavar="N",
        help=f"record one of so many steps; with or without --record (default: {RECORD_EVERY})",
    )
    how.add_argument("--no-test", dest="test", action="store_false", help="leave the test set alone while tuning")
    how.add_argument("--no-compile", dest="compile", action="store_false", help="leave minidl.compile out")
    how.add_argument("--no-progress", dest="progress", action="store_false", help="no bar")
    add_machine_options(how)


def run(args: argparse.Namespace) -> int:
    """Train, then test once, unless told to leave the test set alone."""
    apply_machine_options(args)
    resumed: Checkpoint | None = None
    if args.resume is not None:
        folder, resumed, recipe = load_run(args.resume)
        _refuse_contradictions(args, recipe)
    else:
        recipe = _recipe(args)
    data = find(recipe.dataset, args.data or (resumed and resumed.configuration.get("data")))
    with minidl.use_kernels(recipe.kernels), minidl.set_conv_algorithm(recipe.conv_algorithm):
        parts = build(recipe, data, args.workers)
        if resumed is not None and resumed.configuration.get("data_crc32") != parts.data_crc32:
            raise UsageError(f"{data or recipe.dataset} holds other training images than the run was started with")
        if resumed is None or args.out is not None:
            folder = _new_folder(args.out, recipe)
        for left in folder.glob(".*.tmp"):  # by a process that was killed while it saved
            left.unlink()
        recorder = _recorder(args, parts.model, resumed)
        _introduce(recipe, parts, data, folder, resumed)
        history = fit(
            parts.model,
            parts.train_loader,
            parts.val_loader,
            optimizer=parts.optimizer,
            scheduler=parts.scheduler,
            criterion=parts.criterion,
            epochs=recipe.epochs,
            checkpoint=folder / CHECKPOINT,
            log=folder / LOG,
            resume=resumed,
            configuration={
                "recipe": recipe.to_dict(),
                "data": str(data.resolve()) if data else None,
                "data_crc32": parts.data_crc32,
            },
            save_every=args.save_every,
            progress=args.progress,
            compile=args.compile,
            report=lambda line: print(line, flush=True),
            recorder=recorder,
        )
        plot_curves(history, folder / CURVES, title=f"{recipe.model} on {recipe.dataset}, seed {recipe.seed}")
        files = f"checkpoint: {folder / CHECKPOINT}\nlog: {folder / LOG}\ncurve: {folder / CURVES}"
        if recorder is not None:
            files += f"\nrecording: {recording_path(folder / CHECKPOINT)}"
        if not args.test:
            print(files, flush=True)
            return 0
        test = load_dataset(recipe, "test", data)
        result = evaluate(parts.model, evaluation_loader(test, args.workers), parts.criterion)
    print(f"test: loss {result['loss']:.4f}, top-5 {percent(result['top5'])}, {len(test):,} images\n{files}")
    print(f"test accuracy: {percent(result['top1'])}", flush=True)
    return 0


def _each(name: str) -> str:
    """Show a default that differs between the datasets."""
    values = {dataset: defaults[name] for dataset, defaults in DEFAULTS.items()}
    if len(set(values.values())) == 1:
        return str(next(iter(values.values())))
    return ", ".join(f"{dataset} {value}" for dataset, value in values.items())


def _recipe(args: argparse.Namespace) -> Recipe:
    """Make the recipe that the options describe, and say which dataset it is for."""
    dataset = args.dataset or "auto"
    if dataset == "auto":
        dataset = "cifar10" if find("cifar10", args.data) else "shapes10"
        if dataset == "shapes10":
            print("CIFAR-10 was not found, using Shapes10; `minidl data download cifar10` fetches CIFAR-10 (170 MB)")
    choices = {name: getattr(args, name) for name in _CHOICES if name != "dataset" and getattr(args, name) is not None}
    if "milestones" in choices:
        choices.setdefault("schedule", "multistep")
    try:
        recipe = Recipe.of(dataset, **choices)
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(str(error)) from error
    if dataset == "cifar10" and args.epochs is None:
        print(f"{recipe.epochs} epoch, for a first look; `--epochs 10` gives the real result")
    return recipe


def _refuse_contradictions(args: argparse.Namespace, recipe: Recipe) -> None:
    for name in _CHOICES:
        given, stored = getattr(args, name), getattr(recipe, name)
        given = tuple(given) if isinstance(given, list) else given
        if name == "net" and given is not None:
            given = read_source(given)[0]
        if given is not None and given != stored and (name, given) != ("dataset", "auto"):
            option = "no-kernels" if name == "kernels" else name.replace("_", "-")
            stored = "of another text" if name == "net" else stored
            raise UsageError(
                f"--{option} contradicts the run's recipe ({name} {stored}); a resumed run keeps its recipe"
            )


def _recorder(args: argparse.Namespace, model: Any, resumed: Checkpoint | None) -> Recorder | None:
    """Make what records the run, if that is asked for; a resumed run goes on with its recording in any case."""
    source = recording_path(args.resume / CHECKPOINT if args.resume.is_dir() else args.resume) if resumed else None
    if source is None or not source.exists():
        wanted = args.record or args.record_every is not None
        return Recorder(model, args.record_every or RECORD_EVERY) if wanted else None
    recording = Recording.load(source)
    if args.record_every not in (None, recording.every):
        raise UsageError(f"--record-every contradicts the run's recording (every {recording.every} steps)")
    recorder = Recorder(model)
    recorder.resume(resumed.step, recording)
    return recorder


def _new_folder(out: Path | None, recipe: Recipe) -> Path:
    """Make the run's folder; an existing run is never overwritten."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if any((out / name).exists() for name in (CHECKPOINT, LOG, CURVES)):
            raise UsageError(f"--out: {out} already holds a run; go on with `--resume {out}`, or name another folder")
        return out
    number = 1
    while True:
        folder = Path("runs") / f"{recipe.model}-{recipe.dataset}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _introduce(recipe: Recipe, parts: Parts, data: Path | None, folder: Path, resumed: Checkpoint | None) -> None:
    count = sum(parameter.numel() for parameter in parts.model.parameters())
    held = len(parts.val_loader.dataset) if parts.val_loader else 0
    print(
        f"{recipe.model} ({count:,} parameters) on {recipe.dataset}{f' in {data}' if data else ''}: "
        f"{len(parts.train_loader.dataset):,} training and {held:,} validation images"
    )
    print(
        f"epochs {recipe.epochs}, batch {recipe.batch_size}, {recipe.schedule} lr {recipe.lr:g}, "
        f"momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}, seed {recipe.seed}"
    )
    if resumed is not None:
        print(f"resumed after step {resumed.step} ({resumed.epoch} epochs finished)")
    print(f"run: {folder}", flush=True)
    if recipe.kernels and not _compiled():
        print("compiling the kernels for this machine (once)", flush=True)


def _compiled() -> bool:
    """Tell whether an earlier process has left compiled kernels."""
    from minidl.kernels.cpu.jit import cache_folder

    return cache_folder is not None and any(cache_folder.rglob("*.nbi"))
