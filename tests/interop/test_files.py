"""minidl.load and minidl.save: PyTorch's files with and without PyTorch at hand, npz, safetensors."""

import collections
import os
import struct

import numpy as np
import pytest
import torch_files as write

import minidl
from minidl.interop import load_file

SIX = np.arange(6, dtype=np.float32)


def state():
    rng = np.random.default_rng(0)
    kinds = ["f4", "f8", "i8", "i4", "i2", "i1", "u1", "?"]
    arrays = {f"t.{kind}": (rng.random((2, 3)) * 100).astype(kind) for kind in kinds}
    arrays |= {"zero-d": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.float32), "한/é": SIX[::-2]}
    return {name: minidl.from_numpy(array) for name, array in arrays.items()}


def same(read, wanted):
    assert list(read) == list(wanted) or sorted(read) == sorted(wanted)
    for name, value in wanted.items():
        value = np.asarray(value.detach().numpy())
        assert isinstance(read[name], minidl.Tensor)
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(read[name].numpy(), value)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth", ".pt", ".th", ".PTH"])
def test_round_trip(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    minidl.save(state(), path)
    same(minidl.load(path), state())
    same(minidl.load(str(path)), state())
    first = path.read_bytes()
    minidl.save(state(), path)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == [path.name]


def test_content_tells_not_the_ending(tmp_path):
    for ending in (".safetensors", ".npz", ".pth"):
        minidl.save(state(), tmp_path / f"a{ending}")
        os.rename(tmp_path / f"a{ending}", tmp_path / "a.bin")
        same(minidl.load(tmp_path / "a.bin"), state())


def test_a_network_goes_through_every_format(tmp_path):
    model = minidl.nn.Sequential(minidl.nn.Conv2d(3, 4, 3), minidl.nn.BatchNorm2d(4))
    for ending in (".safetensors", ".npz", ".pth"):
        minidl.save(model.state_dict(), tmp_path / f"a{ending}")
        other = minidl.nn.Sequential(minidl.nn.Conv2d(3, 4, 3), minidl.nn.BatchNorm2d(4))
        other.load_state_dict(minidl.load(tmp_path / f"a{ending}"))
        same(other.state_dict(), model.state_dict())


def test_what_the_zip_format_says(tmp_path):
    stored = write.storage("0", 6)
    values = write.dict_of(
        whole=write.tensor(stored, (2, 3), (3, 1)),
        turned=write.tensor(stored, (3, 2), (1, 3)),
        part=write.tensor(stored, (2, 1), (2, 7), offset=1),
        repeated=write.tensor(stored, (2, 4), (1, 0), offset=4),
        single=write.tensor(stored, (), (), offset=5),
        none=write.tensor(stored, (0, 3), (3, 1)),
        parameter=write.call("torch._utils._rebuild_parameter", write.tensor(stored, (6,), (1,)), b"\x88", b"N"),
        epoch=write.number(3),
        size=write.call("torch.Size", write.tuple_of(write.number(2))),
    )
    for order, code in {b"little": "<f4", b"big": ">f4", None: "<f4"}.items():
        read = minidl.load(write.zip_file(tmp_path / "a", values, {"0": SIX.astype(code).tobytes()}, order))
        assert (read["epoch"], read["size"]) == (3, (2,))
        wanted = {
            "whole": SIX.reshape(2, 3),
            "turned": SIX.reshape(2, 3).T,
            "part": [[1], [3]],
            "repeated": [[4] * 4, [5] * 4],
            "single": 5,
            "none": np.zeros((0, 3)),
            "parameter": SIX,
        }
        for name, value in wanted.items():
            np.testing.assert_array_equal(read[name].numpy(), value)
            assert read[name].shape == np.shape(value) and read[name].dtype == np.float32
        read["whole"][0, 1] = -1  # what shared memory does so again
        assert read["turned"][1, 0].item() == read["part"][0, 0].item() == read["parameter"][1].item() == -1


@pytest.mark.parametrize("order", [b"little", b"big"])
@pytest.mark.parametrize(
    "kind, stored, values",
    [
        ("Half", "f2", [1.5, -0.0, 65504, 6e-8, np.inf]),
        ("Double", "f8", [1e300]),
        ("Long", "i8", [-(2**60), 7]),
        ("Int", "i4", [-(2**30)]),
        ("Short", "i2", [-300]),
        ("Char", "i1", [-128]),
        ("Byte", "u1", [255]),
        ("Bool", "?", [True, False]),
    ],
)
def test_kinds_of_storages(tmp_path, kind, stored, values, order):
    array = np.array(values, np.dtype(stored).newbyteorder("<" if order == b"little" else ">"))
    opcodes = write.tensor(write.storage("0", array.size, f"{kind}Storage"), array.shape, (1,))
    read = minidl.load(write.zip_file(tmp_path / "a", opcodes, {"0": array.tobytes()}, order))
    assert read.dtype == (np.float32 if kind == "Half" else np.dtype(stored)) and read.dtype.isnative
    np.testing.assert_array_equal(read.numpy(), array.astype(read.dtype))


@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path, legacy):
    raw = np.array([0x3F80, 0xC049, 0x7F80], "<u2").tobytes()
    opcodes = write.tensor(write.storage("0", 3, "BFloat16Storage", () if legacy else None), (3,), (1,))
    if legacy:
        path = write.legacy_file(tmp_path / "a", opcodes, {"0": (3, raw)})
    else:
        path = write.zip_file(tmp_path / "a", opcodes, {"0": raw})
    np.testing.assert_array_equal(minidl.load(path).numpy(), np.float32([1, -3.140625, np.inf]))


def test_what_the_legacy_format_says(tmp_path):
    first, second = (write.storage(key, 6, view=()) for key in ("17", "5"))
    looking = write.storage("17", 6, view=("18", 2, 3))
    values = write.dict_of(
        a=write.tensor(first, (3, 2), (2, 1)), b=write.tensor(second, (2,), (3,)), c=write.tensor(looking, (2,), (2,))
    )
    numbers = {"5": (6, (SIX + 10).tobytes()), "17": (6, SIX.tobytes())}
    read = minidl.load(write.legacy_file(tmp_path / "a", values, numbers))
    np.testing.assert_array_equal(read["a"].numpy(), SIX.reshape(3, 2))
    np.testing.assert_array_equal(read["b"].numpy(), [10, 13])
    np.testing.assert_array_equal(read["c"].numpy(), [2, 4])


def test_files_of_python_2(tmp_path):
    """Names are byte strings there, and an OrderedDict brings its items as a list of lists."""

    def old(opcodes):  # the same pickle with SHORT_BINSTRING (one byte of length) in place of BINUNICODE (four)
        for word in (b"storage", b"0", b"cpu", b"conv.weight"):
            opcodes = opcodes.replace(b"X" + struct.pack("<I", len(word)) + word, b"U" + bytes([len(word)]) + word)
        return opcodes

    made = write.tensor(write.storage("0", 6, view=()), (6,), (1,))
    pair = b"](" + write.text("conv.weight") + made + b"e"
    opcodes = old(write.call("collections.OrderedDict", b"](" + pair + b"e"))
    assert b"X" not in opcodes
    path = write.legacy_file(tmp_path / "a", opcodes, {"0": (6, SIX.tobytes())})
    same(minidl.load(path), {"conv.weight": minidl.from_numpy(SIX)})


def saved_by_torch(torch):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "base": base,
        "view": base.t()[1:4, ::2],
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "double": torch.randn(3, dtype=torch.float64),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "expanded": torch.ones(1).expand(3, 4),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "bool": torch.tensor([True, False]),
        **{str(t): torch.arange(3, dtype=t) for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)},
    }
    plain = {
        "epoch": 3,
        "best": np.float64(1.5),
        "array": np.arange(3.0),
        "nothing": None,
        "tuple": (1, 2.5, "x", True),
        "list": [1, [2, 2**70, -1]],
        "device": torch.device("cuda", 1),
        "dtype": torch.float32,
    }
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 5])
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    return {"tensors": tensors, **plain, **states}


def agree(read, wanted, torch):
    if isinstance(wanted, torch.Tensor):
        half = wanted.dtype in (torch.float16, torch.bfloat16)
        array = wanted.detach().float().numpy() if half else wanted.detach().numpy()
        assert isinstance(read, minidl.Tensor) and (read.shape, read.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(read.numpy(), array)
    elif isinstance(wanted, collections.Counter | dict):
        assert isinstance(read, dict) and list(read) == list(wanted)
        for key in wanted:
            agree(read[key], wanted[key], torch)
    elif isinstance(wanted, list | tuple):
        assert type(read) is type(wanted) and len(read) == len(wanted)
        for one, other in zip(read, wanted, strict=True):
            agree(one, other, torch)
    elif isinstance(wanted, torch.device):
        assert read == str(wanted)
    elif isinstance(wanted, torch.dtype):
        assert str(wanted) == f"torch.{read}"
    else:
        np.testing.assert_array_equal(read, wanted)
        assert type(read) is type(wanted)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    wanted = saved_by_torch(torch)
    if not legacy:  # the old format has no storages for these
        wanted["tensors"]["uint16"] = torch.tensor([1, 65535], dtype=torch.uint16)
    torch.save(wanted, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    read = minidl.load(tmp_path / "a.pth", map_location="cpu", weights_only=True)
    agree(read, wanted, torch)
    assert np.shares_memory(read["tensors"]["base"].numpy(), read["tensors"]["view"].numpy())


def test_torch_reads_what_is_saved(tmp_path):
    torch = pytest.importorskip("torch")
    tied = minidl.from_numpy(SIX)
    values = {
        "state_dict": {name: value for name, value in state().items() if name != "empty"},
        "tied": [tied, tied.detach()],
        "strided": minidl.from_numpy(SIX.reshape(2, 3).T),
        "half": np.arange(3, dtype=np.float16),
        "empty": minidl.zeros(0, 3),
        "plain": [1, -(2**31) - 1, 2**70, -(2**70), 255, 2.5, np.float32(0.5), None, True, ("é", ()), {3: []}],
    }
    minidl.save(values, tmp_path / "a.pth")
    for options in ({"weights_only": True}, {"weights_only": False}, {"mmap": True}):
        read = torch.load(tmp_path / "a.pth", **options)
        for name, value in values["state_dict"].items():
            ours = read["state_dict"][name]
            assert ours.numpy().dtype == value.dtype and tuple(ours.shape) == value.shape
            np.testing.assert_array_equal(ours.numpy(), value.numpy())
        assert read["tied"][0].data_ptr() == read["tied"][1].data_ptr()
        np.testing.assert_array_equal(read["strided"].numpy(), SIX.reshape(2, 3).T)
        assert read["half"].dtype == torch.float16 and tuple(read["empty"].shape) == (0, 3)
        assert read["plain"] == values["plain"]
    read = minidl.load(tmp_path / "a.pth")
    assert read["plain"] == values["plain"] and np.shares_memory(read["tied"][0].numpy(), read["tied"][1].numpy())


def test_numpy_reads_and_writes_npz(tmp_path):
    minidl.save(state(), tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as read:
        for name, value in state().items():
            np.testing.assert_array_equal(read[name], value.numpy())
    arrays = {"f": np.asfortranarray(SIX.reshape(2, 3)), "big": SIX.astype(">f4"), "half": SIX.astype("f2")}
    for writer in (np.savez, np.savez_compressed):
        writer(tmp_path / "theirs.npz", **arrays)
        read = minidl.load(tmp_path / "theirs.npz")
        for name, value in arrays.items():
            assert read[name].dtype == np.float32 and read[name].dtype.isnative
            np.testing.assert_array_equal(read[name].numpy(), value)


def test_safetensors_are_written_with_checksums_and_read_in_half_precision(tmp_path):
    minidl.save({"h": SIX.astype("f2")}, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors", require_checksums=True)[0]["h"].dtype == np.float16
    same(minidl.load(tmp_path / "a.safetensors"), {"h": minidl.from_numpy(SIX)})


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"old")
    for value in (object(), np.array([object()]), np.array(["text"]), "text" if ending != ".pth" else {1, 2}):
        with pytest.raises(TypeError, match="save"):
            minidl.save({"name": value}, path)
    with pytest.raises(TypeError, match=r"pass model.state_dict\(\)"):
        minidl.save(minidl.nn.Linear(2, 2), path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


def test_the_limits_of_pth(tmp_path):
    nested = current = []
    for _ in range(200):
        current.append([])
        current = current[0]
    for value, message in [(nested, "nested deeper than 100"), (2**3000, "too long")]:
        with pytest.raises(ValueError, match=message):
            minidl.save({"a": value}, tmp_path / "a.pth")
    with pytest.raises(TypeError, match="uint16"):
        minidl.save({"a": np.zeros(3, np.uint16)}, tmp_path / "a.pth")
    with pytest.raises(TypeError, match="a key of state must be text or an integer, got tuple"):
        minidl.save({(1, 2): 3}, tmp_path / "a.pth")
    assert os.listdir(tmp_path) == []


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in one of .safetensors, .npz, .pth, .pt, .th, got 'a.h5'"):
        minidl.save({}, "a.h5")
    with pytest.raises(FileNotFoundError):
        minidl.load(tmp_path / "missing.pth")
    minidl.save({}, tmp_path / "a.pth")
    assert minidl.load(tmp_path / "a.pth") == {}
    with pytest.raises(ValueError, match="map_location must be None or 'cpu', got 'cuda'"):
        minidl.load(tmp_path / "a.pth", map_location="cuda")
    with pytest.raises(ValueError, match="weights_only=False would run code"):
        minidl.load(tmp_path / "a.pth", weights_only=False)
