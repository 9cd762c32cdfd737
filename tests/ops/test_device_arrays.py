"""Every text on a stand-in for CuPy's arrays, which a machine without a GPU can run.

It answers NumPy's protocols as CuPy does, knows only functions that CuPy has, and refuses, as CuPy does, to mix with
NumPy arrays or to turn into one unasked.
"""

import operator

import numpy as np
import pytest
from cases import CASES, text_of

from minidl.kernels import array_type

KNOWN = {
    *(np.sum, np.mean, np.max, np.argmax, np.reshape, np.transpose, np.broadcast_to, np.concatenate, np.stack, np.pad),
    *(np.where, np.zeros_like, np.ones_like, np.arange),
}


class DeviceArray:
    """An array in memory that NumPy cannot reach."""

    __module__ = "cupy.standin"

    def __init__(self, memory):
        self._memory = memory

    shape = property(lambda self: self._memory.shape)
    ndim = property(lambda self: self._memory.ndim)
    dtype = property(lambda self: self._memory.dtype)

    def __array__(self, *args, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method not in ("__call__", "at"):
            return NotImplemented
        return lift(getattr(ufunc, method)(*lower(inputs, indices=method == "at"), **lower(options)))

    def __array_function__(self, function, types, args, options):
        if function not in KNOWN:
            return NotImplemented
        return lift(function(*lower(args), **lower(options)))

    def __getitem__(self, index):
        return lift(self._memory[lower(index, indices=True)])

    def __setitem__(self, index, values):
        self._memory[lower(index, indices=True)] = lower(values)

    def astype(self, dtype):
        return DeviceArray(self._memory.astype(dtype))

    def __len__(self):
        return len(self._memory)


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "lt", "le", "gt", "ge", "eq", "ne"):
    _operator = getattr(operator, f"__{_name}__")
    setattr(DeviceArray, f"__{_name}__", lambda x, y, f=_operator: lift(f(lower(x), lower(y))))
    setattr(DeviceArray, f"__r{_name}__", lambda x, y, f=_operator: lift(f(lower(y), lower(x))))
DeviceArray.__neg__ = lambda x: lift(-x._memory)


def lower(value, indices=False):
    """The memory of device arrays; a NumPy array among them is an error, except as an index."""
    if isinstance(value, DeviceArray):
        return value._memory
    if isinstance(value, np.ndarray) and not indices:
        raise TypeError("a NumPy array met a device array")
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return type(value)(lower(v, indices) for v in value)
    return {k: lower(v) for k, v in value.items()} if isinstance(value, dict) else value


def lift(value):
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def on_device(value):
    return DeviceArray(value.copy()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("case", [case for case in CASES if not (case.large or case.arrays_only)], ids=str)
def test_text_on_device_arrays(case):
    forward, backward = text_of(case.op, "forward"), text_of(case.op, "backward")
    options = {name: v if name == "index" else on_device(v) for name, v in case.options.items()}
    y, saved = forward(*map(on_device, case.inputs()), **options)
    expected, expected_saved = forward.text(*case.inputs(), **case.options)
    np.testing.assert_array_equal(lower(y), expected)
    dy = np.random.default_rng(1).standard_normal(np.shape(expected))
    gradients = backward(on_device(dy), saved, case.needs)
    for g, e in zip(gradients, backward.text(dy, expected_saved, case.needs), strict=True):
        assert (g is None) == (e is None)
        if g is not None:
            np.testing.assert_array_equal(lower(g), e)


def test_the_stand_in_is_strict():
    x = DeviceArray(np.ones(3))
    assert array_type(x) == "cuda"
    for mix in (lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: np.asarray(x), lambda: np.fft.fft(x)):
        with pytest.raises(TypeError):
            mix()
