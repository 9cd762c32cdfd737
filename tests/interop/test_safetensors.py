"""safetensors files: exchange with the reference library, files that lie, saving that is all or nothing."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from minidl.interop import load_file, save_file

TYPES = ["f8", "f4", "f2", "i8", "u8", "i4", "u4", "i2", "u2", "i1", "u1", "?", "c8"]


def sample():
    rng = np.random.default_rng(0)
    tensors = {f"t.{kind}": (rng.random((3, 5)) * 100).astype(kind) for kind in TYPES}
    tensors["zero-d"] = np.array(-0.0, np.float32)
    tensors["empty"] = np.zeros((0, 3), np.int64)
    tensors['name "with" \n é 한 \x01'] = np.array([np.nan, np.inf, 1e-45], np.float32)
    return tensors


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape, a[name].tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes())


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("checksums", [True, False])
def test_round_trip(tmp_path, checksums):
    save_file(sample(), tmp_path / "a", {"note": "é\n", "empty": ""}, checksums=checksums)
    tensors, metadata = load_file(tmp_path / "a")
    same(sample(), tensors)
    assert metadata == {"note": "é\n", "empty": ""}
    assert all(tensor.flags.writeable and tensor.flags.aligned for tensor in tensors.values())


def test_layouts_that_are_not_c_order_or_native(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    save_file({"t": x.transpose(2, 0, 1), "s": x[::-1, ::2], "big": x.astype(">f4")}, tmp_path / "a")
    tensors, _ = load_file(tmp_path / "a")
    for name, wanted in {"t": x.transpose(2, 0, 1), "s": x[::-1, ::2], "big": x}.items():
        np.testing.assert_array_equal(tensors[name], wanted)
        assert tensors[name].dtype == np.float32


def test_the_reference_library_reads_ours_and_writes_the_same_bytes(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    save_file(sample(), tmp_path / "ours", {"note": "é"}, checksums=False)
    reference.save_file(sample(), tmp_path / "theirs", {"note": "é"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    same(sample(), load_file(tmp_path / "theirs")[0])
    save_file(sample(), tmp_path / "ours", {"note": "é"})
    same(sample(), reference.load_file(tmp_path / "ours"))
    for tensors in ({}, {"one": np.zeros((2, 0), np.float16)}):
        save_file(tensors, tmp_path / "ours", checksums=False)
        reference.save_file(tensors, tmp_path / "theirs")
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
        same(tensors, load_file(tmp_path / "theirs")[0])


def test_bfloat16_becomes_float32_exactly(tmp_path):
    write(tmp_path / "a", {"x": entry("BF16", (3,), (0, 6))}, np.array([0x3F80, 0xC049, 0x7FC0], "<u2").tobytes())
    (x,) = load_file(tmp_path / "a")[0].values()
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.array([1.0, -3.140625, np.nan], np.float32))


LIES = {
    "empty": (b"", "0 bytes"),
    "html": (b"<!DOCTYPE html><html></html>", "header of"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "header of"),
    "zeroed": (bytes(100), "must start with"),
    "header longer than the file": (struct.pack("<Q", 2**63) + b"{}", "header of 9223372036854775808 bytes"),
}


@pytest.mark.parametrize("name", LIES)
def test_files_that_are_something_else(tmp_path, name):
    content, message = LIES[name]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_file(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)


BAD_HEADERS = {
    "not JSON": (b"{nonsense}", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', "not UTF-8"),
    "a list": (b"[]", "must start with"),
    "nested too deeply": (b'{"a":' * 100_000, "nested too deeply"),
    "a number of 10,000 digits": (b'{"a":' + b"9" * 10_000 + b"}", "digits"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "duplicate names": (b'{"a":1, "b":2, "a":1}', "'a' twice"),
    "metadata that is a list": ({"__metadata__": []}, "text to text"),
    "metadata that is a number": ({"__metadata__": {"a": 1}}, "text to text"),
    "damaged checksums": ({"__metadata__": {"minidl.crc32": "[["}, "a": entry()}, "minidl.crc32"),
    "checksums of other tensors": ({"__metadata__": {"minidl.crc32": '{"b": 1}'}, "a": entry()}, "every tensor"),
    "entry that is text": ({"a": "F32"}, "'a' must have"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 0]}}, "'a' must have"),
    "float8": ({"a": entry("F8_E4M3", (1,), (0, 1))}, "'a': dtype 'F8_E4M3'"),
    "dtype that is a list": ({"a": entry(["F32"])}, "'a': dtype"),
    "negative extent": ({"a": entry(shape=(-1,))}, "'a': shape"),
    "fractional extent": ({"a": entry(shape=(1.0,))}, "'a': shape"),
    "true as extent": ({"a": entry(shape=(True,))}, "'a': shape"),
    "65 axes": ({"a": entry(shape=(1,) * 65)}, "'a': shape"),
    "overflowing shape": ({"a": entry(shape=(2**32, 2**32), offsets=(0, 4))}, "'a': shape .* overflows"),
    "overflow behind a zero": ({"a": entry(shape=(0, 2**62, 2), offsets=(0, 0))}, "overflows"),
    "shape larger than the range": ({"a": entry(shape=(2**40,))}, "needs 4398046511104 bytes"),
    "range beyond the file": ({"a": entry(shape=(4,), offsets=(0, 16))}, "within the 4 data bytes"),
    "range backwards": ({"a": entry(offsets=(4, 0))}, "data_offsets"),
    "three offsets": ({"a": entry(offsets=(0, 2, 4))}, "data_offsets"),
    "overlap": ({"a": entry(), "b": entry("U8", (2,), (2, 4))}, "'b' overlaps"),
    "gap": ({"a": entry("U8", (2,), (2, 4))}, "'a' leaves a gap: it begins at 2, expected 0"),
    "trailing bytes": ({"a": entry("U8", (2,), (0, 2))}, "data byte 2, the file has 4"),
    "BOOL of 7": ({"a": entry("BOOL", (4,))}, "'a': a BOOL byte"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_headers_that_lie(tmp_path, name):
    header, message = BAD_HEADERS[name]
    write(tmp_path / "a", header, bytes([7] * 4))
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        load_file(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_every_flipped_bit_is_noticed(tmp_path):
    save_file({"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.ones((), bool)}, tmp_path / "a", {"note": "é"})
    good = (tmp_path / "a").read_bytes()
    load_file(tmp_path / "a", require_checksums=True)
    for place in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            (tmp_path / "b").write_bytes(bad)
            with pytest.raises(ValueError, match="load_file"):
                load_file(tmp_path / "b", require_checksums=True)


def test_mutated_files_raise_only_value_errors(tmp_path):
    save_file(sample(), tmp_path / "a", {"note": "text"}, checksums=False)
    good = (tmp_path / "a").read_bytes()
    draw = random.Random(0)
    path, refused = tmp_path / "b", 0
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            place, kind = draw.randrange(len(bad)), draw.randrange(5)
            if kind == 0:
                bad[place] = draw.randrange(256)
            elif kind == 1:
                bad[place : place + draw.randint(1, 9)] = str(draw.choice([0, -1, 9e99, 2**31, 2**63, 2**64])).encode()
            elif kind == 2:
                del bad[place : place + draw.randint(1, 40)]
            elif kind == 3:
                bad[place:place] = bad[draw.randrange(len(bad)) :][: draw.randint(1, 60)]
            else:
                bad[:8] = struct.pack("<Q", draw.choice([0, 1, len(bad) - 8, draw.randrange(2 * len(bad)), 2**64 - 1]))
        path.write_bytes(bad)
        try:
            tensors, _ = load_file(path)
        except ValueError:
            refused += 1
        else:
            assert sum(tensor.nbytes for tensor in tensors.values()) <= 2 * len(bad)  # BF16 doubles
    assert refused > 2000


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"a": [1.0]}, None, TypeError, "'a' must be a NumPy array, got list"),
        ({1: np.ones(1)}, None, TypeError, "names must be text, got 1"),
        ({"a": np.array([None])}, None, TypeError, "'a' has dtype object"),
        ({"a": np.ones(1, np.complex128)}, None, TypeError, "complex128"),
        ({"a": np.zeros(1, "datetime64[s]")}, None, TypeError, "datetime64"),
        ({"__metadata__": np.ones(1)}, None, ValueError, "reserved"),
        ({"\ud800": np.ones(1)}, None, ValueError, "not valid Unicode"),
        ({}, {"a": 1}, TypeError, "text to text"),
        ({}, {"minidl.crc32": ""}, ValueError, "reserved"),
    ],
)
def test_what_cannot_be_saved_leaves_the_file(tmp_path, tensors, metadata, error, message):
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(error, match=message):
        save_file(tensors, tmp_path / "a", metadata)
    assert (tmp_path / "a").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_previous_file(tmp_path, monkeypatch, call):
    save_file({"a": np.ones(3)}, tmp_path / "a")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        save_file({"a": np.zeros(3)}, tmp_path / "a")
    monkeypatch.undo()
    np.testing.assert_array_equal(load_file(tmp_path / "a")[0]["a"], np.ones(3))
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_file({}, tmp_path / "nowhere" / "a")
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "nowhere")


def test_a_symbolic_link_is_written_through(tmp_path):
    save_file({"a": np.ones(3)}, tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save_file({"a": np.zeros(3)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    np.testing.assert_array_equal(load_file(tmp_path / "real")[0]["a"], np.zeros(3))


SAVER = """
import sys
import numpy as np
from minidl.interop import save_file
print("ready", flush=True)
step = 0
while True:
    step += 1
    save_file({"a": np.full(200_000, step), "b": np.full(3, step)}, sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_while_saving_the_file_is_whole(tmp_path):
    draw = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path / "a")], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            while not (tmp_path / "a").exists():
                pass
            time.sleep(draw.random() / 50)  # a random moment of the saving
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        tensors, _ = load_file(tmp_path / "a", require_checksums=True)
        assert np.unique(np.concatenate([tensors["a"], tensors["b"]])).size == 1
