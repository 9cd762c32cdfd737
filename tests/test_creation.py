"""Functions that make Tensors: shapes, dtypes, memory, seeds, bad calls."""

import json

import numpy as np
import pytest

import minidl


def kind(x):
    return x.shape, str(x.dtype)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (minidl.tensor(1), ((), "int64")),
        (minidl.tensor(1.5), ((), "float32")),
        (minidl.tensor(True), ((), "bool")),
        (minidl.tensor([[1, 2.5]]), ((1, 2), "float32")),
        (minidl.tensor([]), ((0,), "float32")),
        (minidl.tensor(np.float64(2)), ((), "float64")),
        (minidl.tensor(np.ones(2)), ((2,), "float64")),
        (minidl.tensor([1, 2], dtype=minidl.uint8), ((2,), "uint8")),
        (minidl.tensor([minidl.tensor(1.0), minidl.tensor(2.0)]), ((2,), "float32")),
        (minidl.tensor(range(3)), ((3,), "int64")),
        (minidl.zeros(2, 3), ((2, 3), "float32")),
        (minidl.zeros((2, 0)), ((2, 0), "float32")),
        (minidl.zeros(()), ((), "float32")),
        (minidl.ones([2], dtype=minidl.bool), ((2,), "bool")),
        (minidl.full((2,), 3), ((2,), "int64")),
        (minidl.full((2,), 3.0), ((2,), "float32")),
        (minidl.full((), True), ((), "bool")),
        (minidl.full((2,), 3, dtype=minidl.float64), ((2,), "float64")),
        (minidl.empty(3, 1), ((3, 1), "float32")),
        (minidl.arange(5), ((5,), "int64")),
        (minidl.arange(1, 2, 0.25), ((4,), "float32")),
        (minidl.arange(5, dtype=minidl.float32), ((5,), "float32")),
        (minidl.arange(0), ((0,), "int64")),
        (minidl.randn(2, 3), ((2, 3), "float32")),
        (minidl.rand(2, dtype=minidl.float64), ((2,), "float64")),
        (minidl.randint(0, 5, (3,)), ((3,), "int64")),
        (minidl.randint(5, (2, 2)), ((2, 2), "int64")),
        (minidl.randperm(4), ((4,), "int64")),
        (minidl.zeros_like(minidl.ones(2, 3, dtype=minidl.int32)), ((2, 3), "int32")),
        (minidl.ones_like(minidl.ones(2), dtype=minidl.float64), ((2,), "float64")),
        (minidl.linspace(0, 1, 5), ((5,), "float32")),
    ],
    ids=str,
)
def test_shape_and_dtype(x, expected):
    assert kind(x) == expected


def test_values():
    assert minidl.arange(2, 8, 3).tolist() == [2, 5]
    assert minidl.arange(3, 0, -1).tolist() == [3, 2, 1]
    assert minidl.full((2,), 7).tolist() == [7, 7]
    assert minidl.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert sorted(minidl.randperm(20).tolist()) == list(range(20))
    draws = minidl.randint(-2, 3, (1000,)).numpy()
    assert set(draws.tolist()) == {-2, -1, 0, 1, 2}
    normal, uniform = minidl.randn(20000).numpy(), minidl.rand(20000).numpy()
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.02


def test_memory():
    array = np.zeros(3)
    assert minidl.from_numpy(array).array is array
    assert minidl.as_tensor(array).array is array
    assert not np.shares_memory(minidl.tensor(array).array, array)
    x = minidl.zeros(2)
    assert minidl.as_tensor(x) is x and minidl.as_tensor(x, dtype=minidl.float64).dtype == np.float64
    image = minidl.from_numpy(np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2))
    assert minidl.zeros_like(image).array.strides == image.array.strides
    assert minidl.tensor(minidl.ones(2, requires_grad=True)).requires_grad is False


def test_requires_grad():
    for make in (minidl.zeros, minidl.ones, minidl.empty, minidl.rand, minidl.randn):
        assert make(2, requires_grad=True).requires_grad and make(2, requires_grad=True).is_leaf
    assert minidl.full((2,), 1.0, requires_grad=True).requires_grad


def test_seed_and_state():
    minidl.manual_seed(4)
    state = json.loads(json.dumps(minidl.get_rng_state()))
    first = minidl.randn(5).tolist()
    minidl.set_rng_state(state)
    assert minidl.randn(5).tolist() == first
    minidl.manual_seed(4)
    assert minidl.randn(5).tolist() == first
    minidl.manual_seed(5)
    assert minidl.randn(5).tolist() != first


BAD = {
    "text": (lambda: minidl.tensor("a"), TypeError, "tensor: data must be numbers"),
    "None": (lambda: minidl.tensor(None), TypeError, "tensor: data must be numbers"),
    "ragged": (lambda: minidl.tensor([[1], [1, 2]]), (TypeError, ValueError), "tensor: data"),
    "complex": (lambda: minidl.tensor(1j), TypeError, "complex"),
    "dtype": (lambda: minidl.tensor(1, dtype="float99"), TypeError, "float99"),
    "integers with gradient": (lambda: minidl.tensor([1], requires_grad=True), RuntimeError, "int64"),
    "list from_numpy": (lambda: minidl.from_numpy([1]), TypeError, "list"),
    "objects from_numpy": (lambda: minidl.from_numpy(np.array([None])), TypeError, "object"),
    "negative extent": (lambda: minidl.zeros(2, -1), ValueError, "-1"),
    "extent 1.5": (lambda: minidl.zeros(1.5), TypeError, "1.5"),
    "extent text": (lambda: minidl.ones("a"), TypeError, "'a'"),
    "dtype of zeros": (lambda: minidl.zeros(2, dtype=str), TypeError, "str"),
    "step 0": (lambda: minidl.arange(0, 5, 0), ValueError, "step.*0"),
    "randint of nothing": (lambda: minidl.randint(5, 5, (2,)), ValueError, "5"),
    "integers of randn": (lambda: minidl.randn(2, dtype=minidl.int64), TypeError, "int64"),
    "randperm -1": (lambda: minidl.randperm(-1), ValueError, "-1"),
    "seed -1": (lambda: minidl.manual_seed(-1), ValueError, "-1"),
    "seed 1.5": (lambda: minidl.manual_seed(1.5), TypeError, "1.5"),
    "state": (lambda: minidl.set_rng_state({"a": 1}), ValueError, "set_rng_state"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_call(call):
    function, expected, message = BAD[call]
    with pytest.raises(expected, match=message):
        function()
