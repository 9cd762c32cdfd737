"""Training: the loop, recipes, checkpoints, metrics, logs and curves."""

from minidl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minidl.training.curves import plot_curves
from minidl.training.fit import evaluate, fit, latest_checkpoint
from minidl.training.interrupt import TrainingInterrupted
from minidl.training.log import read_log, write_log
from minidl.training.metrics import Metrics, topk_accuracy
from minidl.training.recipe import Parts, Recipe, build, build_model, evaluation_loader, load_dataset

__all__ = [
    "Checkpoint",
    "Metrics",
    "Parts",
    "Recipe",
    "TrainingInterrupted",
    "build",
    "build_model",
    "evaluate",
    "evaluation_loader",
    "fit",
    "latest_checkpoint",
    "load_checkpoint",
    "load_dataset",
    "plot_curves",
    "read_log",
    "save_checkpoint",
    "topk_accuracy",
    "write_log",
]
