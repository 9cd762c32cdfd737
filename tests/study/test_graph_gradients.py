"""show_graph: norms of gradients, and that nothing else changes."""

import numpy as np
import pytest
from drawings import network, texts

import minidl
from minidl import nn
from minidl.autograd import reach
from minidl.study import show_graph


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


def loss_of(model, x):
    y = model(x)
    return (y * y).mean(), y


def test_norms_after_backward():
    model, x = network("block B")
    x.requires_grad_()
    loss, y = loss_of(model, x)
    y.retain_grad()
    assert "‖grad‖" not in show_graph(loss).svg
    loss.backward()
    drawing = show_graph(loss)
    for name, p in model.named_parameters():
        (box,) = [box for box in drawing.boxes if name in box.norms]
        assert box.norms[name] == pytest.approx(np.linalg.norm(p.grad.numpy()), rel=1e-6)
        assert f"‖grad‖ {box.norms[name]:.4g}" in "".join(texts(drawing.svg))
    assert drawing.boxes[0].gradient == pytest.approx(np.linalg.norm(x.grad.numpy()), rel=1e-6)
    known = {box.nodes[0] for box in drawing.boxes if box.nodes and box.gradient is not None}
    assert known == {y.node}
    (box,) = [box for box in drawing.boxes if box.nodes == [y.node]]
    assert box.gradient == pytest.approx(np.linalg.norm(y.grad.numpy()), rel=1e-6)


def test_norms_of_a_collapsed_module():
    model, x = network("bottleneck")
    loss, y = loss_of(model, x)
    y.retain_grad()
    loss.backward()
    box = show_graph(loss, depth=0).boxes[1]
    total = np.linalg.norm(np.concatenate([p.grad.numpy().reshape(-1) for p in model.parameters()]))
    assert np.linalg.norm(list(box.norms.values())) == pytest.approx(total, rel=1e-5)
    assert box.gradient == pytest.approx(np.linalg.norm(y.grad.numpy()), rel=1e-6)


def test_all_norms_without_a_trace():
    model, x = network("block B")
    loss, y = loss_of(model, x)
    y.retain_grad()
    model.conv1.weight.grad = minidl.ones(*model.conv1.weight.shape)
    drawing = show_graph(loss, gradients=True)
    assert y.grad is None and model.conv2.weight.grad is None
    assert np.array_equal(model.conv1.weight.grad.numpy(), np.ones(model.conv1.weight.shape))
    model.zero_grad()
    seen = {}
    nodes, _ = reach([loss.edge], {})
    for node in nodes:
        node.hooks = {**(node.hooks or {}), -1: lambda dy, node=node: seen.update({node: np.linalg.norm(dy.numpy())})}
    loss.backward()
    assert y.grad is not None, "retain_grad() still works"
    for box in drawing.boxes:
        if box.nodes:
            assert box.gradient == pytest.approx(seen[box.nodes[0]], rel=1e-5)
        for name, norm in box.norms.items():
            assert norm == pytest.approx(np.linalg.norm(dict(model.named_parameters())[name].grad.numpy()), rel=1e-5)
    assert sum(len(box.norms) for box in drawing.boxes) == len(list(model.parameters()))


def test_norms_need_a_single_number_and_a_graph():
    model, x = network("block")
    loss, y = loss_of(model, x)
    with pytest.raises(RuntimeError, match="single number"):
        show_graph(y, gradients=True)
    loss.backward()
    assert "freed" in show_graph(loss).svg
    with pytest.raises(RuntimeError, match="freed"):
        show_graph(loss, gradients=True)


def test_a_gradient_of_infinities_is_shown():
    x = minidl.zeros(2, requires_grad=True)
    x.log().sum().backward()
    y = (x * 2).sum()
    assert show_graph(y).boxes[0].gradient == np.inf
    assert "‖grad‖ inf" in "".join(texts(show_graph(y).svg))


# --- nothing else changes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_as_it_was(training):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + minidl.randn(*x.shape)

    model = nn.Sequential(nn.ResidualBlock(3, 3), Noisy(), nn.BatchNorm2d(3)).train(training)
    model[0].conv1.weight.grad = minidl.ones(3, 3, 3, 3)
    x = minidl.randn(2, 3, 4, 4, requires_grad=True)
    pending = nn.Sequential(*model).eval()(x).sum()  # saved running statistics
    model.train(training)
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    rng = minidl.get_rng_state()
    with minidl.no_grad():
        drawing = show_graph(model, x, depth=9)
        assert not minidl.is_grad_enabled()
    assert len(drawing.boxes) > 10
    assert minidl.get_rng_state() == rng and x.grad is None and x.node is None
    assert all(np.array_equal(value.numpy(), state[name]) for name, value in model.state_dict().items())
    assert all(module.training == training for module in model.modules())
    assert np.array_equal(model[0].conv1.weight.grad.numpy(), np.ones((3, 3, 3, 3)))
    assert model[0].conv2.weight.grad is None and not any(m._forward_hooks for m in model.modules())
    pending.backward()


def test_the_same_graph_gives_the_same_text():
    def once():
        minidl.manual_seed(3)
        loss, _ = loss_of(*network("block B"))
        return show_graph(loss, gradients=True)

    a, b = once(), once()
    assert a.svg == b.svg and a.dot == b.dot and str(a) == str(b)
