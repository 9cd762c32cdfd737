"""The loop: what it logs, and that stopping it anywhere and going on changes no bit."""

import gc
import os
import shutil
import signal
import sys
import threading

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.data import ArrayDataset, DataLoader
from minidl.optim import SGD
from minidl.optim.lr_scheduler import OneCycleLR
from minidl.study import Recorder, Recording
from minidl.training import TrainingInterrupted, evaluate, fit, garbage, latest_checkpoint, load_checkpoint, read_log
from minidl.training.fit import recording_path, unfinished_path
from minidl.training.log import COLUMNS

EPOCHS, TRAIN, VAL = 3, 5, 2  # batches of 8 and 10


class Noisy(nn.Module):
    """A model that draws from minidl's generator in every training step, so that a lost generator state shows."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(12), nn.Linear(12, 10)

    def forward(self, x):
        x = x.reshape(len(x), 12)
        return self.linear(self.norm(x + 0.1 * minidl.randn(len(x), 12) if self.training else x))


class Loss:
    """Cross-entropy that does something at its n-th call."""

    def __init__(self, at=None, action=None):
        self.loss, self.at, self.action, self.calls = nn.CrossEntropyLoss(), at, action, 0

    def __call__(self, logits, labels):
        self.calls += 1
        value = self.loss(logits, labels)
        if self.calls == self.at:
            return self.action(value) or value
        return value


def make():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 2, 2, 3), np.uint8)
    labels = rng.integers(0, 10, 60)
    train, val = ArrayDataset(images[:39], labels[:39]), ArrayDataset(images[40:], labels[40:])
    minidl.manual_seed(0)
    model = Noisy()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return {
        "model": model,
        "train_loader": DataLoader(train, 8, shuffle=True, seed=3, num_workers=1),
        "val_loader": DataLoader(val, 10),
        "optimizer": optimizer,
        "scheduler": OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * TRAIN, cycle_momentum=False),
        "epochs": EPOCHS,
        "progress": False,
    }


def bits(things, history):
    arrays = {name: value.numpy().tobytes() for name, value in things["model"].state_dict().items()}
    state = things["optimizer"].state_dict()
    arrays |= {i: state["state"][i]["momentum_buffer"].numpy().tobytes() for i in state["state"]}
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in history]
    return arrays, state["param_groups"], rows, minidl.get_rng_state()


@pytest.fixture(scope="module")
def uninterrupted():
    things = make()
    return bits(things, fit(**things))


def send(*signums):
    def action(value):
        for signum in signums:
            os.kill(os.getpid(), signum)

    return action


def test_history_log_and_checkpoint(tmp_path, uninterrupted):
    things, lines = make(), []
    history = fit(**things, checkpoint=tmp_path / "c", log=tmp_path / "log.csv", report=lines.append)
    assert bits(things, history) == uninterrupted
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["step"] for row in history] == [5, 10, 15]
    assert all(tuple(row) == (*COLUMNS, "trace") for row in history)
    for epoch, row in enumerate(history):
        places, losses, top1 = zip(*row["trace"], strict=True)
        np.testing.assert_allclose(places, epoch + np.arange(1, 6) / 5)
        weights = [8, 8, 8, 8, 7]
        np.testing.assert_allclose(np.average(losses, weights=weights), row["train_loss"])
        np.testing.assert_allclose(np.average(top1, weights=weights), row["train_top1"])
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [5, 10, 15]
    assert load_checkpoint(tmp_path / "c").history == history
    assert len(lines) == 3 and lines[2].startswith("epoch 3/3: train loss ")
    assert sorted(os.listdir(tmp_path)) == ["c", "log.csv"]
    result = evaluate(things["model"], things["val_loader"])
    assert (result["loss"], result["top1"], result["top5"]) == tuple(
        history[-1][name] for name in ("val_loss", "val_top1", "val_top5")
    )


PER_EPOCH = TRAIN + VAL


@pytest.mark.parametrize("call", [1, 3, TRAIN, TRAIN + 1, PER_EPOCH, PER_EPOCH + 2, 3 * PER_EPOCH - 1, 3 * PER_EPOCH])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_anywhere_and_resumed(tmp_path, uninterrupted, call, signum):
    files = {"checkpoint": tmp_path / "c.safetensors", "log": tmp_path / "log.csv"}
    before = signal.getsignal(signum)
    with pytest.raises(TrainingInterrupted, match="saved") as caught:
        fit(**make(), **files, criterion=Loss(call, send(signum)))
    assert signal.getsignal(signum) is before
    assert caught.value.signum == signum
    assert caught.value.path in (files["checkpoint"], unfinished_path(files["checkpoint"]))
    saved = load_checkpoint(caught.value.path)
    assert saved.step == latest_checkpoint(files["checkpoint"]).step

    minidl.randn(3)  # the generator has moved on
    things = make()
    history = fit(**things, **files, resume=saved)
    assert bits(things, history) == uninterrupted
    assert [row["epoch"] for row in read_log(files["log"])] == [1, 2, 3]
    assert not unfinished_path(files["checkpoint"]).exists()


def test_every_checkpoint_of_a_run_leads_to_the_same_end(tmp_path, uninterrupted, monkeypatch):
    module = sys.modules["minidl.training.fit"]

    copies, save = [], module.save_checkpoint

    def copying(path, **state):
        save(path, **state)
        copies.append(shutil.copy(path, tmp_path / f"copy{len(copies)}"))

    monkeypatch.setattr(module, "save_checkpoint", copying)
    fit(**make(), checkpoint=tmp_path / "c", save_every=0)
    monkeypatch.undo()
    steps = [load_checkpoint(copy).step for copy in copies]
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    for copy in copies:
        things = make()
        assert bits(things, fit(**things, resume=load_checkpoint(copy))) == uninterrupted


def test_a_finished_run_has_nothing_to_do(tmp_path, uninterrupted):
    fit(**make(), checkpoint=tmp_path / "c")
    things = make()
    criterion = Loss()
    history = fit(**things, checkpoint=tmp_path / "c", resume=load_checkpoint(tmp_path / "c"), criterion=criterion)
    assert bits(things, history) == uninterrupted
    assert criterion.calls == 0


def test_a_second_signal_quits_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a script
    criterion = Loss(TRAIN + 4, send(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(**make(), checkpoint=tmp_path / "c", criterion=criterion)
    assert not isinstance(caught.value, TrainingInterrupted)
    assert criterion.calls == TRAIN + 4
    assert load_checkpoint(tmp_path / "c").epoch == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_checkpoint_an_interruption_says_so():
    with pytest.raises(TrainingInterrupted) as caught:
        fit(**make(), criterion=Loss(2, send(signal.SIGINT)))
    assert caught.value.path is None and "saved" not in str(caught.value)


def test_a_thread_can_train(uninterrupted):
    results = []

    def work():
        things = make()
        results.append(bits(things, fit(**things)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [uninterrupted]


@pytest.mark.parametrize(
    ("call", "what", "kept"),
    [(3, "loss is nan at step 3", 0), (PER_EPOCH + 2, "loss is nan at step 7", 1), (TRAIN + 1, "validation loss", 0)],
)
def test_a_loss_that_is_not_finite_keeps_the_last_epoch(tmp_path, call, what, kept):
    criterion = Loss(call, lambda value: value * float("nan"))
    with pytest.raises(FloatingPointError, match=what) as caught:
        fit(**make(), checkpoint=tmp_path / "c", save_every=0, criterion=criterion)
    assert "learning rate 0." in str(caught.value) and str(tmp_path / "c") in str(caught.value)
    saved = load_checkpoint(tmp_path / "c")
    assert saved.epoch == kept
    assert all(np.isfinite(array).all() for array in saved.model.values())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    def fill(value):
        def fail(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match="No space left"):
        fit(**make(), checkpoint=tmp_path / "c", criterion=Loss(PER_EPOCH + 1, fill))
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "c").epoch == 1
    assert os.listdir(tmp_path) == ["c"]


def test_no_validation(tmp_path):
    things = {**make(), "val_loader": None}
    history = fit(**things, log=tmp_path / "log.csv")
    assert [row["val_loss"] for row in history] == [None] * 3
    assert [row["val_top1"] for row in read_log(tmp_path / "log.csv")] == [None] * 3


def test_the_garbage_collector_spares_what_was_there_before(monkeypatch):
    monkeypatch.setattr(garbage, "STEPS", 2)
    things, during = make(), []
    things["optimizer"].step = watched(things["optimizer"].step, lambda: during.append(gc.get_freeze_count()))
    fit(**things)
    assert during[:2] == [0, 0] and all(count > 0 for count in during[2:])
    assert gc.get_freeze_count() == 0
    gc.freeze()  # by the program itself: left alone
    try:
        fit(**make())
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def watched(function, watch):
    def call(*args):
        watch()
        return function(*args)

    return call


def test_evaluate_leaves_the_model_as_it_was():
    things = make()
    before = bits(things, [])[0]
    for mode in (True, False):
        things["model"].train(mode)
        evaluate(things["model"], things["val_loader"])
        assert things["model"].training is mode and things["model"].norm.training is mode
    assert bits(things, [])[0] == before
    assert all(parameter.grad is None for parameter in things["model"].parameters())


def test_evaluate_against_the_definition():
    things = make()
    model, images, labels = things["model"], things["val_loader"].dataset.data, things["val_loader"].dataset.targets
    model.eval()
    x = images.transpose(0, 3, 1, 2).reshape(20, 12).astype(np.float64) / 255
    state = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    logits = x / np.sqrt(1 + 1e-5) @ state["linear.weight"].T + state["linear.bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), labels]
    result = evaluate(model, things["val_loader"])
    np.testing.assert_allclose(result["loss"], losses.mean(), rtol=1e-5)
    assert result["top1"] == np.mean(logits.argmax(1) == labels)
    assert result["top5"] == np.mean(
        [label in row for label, row in zip(labels, np.argsort(-logits)[:, :5], strict=True)]
    )


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True, "3"])
def test_bad_epochs(epochs):
    with pytest.raises(ValueError, match="epochs must be a positive integer"):
        fit(**{**make(), "epochs": epochs})


def test_empty_loaders():
    things = make()
    empty = ArrayDataset(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0, int))
    with pytest.raises(ValueError, match="no batches"):
        fit(**{**things, "train_loader": DataLoader(empty, 8)})
    with pytest.raises(ValueError, match="no images"):
        evaluate(things["model"], DataLoader(empty, 8))


def recorded(recorder):
    recording = recorder.recording
    kinds = {
        kind: {layer: {k: np.array(v).tobytes() for k, v in values.items()} for layer, values in layers.items()}
        for kind, layers in {**recording.layers, "parameter": recording.parameters}.items()
    }
    return recording.steps, kinds, recording.operations


def test_a_recorder_changes_no_bit(tmp_path, uninterrupted):
    things = make()
    recorder = Recorder(things["model"], every=2)
    history = fit(**things, checkpoint=tmp_path / "c", recorder=recorder)
    assert bits(things, history) == uninterrupted
    assert recorder.recording.steps == list(range(0, EPOCHS * TRAIN, 2))
    assert Recording.load(tmp_path / "recording.npz").steps == recorder.recording.steps


@pytest.mark.parametrize("call", [1, 3, TRAIN + 1, PER_EPOCH + 2])
def test_a_resumed_run_goes_on_with_its_recording(tmp_path, uninterrupted, call):
    things = make()
    whole = Recorder(things["model"], every=2)
    fit(**things, recorder=whole)

    things, path = make(), tmp_path / "c.safetensors"
    with pytest.raises(TrainingInterrupted):
        recorder = Recorder(things["model"], every=2)
        fit(**things, checkpoint=path, criterion=Loss(call, send(signal.SIGINT)), recorder=recorder)
    things = make()
    recorder, saved = Recorder(things["model"]), latest_checkpoint(path)
    recorder.resume(saved.step, Recording.load(recording_path(path)))
    history = fit(**things, checkpoint=path, resume=saved, recorder=recorder)
    assert bits(things, history) == uninterrupted
    assert recorded(recorder) == recorded(whole)


def test_a_recording_ahead_of_the_checkpoint_is_cut(tmp_path):
    things = make()
    recorder = Recorder(things["model"], every=1)
    fit(**things, checkpoint=tmp_path / "c", recorder=recorder)
    whole = recorded(recorder)

    def fail(value):
        raise FloatingPointError("the end")

    things = make()
    recorder = Recorder(things["model"], every=1)
    with pytest.raises(FloatingPointError, match="the end"):
        fit(**things, checkpoint=tmp_path / "c", recorder=recorder, criterion=Loss(PER_EPOCH + 4, fail))
    found = Recording.load(tmp_path / "recording.npz")
    assert found.steps == list(range(TRAIN + 3))  # the checkpoint is that of step 5
    things = make()
    recorder = Recorder(things["model"])
    recorder.resume(TRAIN + 3, found)
    fit(**things, checkpoint=tmp_path / "c", resume=latest_checkpoint(tmp_path / "c"), recorder=recorder)
    assert recorded(recorder) == whole
