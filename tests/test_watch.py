"""Watchers see every operation, and nodes know the modules that ran them."""

import threading

import pytest

import minidl
from minidl import nn
from minidl.watch import here, watch


def names_seen(function):
    seen = []
    with watch(lambda op, inputs, options, output, saved: seen.append((op.__name__, output.shape))):
        function()
    return seen


def test_watchers_see_operations_inside_the_block_only():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), minidl.randn(2, 3, 8, 8)
    with minidl.no_grad():
        seen = names_seen(lambda: model(x))
        model(x)
    assert seen == [("conv2d", (2, 4, 6, 6)), ("relu", (2, 4, 6, 6)), ("max_pool2d", (2, 4, 3, 3))]


def test_other_threads_are_not_watched():
    thread = threading.Thread(target=lambda: minidl.ones(3) * 2)
    assert names_seen(lambda: (thread.start(), thread.join())) == []


def test_nodes_know_their_modules():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    y = model(minidl.ones(2, 3))
    assert y.node.modules == (model, model[1])
    assert (y * 2).node.modules == ()


def test_an_error_leaves_no_module_running():
    model = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(ValueError):
        model(minidl.ones(2, 5))
    assert here.modules == []
