"""Recipes: every choice that decides what a run computes, in one place, checked, and stored in its checkpoints."""

import dataclasses
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minidl
from minidl.data import (
    CIFAR10,
    MNIST,
    AlternatingFlip,
    ArrayDataset,
    Compose,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Shapes10,
    find,
)
from minidl.interop.caffe import from_prototxt
from minidl.interop.prototxt import read_source
from minidl.kernels.algorithms import ALGORITHMS
from minidl.models import get_model, list_models
from minidl.nn import CrossEntropyLoss, Module
from minidl.optim import SGD
from minidl.optim.lr_scheduler import MultiStepLR, OneCycleLR

__all__ = [
    "DEFAULTS",
    "FLIPS",
    "PADDING_MODES",
    "SCHEDULES",
    "Parts",
    "Recipe",
    "build",
    "build_model",
    "evaluation_loader",
    "load_dataset",
]

SCHEDULES = ("onecycle", "multistep")
PADDING_MODES = ("constant", "reflect")
FLIPS = ("none", "random", "alternating")

# What differs between the datasets. `epochs` is sized for about three minutes at 300 images/s.
DEFAULTS: dict[str, dict[str, Any]] = {
    "cifar10": {
        **{"epochs": 1, "batch_size": 128, "lr": 0.4, "label_smoothing": 0.1},
        **{"holdout": 5000, "padding": 2, "padding_mode": "reflect", "flip": "alternating"},
    },
    "mnist": {
        **{"epochs": 1, "batch_size": 64, "lr": 0.1, "label_smoothing": 0.0},
        **{"holdout": 5000, "padding": 2, "padding_mode": "constant", "flip": "none"},
    },
    "shapes10": {
        **{"epochs": 3, "batch_size": 64, "lr": 0.1, "label_smoothing": 0.0},
        **{"holdout": 1000, "padding": 2, "padding_mode": "constant", "flip": "none"},
    },
}
IMAGE_SHAPES = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "shapes10": (3, 32, 32)}  # (C, H, W)
NO_BATCH_NORM_LR = 0.01  # Caffe's usual one; a prototxt gets it too, few have batch norm
WITHOUT_BATCH_NORM = ("lenet", "lenet_dropout", "lenet_caffe")
WITHOUT_BATCH_NORM += ("vgg11", "vgg11_lrn", "vgg13", "vgg16_c", "vgg16", "vgg19")
SHAPES10_IMAGES = 10_000  # to train on; those held out come on top

SPLIT_SEED = 0  # the same images are held out whatever the run's seed, so that runs can be compared
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides the result of a run; `Recipe.of("cifar10", epochs=10)` fills in the dataset's defaults.

    Attributes:
        dataset: "cifar10", "mnist" or "shapes10".
        model: a name of `minidl.models.list_models()`; with `net`, any name.
        epochs: passes over the training images.
        batch_size: images per step.
        lr: peak learning rate of "onecycle", starting one of "multistep".
        momentum: of SGD, in Nesterov's form where above 0.
        weight_decay: on all parameters, as PyTorch does by default.
        label_smoothing: in [0, 1).
        schedule: "onecycle" (in straight lines up to `lr`, for a fifth of the steps, and down to zero) or "multistep"
            (a tenth at each milestone).
        milestones: epochs, increasing; only for "multistep".
        seed: of the initial weights, the order of the images and the augmentation.
        holdout: training images held out for validation; 0 for none.
        limit: use only so many images of each split; None for all.
        padding: pixels of the random crop; 0 for none.
        padding_mode: what they are, "constant" (zeros) or "reflect".
        flip: mirror half of the images, chosen at "random", or each in every second epoch ("alternating"); or "none".
        kernels: False runs on the plain texts.
        conv_algorithm: how convolutions are computed, see `minidl.set_conv_algorithm`.
        net: the text of a Caffe prototxt that is trained instead of a model, or None.

    Raises:
        ValueError, TypeError: a value outside of its range; the message names it.
    """

    dataset: str
    model: str = "resnet20"
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float
    schedule: str = "onecycle"
    milestones: tuple[int, ...] = ()
    seed: int = 0
    holdout: int
    limit: int | None = None
    padding: int
    padding_mode: str
    flip: str
    kernels: bool = True
    conv_algorithm: str = "auto"
    net: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _check_choice("dataset", self.dataset, DEFAULTS)
        if self.net is None:
            _check_choice("model", self.model, list_models())
        elif not isinstance(self.net, str) or not isinstance(self.model, str):
            raise TypeError(f"recipe: net must be the text of a prototxt, and model its name, got {self.model!r}")
        _check_choice("schedule", self.schedule, SCHEDULES)
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0, "holdout": 0, "padding": 0}.items():
            _check_integer(name, getattr(self, name), least)
        if self.limit is not None:
            _check_integer("limit", self.limit, 1)
        _check_number("lr", self.lr, 0, math.inf, open_below=True)
        _check_number("momentum", self.momentum, 0, 1)
        _check_number("weight_decay", self.weight_decay, 0, math.inf)
        _check_number("label_smoothing", self.label_smoothing, 0, 1)
        _check_choice("padding_mode", self.padding_mode, PADDING_MODES)
        _check_choice("flip", self.flip, FLIPS)
        _check_choice("conv_algorithm", self.conv_algorithm, ALGORITHMS)
        if not isinstance(self.kernels, bool):
            raise TypeError(f"recipe: kernels must be True or False, got {self.kernels!r}")
        for milestone in self.milestones:
            _check_integer("milestones", milestone, 1)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe: milestones must increase, got {self.milestones}")
        if bool(self.milestones) != (self.schedule == "multistep"):
            raise ValueError(
                f"recipe: schedule 'multistep' needs milestones and no other takes them, "
                f"got schedule {self.schedule!r} and milestones {self.milestones}"
            )

    @classmethod
    def of(cls, dataset: str, **choices: Any) -> "Recipe":
        """Return the dataset's default recipe with some choices replaced.

        A `net` (a prototxt's path or text) brings its name and its batch size; it gets, as a model without batch norm
        does, a learning rate of 0.01.

        Raises:
            ValueError, TypeError: as `Recipe`, and for a net that cannot be built or trained as a classifier.
        """
        _check_choice("dataset", dataset, DEFAULTS)
        defaults = DEFAULTS[dataset]
        if choices.get("net") is not None:
            net = choices.pop("net")
            defaults = {**defaults, **_net_choices(net, dataset), "net": read_source(net)[0], "lr": NO_BATCH_NORM_LR}
        elif choices.get("model") in WITHOUT_BATCH_NORM:
            defaults = {**defaults, "lr": NO_BATCH_NORM_LR}
        return cls(dataset=dataset, **{**defaults, **choices})

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` described.

        Raises:
            ValueError, TypeError: missing or unknown names, or values that `Recipe` refuses.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        values = {"net": None, **values}  # runs of earlier versions have none
        if values.keys() != known:
            odd = ", ".join(sorted(values.keys() ^ known))
            raise ValueError(f"recipe: these names are missing or unknown to this version of minidl: {odd}")
        return cls(**values)


@dataclass(frozen=True)
class Parts:
    """What a recipe builds: all that `fit` needs."""

    model: Module
    train_loader: DataLoader
    val_loader: DataLoader | None
    optimizer: SGD
    scheduler: Any
    criterion: CrossEntropyLoss
    data_crc32: int  # of the training images and labels; a resumed run must see the same


def load_dataset(recipe: Recipe, split: str, data: str | Path | None = None) -> ArrayDataset:
    """Load the images of a split as the recipe uses them, without augmentation.

    Args:
        recipe: the recipe.
        split: "train" (without the images held out), "val" (those held out) or "test".
        data: the folder to look in first; see `minidl.data.find`.

    Raises:
        ValueError: an unknown split, or more images held out than there are.
        FileNotFoundError: the dataset's files are not there.
    """
    _check_choice("split", split, ("train", "val", "test"))
    if split == "val" and not recipe.holdout:
        raise ValueError("recipe: there is no validation split, because holdout is 0")
    if recipe.dataset == "shapes10":
        count = min(SHAPES10_IMAGES, recipe.limit or SHAPES10_IMAGES) + recipe.holdout
        whole = Shapes10(train=split != "test", size=None if split == "test" else count)
    else:
        kind, folder = {"cifar10": CIFAR10, "mnist": MNIST}[recipe.dataset], find(recipe.dataset, data)
        if folder is None:
            looked = f"{data}, " if data else ""
            raise FileNotFoundError(
                f"{recipe.dataset} was not found in {looked}$MINIDL_DATA, ./data or the cache folder; "
                f"`minidl data download {recipe.dataset}` fetches it, --data DIR names its folder"
            )
        whole = kind(folder, train=split != "test")
    if split != "test" and recipe.holdout:
        if recipe.holdout >= len(whole):
            raise ValueError(f"recipe: holdout must be below the {len(whole)} training images, got {recipe.holdout}")
        whole = whole.split(recipe.holdout, SPLIT_SEED)[0 if split == "train" else 1]
    return whole if recipe.limit is None else whole.subset(range(min(recipe.limit, len(whole))))


def evaluation_loader(dataset: ArrayDataset, workers: int = 1) -> DataLoader:
    """Return a loader over a dataset in its own order, normalised, without augmentation."""
    normalized = dataset.with_transform(Normalize(dataset.mean, dataset.std))
    return DataLoader(normalized, EVALUATION_BATCH, shuffle=False, num_workers=workers)


def build_model(recipe: Recipe, dataset: ArrayDataset) -> Any:
    """Build the recipe's network for the images and classes of a dataset, with fresh weights.

    Raises:
        ValueError: a net of fewer outputs than there are classes, or as `from_prototxt`.
    """
    _, H, W, C = dataset.data.shape
    if recipe.net is None:
        return get_model(recipe.model, num_classes=len(dataset.classes), in_channels=C)
    net = from_prototxt(recipe.net, image_shape=(C, H, W))
    (scores,) = (net.blobs[layer.bottoms[0]] for layer in net.layers if layer.type == "SoftmaxWithLoss")
    if len(scores) != 2 or scores[1] < len(dataset.classes):
        raise ValueError(f"recipe: the net's scores {scores} do not fit the {len(dataset.classes)} classes")
    return net


def build(recipe: Recipe, data: str | Path | None = None, workers: int = 1) -> Parts:
    """Build everything that training by a recipe needs; restarts minidl's generator from the recipe's seed.

    Args:
        recipe: the recipe.
        data: the folder to look for the dataset in first.
        workers: threads that prepare batches; no influence on the result.

    Raises:
        ValueError, FileNotFoundError: as `load_dataset`.
    """
    train = load_dataset(recipe, "train", data)
    side = train.data.shape[1]
    augment: list[Any] = [RandomCrop(side, recipe.padding, recipe.padding_mode)] if recipe.padding else []
    augment += {"none": [], "random": [RandomHorizontalFlip()], "alternating": [AlternatingFlip()]}[recipe.flip]
    augmented = train.with_transform(Compose([*augment, Normalize(train.mean, train.std)]))
    train_loader = DataLoader(augmented, recipe.batch_size, shuffle=True, num_workers=workers, seed=recipe.seed)
    val_loader = evaluation_loader(load_dataset(recipe, "val", data), workers) if recipe.holdout else None

    minidl.manual_seed(recipe.seed)
    model = build_model(recipe, train)
    optimizer = SGD(
        model.parameters() if recipe.net is None else model.parameter_groups(recipe.lr, recipe.weight_decay),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )
    steps = len(train_loader)
    if recipe.schedule == "onecycle":
        scheduler = OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=recipe.epochs * steps,
            pct_start=0.2,
            anneal_strategy="linear",
            cycle_momentum=False,
        )
    else:
        scheduler = MultiStepLR(optimizer, [epoch * steps for epoch in recipe.milestones])
    criterion = CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    crc = zlib.crc32(train.targets.astype("<i8"), zlib.crc32(train.data))
    return Parts(model, train_loader, val_loader, optimizer, scheduler, criterion, crc)


def _net_choices(net: Any, dataset: str) -> dict[str, Any]:
    """What a prototxt decides: its name, the batch size of its data, and that it is a classifier."""
    built = from_prototxt(net, image_shape=IMAGE_SHAPES[dataset])
    losses = [layer for layer in built.layers if any(layer.loss_weights)]
    if [layer.type for layer in losses] != ["SoftmaxWithLoss"]:
        found = ", ".join(layer.type for layer in losses) or "none"
        raise ValueError(f"recipe: the net needs one loss in phase TRAIN, of type SoftmaxWithLoss; it has {found}")
    loss = dict(built.named_children())[losses[0].name]
    if losses[0].loss_weights != (1.0,) or loss.ignore_label is not None or loss.normalization == "NONE":
        raise ValueError(
            "recipe: the net's loss must be the mean over all labels: no loss_weight, ignore_label or NONE"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", built.name).strip(".-")  # it names a folder
    return {"model": name or "net", "batch_size": next(iter(built.inputs.values()))[0]}


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"recipe: {name} must be one of {', '.join(choices)}, got {value!r}")


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"recipe: {name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"recipe: {name} must be at least {least}, got {value}")


def _check_number(name: str, value: Any, least: float, below: float, *, open_below: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"recipe: {name} must be a number, got {value!r}")
    if not (least < value if open_below else least <= value) or not value < below:  # NaN is refused too
        start = f"above {least}" if open_below else f"at least {least}"
        raise ValueError(
            f"recipe: {name} must be finite, {start}" + f" and below {below}" * (below < math.inf) + f", got {value}"
        )
