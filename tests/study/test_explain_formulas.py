"""Equations beside the texts: there is one for every gradient, they are LaTeX, and they are true."""

import re

import numpy as np
import pytest
from ops.cases import CASES

import minidl.nn  # noqa: F401  (registers the texts)
from minidl.kernels import get_kernel, kernel, list_kernels
from minidl.study.formulas import differentials, latex, latex_equation, output_name, plain, symbol

OPERATIONS = [name.removesuffix("_forward") for name in list_kernels() if name.endswith("_forward")]
EQUATIONS = [(name, key) for name in list_kernels() for key in get_kernel(name).formulas]


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_has_equations_for_its_output_and_its_gradients(op):
    forward, backward = get_kernel(f"{op}_forward"), get_kernel(f"{op}_backward")
    assert output_name(backward) in forward.formulas
    cases = [case for case in CASES if case.op == op]
    needs = [any(needs) for needs in zip(*(c.needs for c in cases), strict=False)] or [True] * 9
    names = differentials(forward)
    wanted = {name for name, need in zip(names, needs, strict=False) if need}
    assert wanted and wanted <= set(backward.formulas)


@pytest.mark.parametrize(("name", "key"), EQUATIONS)
def test_equations_are_latex_that_can_be_drawn(name, key):
    from matplotlib.mathtext import MathTextParser

    formula = get_kernel(name).formulas[key]
    equation = latex_equation(key, formula, name.endswith("_backward"))
    assert all(formula.count(a) == formula.count(b) for a, b in ("{}", "()", "[]"))
    width, height, *_ = MathTextParser("path").parse(f"${equation}$")
    assert width > 0 and height > 0
    assert not re.search(r"[{}\\]", plain(formula))


def test_mathtext_refuses_what_is_no_latex():
    from matplotlib.mathtext import MathTextParser

    with pytest.raises(ValueError, match="Expected"):
        MathTextParser("path").parse(r"$\frac{1}{$")


def numbers(formula, names):
    """The value of an equation of elementwise arithmetic: LaTeX read by rules of its own, without `plain`."""
    text = formula
    for a, b in ((r"\,", " "), (r"\;", " "), (r"\cdot", "*"), (r"\leq", "<="), (r"\geq", ">="), (r"\pi", "pi")):
        text = text.replace(a, b)
    text = re.sub(r"\\mathbf\{1\}\[(\w+) = (\w+)\]", r"one(\1 == \2)", text)
    text = re.sub(r"\\mathbf\{1\}\[(\S+) < (\w+) < (\w+)\]", r"one(\1 < \2, \2 < \3)", text)
    text = re.sub(r"\\mathbf\{1\}\[(\S+) <= (\w+) <= (\w+)\]", r"one(\1 <= \2, \2 <= \3)", text)
    text = re.sub(r"\\mathbf\{1\}\[not +(\w+)\]", r"one(~\1)", text)
    text = re.sub(r"\\mathbf\{1\}\[([^\]]*)\]", r"one(\1)", text)
    before = None
    while before != text:
        before = text
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\^\{([^{}]*)\}", r"**(\1)", text)
    text = re.sub(r"\|(\w+)\|", r"abs(\1)", text)
    text = re.sub(r"\\ln (\w+)(?! *\()", r"ln(\1)", text)
    text = re.sub(r"\\ln sigma", "ln sigma", text).replace("\\", "")
    text = re.sub(r"\bln (sigma\([^()]*\))", r"ln(\1)", text)
    text = text.replace("^", "**")
    text = re.sub(r"(?<=[0-9)]) *(?=[a-zA-Z(])(?!\*)", " * ", text)  # what stands side by side is multiplied
    text = re.sub(r"(?<=\w) +(?=[\w(])", " * ", text)
    text = re.sub(r"\b(?!ln|max|min|tanh|sqrt|one|sigma|sign|erf|abs|unbroadcast)(\w+)\(", r"\1 * (", text)
    return eval(text, {"__builtins__": {}}, {**FUNCTIONS, **names})


def sigma(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = dict(
    e=np.e,
    pi=np.pi,
    ln=np.log,
    max=np.maximum,
    min=np.minimum,
    tanh=np.tanh,
    sqrt=np.sqrt,
    abs=np.abs,
    sign=np.sign,
    sigma=sigma,
    one=lambda *conditions: np.logical_and.reduce(conditions).astype(float),
    unbroadcast=lambda v: v,
    erf=np.vectorize(__import__("math").erf),
)
ELEMENTWISE = "sigmoid tanh expm1 softplus leaky_relu elu gelu gelu_tanh silu hardtanh hardswish add subtract multiply "
ELEMENTWISE += (
    "divide power negative exp log sqrt absolute maximum minimum clip relu dropout where binary_cross_entropy "
)
ELEMENTWISE += "sigmoid_cross_entropy"
OPTIONS = dict(
    softplus=dict(beta=2.0, threshold=np.inf),
    elu=dict(alpha=0.7),
    hardtanh=dict(low=-0.5, high=0.8),
    clip=dict(low=-0.5, high=0.8),
    dropout=dict(p=0.3),
    sigmoid_cross_entropy=dict(pos_weight=1.5),
)
POSITIVE = ("power", "log", "sqrt", "divide")


@pytest.mark.parametrize("op", ELEMENTWISE.split())
def test_equations_give_what_the_texts_compute(op):
    rng = np.random.default_rng(7)
    forward, backward, options = get_kernel(f"{op}_forward"), get_kernel(f"{op}_backward"), OPTIONS.get(op, {})
    names = [name[1:] for name in differentials(forward)]
    inputs = [rng.standard_normal((3, 4)) * 2 for _ in names]
    if op in POSITIVE:
        inputs = [np.abs(x) + 0.1 for x in inputs]
    if op == "binary_cross_entropy":
        inputs = [sigma(x) for x in inputs]
    if op in ("dropout", "where"):
        inputs[names.index({"dropout": "keep", "where": "condition"}[op])] = rng.random((3, 4)) < 0.5
    y, saved = forward.text(*inputs, **options)
    dy = rng.standard_normal(y.shape)
    dxs = backward.text(dy, saved, tuple(x.dtype != bool for x in inputs))
    known = {**dict(zip(names, inputs, strict=True)), **options}
    for key, formula in forward.formulas.items():
        known[key] = numbers(formula, known)
    output = output_name(backward)
    np.testing.assert_allclose(known[output], y, rtol=1e-12, atol=1e-14)
    for name, dx in zip(names, dxs, strict=True):
        if dx is not None:
            found = numbers(backward.formulas[f"d{name}"], {**known, f"d{output}": dy})
            np.testing.assert_allclose(found, dx, rtol=1e-12, atol=1e-13)


def test_the_reader_of_equations_finds_a_wrong_one():
    x = np.array([0.3, -0.7])
    assert np.allclose(numbers(r"\frac{1}{1 + e^{-x}}", {"x": x}), sigma(x))
    assert not np.allclose(numbers(r"\frac{1}{1 + e^{x}}", {"x": x}), sigma(x))


def test_names_of_the_code_become_symbols():
    assert [symbol(name) for name in ("x", "dy", "gamma", "dx_hat", "weight", "dgamma")] == [
        *("x", r"\mathrm{d}y", r"\gamma", r"\mathrm{d}\hat{x}", r"\mathrm{weight}", r"\mathrm{d}\gamma")
    ]
    assert latex(r"inv_std^3 \sum dx_hat \cdot x_i") == r"\mathrm{inv\_std}^3 \sum \mathrm{d}\hat{x} \cdot x_i"
    assert latex_equation("dvar", "eps", True) == (
        r"\mathrm{dvar} = \frac{\partial \ell}{\partial \mathrm{var}} = \varepsilon"
    )
    assert latex_equation("d", "k", False) == "d = k"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\frac{1}{m} \sum x", "(1/m) Σ x"),
        (r"\frac{1}{1 + e^{-x}}", "1/(1 + e^(-x))"),
        (r"\frac{1}{\sqrt{var + eps}}", "1/√(var + eps)"),
        (r"-\frac{1}{2} inv_std^3 \sum_{n,h,w} dy", "-(1/2) inv_std³ Σ_(n,h,w) dy"),
        (r"weight^T dy \cdot \mathbf{1}[x \leq 0]", "weightᵀ dy · 1[x ≤ 0]"),
        (r"axes^{-1} + \ldots", "axes⁻¹ + …"),
    ],
)
def test_equations_as_plain_text(formula, text):
    assert plain(formula) == text


def test_a_text_may_have_no_equations():
    from minidl import kernels

    @kernel
    def without_equations_for_test(x):
        return x

    try:
        assert without_equations_for_test.formulas == {}
    finally:
        del kernels._texts["without_equations_for_test"]
