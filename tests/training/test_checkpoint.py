"""Checkpoints: complete, whole or not there, and never code."""

import json
import random

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.interop import load_file, save_file
from minidl.optim import SGD
from minidl.optim.lr_scheduler import OneCycleLR
from minidl.training import load_checkpoint, save_checkpoint


def parts(momentum=0.9, steps=3):
    """A small trained model with its optimiser and schedule."""
    minidl.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=momentum)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=20, cycle_momentum=False)
    for _ in range(steps):
        optimizer.zero_grad()
        model(minidl.randn(8, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_round_trip(tmp_path):
    model, optimizer, scheduler = parts()
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "val": None, "top": float("inf"), "n": np.int64(3)}]
    save_checkpoint(
        tmp_path / "a",
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        epoch=1,
        step=3,
        history=history,
        unfinished={"sum": np.float64(1) / 3},
        configuration={"text": "é\n"},
    )
    expected_rng = minidl.randn(5).numpy()
    saved = load_checkpoint(tmp_path / "a")
    assert (saved.epoch, saved.step, saved.version) == (1, 3, minidl.__version__)
    assert (saved.history, saved.unfinished, saved.configuration) == (history, {"sum": 1 / 3}, {"text": "é\n"})
    assert saved.loader is None

    other, other_optimizer, other_scheduler = parts(steps=1)
    saved.restore(other, other_optimizer, other_scheduler)
    np.testing.assert_array_equal(minidl.randn(5).numpy(), expected_rng)
    assert_same_state(model.state_dict(), other.state_dict())
    assert other_scheduler.state_dict() == scheduler.state_dict()
    ours, theirs = optimizer.state_dict(), other_optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index in ours["state"]:
        assert_same_state(ours["state"][index], theirs["state"][index])


def test_names_in_the_file(tmp_path):
    model, optimizer, _ = parts()
    save_checkpoint(tmp_path / "a", model=model, optimizer=optimizer)
    tensors, metadata = load_file(tmp_path / "a", require_checksums=True)
    assert set(tensors) == {f"model.{name}" for name in model.state_dict()} | {
        f"optimizer.{index}.momentum_buffer" for index in range(4)
    }
    assert json.loads(metadata["minidl"])["optimizer"]["param_groups"][0]["momentum"] == 0.9


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_an_optimiser_without_buffers(tmp_path, momentum):
    model, optimizer, _ = parts(momentum, steps=0)
    save_checkpoint(tmp_path / "a", model=model, optimizer=optimizer)
    saved = load_checkpoint(tmp_path / "a")
    saved.restore(model, optimizer)
    assert not any(name.startswith("optimizer.") for name in load_file(tmp_path / "a")[0])


def test_a_state_that_is_not_there(tmp_path):
    model, optimizer, scheduler = parts()
    save_checkpoint(tmp_path / "a", model=model)
    saved = load_checkpoint(tmp_path / "a")
    saved.restore(model)
    with pytest.raises(ValueError, match="holds no optimizer state"):
        saved.restore(model, optimizer)
    with pytest.raises(ValueError, match="holds no scheduler state"):
        saved.restore(scheduler=scheduler)


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", np.ones(2)])
def test_what_json_cannot_hold_leaves_the_previous_file(tmp_path, value):
    model, _, _ = parts()
    save_checkpoint(tmp_path / "a", model=model, step=1)
    with pytest.raises(TypeError, match=type(value).__name__):
        save_checkpoint(tmp_path / "a", model=model, step=2, configuration={"odd": value})
    assert load_checkpoint(tmp_path / "a").step == 1


def rewritten(path, change):
    tensors, metadata = load_file(path)
    rest = json.loads(metadata["minidl"])
    change(rest)
    save_file(tensors, path, {"minidl": json.dumps(rest)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rest: rest.update(format=99), "its format is 99"),
        (lambda rest: rest.pop("format"), "no 'format'"),
        (lambda rest: rest.pop("history"), "no 'history'"),
        (lambda rest: rest.update(step="7"), "'step' is a str"),
        (lambda rest: rest.update(rng=[1]), "'rng' is a list"),
        (lambda rest: rest["optimizer"].pop("state"), "no 'state'"),
        (lambda rest: rest["optimizer"].update(state={"x": {}}), "not a checkpoint"),
        (lambda rest: rest["optimizer"].update(state={"0": 1}), "not a checkpoint"),
    ],
)
def test_a_header_that_is_not_ours(tmp_path, change, message):
    model, optimizer, _ = parts()
    save_checkpoint(tmp_path / "a", model=model, optimizer=optimizer)
    rewritten(tmp_path / "a", change)
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "a")
    save_file({"model.x": np.ones(1)}, tmp_path / "a")
    with pytest.raises(ValueError, match="not a checkpoint of minidl: no 'minidl'"):
        load_checkpoint(tmp_path / "a")
    save_file({"model.x": np.ones(1)}, tmp_path / "a", checksums=False)
    with pytest.raises(ValueError, match="no checksums"):
        load_checkpoint(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\x80\x04\x95")  # the start of a pickle
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "a")


def test_one_flipped_bit_is_noticed(tmp_path):
    model, optimizer, _ = parts()
    save_checkpoint(tmp_path / "a", model=model, optimizer=optimizer, history=[{"loss": 0.5}])
    good, draw = (tmp_path / "a").read_bytes(), random.Random(0)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << draw.randrange(8)
        (tmp_path / "a").write_bytes(bad)
        with pytest.raises(ValueError, match="load_"):
            load_checkpoint(tmp_path / "a")
