import datetime
import os
import pickle
import subprocess
from collections import OrderedDict

import numpy as np
import pytest

from minidl.data.restricted_pickle import NUMPY_GLOBALS, Allowed, loads


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2, 2**40, -(2**70)], "b": (1.5, None, True, False)},
        {b"data": b"\x00\xff", "empty": [(), [], {}], 3: "\u00e9"},
        [b"x" * 300, "y" * 300, list(range(3000))],
        (1, (2, (3, (4, 5)))),
    ],
)
def test_plain_values_as_pickle_reads_them(value, protocol):
    assert loads(pickle.dumps(value, protocol), "f") == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<f4", "<f8", "?", "<c16", "<f2"])
@pytest.mark.parametrize("order", "CF")
def test_arrays_as_pickle_reads_them(dtype, order, protocol):
    value = np.asarray(np.random.default_rng(0).integers(0, 100, (3, 4)).astype(dtype), order=order)
    content = pickle.dumps({"a": value, "again": value}, protocol)
    read = loads(content, "f")
    assert read["a"].dtype == pickle.loads(content)["a"].dtype and read["again"] is read["a"]
    np.testing.assert_array_equal(read["a"], value)


@pytest.mark.parametrize("shape", [(0, 3), (), (1,)])
def test_arrays_of_odd_shapes(shape):
    value = np.ones(shape, np.float32)
    for protocol in (3, 5):
        read = loads(pickle.dumps(value, protocol), "f")
        assert read.shape == shape
        np.testing.assert_array_equal(read, value)


def test_the_older_spelling_of_numpy():
    for protocol in (2, 4, 5):
        content = pickle.dumps(np.arange(5), protocol)
        assert b"numpy._core" in content
        if protocol == 2:  # a GLOBAL line carries no length
            np.testing.assert_array_equal(loads(content.replace(b"numpy._core", b"numpy.core"), "f"), np.arange(5))
    assert ("numpy.core.numeric", "_frombuffer") in NUMPY_GLOBALS


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Call(os.system, "touch owned"), f"{os.system.__module__}.system"),
        (Call(eval, "open('owned', 'w')"), ".eval"),
        (Call(subprocess.Popen, ["touch", "owned"]), "subprocess.Popen"),
        (Call(np.load, "owned"), "numpy.load"),
        (Call(np.memmap, "owned", "u1", "w+", 0, (4,)), "numpy.memmap"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
def test_any_other_global_is_named_and_nothing_runs(value, named, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^some/file: refused .* not on the list") as caught:
        loads(pickle.dumps([value], protocol, fix_imports=False), "some/file")
    assert named in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def text(value):
    return b"U" + bytes([len(value)]) + value


RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
UINT8 = b"cnumpy\ndtype\nU\x02u1\x89\x88\x87R"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\nU\x04true\x85R.", "os.system"),
        (b"(U\x04trueios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nU\x04trueo.", "os.system"),
        (b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x8c\x05numpy\x8c\x0bcore.system\x93.", "numpy.core.system"),
        (b"(i_codecs\nencode\n.", "INST is not allowed"),
        (b"c_codecs\nencode\n)\x81.", "NEWOBJ is not allowed"),
        (b"\x82\x01.", "EXT1 is not allowed"),
        (b"\x8f.", "EMPTY_SET is not allowed"),
        (b"Pid\n.", "persistent ids are not allowed"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00a\x85R.", "encode takes 2 arguments, got 1"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-7\x86R.", "latin1 only"),
        (b"cnumpy\nndarray\nK\x05\x85R.", "only what is on the list of allowed functions may be called"),
        (b"K\x01)R.", "only what is on the list"),
        (b"cnumpy\ndtype\nU\x02|O\x89\x88\x87R.", "plain numbers only"),
        (b"cnumpy\ndtype\n" + text(b"u1,O") + b"\x89\x88\x87R.", "plain numbers only"),
        (b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.", "empty ndarray"),
        (RECONSTRUCT + b"(K\x01J\xff\xff\xff\x7f\x85" + UINT8 + b"\x89C\x04abcdtb.", "which is not its shape"),
        (RECONSTRUCT + b"(K\x01J\xff\xff\xff\xff\x85" + UINT8 + b"\x89C\x04abcdtb.", "tuple of sizes"),
        (RECONSTRUCT + b"(K\x01K\x04\x85" + UINT8 + b"\x89]tb.", "must be bytes"),
        (RECONSTRUCT + b"K\x01b.", "5 parts"),
        (UINT8 + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb.", None),
        (UINT8 + b"(K\x04U\x01|}NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb.", "state of a dtype"),
        (b"]}b.", "setting the state of a list is not allowed"),
        (b"}(K\x01\x85K\x02u.", "a dict key must be"),
        (b"}(K\x01u.", "a key without a value"),
        (b"K\x01(.", "2 objects remain"),
        (b"K\x01..", "1 bytes follow"),
        (b".", "0 objects remain"),
        (b"a.", "the stack is empty"),
        (b"K\x01K\x02a.", "expected a list"),
        (b"h\x05.", "memo 5 was never set"),
        (b"(q\x00.", "nothing to memoise"),
        (b"e.", "no mark"),
        (b"0.", "refused as pickled data"),
        (b"K\x01", "exhausted before seeing STOP"),
        (b"", "exhausted before seeing STOP"),
        (b"\xff", "unknown"),
        (b"X\xff\xff\xff\x7fabc", "refused as pickled data"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc", "refused as pickled data"),
        (b"I" + b"9" * 10_000 + b"\n.", "refused as pickled data"),
    ],
)
def test_hostile_programs(program, message):
    if message is None:  # the flags of a dtype are not taken from the file
        assert loads(program, "f") == np.uint8 and not loads(program, "f").hasobject
        return
    with pytest.raises(ValueError, match="^f: refused as pickled data") as caught:
        loads(program, "f")
    assert message in str(caught.value)


def test_memory_is_bounded_by_the_size_of_the_file():
    long = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000 + b"q\x000X\x06\x00\x00\x00latin1q\x010"
    encode = b"c_codecs\nencode\nq\x020](" + b"h\x02h\x00h\x01\x86R" * 100 + b"e."
    with pytest.raises(ValueError, match="more memory than four times its size"):
        loads(long + encode, "f")
    shared = b"B\xd0\x07\x00\x00" + b"a" * 2000 + b"q\x000" + UINT8 + b"q\x010]("
    array = RECONSTRUCT + b"(K\x01M\xd0\x07\x85h\x01\x89h\x00tb"
    with pytest.raises(ValueError, match="more memory than four times its size"):
        loads(shared + array * 2000 + b"e.", "f")
    with pytest.raises(ValueError, match="more than 100 opcodes"):
        loads(b"]" + b"]0" * 100 + b".", "f", max_opcodes=100)


def test_deeply_shared_tuples_take_no_exponential_time():
    tuples = b")" + b"2\x86" * 500  # t = (t, t), 500 times: hashing, comparing or printing it would never end
    for tail in (
        b".",
        b"q\x000}h\x00K\x01s.",
        b"q\x000cnumpy\ndtype\nh\x00\x89\x88\x87R.",
        b"q\x000" + UINT8 + b"h\x00b.",
    ):
        if tail == b".":
            assert len(loads(tuples + tail, "f")) == 2
        else:
            with pytest.raises(ValueError, match="refused as pickled data"):
                loads(tuples + tail, "f")


def test_a_list_of_other_globals_and_persistent_ids():
    allowed = {**NUMPY_GLOBALS, ("collections", "OrderedDict"): Allowed(lambda: {}, 0)}
    content = pickle.dumps(OrderedDict(a=1, b=2), 2)
    assert loads(content, "f", allowed) == {"a": 1, "b": 2}
    assert loads(b"U\x03keyQ.", "f", persistent=lambda key: (key, 1)) == (b"key", 1)


def test_mutated_pickles_raise_only_value_errors():
    content = pickle.dumps({b"labels": list(range(20)), b"data": np.arange(64, dtype=np.uint8).reshape(4, 16)}, 2)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        if rng.random() < 0.2:
            del damaged[rng.integers(len(damaged)) :]
        try:
            loads(bytes(damaged), "f")
        except ValueError:
            refused += 1
    assert refused > 500


def test_what_readers_of_other_files_ask_for():
    python2 = b"U\x03abc(S'x'\nU\x01\xe9d\x86."
    assert loads(python2, "f") == (b"abc", {b"x": b"\xe9"})
    assert loads(python2, "f", text=True) == ("abc", {"x": "\xe9"})
    allowed = {("m", "f"): Allowed(lambda *a: len(a), (0, 2)), ("m", "value"): Allowed("plain", None)}
    for arguments, wanted in {b")": 0, b"NN\x86": 2}.items():
        assert loads(b"cm\nf\n" + arguments + b"R.", "f", allowed) == wanted
    with pytest.raises(ValueError, match="takes 0 or 2 arguments, got 1"):
        loads(b"cm\nf\nN\x85R.", "f", allowed)
    assert loads(b"cm\nvalue\n.", "f", allowed) == "plain"
    assert loads(b"}}(U\x09_metadataNub.", "f") == {}
