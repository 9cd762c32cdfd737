"""Published files: wrappers, prefixes, half precision, old BN, other names; and what is said when nothing fits."""

import numpy as np
import pytest
import torch_files as write

import minidl
from minidl import nn
from minidl.interop import load_weights, state_dict_of


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def values(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def same(model, state):
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, state[name])


@pytest.fixture
def published():
    model = network()
    model(minidl.randn(4, 1, 4, 4))
    return values(model)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "net", "ema"])
def test_wrappers_and_prefixes(tmp_path, published, wrapper, prefix):
    state = {prefix + name: value for name, value in published.items()}
    if wrapper is not None:
        state = {"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, wrapper: state, "best_acc1": 0.5}
    minidl.save(state, tmp_path / "a.pth")
    model = network()
    assert load_weights(model, tmp_path / "a.pth") == ([], [])
    same(model, published)


def test_every_format(tmp_path, published):
    for ending in (".safetensors", ".npz", ".pt"):
        minidl.save({f"module.{name}": value for name, value in published.items()}, tmp_path / f"a{ending}")
        model = network()
        load_weights(model, tmp_path / f"a{ending}")
        same(model, published)


def test_names_that_only_look_like_prefixes(published):
    state = {**{f"module.{name}": minidl.tensor(value) for name, value in published.items()}, "extra": minidl.zeros(1)}
    assert list(state_dict_of(state)) == list(state)


def test_dtypes_and_old_counters(tmp_path, published):
    old = {name: value.astype("f2") for name, value in published.items() if "tracked" not in name}
    minidl.save(old, tmp_path / "a.pth")
    for model in (network(), network().double()):
        counter = model[1].num_batches_tracked.item()
        load_weights(model, tmp_path / "a.pth")
        assert model[1].num_batches_tracked.item() == counter
        for name, value in model.state_dict().items():
            if name in old:
                assert value.dtype == model[0].weight.dtype
                np.testing.assert_array_equal(value.numpy(), old[name].astype("f8"))
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    minidl.save({"1.num_batches_tracked": np.array(3), **values(plain)}, tmp_path / "a.pth")
    load_weights(plain, tmp_path / "a.pth")


def test_other_names(tmp_path, published):
    state = {name.replace("3.", "linear.", 1) if name[0] == "3" else name: value for name, value in published.items()}
    minidl.save(state, tmp_path / "a.npz")
    model = network()
    before = values(model)
    with pytest.raises(
        RuntimeError, match=r"missing keys: 3.weight, 3.bias; unexpected keys: linear.weight, linear.bias"
    ):
        load_weights(model, tmp_path / "a.npz")
    same(model, before)
    load_weights(model, tmp_path / "a.npz", rename={"linear.": "3."})
    same(model, published)
    with pytest.raises(ValueError, match="rename 'linear.' to '0.' gives two entries one name"):
        load_weights(model, tmp_path / "a.npz", rename={"linear.": "0."})


def test_not_strict(tmp_path, published):
    minidl.save({**published, "new": np.ones(2)}, tmp_path / "a.npz")
    del published["3.bias"]
    minidl.save({**published, "new": np.ones(2)}, tmp_path / "b.npz")
    assert load_weights(network(), tmp_path / "a.npz", strict=False) == ([], ["new"])
    assert load_weights(network(), tmp_path / "b.npz", strict=False) == (["3.bias"], ["new"])


def test_a_choice_by_key(tmp_path, published):
    other = {name: np.asarray(value * 2) for name, value in published.items()}
    minidl.save({"student": published, "teacher": other, "epoch": 1}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth: it holds several state dicts \(choose one by key\): student: dict"):
        load_weights(network(), tmp_path / "a.pth")
    model = network()
    load_weights(model, tmp_path / "a.pth", key="teacher")
    same(model, other)
    with pytest.raises(KeyError, match="there is no entry 'ema'; it holds student: dict, teacher: dict, epoch: int"):
        load_weights(model, tmp_path / "a.pth", key="ema")
    with pytest.raises(ValueError, match="no state dict: epoch: int"):
        load_weights(model, tmp_path / "a.pth", key="epoch")


@pytest.mark.parametrize(
    "loaded, message",
    [
        ({}, "no state dict: nothing"),
        ([1], "no state dict: a list"),
        ({"epoch": 3}, "no state dict: epoch: int"),
        ({"a": minidl.zeros(1), "b": 3}, "no state dict: a: Tensor, b: int"),
        ({str(i): i for i in range(20)}, "7: int, and 12 more"),
    ],
)
def test_no_state_dict(loaded, message):
    with pytest.raises(ValueError, match=message):
        state_dict_of(loaded)


def test_what_load_refuses_is_passed_on(tmp_path):
    path = write.zip_file(tmp_path / "a.pth", b"cos\nsystem\n)R")
    with pytest.raises(ValueError, match=r"^load: .*a.pth.* os.system"):
        load_weights(network(), path)


def test_errors_name_the_first_few_and_how_many():
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(10)])
    other = nn.Sequential(*[nn.Linear(3, 2) for _ in range(10)])
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict({f"x.{name}": value for name, value in model.state_dict().items()})
    assert "missing keys: 0.weight, 0.bias, " in str(caught.value) and "... (20 in all)" in str(caught.value)
    assert "x.3.bias" in str(caught.value) and "x.4.weight" not in str(caught.value)
    with pytest.raises(RuntimeError, match=r"0.weight has shape \(2, 3\), expected \(2, 2\); .*; ... \(10 in all\)"):
        model.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="unexpected keys: 7"):
        model.load_state_dict({**model.state_dict(), 7: minidl.zeros(1)})
