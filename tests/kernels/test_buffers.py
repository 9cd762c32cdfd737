"""Buffers: what a step leaves the next one finds, and what nobody wants goes back to the system."""

import gc

import numpy as np
import pytest

from minidl.kernels import buffers


def test_buffers_are_reused_and_given_back():
    gc.collect()
    buffers.release()
    assert not any(buffers._free.values())
    a = buffers.empty((300, 300), np.float32)
    address, total = a.ctypes.data, buffers._total
    assert address % buffers.LINE == 0 and buffers.is_buffer(a[1:].T) and not buffers.is_buffer(np.empty(9))
    view = a[0]
    del a
    assert not any(buffers._free.values())  # the view still reads it
    del view
    assert sum(map(len, buffers._free.values())) == 1
    b = buffers.empty((90, 1001), np.float32)  # nearly the same size
    assert b.ctypes.data == address and buffers._total == total
    del b
    buffers.release()
    assert not any(buffers._free.values()) and buffers._total < total


@pytest.fixture
def no_buffers(monkeypatch):
    """The pool as it is at first; what is in use elsewhere returns to the stacks that it came from."""
    for name, value in dict(_free={}, _total=0, _peak=0, SPARE=0).items():
        monkeypatch.setattr(buffers, name, value)
    return buffers


def test_a_step_finds_what_the_last_one_left(no_buffers):
    """Also where its buffers have many sizes."""

    def step():
        kept = [no_buffers.empty((k << 16,), np.uint8) for k in range(1, 20)]
        while kept:
            kept.pop()
            no_buffers.empty((len(kept) + 30 << 16,), np.uint8)  # a gradient

    step()
    total = no_buffers._total
    assert total == no_buffers.free_bytes() > 0
    for _ in range(3):
        step()
        assert no_buffers._total == total


def test_buffers_that_nobody_wants_go(no_buffers, monkeypatch):
    monkeypatch.setattr(no_buffers, "MEMORY", 4)
    first = [no_buffers.empty((1 << 20,), np.uint8) for _ in range(10)]
    del first
    assert no_buffers._total == no_buffers.free_bytes() == 10 << 20
    later = [no_buffers.empty((1 << 17,), np.uint8) for _ in range(40)]
    assert no_buffers._total <= 2 * (40 << 17) and len(later) == 40
