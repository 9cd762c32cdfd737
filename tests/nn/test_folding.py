"""Batch norm folded into the layer before it."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.models import get_model
from minidl.nn.folding import fold_batch_norm, folded_pairs


def trained(model, *shape):
    """Running statistics, γ and β as some training leaves them; float64."""
    rng = np.random.default_rng(0)
    for name, value in model.double().state_dict().items():
        if value.dtype.kind == "f" and value.ndim == 1:
            value.array[...] = rng.uniform(0.5, 1.5, value.shape) if "var" in name else rng.standard_normal(value.shape)
    return model.eval(), minidl.from_numpy(rng.standard_normal(shape))


def same(model, folded, x):
    with minidl.no_grad():
        np.testing.assert_allclose(folded(x).numpy(), model(x).numpy(), rtol=1e-10, atol=1e-10)


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["resnet20"])
def test_all_batch_norms_of_a_network_vanish(name):
    model, x = trained(get_model(name), 2, 3, 16, 16)
    folded = fold_batch_norm(model)
    assert not norms(folded) and len(norms(model)) == 19 and not folded.training
    same(model, folded, x)


def test_linear_layers_without_affine_parameters():
    model, x = trained(
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 2)), 3, 5
    )
    folded = fold_batch_norm(model, x)
    assert isinstance(folded[1], nn.Identity)
    same(model, folded, x)


class Mixed(nn.Module):
    """One pair that can be folded among others that cannot."""

    def __init__(self):
        super().__init__()
        self.before = nn.BatchNorm2d(3)  # follows no layer
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)  # the output is read twice
        self.conv3, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)  # run twice

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(self.before(x))))
        y = self.conv2(x)
        y = self.bn2(y) + y
        return self.bn3(self.conv3(self.bn3(self.conv3(y))))


def test_only_pairs_of_their_own_are_folded():
    model, x = trained(Mixed(), 2, 3, 8, 8)
    assert folded_pairs(model, x) == [("conv1", "bn1")]
    folded = fold_batch_norm(model, x)
    assert len(norms(folded)) == 3
    same(model, folded, x)


def test_the_model_itself_stays():
    model = get_model("resnet20")
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    fold_batch_norm(model)
    assert model.training and all(np.array_equal(before[n], v.numpy()) for n, v in model.state_dict().items())


def test_errors():
    with pytest.raises(ValueError, match="no batch norm follows"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(ValueError, match="pass x"):
        fold_batch_norm(nn.Sequential(nn.ReLU()))
