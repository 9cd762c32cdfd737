"""Files of whole models: names, the free batch, in-place changes, and clear refusals."""

import builtins

import numpy as np
import pytest
from onnx_judge import run
from test_onnx_ops import Call, exported, normal

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.interop import export_onnx, onnx_export

onnx = pytest.importorskip("onnx")


class Small(nn.Module):
    """A convolution, BN, a residual connection and a linear layer."""

    def __init__(self, dtype=np.float32):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, dtype=dtype)
        self.body = nn.Sequential(nn.BatchNorm2d(3, dtype=dtype), nn.ReLU())
        self.fc = nn.Linear(48, 5, dtype=dtype)
        self.body[0].running_mean.copy_(normal(3))

    def forward(self, x):
        x = x + self.body(self.conv(x))
        return self.fc(x.view(x.size(0), -1))


# --- what stands in the file ------------------------------------------------------------------------------------------


def test_names_and_notes(tmp_path):
    model, x = Small(), minidl.from_numpy(normal(2, 3, 4, 4))
    export_onnx(model, x, tmp_path / "a.onnx", input_names=["image"], output_names=["logits"])
    proto = onnx.load(tmp_path / "a.onnx")
    assert (proto.producer_name, proto.producer_version) == ("minidl", minidl.__version__)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    graph = proto.graph
    state = model.state_dict()
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    assert set(state) - set(weights) == {"body.0.num_batches_tracked"}
    assert all(np.array_equal(weights[name], state[name].numpy()) for name in set(state) & set(weights))
    assert [node.name for node in graph.node] == [
        *("/conv/Conv", "/body/0/BatchNormalization", "/body/1/Relu", "/Add", "/Reshape", "/fc/Gemm"),
    ]
    assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (["image"], ["logits"])
    batch, *rest = graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_param, [d.dim_value for d in rest]) == ("batch", [3, 4, 4])
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_parameters_that_are_called_as_the_input_and_the_output(tmp_path):
    model = nn.Linear(4, 4)
    model.input, model.output = nn.Parameter(minidl.randn(4)), nn.Parameter(minidl.randn(4))
    model.forward = lambda x: F.linear(x * model.input, model.weight, model.bias) + model.output
    graph = exported(model, normal(2, 4), tmp_path)
    assert sorted(i.name for i in graph.initializer) == ["bias", "input_1", "output_1", "weight"]


def test_the_model_is_left_as_it_was(tmp_path):
    model = Small()
    model.body[1].eval()
    model.fc.bias.requires_grad_(False)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    for training in (False, True):
        export_onnx(model, normal(2, 3, 4, 4), tmp_path / "a.onnx", training=training)
        assert (model.training, model.body.training, model.body[1].training) == (True, True, False)
        assert [p.requires_grad for p in model.fc.parameters()] == [True, False]
        assert all(np.array_equal(value.numpy(), before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError):
        export_onnx(model, normal(2, 4, 4, 4), tmp_path / "a.onnx")
    assert model.training and model.fc.weight.requires_grad


def test_training_mode_normalises_by_the_batch(tmp_path):
    model, x = Small(), normal(4, 3, 4, 4)
    export_onnx(model, x, tmp_path / "a.onnx", training=True)
    (z,) = run(tmp_path / "a.onnx", x)
    np.testing.assert_allclose(z, model.train()(minidl.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_shared_modules_and_parameters_are_written_once(tmp_path):
    layer = nn.Linear(4, 4)
    graph = exported(nn.Sequential(layer, nn.ReLU(), layer), normal(2, 4), tmp_path)
    assert sorted(i.name for i in graph.initializer) == ["0.bias", "0.weight"]


def test_what_depends_on_parameters_only_is_a_constant(tmp_path):
    model = Call(lambda x, w: x @ (w - w.mean()).exp().transpose(0, 1), normal(5, 4))
    graph = exported(model, normal(2, 4), tmp_path)
    assert [node.op_type for node in graph.node] == ["MatMul"]


def test_tensors_that_are_no_parameters_are_constants(tmp_path):
    hidden = minidl.tensor(normal(4), requires_grad=True)
    exported(lambda x: x * (hidden.exp() * 2), normal(2, 4), tmp_path)
    assert hidden.requires_grad and hidden.grad is None


def test_unused_results_are_not_written(tmp_path):
    graph = exported(lambda x: [x.exp(), x + 1][1], normal(2, 4), tmp_path)
    assert [node.op_type for node in graph.node] == ["Add"]


def test_several_inputs_and_outputs(tmp_path):
    model = Call(lambda x, y: (x + y, y, x + y, (x * y).sum(1)))
    x, y = normal(2, 3), normal(2, 3) + 1
    export_onnx(model, (x, y), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert [i.name for i in graph.input] == ["input_0", "input_1"]
    assert [o.name for o in graph.output] == ["output_0", "output_1", "output_2", "output_3"]
    for got, wanted in zip(run(tmp_path / "a.onnx", x, y), (x + y, y, x + y, (x * y).sum(1)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_one_result_as_two_outputs(tmp_path):
    def twice(x):
        y = x.exp()
        return y, y

    x = normal(2, 3)
    export_onnx(Call(twice), x, tmp_path / "a.onnx")
    a, b = run(tmp_path / "a.onnx", x)
    assert np.array_equal(a, b)
    np.testing.assert_allclose(a, np.exp(x), rtol=1e-6)


def test_float64(tmp_path):
    from onnx.reference import ReferenceEvaluator  # onnxruntime has no convolution in float64

    model, x = Small(np.float64).eval(), normal(2, 3, 4, 4).astype(np.float64)
    export_onnx(model, x, tmp_path / "a.onnx")
    (z,) = ReferenceEvaluator(onnx.load(tmp_path / "a.onnx")).run(None, {"input": x})
    np.testing.assert_allclose(z, model(minidl.from_numpy(x)).detach().numpy(), rtol=1e-7)
    assert z.dtype == np.float64


def test_every_opset_from_the_oldest_to_what_onnxruntime_reads(tmp_path):
    for opset in (18, 19, 20, 21):
        exported(Small(), normal(2, 3, 4, 4), tmp_path, normal(3, 3, 4, 4), opset=opset)
        assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset


# --- the batch --------------------------------------------------------------------------------------------------------

BATCHES = {
    "view": lambda x: x.view(x.size(0), -1),
    "flatten": lambda x: x.flatten(1),
    "images into the batch": lambda x: x.reshape(x.shape[0] * 3, 4).exp().reshape(x.shape[0], 3, 4),
    "the batch on two axes": lambda x: (x.flatten(1) @ x.flatten(1).t()).reshape(1, *[x.shape[0]] * 2),
    "the batch last": lambda x: x.permute(2, 1, 0).reshape(-1, x.shape[0]),
    "a parameter for each image": lambda x: minidl.cat([minidl.tensor(normal(1, 1, 4)).expand(len(x), 1, 4), x], 1),
    "zeros for each image": lambda x: minidl.cat([x, minidl.zeros(x.size(0), 2, 4)], 1),
    "repeated": lambda x: x[:, None].expand(x.size(0), 5, 3, 4),
    "mean over the batch": lambda x: x - x.mean(0) + x.mean() / x.size(0),
    "whole batch by slices": lambda x: x[: x.size(0)] + x[0 : len(x), ::2].mean(1, keepdim=True),
    "padding": lambda x: F.pad(x, (1, -1, -1, 2)),
    "a new first axis": lambda x: x.unsqueeze(0).squeeze(0)[None],
}


@pytest.mark.parametrize("function", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("size", [1, 4])
def test_the_batch_stays_free(function, size, tmp_path):
    exported(function, normal(size, 3, 4), tmp_path, *(normal(n, 3, 4) for n in (1, 2, 7)))


def test_a_fixed_batch(tmp_path):
    graph = exported(lambda x: x.reshape(-1), normal(2, 3), tmp_path, dynamic_batch=False)
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [2, 3]
    exported(lambda x: x.exp(), normal(), tmp_path, dynamic_batch=False)


def assigned(x):
    y = x * 1
    y[:, 1:] = x[:, :-1] * 2
    y[:, 0] = 5.0
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(2, 3, 4) * 2,
        lambda x: x * minidl.tensor(np.arange(len(x), dtype=np.float32)[:, None, None]),
        lambda x: x[np.arange(len(x)), 0],
        lambda x: x.exp() if len(x) == 2 else x * 2,
        lambda x: minidl.cat([x, minidl.zeros(x.size(0) + 1, 3, 4)]).reshape(x.size(0) * 2 + 1, 12),
        assigned,
    ],
)
def test_what_holds_for_one_batch_size_only_is_refused(function, tmp_path):
    with pytest.raises(ValueError, match="batch"):
        export_onnx(Call(function), normal(2, 3, 4), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
    exported(function, normal(2, 3, 4), tmp_path, dynamic_batch=False)


# --- changes in place and views ---------------------------------------------------------------------------------------


def in_place_relu(x):
    y = x * 2
    F.relu(y, inplace=True)
    return y + x


def chain(x):
    y = x.exp()
    z = y + 1
    y.add_(z).mul_(3)
    y -= x
    return y * z


def input_changed(x):
    x += 1
    return x * x


def views(x):
    y = x.view(-1, 6)
    z = y.t()[1:]
    return z @ y + x.detach().numpy().shape[1]


@pytest.mark.parametrize("function", [in_place_relu, chain, assigned, input_changed, views])
def test_changes_in_place_and_views(function, tmp_path):
    x = normal(3, 6)
    before, free = x.copy(), function is not assigned  # an assignment counts the elements of the whole batch
    export_onnx(Call(function), x, tmp_path / "a.onnx", dynamic_batch=free)
    assert np.array_equal(x, before)
    for x in (normal(3, 6) * 2, *([normal(5, 6)] if free else [])):
        (z,) = run(tmp_path / "a.onnx", x)
        np.testing.assert_allclose(z, function(minidl.from_numpy(x.copy())).numpy(), rtol=2e-5, atol=1e-5)


def test_fused_layers(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    with minidl.no_grad():
        graph = exported(model, normal(4, 3, 16, 16), tmp_path, normal(5, 3, 16, 16))
    assert [node.op_type for node in graph.node] == ["Conv", "BatchNormalization", "Relu", "MaxPool"]


def test_changes_in_place_that_are_fused_at_one_size_only(tmp_path):
    """Large activations take another road through the kernels than small ones, and are recorded with fewer nodes."""
    layers = [nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)] * 2
    for size in range(1, 20, 3):
        exported(nn.Sequential(*layers), normal(2, 4, size, size), tmp_path)


# --- refusals ---------------------------------------------------------------------------------------------------------

BURNED_IN = {
    "mask": lambda x: minidl.where(x > 0, x, x * 2),
    "number": lambda x: x / x.max().item(),
    "array": lambda x: x + minidl.tensor(np.exp(x.detach().numpy())),
    "detached": lambda x: x + x.detach(),
    "maximum with its place": lambda x: x.max(1)[0],
    "random": lambda x: x + minidl.rand(3),
    "dropout": lambda x: x * (minidl.rand(4, 3) > 0.5).float(),
}


@pytest.mark.parametrize("function", BURNED_IN.values(), ids=BURNED_IN)
def test_constants_that_come_from_x_are_refused(function, tmp_path):
    for dynamic_batch in (False, True):
        with pytest.raises(ValueError, match="in Call.* numbers of x|on other numbers"):
            export_onnx(Call(function), normal(4, 3), tmp_path / "a.onnx", dynamic_batch=dynamic_batch)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_depends_on_x_is_refused(tmp_path):
    model = Call(lambda x: x.exp() if x.sum().item() > 1e3 else x + 1)
    with pytest.raises(ValueError, match="another way.*'exp' in Call and 'add'"):
        export_onnx(model, normal(4, 3) + 1e4, tmp_path / "a.onnx")


def test_a_model_that_takes_some_numbers_only(tmp_path):
    """It is run on others of the same range."""

    def picky(x):
        if x.detach().numpy().min() < 0:
            raise ValueError("x must be >= 0")
        return x.sqrt()

    exported(picky, abs(normal(4, 3)), tmp_path, abs(normal(5, 3)))
    with pytest.raises(ValueError, match="fails on other numbers of shape .4, 3.: no more than three"):

        def once(x, calls=[]):  # noqa: B006
            if calls:
                raise ValueError("no more than three")
            calls.append(1)
            return x + 1

        export_onnx(Call(once), normal(3, 3), tmp_path / "b.onnx")


def test_an_output_without_history_is_refused(tmp_path):
    for function in (lambda x: minidl.ones(3), lambda x: x > 0, lambda x: x.exp().detach()):
        with pytest.raises(ValueError, match="output 0 of the model does not depend on x"):
            export_onnx(Call(function), normal(4, 3), tmp_path / "a.onnx")
    with pytest.raises(TypeError, match="output 1 is a dict"):
        export_onnx(Call(lambda x: (x + 1, {})), normal(4, 3), tmp_path / "a.onnx")


def test_an_operation_without_onnx_is_named_with_its_module(tmp_path, monkeypatch):
    monkeypatch.delitem(onnx_export.BUILDERS, "relu")
    with pytest.raises(NotImplementedError, match=r"'relu' in body\.1 \(ReLU\) has no form in ONNX"):
        export_onnx(Small(), normal(2, 3, 4, 4), tmp_path / "a.onnx")


def test_training_mode_without_a_form_in_onnx(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    exported(model, normal(2, 3), tmp_path)
    with pytest.raises(NotImplementedError, match=r"'dropout' in 1 \(Dropout\).*evaluation mode"):
        export_onnx(model, normal(2, 3), tmp_path / "b.onnx", training=True)
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(
    "x, error, message",
    [
        (normal(2, 3).astype(np.int64), TypeError, "got dtype int64"),
        ([[1.0, 2.0]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
        ((), ValueError, "empty"),
        ((normal(2, 3), normal(3, 3)), ValueError, r"\(2, 3\), \(3, 3\) has no batch"),
        (normal(), ValueError, "no batch"),
    ],
)
def test_inputs_that_do_not_fit(x, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_onnx(Call(lambda *x: x[0] + 1), x, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(opset=17), ValueError, "opset must be an integer from 18"),
        (dict(opset=10**6), ValueError, "opset"),
        (dict(input_names="image"), TypeError, "input_names must be a list"),
        (dict(output_names=["a", "b"]), ValueError, "output_names must be 1 different names"),
        (dict(input_names=["a"], output_names=["a"]), ValueError, "'a' names an input and an output"),
    ],
)
def test_options_that_do_not_fit(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_onnx(Small(), normal(2, 3, 4, 4), tmp_path / "a.onnx", **options)


def test_a_model_that_is_none(tmp_path):
    with pytest.raises(TypeError, match="model must be a Module, got function"):
        export_onnx(lambda x: x, normal(2, 3), tmp_path / "a.onnx")


def test_weights_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"the weights have 1,\d\d\d bytes"):
        export_onnx(Small(), normal(2, 3, 4, 4), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_previous_file(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError):
        export_onnx(Call(BURNED_IN["mask"]), normal(4, 3), path)
    assert path.read_bytes() == b"before"


def test_without_the_package(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'minidl\[interop\]'"):
        export_onnx(Small(), normal(2, 3, 4, 4), tmp_path / "a.onnx")
