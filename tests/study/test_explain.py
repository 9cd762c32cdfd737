"""explain: golden text, numbers against other judges, hostile shapes, well-formed pages, state untouched."""

import textwrap
from html.parser import HTMLParser

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.models import get_model
from minidl.nn import functional as F
from minidl.study import explain
from minidl.study.batch_norm_check import by_autograd
from minidl.study.values import about, bytes_text, describe


def lines_of(explanation, op):
    """name -> line of the last step of an operation, forward and backward."""
    step = [s for s in explanation.steps if s.name == op][-1]
    return {line.name: line for line in (*step.forward, *step.backward)}


def test_golden_text_of_a_tiny_graph():
    x = minidl.tensor([[1.0, -2.0]], requires_grad=True)
    weight = minidl.tensor([[0.5, 1.0], [2.0, 0.0]], requires_grad=True)
    y = F.linear(x, weight)
    loss = F.relu(y).sum()
    assert str(explain(loss)) == textwrap.dedent("""\
        0  linear  → 1×2
           inputs
              x: 1×2 float32: [[1. -2.]]  (leaf)
              weight: 2×2 float32: [[0.5 1. ] [2. 0. ]]  (leaf)
              bias: None
           forward
              y = x weightᵀ + bias
                  1×2 float32: [[-1.5 2. ]]
           kept for backward, 24 B
              x: 1×2 float32
              weight: 2×2 float32
           backward
              dy: 1×2 float32: [[0. 1.]]  (the incoming gradient)
              dx = dy weight
                  1×2 float32: [[2. 0.]]
              dweight = dyᵀ x
                  2×2 float32: [[0. 0.] [1. -2.]]
              dbias = Σ_rows dy
                  (not asked for)

        1  relu  → 1×2
           inputs
              x: 1×2 float32: [[-1.5 2. ]]  (from 0)
           forward
              y = max(x, 0)
                  1×2 float32: [[0. 2.]]  (computed again)
           kept for backward, 8 B
              y: 1×2 float32
           backward
              dy: 1×2 float32: [[1. 1.]]  (the incoming gradient)
              dx = dy · 1[y > 0]
                  1×2 float32: [[0. 1.]]

        2  sum  → scalar
           inputs
              x: 1×2 float32: [[0. 2.]]  (from 1)
              axis: None
              keepdims: False
           forward
              y = Σ_axis x
                  scalar float32: 2.
           kept for backward
              x.shape: (1, 2)
           backward
              dy: scalar float32: 1.  (the incoming gradient)
              dx = broadcast(dy)
                  1×2 float32: [[1. 1.]]""")
    assert x.grad is None and weight.grad is None
    loss.backward()  # the graph is still there


SIX = ("dx_hat", "dvar", "dmean", "dx", "dgamma", "dbeta")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 4, 5)])
def test_batch_norms_six_derivatives_against_pytorch(shape, dtype):
    torch = pytest.importorskip("torch")
    rng, C = np.random.default_rng(1), shape[1]
    arrays = [rng.standard_normal(s).astype(dtype) for s in (shape, (C,), (C,), shape)]
    x, gamma, beta = (torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays[:3])
    axes, view = (0, *range(2, len(shape))), (1, C, *[1] * (len(shape) - 2))
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    x_hat = (x - mean) / (var + 1e-5).sqrt()
    y = gamma.view(view) * x_hat + beta.view(view)
    found = torch.autograd.grad(y, [x_hat, var, mean, x, gamma, beta], torch.tensor(arrays[3].astype(np.float64)))
    expected = dict(zip(SIX, found, strict=True)) | dict(mean=mean, var=var, x_hat=x_hat, y=y)

    explanation = explain("batch_norm", *arrays[:3], gradient=arrays[3], eps=1e-5)
    lines = lines_of(explanation, "batch_norm")
    close = dict(rtol=1e-4, atol=1e-5) if dtype == np.float32 else dict(rtol=1e-9, atol=1e-11)
    for name, value in expected.items():
        value = value.detach().numpy()
        np.testing.assert_allclose(lines[name].value, value.reshape(lines[name].value.shape), err_msg=name, **close)
        difference, largest = lines[name].difference
        assert difference <= (1e-5 if dtype == np.float32 else 1e-12) * max(1, largest)
        np.testing.assert_allclose(largest, np.abs(value).max(), rtol=1e-9)
    assert str(explanation).count("differs from autograd by") == 11


def test_the_check_beside_batch_norm_finds_a_wrong_derivative():
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 8, 3))
    exact = by_autograd(x, np.ones(3), np.zeros(3), dy, 1e-5)
    step = explain("batch_norm", x, np.ones(3), np.zeros(3), gradient=dy, eps=1e-5).steps[0]
    line = next(line for line in step.backward if line.name == "dx")
    from minidl.study.steps import compare

    line.value = line.value * 1.001
    compare(step, exact)
    assert line.difference[0] > 1e-4 * line.difference[1]


def test_gradients_are_those_of_a_backward_pass():
    minidl.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    loss = F.cross_entropy(model(minidl.randn(5, 2, 4, 4)), minidl.tensor([0, 1, 2, 3, 0]))
    explanation = explain(loss)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    conv, norm, linear = (lines_of(explanation, op) for op in ("conv2d", "batch_norm", "linear"))
    for line, p in (
        *((conv["dweight"], model[0].weight), (conv["dbias"], model[0].bias)),
        *((norm["dgamma"], model[1].weight), (norm["dbeta"], model[1].bias)),
        *((linear["dweight"], model[4].weight), (linear["dbias"], model[4].bias)),
    ):
        np.testing.assert_array_equal(line.value, p.grad.numpy())
    assert [s.path for s in explanation.steps[:5]] == list("01234")
    assert [s.kind for s in explanation.steps[:3]] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [line.note for line in explanation.steps[0].inputs] == ["constant", "0.weight", "0.bias"]


def test_inner_variables_come_from_the_text():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    lines = lines_of(explain(F.conv2d, x, np.array([[[[1.0, 2.0], [3.0, 4.0]]]])), "conv2d")
    windows = [x[0, 0, i : i + 2, j : j + 2].reshape(-1) for i in (0, 1) for j in (0, 1)]
    np.testing.assert_array_equal(lines["cols"].value.reshape(4, 4), np.stack(windows, axis=1))
    dy = lines["dy"].value.reshape(4)
    np.testing.assert_allclose(lines["dcols"].value.reshape(4, 4), np.outer([1, 2, 3, 4], dy))


def test_after_backward_it_shows_what_grad_keeps():
    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.retain_grad()
    y.sum().backward()
    explanation = explain(y)
    assert "those in .grad" in explanation.remarks[0]
    step = explanation.steps[0]
    assert step.kept is None and "freed by a backward pass" in str(explanation)
    assert [(line.name, line.value.tolist()) for line in step.backward] == [
        *(("dz", [1.0, 1.0]), ("dx", [1.0, 2.0]), ("dy", [1.0, 2.0]))  # each path's part: x.grad is their sum
    ]
    z = F.linear(x, minidl.ones(1, 2)).sum()
    x.grad = None
    z.backward()
    summed = explain(z).steps[0].backward
    assert [(line.name, line.value.tolist()) for line in summed] == [("dx", [1.0, 1.0])]
    assert "sum over all" in summed[0].note


def test_values_that_an_optimiser_changed_are_not_made_up():
    layer = nn.Linear(2, 1)
    loss = (layer(minidl.ones(3, 2)) ** 2).mean()
    loss.backward()
    minidl.optim.SGD(layer.parameters(), lr=0.1).step()
    explanation = explain(loss)
    assert any("changed in place" in remark for remark in explanation.remarks)
    assert "y = x weightᵀ + bias\n   kept" in str(explanation)  # no value below


def test_what_was_kept_is_named_and_counted():
    x = minidl.tensor(np.ones((4, 3)), requires_grad=True)
    step = explain(F.softmax(x, 1), gradient=np.ones((4, 3))).steps[0]
    assert [line.name for line in step.kept] == ["p", "axis"]
    assert step.bytes == 96


def test_limit_and_path():
    model = get_model("resnet20")
    loss = F.cross_entropy(model(minidl.randn(2, 3, 32, 32)), minidl.tensor([0, 1]))
    whole = explain(loss, limit=None)
    short = explain(loss, limit=5)
    assert [s.number for s in short.steps] == [0, 1, 2, *(len(whole.steps) - i for i in (2, 1))]
    assert short.left_out == len(whole.steps) - 5
    assert str(short).count("not shown: limit=None") == 1
    assert [s.number for s in explain(loss, limit=1).steps] == [0]
    block = explain(loss, path="layer2.0")
    assert {s.path for s in block.steps} > {"layer2.0.conv1", "layer2.0.bn1"}
    assert all(s.path.startswith("layer2.0") for s in block.steps)
    assert all(line.difference for s in block.steps if s.name == "batch_norm" for line in s.backward[1:])
    with pytest.raises(ValueError, match=r"no module of path 'layer2.bn'.*there is layer"):
        explain(loss, path="layer2.bn")


def test_modules_and_functions_run_on_copies():
    layer, x = nn.BatchNorm1d(3), minidl.randn(4, 3)
    before, state = layer.running_mean.numpy().copy(), minidl.get_rng_state()
    explanation = explain(layer, x)
    assert "random (seed 0)" in explanation.remarks[0]
    assert x.grad is None and not x.requires_grad
    np.testing.assert_array_equal(layer.running_mean.numpy(), before)
    explain(nn.Dropout(0.5), x)
    assert repr(minidl.get_rng_state()) == repr(state)
    mean = np.zeros(3)
    explain(F.batch_norm, x.double().numpy(), mean, np.ones(3), training=True)
    np.testing.assert_array_equal(mean, 0)
    asked = explain(F.linear, x, minidl.ones(2, 3).requires_grad_())
    assert lines_of(asked, "linear")["dx"].note == "not asked for"


def test_a_name_alone_shows_the_equations():
    text = str(explain("cross_entropy"))
    assert "loss = -Σ_c q · log_p" in text and "dx = dloss · (e^log_p · Σ_c q - q)" in text
    with pytest.raises(ValueError, match="no operation named 'batchnorm'; there is batch_norm"):
        explain("batchnorm")


@pytest.mark.parametrize(
    "tensor",
    [
        (minidl.zeros(0, 3).requires_grad_() * 2).sum(),
        minidl.tensor(2.0, requires_grad=True).exp(),
        (minidl.tensor([np.nan, np.inf, -np.inf] * 8, requires_grad=True) * 2).sum(),
        minidl.cat([minidl.ones(2).requires_grad_(), minidl.zeros(0), minidl.ones(3).requires_grad_()]).sum(),
        minidl.ones(2, 3).requires_grad_()[1, ::2].sum(),
    ],
)
def test_odd_shapes_and_values(tensor):
    explanation = explain(tensor)
    assert len(str(explanation)) > 100
    assert well_formed(explanation._repr_html_())


def test_bad_calls():
    x = minidl.ones(2).requires_grad_()
    for bad, error, text in (
        (lambda: explain(3), TypeError, "got int"),
        (lambda: explain(minidl.ones(2)), ValueError, "no graph was recorded"),
        (lambda: explain(x * 2, 3), TypeError, "belong to a function"),
        (lambda: explain(x * 2, limit=0), ValueError, "got 0"),
        (lambda: explain(x * 2, limit=True), TypeError, "got True"),
        (lambda: explain(lambda v: 3, x), ValueError, "no graph was recorded"),
        (lambda: explain(x * 2, gradient=np.ones(3)), RuntimeError, "shape"),
    ):
        with pytest.raises(error, match=text):
            bad()


class Page(HTMLParser):
    """Checks that every tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes = [], "", []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def well_formed(source):
    page = Page()
    page.feed(source)
    page.close()
    assert not page.open
    return page


def test_the_page_is_well_formed_and_escapes_names():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<b>&$x$</b>", nn.Linear(2, 2))

        def forward(self, x):
            return self._modules["<b>&$x$</b>"](x).relu().clamp(-1, 1).sum()

    source = explain(Odd()(minidl.ones(1, 2)))._repr_html_()
    page = well_formed(source)
    assert "<b>&$x$</b> (Linear)" in page.text and "<b>" not in source
    assert r"\mathrm{d}x = \frac{\partial \ell}{\partial x}" in page.text
    assert r"\mathbf{1}[\mathrm{low} \leq x \leq \mathrm{high}]" in page.text
    assert "summary" in source and ("class", "tex2jax_ignore mathjax_ignore") in page.attributes
    assert page.text.count(r"\(") == page.text.count(r"\)")


def test_arrays_in_words():
    assert about(np.array([1.0, 2.5])) == "[1. 2.5]"
    assert about(np.zeros((0, 2))) == "no elements"
    many = np.concatenate([np.arange(15.0), [np.nan, np.inf, -np.inf]])
    assert about(many) == "min 0, mean 7, max 14, std 4.32, zeros 5.6%, 1 NaN, 2 Inf"
    assert about(np.full(20, np.nan)) == "20 NaN"
    assert about(np.arange(20) % 2 == 0) == "min 0, mean 0.5, max 1, std 0.5, zeros 50.0%"
    assert describe(np.float32(0.5)) == "scalar float32: 0.5"
    assert describe("x" * 200).endswith("…")
    assert [bytes_text(n) for n in (3, 1536, 3 << 20, 5 << 40)] == ["3 B", "1.5 KiB", "3 MiB", "5120 GiB"]
