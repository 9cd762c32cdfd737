"""Module and containers: registration, modes, state, hooks, text."""

from collections import OrderedDict

import numpy as np
import pytest

import minidl
from minidl import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.tail = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x):
        return self.tail(nn.functional.adaptive_avg_pool2d(self.bn(self.conv(x)), 1))


def test_parameters_buffers_and_state_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        *("conv.weight", "bn.weight", "bn.bias", "tail.2.weight", "tail.2.bias"),
    ]
    assert [n for n, _ in net.named_buffers()] == ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert list(net.state_dict()) == [
        *("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"),
        *("tail.2.weight", "tail.2.bias"),
    ]
    assert [n for n, _ in net.named_modules()] == ["", "conv", "bn", "tail", "tail.0", "tail.1", "tail.2"]


def test_shared_modules_and_parameters_count_once():
    layer = nn.Linear(3, 3)
    chain = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(chain.parameters())) == 2 and len(list(chain.modules())) == 3
    other = nn.Linear(3, 3)
    other.weight = layer.weight
    assert len(list(nn.ModuleList([layer, other]).parameters())) == 3
    assert len(nn.ModuleList([layer, other]).state_dict()) == 4
    x = minidl.randn(2, 3)
    chain(x).sum().backward()
    once = layer.weight.grad.numpy().copy()
    assert np.abs(once).sum() > 0


def test_a_failed_load_changes_nothing():
    net, other = Net(), Net()
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    good = other.state_dict()
    bad = {
        "missing keys: tail.2.bias": {k: v for k, v in good.items() if k != "tail.2.bias"},
        "unexpected keys: extra": {**good, "extra": minidl.zeros(1)},
        "tail.2.weight has shape": {**good, "tail.2.weight": minidl.zeros(2, 5)},
        "tail.2.bias must be": {**good, "tail.2.bias": "no numbers"},
        "conv.weight must be": {**good, "conv.weight": None},
    }
    for message, state in bad.items():
        with pytest.raises((RuntimeError, TypeError), match=message):
            net.load_state_dict(state)
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(RuntimeError, match="shape"):  # a shape that differs is an error also when not strict
        net.load_state_dict({"tail.2.bias": minidl.zeros(3)}, strict=False)
    with pytest.raises(TypeError, match="state_dict must be a dict"):
        net.load_state_dict([1, 2])


def test_load():
    net, other = Net(), Net()
    weight = net.conv.weight
    result = net.load_state_dict(other.state_dict())
    assert result.missing_keys == [] and result.unexpected_keys == []
    assert net.conv.weight is weight  # copied into it: optimisers hold on to it
    np.testing.assert_array_equal(weight.detach().numpy(), other.conv.weight.detach().numpy())
    assert not np.shares_memory(weight.array, other.conv.weight.array)
    partial = net.load_state_dict({"conv.weight": np.ones((4, 3, 3, 3)), "new": np.ones(1)}, strict=False)
    assert partial.unexpected_keys == ["new"] and "bn.bias" in partial.missing_keys
    assert (weight.detach().numpy() == 1).all()
    assert net.conv.weight.dtype == np.float32


def test_modes_reach_every_module_and_say_so():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="mode must be True or False, got 'yes'"):
        net.train("yes")


def test_evaluation_does_not_change_the_statistics():
    net = Net()
    net(minidl.randn(2, 3, 4, 4))
    before = net.bn.running_mean.numpy().copy()
    assert net.bn.num_batches_tracked.item() == 1
    net.eval()(minidl.randn(2, 3, 4, 4))
    np.testing.assert_array_equal(net.bn.running_mean.numpy(), before)
    assert net.bn.num_batches_tracked.item() == 1


def test_attributes():
    net = Net()
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        _ = net.nothing
    with pytest.raises(TypeError, match="weight"):
        net.conv.weight = minidl.zeros(4, 3, 3, 3)
    net.conv.weight = None
    assert "conv.weight" not in net.state_dict()
    del net.bn
    assert "bn" not in dict(net.named_children())
    net.number = 3
    net.number = nn.Linear(1, 1)  # from plain attribute to child, and nothing of it is left behind
    assert "number" in dict(net.named_children()) and "number" not in net.__dict__

    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="super"):
        Early()
    with pytest.raises(NotImplementedError, match="Module"):
        nn.Module()(1)


def test_registration_checks():
    net = nn.Module()
    net.register_buffer("kept", minidl.ones(2))
    net.register_buffer("dropped", minidl.ones(2), persistent=False)
    assert list(net.state_dict()) == ["kept"] and len(list(net.buffers())) == 2
    net.kept = minidl.zeros(2)  # a buffer stays one
    assert net.state_dict()["kept"].tolist() == [0, 0]
    with pytest.raises(TypeError, match="x.*buffer.*str"):
        net.register_buffer("x", "text")
    with pytest.raises(TypeError, match="p.*Parameter"):
        net.register_parameter("p", minidl.ones(1))
    with pytest.raises(TypeError, match="m.*Module"):
        net.add_module("m", 3)
    with pytest.raises(KeyError, match="a.b"):
        net.register_buffer("a.b", minidl.ones(1))
    with pytest.raises(KeyError, match="forward"):
        net.register_buffer("forward", minidl.ones(1))


def test_hooks():
    layer, seen = nn.Linear(2, 2), []
    first = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    second = layer.register_forward_hook(lambda module, inputs, output: output * 0)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    assert layer(minidl.zeros(3, 2)).sum().item() == 0 and seen == [(3, 2)]
    first.remove()
    second.remove()
    x = minidl.zeros(3, 2)
    np.testing.assert_allclose(
        layer(x).detach().numpy()[0], layer.weight.detach().numpy().sum(1) + layer.bias.detach().numpy(), rtol=1e-6
    )
    assert seen == [(3, 2)]


def test_many_hooks_without_their_handles():
    layer, calls = nn.Linear(1, 1), []
    for i in range(50):
        layer.register_forward_hook(lambda module, inputs, output, i=i: calls.append(i))
    layer(minidl.zeros(1, 1))
    assert calls == list(range(50))


def test_apply_zero_grad_requires_grad_and_dtypes():
    net, names = Net(), []
    net.apply(lambda m: names.append(type(m).__name__))
    assert names == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear", "Sequential", "Net"]
    net(minidl.randn(2, 3, 4, 4)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    parameters = list(net.parameters())
    assert net.double() is net
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    assert {str(v.dtype) for v in net.state_dict().values()} == {"float64", "int64"}
    assert net(minidl.randn(2, 3, 4, 4, dtype=minidl.float64)).dtype == np.float64
    net.to(minidl.float32).requires_grad_(False)
    assert not net(minidl.randn(2, 3, 4, 4)).requires_grad
    assert net.to("cpu") is net
    with pytest.raises(TypeError, match="float"):
        net.to(minidl.int64)


def test_containers():
    chain = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU()))
    assert list(chain.state_dict()) == ["a.weight", "a.bias"] and chain.a is chain[0] and chain[-1] is chain.b
    assert (
        isinstance(chain[:1], nn.Sequential)
        and len(chain[:1]) == 1
        and list(chain[:1].state_dict()) == list(chain.state_dict())
    )
    assert chain.append(nn.Linear(3, 1)) is chain and chain(minidl.zeros(4, 2)).shape == (4, 1)
    chain[1] = nn.Identity()
    assert [type(m).__name__ for m in chain] == ["Linear", "Identity", "Linear"]
    with pytest.raises(IndexError, match="3"):
        chain[3]
    with pytest.raises(TypeError, match="1.*function"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(layers) == 3 and len(list(layers.parameters())) == 6 and isinstance(layers[1:], nn.ModuleList)
    layers.extend([nn.ReLU()]).insert(0, nn.Flatten())
    assert [type(m).__name__ for m in layers] == ["Flatten", "Linear", "Linear", "Linear", "ReLU"]
    with pytest.raises(TypeError, match="int"):
        layers.append(3)
    with pytest.raises(TypeError, match="str"):
        layers[0] = "text"
    with pytest.raises(NotImplementedError, match="ModuleList"):
        layers(1)


def test_same_seed_same_weights():
    minidl.manual_seed(3)
    first = Net().state_dict()
    minidl.manual_seed(3)
    for name, value in Net().state_dict().items():
        np.testing.assert_array_equal(value.numpy(), first[name].numpy())


def test_initial_weights_have_the_spread_of_their_formula():
    minidl.manual_seed(0)
    w = nn.init.kaiming_normal_(minidl.empty(64, 32, 3, 3), mode="fan_out", nonlinearity="relu").numpy()
    assert abs(w.std() / np.sqrt(2 / (64 * 9)) - 1) < 0.03
    w = nn.init.xavier_uniform_(minidl.empty(200, 100)).numpy()
    assert 0.98 < np.abs(w).max() / np.sqrt(6 / 300) <= 1
    layer = nn.Conv2d(8, 64, 3)
    assert 0.98 < np.abs(layer.weight.detach().numpy()).max() * np.sqrt(72) <= 1
    assert np.abs(layer.bias.detach().numpy()).max() * np.sqrt(72) <= 1
    with pytest.raises(ValueError, match="mode.*'fan'"):
        nn.init.kaiming_normal_(minidl.empty(2, 2), mode="fan")
    with pytest.raises(ValueError, match=r"\(3,\)"):
        nn.init.xavier_normal_(minidl.empty(3))


def test_get_submodule():
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("tail.2") is net.tail[2]
    for target in ("tail.7", "nothing", "conv.weight"):
        with pytest.raises(AttributeError):
            net.get_submodule(target)


def test_devices():
    net = Net()
    assert net.cpu() is net and net.to("cpu") is net and net.to(minidl.device("cpu")) is net
    assert net.to(device="cpu", dtype=minidl.float64) is net and net.conv.weight.dtype == np.float64
    for move in (net.cuda, lambda: net.to("cuda:0"), lambda: net.to(minidl.device("cuda"))):
        with pytest.raises(NotImplementedError, match="there is no device 'cuda"):
            move()


def test_taking_modules_out_and_adding_them():
    chain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    last = chain[-1]
    assert chain.pop() is last and len(chain) == 2
    del chain[0]
    assert list(chain.state_dict()) == [] and isinstance(chain[0], nn.ReLU)
    chain += [last]
    assert list(chain.state_dict()) == ["1.weight", "1.bias"]
    both = chain + nn.Sequential(nn.ReLU())
    assert len(both) == 3 and len(chain) == 2 and both[1] is last
    modules = nn.ModuleList([nn.ReLU(), last]) + [nn.ReLU()]
    del modules[:2]
    assert len(modules) == 1 and [name for name, _ in modules.named_children()] == ["0"]
    with pytest.raises(IndexError, match="index 5"):
        modules.pop(5)


def test_dict_of_modules():
    modules = nn.ModuleDict({"a": nn.Linear(2, 3)})
    modules["b"] = nn.ReLU()
    modules.update({"c": nn.Linear(3, 1)})
    assert list(modules) == list(modules.keys()) == ["a", "b", "c"] and len(modules) == 3 and "b" in modules
    assert [type(m) for m in modules.values()] == [nn.Linear, nn.ReLU, nn.Linear]
    assert list(modules.state_dict()) == ["a.weight", "a.bias", "c.weight", "c.bias"]
    del modules["a"]
    assert "a" not in modules and dict(modules.items())["b"] is modules["b"]
    with pytest.raises(TypeError, match="child must be a Module"):
        modules["d"] = 3
    with pytest.raises(KeyError):
        modules["a"]


def test_list_of_parameters():
    parameters = nn.ParameterList([nn.Parameter(minidl.zeros(2)), nn.Parameter(minidl.zeros(3, 4))])
    parameters.append(minidl.ones(1))
    assert [p.shape for p in parameters] == [(2,), (3, 4), (1,)] and len(parameters) == 3
    assert [name for name, _ in parameters.named_parameters()] == ["0", "1", "2"]
    assert parameters[-1].requires_grad and "(1): Parameter" in repr(parameters) and "size 3x4" in repr(parameters)
