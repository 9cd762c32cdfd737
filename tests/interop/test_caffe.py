"""Whole networks of Caffe: LeNet, phases, blobs by name, multipliers, sharing, old forms, and what is refused."""

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.interop.caffe import from_prototxt
from minidl.interop.prototxt import PrototxtError
from minidl.optim import SGD
from minidl.study import count

LENET = Path(__file__).parents[2] / "examples" / "lenet.prototxt"

INPUT = 'input: "data" input_shape { dim: 4 dim: 3 }\n'


def ip(name, bottom, top, options="", outputs=2):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {options} '
        f"inner_product_param {{ num_output: {outputs} }} }}\n"
    )


def layer(name, kind, bottoms, tops, options=""):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "{name}" type: "{kind}" {ends} {options} }}\n'


# --- LeNet ------------------------------------------------------------------------------------------------------------
def test_lenet_has_caffes_blobs_and_parameters():
    net = from_prototxt(LENET)
    assert net.blobs == {
        **{"data": (64, 1, 28, 28), "label": (64,), "conv1": (64, 20, 24, 24), "pool1": (64, 20, 12, 12)},
        **{"conv2": (64, 50, 8, 8), "pool2": (64, 50, 4, 4), "ip1": (64, 500), "ip2": (64, 10), "loss": ()},
    }
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == {
        **{"conv1.weight": (20, 1, 5, 5), "conv1.bias": (20,), "conv2.weight": (50, 20, 5, 5), "conv2.bias": (50,)},
        **{"ip1.weight": (500, 800), "ip1.bias": (500,), "ip2.weight": (10, 500), "ip2.bias": (10,)},
    }
    counts = count(net, (1, 28, 28))
    assert counts.parameters == 431_080
    assert counts.multiply_adds == 24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25 + 800 * 500 + 500 * 10


def test_lenet_prints_its_layers_in_caffes_form(capsys):
    net = from_prototxt(LENET)
    net.describe()
    lines = capsys.readouterr().out.splitlines()
    assert lines == str(net).splitlines() and lines[0] == "LeNet, phase TRAIN, 431,080 parameters"
    assert [re.split("  +", line) for line in lines[1:4]] == [
        ["mnist", "Data", "data -> 64 1 28 28, label -> 64"],
        ["conv1", "Convolution", "conv1 -> 64 20 24 24", "weight 20 1 5 5, bias 20"],
        ["pool1", "Pooling", "pool1 -> 64 20 12 12"],
    ]
    assert "ip1 -> 64 500 (in place)" in lines[7] and lines[-1].endswith("loss -> 1")


def test_phases_choose_the_layers_and_the_mode():
    train, test = from_prototxt(LENET, "TRAIN"), from_prototxt(LENET, "TEST")
    assert train.training and not test.training
    assert "accuracy" in test.blobs and "accuracy" not in train.blobs
    assert train.inputs["data"][0] == 64 and test.inputs["data"][0] == 100
    x, y = minidl.randn(5, 1, 28, 28), minidl.randint(0, 10, (5,))
    assert list(train(x, y)) == ["loss"] and list(test(x, y)) == ["accuracy", "loss"]
    assert (test(x, y)["accuracy"].item() * 5) % 1 < 1e-5


def test_what_goes_in_decides_what_comes_out():
    net = from_prototxt(LENET)
    x, y = minidl.randn(5, 1, 28, 28), minidl.randint(0, 10, (5,))
    logits = net(x)
    assert logits.shape == (5, 10)
    named = net(data=x)
    assert list(named) == ["ip2"]
    np.testing.assert_array_equal(named["ip2"].detach().numpy(), logits.detach().numpy())
    loss = net(x, y)["loss"]
    assert loss.item() == pytest.approx(minidl.nn.functional.cross_entropy(logits, y).item(), rel=1e-6)
    assert net(label=y, data=x)["loss"].item() == loss.item() == net(x, label=y)["loss"].item()
    np.testing.assert_array_equal(net(x.numpy()).detach().numpy(), logits.detach().numpy())


@pytest.mark.parametrize(
    "inputs, named, error, message",
    [
        ((), {}, TypeError, "inputs data, label, got 0 in order"),
        ((1, 2, 3), {}, TypeError, "got 3 in order"),
        ((np.zeros((2, 1, 28, 28)),), {"image": 1}, TypeError, "got 1 in order and 'image'"),
        ((np.zeros((2, 1, 28, 28)),), {"data": 1}, TypeError, "'data' was given twice"),
        ((np.zeros((2, 3, 28, 28)),), {}, ValueError, "data has shape (2, 3, 28, 28), expected (N, 1, 28, 28)"),
        ((np.zeros((1, 28, 28)),), {}, ValueError, "data has shape (1, 28, 28), expected (N, 1, 28, 28)"),
    ],
)
def test_inputs_that_do_not_fit(inputs, named, error, message):
    with pytest.raises(error, match=re.escape(message)):
        from_prototxt(LENET)(*inputs, **named)


def test_a_few_steps_of_lenet_reduce_the_loss():
    """Ten images that are told apart by where they are bright."""
    net, y = from_prototxt(LENET), minidl.arange(10)
    x = np.random.default_rng(0).normal(0, 0.1, (10, 1, 28, 28)).astype(np.float32)
    for i in range(10):
        x[i, 0, 2 * i : 2 * i + 8] += 1
    optimizer = SGD(net.parameter_groups(0.01, 5e-4), momentum=0.9)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = net(minidl.tensor(x), y)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2 and losses[-1] < 0.05


def test_copies_and_replaced_layers_are_independent():
    net, x = from_prototxt(LENET), minidl.randn(2, 1, 28, 28)
    twin = copy.deepcopy(net)
    twin.ip2.bias.detach().add_(1)
    np.testing.assert_allclose((twin(x) - net(x)).detach().numpy(), 1, rtol=1e-5)
    net.ip2 = minidl.nn.Identity()
    assert net(x).shape == (2, 500)


# --- multipliers, sharing, fillers ------------------------------------------------------------------------------------
def test_multipliers_become_groups():
    text = INPUT + ip("a", "data", "a", "param { lr_mult: 10 decay_mult: 2 } param { lr_mult: 0 }")
    text += ip("b", "a", "b", "param { } param { lr_mult: 2 decay_mult: 0 }")
    net = from_prototxt(text)
    assert net.multipliers == {"a.weight": (10, 2), "a.bias": (0, 1), "b.weight": (1, 1), "b.bias": (2, 0)}
    groups = net.parameter_groups(0.1, 0.01)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 0.01), (1.0, 0.02), (0.2, 0.0)]
    assert [[id(p) for p in g["params"]] for g in groups] == [[id(net.b.weight)], [id(net.a.weight)], [id(net.b.bias)]]
    assert not net.a.bias.requires_grad and net.a.weight.requires_grad
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    net(minidl.randn(4, 3)).sum().backward()
    SGD(groups).step()
    gradients = dict(net.named_parameters())
    for name, (rate, decay) in net.multipliers.items():
        after = net.state_dict()[name].numpy()
        if rate == 0:
            np.testing.assert_array_equal(after, before[name])
        else:
            step = 0.1 * rate * (gradients[name].grad.numpy() + 0.01 * decay * before[name])
            np.testing.assert_allclose(after, before[name] - step, rtol=1e-5, atol=1e-7)


def test_parameters_of_one_name_are_one():
    shared = 'param { name: "w" lr_mult: 2 } param { name: "b" }'
    text = 'input: "p" input_shape { dim: 4 dim: 3 } input: "q" input_shape { dim: 4 dim: 3 }\n'
    text += ip("left", "p", "l", shared) + ip("right", "q", "r", 'param { name: "w" } param { name: "b" }')
    net = from_prototxt(text + layer("loss", "EuclideanLoss", ["l", "r"], ["distance"]))
    assert net.left.weight is net.right.weight and net.left.bias is net.right.bias
    assert [name for name, _ in net.named_parameters()] == ["left.weight", "left.bias"]
    assert [len(g["params"]) for g in net.parameter_groups(1.0)] == [1, 1]
    x = minidl.randn(4, 3)
    assert net(x, x)["distance"].item() == 0


@pytest.mark.parametrize(
    "second, message",
    [
        (ip("b", "data", "b", 'param { name: "w" }', outputs=5), 'shares "w" with a.weight, of shape 2 3, but here it'),
        (ip("b", "data", "b", 'param { name: "w" lr_mult: 3 }'), "gives it another lr_mult or decay_mult"),
        (ip("b", "data", "b", 'param { name: "w" share_mode: PERMISSIVE }'), "must be STRICT, got PERMISSIVE"),
        (ip("b", "data", "b", "param { } param { } param { }"), "it has 2 parameters, got 3 params"),
        (ip("b", "data", "b", "param { lr_mult: -1 }"), "must be a number >= 0, got -1"),
    ],
)
def test_wrong_params_are_named(second, message):
    with pytest.raises(PrototxtError, match=re.escape(message)) as error:
        from_prototxt(INPUT + ip("a", "data", "a", 'param { name: "w" }') + second)
    assert str(error.value).startswith('prototxt:3: layer "b": ')


def drawn(filler, shape=(300, 200)):
    """A weight of that shape by a filler."""
    text = f'input: "data" input_shape {{ dim: 1 dim: {shape[1]} }} layer {{ name: "l" type: "InnerProduct" '
    text += f'bottom: "data" top: "y" inner_product_param {{ num_output: {shape[0]} {filler} }} }}'
    return from_prototxt(text).l.weight.detach().numpy()


FILLERS = {  # mean, standard deviation, largest magnitude
    'type: "gaussian" mean: 2 std: 0.5': (2, 0.5, math.inf),
    'type: "uniform" min: -1 max: 3': (1, 4 / math.sqrt(12), 3),
    'type: "xavier"': (0, math.sqrt(1 / 200), math.sqrt(3 / 200)),
    'type: "xavier" variance_norm: FAN_OUT': (0, math.sqrt(1 / 300), math.sqrt(3 / 300)),
    'type: "xavier" variance_norm: AVERAGE': (0, math.sqrt(1 / 250), math.sqrt(3 / 250)),
    'type: "msra"': (0, math.sqrt(2 / 200), math.inf),
    'type: "msra" variance_norm: FAN_OUT': (0, math.sqrt(2 / 300), math.inf),
}


@pytest.mark.parametrize("filler", FILLERS)
def test_fillers_draw_what_they_say(filler):
    mean, std, most = FILLERS[filler]
    weight = drawn(f"weight_filler {{ {filler} }}")
    assert weight.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(weight.size))
    assert weight.std() == pytest.approx(std, rel=0.02)
    assert abs(weight).max() <= most * (1 + 1e-6)
    if most < math.inf:
        assert abs(weight).max() > 0.99 * most


def test_constant_and_missing_fillers():
    assert (drawn('weight_filler { type: "constant" value: 0.25 }') == 0.25).all()
    assert (drawn("weight_filler { }") == 0).all()
    assert drawn("").std() == pytest.approx(math.sqrt(2 / 200), rel=0.02)


def test_fans_of_a_convolution():
    """fan_in counts the inputs of one output within its group, fan_out those of one input."""
    text = 'input: "data" input_shape { dim: 1 dim: 32 dim: 9 dim: 9 } layer { name: "c" type: "Convolution" '
    text += 'bottom: "data" top: "y" convolution_param { num_output: 64 kernel_size: 5 group: 2 weight_filler '
    for norm, fan in (("FAN_IN", 16 * 25), ("FAN_OUT", 64 * 25)):
        weight = from_prototxt(text + f'{{ type: "msra" variance_norm: {norm} }} }} }}').c.weight
        assert weight.detach().numpy().std() == pytest.approx(math.sqrt(2 / fan), rel=0.03)


@pytest.mark.parametrize(
    "filler, message",
    [
        ('type: "bilinear"', 'weight_filler has type "bilinear", which minidl does not know; it knows constant'),
        ('type: "gaussian" sparse: 3', "does not know the field inner_product_param.weight_filler.sparse"),
        ('type: "gaussian" std: -1', "must be a number >= 0, got -1"),
        ('type: "uniform" min: 1 max: 0', "a finite min <= max, got 1 and 0"),
        ('type: "xavier" variance_norm: FAN', "must be FAN_IN or FAN_OUT or AVERAGE, got FAN"),
    ],
)
def test_wrong_fillers_are_named(filler, message):
    with pytest.raises(PrototxtError, match=re.escape(message)):
        drawn(f"weight_filler {{ {filler} }}")


# --- forms of files ---------------------------------------------------------------------------------------------------
def test_the_old_form_gives_the_same_net():
    old = """
    name: "Old" input: "data" input_dim: 4 input_dim: 3 input_dim: 8 input_dim: 8
    input: "label" input_dim: 4 input_dim: 1 input_dim: 1 input_dim: 1
    layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
             weight_decay: 0 convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
    layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
    layers { name: "ip" type: INNER_PRODUCT bottom: "conv" top: "ip" inner_product_param { num_output: 5 } }
    layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" }
    """
    net = from_prototxt(old)
    assert net.blobs["conv"] == (4, 4, 6, 6) and net.multipliers["conv.bias"] == (2, 0)
    label = minidl.randint(0, 5, (4, 1, 1, 1))
    assert list(net(minidl.randn(4, 3, 8, 8), label)) == ["loss"]


def test_inputs_of_all_forms():
    tail = ip("l", "data", "y")
    forms = [
        'input: "data" input_dim: 4 input_dim: 3 input_dim: 2 input_dim: 1\n',
        'input: "data" input_shape { dim: [4, 3, 2, 1] }\n',
        layer("in", "Input", [], ["data"], "input_param { shape { dim: 4 dim: 3 dim: 2 dim: 1 } }"),
        layer("in", "MemoryData", [], ["data"], "memory_data_param { batch_size: 4 channels: 3 height: 2 width: 1 }"),
        layer(
            "in", "ImageData", [], ["data"], 'image_data_param { source: "l" batch_size: 4 new_height: 2 new_width: 1 }'
        ),
    ]
    for form in forms:
        net = from_prototxt(form + tail)
        assert net.inputs == {"data": (4, 3, 2, 1)} and net(minidl.randn(7, 3, 2, 1)).shape == (7, 2)
    lmdb = layer(
        "in", "Data", [], ["data", "label"], 'data_param { source: "cifar10_train_lmdb" batch_size: 8 backend: LMDB }'
    )
    assert from_prototxt(lmdb + tail).inputs == {"data": (8, 3, 32, 32), "label": (8,)}
    cropped = lmdb.replace("cifar10", "own").replace("}", "} transform_param { crop_size: 20 mirror: true }", 1)
    assert from_prototxt(cropped + tail, image_shape=(1, 28, 28)).inputs["data"] == (8, 1, 20, 20)
    with pytest.raises(PrototxtError, match=r'"own_train_lmdb" does not tell the shape of an image; pass image_shape='):
        from_prototxt(cropped + tail)


RULES = {
    "include { phase: TEST }": (False, True),
    "exclude { phase: TEST }": (True, False),
    "include { phase: TRAIN } include { phase: TEST }": (True, True),
    "include { phase: TEST stage: 'deploy' }": (False, True),
    "include { stage: 'deploy' stage: 'other' }": (False, False),
    "include { not_stage: 'deploy' }": (False, False),
    "include { min_level: 1 }": (True, True),
    "include { min_level: 3 }": (False, False),
    "include { max_level: 1 }": (False, False),
    "exclude { phase: TRAIN } exclude { max_level: 5 }": (False, False),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules(rule):
    text = INPUT + ip("a", "data", "a") + ip("b", "data", "b", rule)
    found = ["b" in from_prototxt(text, phase, level=2, stages=["deploy"]).blobs for phase in ("TRAIN", "TEST")]
    assert tuple(found) == RULES[rule]


def test_in_place_layers_read_what_was_there():
    """A blob's reader sees it as it is at that point of the file."""
    text = INPUT + layer("before", "Split", ["data"], ["kept"]) + layer("relu", "ReLU", ["data"], ["data"])
    text += layer("after", "Eltwise", ["kept", "data"], ["y"], "eltwise_param { coeff: 1 coeff: 10 }")
    x = minidl.randn(4, 3)
    before = x.numpy().copy()
    y = from_prototxt(text)(x)
    np.testing.assert_allclose(y.numpy(), before + 10 * np.maximum(before, 0), rtol=1e-6)
    np.testing.assert_array_equal(x.numpy(), before)


def test_several_losses_are_weighted():
    text = INPUT + 'input: "label" input_shape { dim: 4 }\n' + ip("a", "data", "a") + ip("b", "data", "b")
    text += layer("one", "SoftmaxWithLoss", ["a", "label"], ["one"], "loss_weight: 0.3")
    text += layer("two", "SoftmaxWithLoss", ["b", "label"], ["two"])
    net, x, y = from_prototxt(text), minidl.randn(4, 3), minidl.randint(0, 2, (4,))
    outputs = net(x, y)
    assert list(outputs) == ["one", "two"] and list(net(x)) == ["a", "b"]
    expected = 0.3 * outputs["one"].item() + outputs["two"].item()
    assert net.total_loss(outputs).item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="no loss among the outputs a, b"):
        net.total_loss(net(x))


def test_layers_may_have_any_name():
    names = ["forward", "train", "inception_3a/1x1", "a.b", "data", "layers"]
    text, bottom = INPUT, "data"
    for name in names:
        text, bottom = text + ip(name, bottom, f"top of {name}", outputs=3), f"top of {name}"
    net = from_prototxt(text)
    assert [key.rpartition(".")[0] for key in net.state_dict() if key.endswith("weight")] == names
    assert net.train().eval()(minidl.randn(4, 3)).shape == (4, 3)
    net.load_state_dict(net.state_dict())


# --- limits -----------------------------------------------------------------------------------------------------------
def test_statistics_of_batch_norm_may_be_listed_as_params():
    frozen = "param { lr_mult: 0 decay_mult: 0 } " * 3
    net = from_prototxt(INPUT + layer("a", "BatchNorm", ["data"], ["a"], frozen))
    assert not list(net.parameters()) and net.parameter_groups(0.1) == []


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="phase must be 'TRAIN' or 'TEST', got 'train'"):
        from_prototxt(LENET, "train")
    with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\), got \(28, 28\)"):
        from_prototxt(LENET, image_shape=(28, 28))
    with pytest.raises(FileNotFoundError):
        from_prototxt(tmp_path / "none.prototxt")
    path = tmp_path / "bad.prototxt"
    path.write_text(LENET.read_text().replace('type: "ReLU"', 'type: "Relu"'))
    line = path.read_text().splitlines().index('  type: "Relu"') + 1
    with pytest.raises(PrototxtError, match=f'^bad.prototxt:{line}: layer "relu1" has type "Relu", which minidl'):
        from_prototxt(str(path))


def test_a_net_of_thousands_of_layers():
    text = INPUT + "".join(layer(f"r{i}", "ReLU", ["data"], ["data"]) for i in range(3000))
    net = from_prototxt(text)
    assert len(net.layers) == 3000 and net(minidl.randn(2, 3)).shape == (2, 3)
