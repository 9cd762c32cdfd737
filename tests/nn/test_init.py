"""Initial weights: their spread, their shapes, and PyTorch's where there is one answer."""

import numpy as np
import pytest

import minidl
from minidl.nn import init


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (6, 2, 3, 3), (64, 4, 3, 3)])
def test_orthogonal(shape):
    weight = init.orthogonal_(minidl.empty(*shape, dtype=minidl.float64), gain=1.5).numpy().reshape(shape[0], -1)
    few = weight if len(weight) <= weight.shape[1] else weight.T
    np.testing.assert_allclose(few @ few.T, 1.5**2 * np.eye(len(few)), atol=1e-12)


def test_truncated_normal():
    """All draws inside, with the standard deviation of N(0, 1) cut off at 2: 0.87963."""
    values = init.trunc_normal_(minidl.empty(200, 100)).numpy()
    assert np.abs(values).max() <= 2
    assert values.std() == pytest.approx(0.87963, rel=0.02)
    narrow = init.trunc_normal_(minidl.empty(50, 40), mean=1.0, std=0.02, a=0.99, b=1.0).numpy()
    assert narrow.min() >= 0.99 and narrow.max() <= 1


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="a must be less than b"):
        init.trunc_normal_(minidl.empty(3), a=1, b=-1)
    with pytest.raises(ValueError, match="next to nothing"):
        init.trunc_normal_(minidl.empty(3), std=1e-3, a=5, b=6)
    for function in (init.orthogonal_, init.dirac_, init.eye_):
        with pytest.raises(ValueError, match=r"\(3,\)"):
            function(minidl.empty(3))


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (6, 2, 3, 1), (2, 5, 3), (4, 1, 2, 2)])
def test_dirac_and_eye_as_torch(shape):
    torch = pytest.importorskip("torch")
    for groups in (1, 2):
        expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(init.dirac_(minidl.empty(shape), groups).numpy(), expected)
    np.testing.assert_array_equal(
        init.eye_(minidl.empty(shape[:2])).numpy(), torch.nn.init.eye_(torch.empty(shape[:2]))
    )


def test_fans_and_gains_as_torch():
    torch = pytest.importorskip("torch")
    for shape in ((3, 4), (5, 2, 3, 3), (7, 1, 1)):
        found = init._calculate_fan_in_and_fan_out(minidl.empty(shape))
        assert found == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.2))


def test_draws_of_tensors():
    weight = minidl.nn.Linear(50, 40).weight
    weight.data.normal_(1, 2)
    assert weight.array.mean() == pytest.approx(1, abs=0.2) and weight.array.std() == pytest.approx(2, rel=0.1)
    weight.data.uniform_(-3, -1)
    assert weight.array.min() >= -3 and weight.array.max() <= -1
    mask = minidl.ones(100, 50).new_empty([100, 50]).bernoulli_(0.3)
    assert set(np.unique(mask.numpy())) == {0, 1} and mask.mean().item() == pytest.approx(0.3, abs=0.03)
    with pytest.raises(RuntimeError, match="leaf"):
        weight.normal_()
