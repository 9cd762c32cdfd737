"""Whether the loader keeps up: training as `minidl train` does it, beside nothing but steps on one batch."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minidl
from minidl.data import AlternatingFlip, ArrayDataset, Compose, DataLoader, Normalize, RandomCrop
from minidl.models import get_model
from minidl.nn import CrossEntropyLoss
from minidl.optim import SGD
from minidl.optim.lr_scheduler import OneCycleLR
from minidl.training import fit
from minidl.training.recipe import DEFAULTS

__all__ = ["measure_job"]

STEPS = 64  # of a turn
SIDE, CLASSES = 32, 10


def measure_job(rounds: int = 7, steps: int = STEPS, tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Time ResNet-20's training on images of CIFAR-10's size, with loading, augmentation, metrics and schedule.

    Args:
        rounds: turns of each kind. steps: of a turn. tick: called after each turn.

    Returns:
        JSON values: images per second of the "job" and of the "bare" step, medians over the rounds; "share", the
        median over the rounds of job / bare, with its "share_quartiles".
    """
    recipe = DEFAULTS["cifar10"]
    batch, rng = recipe["batch_size"], np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * batch, SIDE, SIDE, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, len(images))
    augment = [RandomCrop(SIDE, recipe["padding"], recipe["padding_mode"]), AlternatingFlip()]
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    dataset = ArrayDataset(images, labels).with_transform(Compose([*augment, normalize]))
    minidl.manual_seed(0)
    model, criterion = get_model("resnet20"), CrossEntropyLoss(label_smoothing=recipe["label_smoothing"])
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    x, y = next(iter(DataLoader(dataset, batch)))

    def job() -> None:
        scheduler = OneCycleLR(optimizer, 0.01, total_steps=steps)
        loader = DataLoader(dataset, batch, shuffle=True, num_workers=1)
        fit(model, loader, optimizer=optimizer, epochs=1, criterion=criterion, scheduler=scheduler, progress=False)

    def bare() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()

    seconds: dict[str, list[float]] = {"job": [], "bare": []}
    bare()
    for turn in range(rounds):
        for name, run in (("job", job), ("bare", bare))[:: 1 if turn % 2 == 0 else -1]:
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
            tick()
    shares = np.divide(seconds["bare"], seconds["job"])
    rates = {name: len(images) / float(np.median(ts)) for name, ts in seconds.items()}
    quartiles = [float(q) for q in np.percentile(shares, [25, 75])]
    return {**rates, "share": float(np.median(shares)), "share_quartiles": quartiles}
