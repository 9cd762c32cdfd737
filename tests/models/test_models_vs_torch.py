"""Whole networks against the same network written in PyTorch: outputs, all gradients, training."""

import copy

import numpy as np
import pytest

import minidl
from minidl import models

torch = pytest.importorskip("torch")


class Block(torch.nn.Module):
    def __init__(self, before, channels, stride, shortcut):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(channels)
        self.stride, self.added, self.shortcut = stride, channels - before, shortcut
        if shortcut == "C" or (shortcut == "B" and before != channels):
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(before, channels, 1, stride, bias=False), torch.nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is None:
            return torch.relu(y)
        if hasattr(self, "downsample"):
            return torch.relu(y + self.downsample(x))
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + torch.nn.functional.pad(x, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2)))


class Reference(torch.nn.Module):
    def __init__(self, n, shortcut):
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16)
        before = 16
        for number, channels in enumerate((16, 32, 64), start=1):
            blocks = [
                Block(before if i == 0 else channels, channels, 2 if i == 0 and number > 1 else 1, shortcut)
                for i in range(n)
            ]
            setattr(self, f"layer{number}", torch.nn.Sequential(*blocks))
            before = channels
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def pair(shortcut, dtype, n=3):
    minidl.manual_seed(0)
    ours = models.ResNetCIFAR(n, shortcut=shortcut).to(getattr(minidl, dtype))
    theirs = Reference(n, shortcut).to(getattr(torch, dtype))
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()})
    return ours, theirs


def gradients(library, net, x, labels):
    loss = library.nn.CrossEntropyLoss(label_smoothing=0.1)(net(library.tensor(x)), library.tensor(labels))
    loss.backward()
    return {"loss": np.asarray(loss.detach()), **{n: np.asarray(p.grad) for n, p in net.named_parameters()}}


RNG = np.random.default_rng(0)
X, LABELS = RNG.standard_normal((3, 3, 16, 16)), RNG.integers(0, 10, 3)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", None])
def test_outputs_and_gradients_in_float64(shortcut, kernels):
    ours, theirs = pair(shortcut, "float64", n=3 if shortcut == "A" else 1)
    with minidl.use_kernels(kernels):
        mine = gradients(minidl, ours, X, LABELS)
    other = gradients(torch, theirs, X, LABELS)
    assert list(mine) == list(other)
    largest = max(np.abs(g).max() for g in other.values())
    for name, g in other.items():
        np.testing.assert_allclose(mine[name], g, rtol=0, atol=1e-9 * largest, err_msg=name)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
    ours.eval(), theirs.eval()
    y, y_torch = ours(minidl.tensor(X)).detach().numpy(), theirs(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(y, y_torch, rtol=0, atol=1e-9 * np.abs(y_torch).max())


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
def test_float32_is_as_near_to_float64_as_torch(kernels):
    """The distance of all gradients together to those in float64: at most five times PyTorch's."""
    _, exact_net = pair("A", "float64")
    ours, theirs = pair("A", "float32")
    exact = gradients(torch, exact_net, X, LABELS)
    other = gradients(torch, theirs, X.astype(np.float32), LABELS)
    with minidl.use_kernels(kernels):
        mine = gradients(minidl, ours, X.astype(np.float32), LABELS)

    def distance(found):
        return np.sqrt(sum(((found[name] - g) ** 2).sum() for name, g in exact.items()))

    assert all(g.dtype == np.float32 for g in mine.values())
    assert distance(mine) <= 5 * distance(other)


def test_ten_steps_of_training():
    """Nesterov momentum, weight decay and one cycle: the same weights in float64."""
    ours, theirs = pair("A", "float64", n=1)
    for library, net in ((minidl, ours), (torch, theirs)):
        rng = np.random.default_rng(1)
        optimizer = library.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = library.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=10)
        for step in range(10):
            optimizer.zero_grad()
            gradients(library, net, rng.standard_normal((4, 3, 12, 12)), rng.integers(0, 10, 4))
            optimizer.step()
            if step < 9:
                schedule.step()
    for name, value in theirs.state_dict().items():
        mine, other = ours.state_dict()[name].numpy(), value.numpy()
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-7 * np.abs(other).max(), err_msg=name)


def test_deep_copies_are_independent():
    ours, _ = pair("A", "float32", n=1)
    twin = copy.deepcopy(ours)
    x = minidl.tensor(X.astype(np.float32))
    np.testing.assert_array_equal(twin.eval()(x).detach().numpy(), copy.deepcopy(ours).eval()(x).detach().numpy())
    next(twin.parameters()).data.fill_(0)
    assert np.abs(next(ours.parameters()).detach().numpy()).sum() > 0
