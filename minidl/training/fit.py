"""The training loop: steps, validation, a live bar, a log, and checkpoints that survive whatever happens."""

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minidl
from minidl.nn import CrossEntropyLoss
from minidl.study import Recorder
from minidl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minidl.training.garbage import LongLived
from minidl.training.interrupt import StopRequest, TrainingInterrupted
from minidl.training.log import write_log
from minidl.training.metrics import Metrics

__all__ = ["evaluate", "fit", "latest_checkpoint", "recording_path", "unfinished_path"]

_UNFINISHED = ("batches", "lr", "trace", "marked", "train_seconds", "timed_seconds", "timed_images")
_TRACE_POINTS = 200  # of the training curve, over the whole run
_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left{postfix}"


def evaluate(
    model: Any, loader: Any, criterion: Any = None, *, each_batch: Callable[[], None] | None = None
) -> dict[str, float]:
    """Measure a classifier in evaluation mode, without gradients.

    The model's mode and minidl's generator are left as they were.

    Args:
        model: maps images (N, C, H, W) to logits (N, classes).
        loader: yields (images, labels).
        criterion: maps (logits, labels) to the mean loss; by default cross-entropy.
        each_batch: called after each batch; what it raises stops the evaluation.

    Returns:
        {"loss", "top1", "top5"}: the mean loss per image, accuracies in [0, 1]. A row with NaN logits is wrong.

    Raises:
        ValueError: the loader yields nothing.
    """
    criterion, metrics = criterion or CrossEntropyLoss(), Metrics()
    training, rng = model.training, minidl.get_rng_state()
    model.eval()
    try:
        with minidl.no_grad():
            for images, labels in loader:
                logits = model(images)
                metrics.add(criterion(logits, labels).item(), logits, labels)
                if each_batch is not None:
                    each_batch()
    finally:
        model.train(training)
        minidl.set_rng_state(rng)
    if not metrics.count:
        raise ValueError("evaluate: the loader yields no images")
    return metrics.result()


def fit(
    model: Any,
    train_loader: Any,
    val_loader: Any = None,
    *,
    optimizer: Any,
    epochs: int,
    criterion: Any = None,
    scheduler: Any = None,
    checkpoint: str | os.PathLike | None = None,
    log: str | os.PathLike | None = None,
    resume: Checkpoint | None = None,
    configuration: dict[str, Any] | None = None,
    save_every: float = 60.0,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
    recorder: Recorder | None = None,
    compile: bool = False,
) -> list[dict[str, Any]]:
    """Train a classifier; from the same seeds, or resumed from any checkpoint, to the same weights bit for bit.

    The first Ctrl-C or SIGTERM finishes the step and saves, a second one quits at once.

    Args:
        model: maps images (N, C, H, W) to logits (N, classes).
        train_loader, val_loader: yield (images, labels); `train_loader` has `state_dict`/`load_state_dict` and a
            length, as `minidl.data.DataLoader`.
        optimizer, criterion: as in PyTorch; the default criterion is cross-entropy.
        epochs: how many epochs the model will have been trained for at the end, resumed ones included.
        scheduler: its `step()` is called after each optimiser step.
        checkpoint: the file to save at the end of each epoch; beside it, "...-unfinished" takes what is saved within
            an epoch (`latest_checkpoint` finds the newer one).
        log: the CSV file to write at the end of each epoch.
        resume: where to go on from; its states are loaded into the objects given here.
        configuration: JSON values to keep in the checkpoint.
        save_every: seconds between the saves within an epoch.
        progress: show a bar on stderr, where that is a terminal.
        report: gets one line of text per epoch.
        recorder: of `model`; looks on, which changes no bit. With each checkpoint, its recording is written to
            "recording.npz" beside; a resumed run goes on with the steps before the checkpoint's.
        compile: play the steps by `minidl.compile`.

    Returns:
        The history, one dict per epoch with the keys of `minidl.training.log.COLUMNS` and "trace": points [epochs,
        loss, top-1] of the training curve within the epoch, each the mean since the point before.

    Raises:
        TrainingInterrupted: after saving because of Ctrl-C or SIGTERM.
        FloatingPointError: the loss is no longer finite; the checkpoint of the last good epoch is kept.
        ValueError: `epochs` is not a positive integer, or an empty loader.
        OSError: a file cannot be written.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"fit: epochs must be a positive integer, got {epochs!r}")
    if not len(train_loader):
        raise ValueError("fit: train_loader yields no batches")
    run = _Run(
        model,
        train_loader,
        val_loader,
        optimizer,
        scheduler,
        criterion or CrossEntropyLoss(),
        Path(checkpoint) if checkpoint is not None else None,
        configuration or {},
        save_every,
        epochs,
        recorder,
        compile,
    )
    if resume is not None:
        run.restore(resume)
    images = len(train_loader.dataset)
    seen = run.epoch * images + run.metrics.count
    with (
        StopRequest() as run.stop,
        LongLived() as run.long_lived,
        tqdm(
            total=epochs * images,
            initial=seen,
            unit=" images",
            bar_format=_BAR,
            leave=False,
            disable=None if progress else True,
        ) as run.bar,
    ):
        run.save()
        while True:
            if log is not None:
                write_log(run.history, log)
            run.check_stop()
            if run.epoch >= epochs:
                return run.history
            run.bar.set_description_str(f"epoch {run.epoch + 1}/{epochs}")
            try:
                run.train_epoch()
                run.finish_epoch()
            except FloatingPointError:
                run.save_recording()  # it may show why
                raise
            if report is not None:
                with tqdm.external_write_mode(file=sys.stdout):
                    report(_line(run.history[-1], epochs))


def unfinished_path(checkpoint: str | os.PathLike) -> Path:
    """Return where `fit` saves within an epoch: run/checkpoint.safetensors -> run/checkpoint-unfinished.safetensors."""
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}-unfinished{path.suffix}")


def recording_path(checkpoint: str | os.PathLike) -> Path:
    """Return where `fit` writes the recording of a run: run/checkpoint.safetensors -> run/recording.npz."""
    return Path(checkpoint).with_name("recording.npz")


def latest_checkpoint(checkpoint: str | os.PathLike) -> Checkpoint:
    """Load a checkpoint of `fit`, or the one saved within a later epoch beside it, whichever has gone further.

    Raises:
        ValueError, OSError: as `load_checkpoint`.
    """
    last, beside = load_checkpoint(checkpoint), unfinished_path(checkpoint)
    if beside.exists():
        later = load_checkpoint(beside)
        if later.step > last.step:
            return later
    return last


class _EvaluationLeft(Exception):
    """Validation was broken off."""


class _Run:
    """The state of one call of `fit`, and the steps that change it."""

    stop: StopRequest
    long_lived: LongLived
    bar: tqdm

    def __init__(
        self,
        model: Any,
        loader: Any,
        val_loader: Any,
        optimizer: Any,
        scheduler: Any,
        criterion: Any,
        path: Path | None,
        configuration: dict[str, Any],
        save_every: float,
        epochs: int,
        recorder: Recorder | None,
        compile: bool,
    ):
        self.model, self.loader, self.val_loader = model, loader, val_loader
        self.optimizer, self.scheduler, self.criterion = optimizer, scheduler, criterion
        self.path, self.configuration, self.save_every, self.epochs = path, configuration, save_every, epochs
        self.recorder = recorder
        self.network = minidl.compile(model) if compile else model
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.saved_at, self.warm = time.monotonic(), False
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.metrics, self.batches, self.lr = Metrics(), 0, 0.0
        self.trace: list[list[float]] = []
        self.marked: list[float] = [0, 0.0, 0]  # count, loss and correct images at the last point of the trace
        self.train_seconds, self.timed_seconds, self.timed_images = 0.0, 0.0, 0

    def restore(self, saved: Checkpoint) -> None:
        """Go back to a checkpoint."""
        saved.restore(self.model, self.optimizer, self.scheduler, self.loader)
        self.epoch, self.step, self.history = saved.epoch, saved.step, list(saved.history)
        if saved.unfinished is not None:
            self.metrics.load_state_dict(saved.unfinished["metrics"])
            for name in _UNFINISHED:
                setattr(self, name, saved.unfinished[name])
        if self.recorder is not None:
            self.recorder.resume(self.step)

    def save(self) -> Path | None:
        """Write the state as it is between two steps, within an epoch to the file beside the checkpoint."""
        self.saved_at = time.monotonic()
        if self.path is None:
            return None
        unfinished = None
        if self.batches:
            unfinished = {"metrics": self.metrics.state_dict(), **{name: getattr(self, name) for name in _UNFINISHED}}
        self.save_recording()  # first: it may be ahead of the checkpoint after a crash, but not behind
        path = unfinished_path(self.path) if self.batches else self.path
        save_checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            loader=self.loader,
            epoch=self.epoch,
            step=self.step,
            history=self.history,
            unfinished=unfinished,
            configuration=self.configuration,
        )
        if not self.batches:
            unfinished_path(self.path).unlink(missing_ok=True)  # it is older now
        return path

    def save_recording(self) -> None:
        if self.recorder is not None and self.path is not None:
            self.recorder.save(recording_path(self.path))

    def check_stop(self) -> None:
        """Save and leave if a signal asked for it."""
        if self.stop.signum is not None:
            raise TrainingInterrupted(self.stop.signum, self.save())

    def leave_evaluation(self) -> None:
        """Leave `evaluate` if a signal asked for it; the state is saved once that has put everything back."""
        if self.stop.signum is not None:
            raise _EvaluationLeft

    def train_epoch(self) -> None:
        """Take the steps that are left of this epoch; none in a resumed run that was interrupted in validation."""
        if self.batches == len(self.loader):
            return
        self.model.train()
        before = time.perf_counter()
        for images, labels in self.loader:
            loss = self.train_step(images, labels)
            self.long_lived.step()
            now = time.perf_counter()
            self.train_seconds += now - before
            if self.warm:  # the first step compiles the kernels
                self.timed_seconds, self.timed_images = (
                    self.timed_seconds + now - before,
                    self.timed_images + len(labels),
                )
            before, self.warm = now, True
            self.show(loss, len(labels))
            if self.batches < len(self.loader):  # after the last batch, the loader stands before its next epoch
                self.check_stop()
                if time.monotonic() - self.saved_at >= self.save_every:
                    self.save()
        if self.batches != len(self.loader):
            raise ValueError(f"fit: an epoch has {len(self.loader)} batches, but the loader yielded {self.batches}")

    def train_step(self, images: Any, labels: Any) -> float:
        """Take one step and return its loss."""
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        with nullcontext() if self.recorder is None else self.recorder.step():
            self.optimizer.zero_grad()
            logits = self.network(images)
            loss = self.criterion(logits, labels)
            value = loss.item()
            self.check_finite("loss", value)
            loss.backward()
            self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.metrics.add(value, logits, labels)
        self.step, self.batches = self.step + 1, self.batches + 1
        self.extend_trace()
        return value

    def extend_trace(self) -> None:
        """Add a point to the training curve wherever an equal part of the epoch is over."""
        total, parts = len(self.loader), max(1, _TRACE_POINTS // self.epochs)
        if self.batches * parts // total > (self.batches - 1) * parts // total:
            now = [self.metrics.count, self.metrics.loss_sum, self.metrics.top1_sum]
            count, loss, correct = (a - b for a, b in zip(now, self.marked, strict=True))
            self.trace.append([self.epoch + self.batches / total, loss / count, correct / count])
            self.marked = now

    def show(self, loss: float, count: int) -> None:
        """Move the bar on by one batch."""
        sums = self.metrics
        self.bar.set_postfix_str(f"loss {loss:.3f}, accuracy {100 * sums.top1_sum / sums.count:.1f} %", refresh=False)
        self.bar.update(count)

    def finish_epoch(self) -> None:
        """Validate, add the epoch's row to the history, and save."""
        begin = time.perf_counter()
        val: dict[str, float] = {}
        if self.val_loader is not None:
            try:
                val = evaluate(self.model, self.val_loader, self.criterion, each_batch=self.leave_evaluation)
            except _EvaluationLeft:
                self.check_stop()
            self.check_finite("validation loss", val["loss"])
        train = self.metrics.result()
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "lr": self.lr,
                "train_loss": train["loss"],
                "train_top1": train["top1"],
                "val_loss": val.get("loss"),
                "val_top1": val.get("top1"),
                "val_top5": val.get("top5"),
                "images_per_s": self.timed_images / self.timed_seconds if self.timed_images else None,
                "seconds": self.train_seconds + time.perf_counter() - begin,
                "trace": self.trace,
            }
        )
        self.begin_epoch()
        self.save()

    def check_finite(self, what: str, value: float) -> None:
        """Stop a run that has diverged, before anything of it is saved as an epoch."""
        if not math.isfinite(value):
            kept = f"the checkpoint of epoch {self.epoch} is kept in {self.path}" if self.path else "nothing was saved"
            raise FloatingPointError(
                f"the {what} is {value} at step {self.step + 1} (epoch {self.epoch + 1}, learning rate {self.lr:.4g}); "
                f"{kept}; a smaller learning rate may help"
            )


def _line(row: dict[str, Any], epochs: int) -> str:
    text = f"epoch {row['epoch']}/{epochs}: train loss {row['train_loss']:.4g}, top-1 {100 * row['train_top1']:.2f} %"
    if row["val_loss"] is not None:
        text += f"; validation loss {row['val_loss']:.4g}, top-1 {100 * row['val_top1']:.2f} %"
    speed = f"{row['images_per_s']:.0f} images/s, " if row["images_per_s"] is not None else ""
    return f"{text}; {speed}{row['seconds']:.0f} s"
