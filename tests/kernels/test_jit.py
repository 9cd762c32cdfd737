"""Functions that kernels are made of."""

import pytest

from minidl.kernels.cpu.jit import jit, routine


@routine
def plus(x, y):
    return x + y


@jit
def kernel(x):
    return plus(x, 1) + plus(x, 2) + plus(3, x)


def test_a_routine_is_compiled_once_whatever_the_constants():
    assert kernel(10) == 36
    assert len(plus.signatures) == 1


def test_a_routine_called_from_python_is_an_error():
    with pytest.raises(TypeError, match="plus is a part of kernels: only they can call it"):
        plus(1, 2)
