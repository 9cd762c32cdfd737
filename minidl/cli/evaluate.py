"""`minidl eval`: measure a checkpoint."""

import argparse
from pathlib import Path
from typing import Any

import minidl
from minidl.cli.common import add_command, add_machine_options, apply_machine_options, load_run, percent
from minidl.nn import CrossEntropyLoss
from minidl.training import build_model, evaluate, evaluation_loader, load_dataset

_EXAMPLES = """\
  minidl eval runs/resnet20-cifar10-1
  minidl eval runs/resnet20-cifar10-1/checkpoint.safetensors --split val"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "eval", run, "measure a checkpoint: loss, top-1, top-5", _EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint, or the folder of a run")
    parser.add_argument("--split", choices=["test", "val", "train"], default="test", help="(default: test)")
    add_machine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure."""
    apply_machine_options(args)
    _, checkpoint, recipe = load_run(args.checkpoint)
    dataset = load_dataset(recipe, args.split, args.data or checkpoint.configuration.get("data"))
    model = build_model(recipe, dataset)
    checkpoint.restore(model)
    with minidl.use_kernels(recipe.kernels), minidl.set_conv_algorithm(recipe.conv_algorithm):
        criterion = CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        result = evaluate(model, evaluation_loader(dataset, args.workers), criterion)
    print(f"{recipe.model} on {recipe.dataset}, {checkpoint.epoch} of {recipe.epochs} epochs, step {checkpoint.step}")
    print(f"{args.split}: {len(dataset):,} images")
    print(f"loss: {result['loss']:.4f}\ntop-1: {percent(result['top1'])}\ntop-5: {percent(result['top5'])}")
    return 0
