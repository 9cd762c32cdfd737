"""The registry: which function a call reaches."""

import threading

import numpy as np
import pytest

from minidl import kernels
from minidl.kernels import kernel, kernels_enabled, override, use_kernels


@pytest.fixture
def doubled():
    """A text with an override for even lengths, taken away after the test."""

    @kernel
    def doubled_for_test(x):
        return "text"

    @override("doubled_for_test", "cpu", when=lambda x: len(x) % 2 == 0)
    def _(x):
        return "kernel"

    yield doubled_for_test
    del kernels._texts["doubled_for_test"], kernels._overrides["doubled_for_test", "cpu"]


def test_the_override_is_taken_where_it_fits(doubled):
    assert doubled(np.zeros(2)) == "kernel"
    assert doubled(np.zeros(3)) == "text"
    assert doubled.text(np.zeros(2)) == "text"


def test_kernels_can_be_switched_off_as_a_call_and_as_a_context(doubled):
    with use_kernels(False):
        assert doubled(np.zeros(2)) == "text"
        with use_kernels(True):
            assert doubled(np.zeros(2)) == "kernel"
        assert doubled(np.zeros(2)) == "text"
    assert doubled(np.zeros(2)) == "kernel"
    use_kernels(False)
    assert doubled(np.zeros(2)) == "text"
    use_kernels()
    assert doubled(np.zeros(2)) == "kernel"


def test_the_switch_is_of_one_thread():
    seen = []
    with use_kernels(False):
        thread = threading.Thread(target=lambda: seen.append(kernels_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_an_override_needs_a_text():
    with pytest.raises(ValueError, match="no text named 'nothing'"):
        override("nothing", "cpu")


def test_a_name_is_defined_in_one_module_only():
    def relu_forward(x):
        return x, x

    with pytest.raises(ValueError, match=r"already defined in minidl\.ops\.elementwise"):
        kernel(relu_forward)
