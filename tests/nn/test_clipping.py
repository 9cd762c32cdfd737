"""Clipping of gradients against PyTorch's."""

import numpy as np
import pytest

import minidl
from minidl import nn

torch = pytest.importorskip("torch")


def both(seed=0):
    rng = np.random.default_rng(seed)
    gradients = [rng.standard_normal(shape) for shape in ((3, 4), (5,), ())]
    result = []
    for library in (minidl, torch):
        leaves = [library.zeros(g.shape, dtype=library.float64, requires_grad=True) for g in gradients]
        for leaf, g in zip(leaves, gradients, strict=True):
            leaf.grad = library.tensor(g)
        leaves.append(library.zeros(2, requires_grad=True))  # without a gradient
        result.append(leaves)
    return result


@pytest.mark.parametrize("norm", [2.0, 1, 3.0, float("inf")])
@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_norm(norm, largest):
    ours, theirs = both()
    found = nn.utils.clip_grad_norm_(ours, largest, norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, largest, norm)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    compare(ours, theirs)


def test_value():
    ours, theirs = both()
    nn.utils.clip_grad_value_(ours, 0.4)
    torch.nn.utils.clip_grad_value_(theirs, 0.4)
    compare(ours, theirs)


def compare(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-12)


def test_no_such_norm():
    with pytest.raises(ValueError, match="norm_type.*-1"):
        nn.utils.clip_grad_norm_(both()[0], 1.0, -1)
