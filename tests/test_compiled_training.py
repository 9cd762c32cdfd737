"""`minidl.compile` with gradients: it trains as the model does, bit for bit, whatever happens in between."""

import copy
import random
import warnings

import numpy as np
import pytest
from at_once import at_once

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import grad
from minidl.kernels import use_kernels
from minidl.kernels.algorithms import set_conv_algorithm
from minidl.models import get_model
from minidl.optim import SGD
from minidl.random import generator
from minidl.watch import watch

NETWORKS = {
    "resnet20": (3, 32, 32),
    "plain20": (3, 32, 32),
    "lenet": (1, 28, 28),
    "lenet_dropout": (1, 28, 28),
    "lenet_caffe": (1, 28, 28),
    "vgg11_cifar": (3, 32, 32),
    "resnet50_cifar": (3, 32, 32),
}
SMALL = (4, 3, 8, 8)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def small(dtype=minidl.float32):
    minidl.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, stride=2)]
    layers += [nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 5)]
    return nn.Sequential(*layers).to(dtype)


def batch(n=4, shape=SMALL[1:], dtype=minidl.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = minidl.from_numpy(rng.standard_normal((n, *shape)).astype(np.float32)).to(dtype)
    return x, minidl.from_numpy(rng.integers(0, 5, n))


def gradients(net, model, x, labels, leaves=()):
    """The loss, and the gradients by x and all parameters."""
    for leaf in (*leaves, *model.parameters()):
        leaf.grad = None
    loss = F.cross_entropy(net(x), labels)
    loss.backward()
    return [
        loss.detach().numpy(),
        *(None if p.grad is None else p.grad.numpy() for p in (*leaves, *model.parameters())),
    ]


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def both(change=lambda model: None, steps=3, dtype=minidl.float32, playing=True):
    """Gradients of a model and of its twin by compile, of some steps after `change`; the compiled twin."""
    twins, found = [small(dtype), small(dtype)], []
    nets = [twins[0], minidl.compile(twins[1])]
    for model, net in zip(twins, nets, strict=True):
        minidl.manual_seed(1)
        optimizer, results = SGD(model.parameters(), lr=0.1, momentum=0.9), []
        for step in range(2 * steps):
            if step == steps:
                change(model)
            results += gradients(net, model, *batch(dtype=dtype, seed=step))
            optimizer.step()
        found.append(results + [value.numpy() for value in model.state_dict().values()])
    assert_same(*found)
    if playing:
        assert steps_of(nets[1])[-1]
    return nets[1]


def steps_of(compiled):
    return [step is not None for step in compiled._steps.values()]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_to_the_same_bits(name):
    found = []
    for wrap in (lambda model: model, minidl.compile):
        minidl.manual_seed(0)
        model = get_model(name)
        net, results = wrap(model), []
        optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
        for step in range(4):
            results += gradients(net, model, *batch(2, NETWORKS[name], seed=step))
            optimizer.step()
        found.append(results + [value.numpy() for value in model.state_dict().values()])
    assert_same(*found)
    assert steps_of(net) == [True]


def test_float64():
    both(dtype=minidl.float64)


def test_the_second_batch_of_a_shape_in_a_row_is_recorded():
    model = small()
    net = minidl.compile(model)
    for n, steps in ((4, 0), (3, 0), (4, 0), (4, 1), (3, 1), (4, 1), (3, 1), (3, 2), (2, 2), (2, 2), (4, 2)):
        gradients(net, model, *batch(n))
        assert len(net._steps) == steps
    assert [key[0][0] for key in net._steps] == [3, 2]  # the oldest is gone


def set_eval(model):
    model.eval()


def freeze(model):
    for p in model[0].parameters():
        p.requires_grad_(False)


def load(model):
    state = {name: value * 1.5 for name, value in model.state_dict().items() if value.is_floating_point()}
    model.load_state_dict(state, strict=False)


def replace(model):
    model[0].weight.data = model[0].weight.data * 0.5


def scale_in_place(model):
    with minidl.no_grad():
        model[3].weight.mul_(0.5)


def cut_gradients(model):
    model[0].weight.register_hook(lambda g: g * 0.5)


def look_in_between(model):
    model[2].register_forward_hook(lambda module, inputs, output: output * 2)


def drop_more(model):
    model[8].p = 0.9


def forget_faster(model):
    model[1].momentum = 0.5


def exchange_a_parameter(model):
    model[3].weight = nn.Parameter(model[3].weight.detach() * 2)


def exchange_a_buffer(model):
    model.eval()
    model[1].running_mean = minidl.ones(16).to(model[0].weight.dtype)


def exchange_a_layer(model):
    model[2] = nn.Tanh()


CHANGES = [set_eval, freeze, load, replace, scale_in_place, cut_gradients, look_in_between, drop_more, forget_faster]
CHANGES += [exchange_a_parameter, exchange_a_buffer, exchange_a_layer]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change):
    both(change)


def test_algorithms_and_texts():
    model = small().eval()
    net = ready(model)
    for step, algorithm in enumerate(("direct", "direct", "text", "auto", "auto")):
        with set_conv_algorithm(algorithm), use_kernels(step < 4):
            assert_same(gradients(net, model, *batch(seed=step)), gradients(model, model, *batch(seed=step)))
    assert steps_of(net) == [True, True]


def test_gradient_of_the_input():
    model, found = small().eval(), []
    for net in (model, minidl.compile(model)):
        for step in range(3):
            x, labels = batch(seed=step)
            results = gradients(net, model, x.requires_grad_(), labels, [x])
        found.append(results)
    assert_same(*found)
    assert steps_of(net) == [True] and found[0][1].shape == SMALL


def ready(model):
    """The model, compiled and recorded."""
    net = minidl.compile(model)
    for step in range(2):
        gradients(net, model, *batch(seed=step))
    assert steps_of(net) == [True]
    return net


def test_a_second_pass_before_the_gradients_of_the_first():
    found = []
    for wrap in (lambda model: model, ready):
        model = small().eval()
        net = wrap(model)
        (x, labels), (x2, labels2) = batch(seed=5), batch(seed=6)
        for p in model.parameters():
            p.grad = None
        first = net(x)
        (F.cross_entropy(net(x2), labels2) + F.cross_entropy(first, labels)).backward()
        found.append([p.grad.numpy() for p in model.parameters()])
    assert_same(*found)


def test_gradients_add_up_and_stay():
    model = small().eval()
    net = ready(model)
    gradients(net, model, *batch(seed=2))
    kept, values = model[0].weight.grad, model[0].weight.grad.numpy().copy()
    x, labels = batch(seed=3)
    F.cross_entropy(net(x), labels).backward()
    model_alone = gradients(model, model, *batch(seed=2))[1], gradients(model, model, x, labels)[1]
    np.testing.assert_array_equal(kept.numpy(), values)
    net_sum = values + model_alone[1]
    np.testing.assert_array_equal(values, model_alone[0])
    for p in model.parameters():
        p.grad = None
    for seed in (2, 3):
        x, labels = batch(seed=seed)
        F.cross_entropy(net(x), labels).backward()
    np.testing.assert_array_equal(model[0].weight.grad.numpy(), net_sum)


def test_some_gradients_alone():
    model = small().eval()
    net, (x, labels) = ready(model), batch(seed=4)
    chosen = [model[3].weight, model[9].bias]
    mine = grad(F.cross_entropy(net(x), labels), chosen)
    assert_same([g.numpy() for g in mine], [g.numpy() for g in grad(F.cross_entropy(model(x), labels), chosen)])


def test_what_a_recording_cannot_do_is_an_error():
    model = small()
    net, (x, labels) = ready(model), batch()
    loss = F.cross_entropy(net(x), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compile: the activations of this pass were used up"):
        loss.backward()
    loss = F.cross_entropy(net(x), labels)
    with pytest.raises(RuntimeError, match="compile: a compiled model has no second derivatives"):
        loss.backward(create_graph=True)
    loss = F.cross_entropy(net(x), labels)
    with minidl.no_grad():
        model[3].weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
    x, labels = batch(seed=9)
    minidl.manual_seed(3)
    mine = gradients(net, model, x, labels)
    minidl.manual_seed(3)
    assert_same(mine, gradients(model, model, x, labels))


def test_inference_sees_what_training_changed():
    model = small()
    net, x = ready(model), batch(seed=7)[0]
    for step in range(2):
        model.eval()
        with minidl.no_grad():
            np.testing.assert_array_equal(net(x).numpy(), model(x).numpy())
        model.train()
        gradients(net, model, *batch(seed=step))
    assert model[1].num_batches_tracked.item() == 4


def test_recording_changes_nothing():
    model = small()
    net = minidl.compile(model)
    gradients(net, model, *batch())
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    minidl.manual_seed(4)
    net(batch()[0])  # recorded, and taken once
    drawn = minidl.get_rng_state()
    assert model[1].num_batches_tracked.item() == state["1.num_batches_tracked"] + 1
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), state[name])
    minidl.manual_seed(4)
    model(batch()[0])
    assert drawn == minidl.get_rng_state()


def test_watchers_see_the_operations():
    model, seen = small(), []
    net = ready(model)
    with watch(lambda operation, *_: seen.append(operation.__name__)):
        net(batch()[0])
    assert "conv2d" in seen


class CumulativeAverage(nn.Module):
    """Its momentum is another one each time, decided by Python."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(self.norm(x))


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(6, 2), [0]

    def forward(self, x):
        self.calls[0] += 1
        return self.linear(x) * self.calls[0]


class Scaled(nn.Module):
    """Python looks at a weight, which is the same in the first pass and in the recorded one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(x) / float(np.abs(self.linear.weight.detach().numpy()).max())


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x):
        return minidl.zeros(2, 2)


class Outside(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.hidden = nn.Linear(6, 2), [minidl.randn(2).requires_grad_()]

    def forward(self, x):
        return self.linear(x) * self.hidden[0]


class Pair(Counts):
    def forward(self, x):
        return self.linear(x), x


class Frozen(Counts):
    """Python looks at what no gradient changes."""

    def __init__(self):
        super().__init__()
        self.linear.bias.requires_grad_(False)

    def forward(self, x):
        return self.linear(x) + float(self.linear.bias.numpy()[0])


class Whims(Counts):
    def forward(self, x):
        return self.linear(x) * (1 if random.random() < 2 else 0)


class Noise(Counts):
    def forward(self, x):
        return self.linear(x) + (1 if generator().random() < 2 else 0)


class Changes(Counts):
    def forward(self, x):
        y = self.linear(x)
        with minidl.no_grad():
            x.mul_(2)
        return y


class Picky(Counts):
    def forward(self, x):
        if float(x.numpy()[0, 0]) != 1:
            raise ValueError("the first number must be 1")
        return self.linear(x)


class Stubborn(Counts):
    def __deepcopy__(self, memo):
        raise TypeError("no copies")


UNPLAYABLE = [CumulativeAverage, Counts, Scaled, Constant, Outside, Pair]
UNPLAYABLE += [Frozen, Whims, Noise, Changes, Picky, Stubborn]


@pytest.mark.parametrize("kind", UNPLAYABLE)
def test_what_cannot_be_played_runs_as_it_is(kind):
    model = kind()
    net, x = minidl.compile(model), minidl.ones(4, 6)
    net(x.clone())
    random.seed(0)
    before = random.getstate(), minidl.get_rng_state()
    with pytest.warns(UserWarning, match=f"compile: {kind.__name__} runs as it is"):
        net(x.clone())
    after = random.getstate(), minidl.get_rng_state()
    assert [a == b for a, b in zip(before, after, strict=True)] == [kind is not Whims, kind is not Noise]
    y = net(x.clone())  # silently
    assert steps_of(net) == [False] and isinstance(y, tuple) == (kind is Pair)


class Remembers(Counts):
    """A model that sets an attribute in its forward is another one each time."""

    def forward(self, x):
        self.features = self.linear(x)
        return self.features * 2


def test_what_sets_attributes_runs_as_it_is():
    model = Remembers()
    net = minidl.compile(model)
    for _ in range(4):
        y = net(minidl.randn(4, 6))
        np.testing.assert_array_equal(model.features.detach().numpy() * 2, y.detach().numpy())
    assert steps_of(net) == []


def test_copies_record_anew():
    model = small()
    net = ready(model)
    other = copy.deepcopy(net)
    assert steps_of(other) == []
    ready(other._orig_mod)


def test_a_network_of_numpys_functions_and_parts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.gain = nn.Linear(6, 6), nn.Parameter(minidl.ones(6))

        def forward(self, x):
            h = np.tanh(self.linear(x)) * self.gain
            h = minidl.cat([h[:, :3], h[:, 3:] * 2], 1)
            h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True) + 1e-5).sqrt()
            return h.sum(0).reshape(1, -1).expand(2, 6) + x.mean()

    minidl.manual_seed(0)
    model = Net()
    net = minidl.compile(model)
    for seed in range(4):
        x = minidl.from_numpy(np.random.default_rng(seed).standard_normal((3, 6)).astype(np.float32))
        found = []
        for function in (net, model):
            model.zero_grad()
            function(x).sum().backward()
            found.append([p.grad.numpy() for p in model.parameters()])
        assert_same(*found)
    assert steps_of(net) == [True]


def test_threads_train_at_once():
    model, wrong = small().eval(), []
    net = ready(model)
    batches = [batch(seed=seed) for seed in range(3)]

    def by(function, x, labels):
        return [g.numpy() for g in grad(F.cross_entropy(function(x), labels), list(model.parameters()))]

    expected = [by(model, *pair) for pair in batches]

    def work(pair, gradients):
        for _ in range(30):
            if not all(map(np.array_equal, by(net, *pair), gradients)):
                wrong.append(pair)

    at_once(work, zip(batches, expected, strict=True))
    assert not wrong


@pytest.mark.parametrize("changed", ["frozen", "buffer"])
def test_changes_before_the_gradients_are_errors(changed):
    model = small().eval()
    model[3].weight.requires_grad_(False)
    for net in (model, ready(model)):
        y = net(batch()[0])
        with minidl.no_grad():
            (model[3].weight if changed == "frozen" else model[1].running_mean).mul_(2)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()


def test_a_compiled_network_in_another_one():
    model = small().eval()
    inner = minidl.compile(model)
    outer = minidl.compile(nn.Sequential(inner, nn.ReLU()))
    for step in range(3):
        x, labels = batch(seed=step)
        mine = gradients(outer, model, x, labels)
        assert_same(mine, gradients(lambda x: F.relu(model(x)), model, x, labels))
        with minidl.no_grad():
            np.testing.assert_array_equal(inner(x).numpy(), model(x).numpy())
    assert steps_of(outer) == [True]


PLAYABLE = {
    "in place": lambda: [nn.Conv2d(3, 16, 3), nn.ReLU(inplace=True), nn.Conv2d(16, 4, 1), nn.LeakyReLU(inplace=True)],
    "groups": lambda: [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3, groups=4), nn.Conv2d(8, 8, 3, groups=8)],
    "normalised": lambda: [nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.LocalResponseNorm(5), nn.Dropout2d(0.5)],
    "whitened": lambda: [nn.Conv2d(3, 4, 3), nn.Whitening(4), nn.GELU(), nn.AdaptiveAvgPool2d(2)],
    "curved": lambda: [nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.GELU(), nn.LayerNorm((10, 10)), nn.LogSoftmax(1)],
    "pooled": lambda: [nn.Conv2d(3, 16, 3), nn.MaxPool2d(3, 2, 1), nn.Softmax(1), nn.Upsample(scale_factor=2)],
    "masked": lambda: [nn.Conv2d(3, 16, 3), Masked()],
}


class Masked(nn.Module):
    def forward(self, x):
        y = minidl.where(x > 0, x, x * 0.1) * (~(x > 1)).float() + x.argmax(1, keepdim=True).float()
        y[:, :2] = x[:, 2:4]
        return y


@pytest.mark.parametrize("name", PLAYABLE)
@pytest.mark.parametrize("dtype", [minidl.float32, minidl.float64])
def test_layers_train_to_the_same_bits(name, dtype):
    found = []
    for wrap in (lambda model: model, minidl.compile):
        minidl.manual_seed(0)
        model = nn.Sequential(*PLAYABLE[name]()).to(dtype)
        net, results = wrap(model), []
        optimizer = SGD(model.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            y = net(batch(3, (3, 12, 12), dtype, step)[0])
            target = minidl.from_numpy(np.random.default_rng(step).standard_normal(y.shape)).to(dtype)
            F.mse_loss(y, target).backward()
            results += [y.detach().numpy(), *(p.grad.numpy() for p in model.parameters())]
            optimizer.step()
        found.append(results + [value.numpy() for value in model.state_dict().values()])
    assert_same(*found)
    assert steps_of(net) == [True]


def test_passes_without_gradients_before_the_first_with():
    model = small().eval()
    net = minidl.compile(model)
    for step in range(4):
        x, labels = batch(seed=step)
        np.testing.assert_array_equal(net(x).detach().numpy(), model(x).detach().numpy())
        with minidl.no_grad():
            model[3].weight.mul_(0.9)
    for step in range(3):
        mine = gradients(net, model, *batch(seed=step))
        assert_same(mine, gradients(model, model, *batch(seed=step)))
    assert steps_of(net) == [True] and all(step.backward for step in net._steps.values())
