"""`minidl gradcheck`: tables, exit codes, and every case of minidl's own."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.cli import main
from minidl.kernels import _texts
from minidl.study.gradcheck_cases import CASES
from minidl.watch import here, watch

RIGHT_AND_WRONG = """
import minidl
from minidl import nn
from minidl.autograd import differentiable
from minidl.kernels import Kernel
from minidl.ops.elementwise import exp_forward


def exp_backward(dy, saved, needs):
    return (1.001 * dy * saved,)


class Right(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)


class Wrong(nn.Module):
    def forward(self, x):
        return differentiable(exp_forward, Kernel(exp_backward))(x)
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}{case.shapes}".replace(" ", ""))
def test_every_operation_and_layer(case):
    report = case.check()
    assert report and report.worst.relative < 1e-6, report
    assert not any(check.kinks for check in report.checks), report


SECOND = [case for case in CASES if case.twice and sum(map(np.prod, case.shapes)) <= 30]


@pytest.mark.parametrize("case", SECOND, ids=lambda case: f"{case.name}{case.shapes}".replace(" ", ""))
def test_second_derivatives_of_small_cases(case):
    assert (report := case.check(second=True)), report


def test_no_operation_and_no_layer_is_left_out():
    operations, layers = set(), set()

    def look(op, inputs, options, output, saved):
        operations.add(op.__name__)
        layers.update(type(module) for module in here.modules)

    for case in CASES:
        inputs = [minidl.tensor(v) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v for v in case.inputs()]
        function = case.function().double() if case.layer else case.function
        if case.layer:
            layers.update(type(module) for module in function.modules())
        with watch(look):
            function(*inputs)
    texts = {name.removesuffix("_forward") for name in _texts if name.endswith("_forward")}
    assert texts - operations == set()
    containers = {nn.Module, nn.ModuleDict, nn.ModuleList, nn.ParameterList}
    public = {v for n in nn.__all__ if isinstance(v := getattr(nn, n), type) and issubclass(v, nn.Module)}
    assert public - containers - layers == set()


def test_a_layer_of_the_users_own(tmp_path, capsys):
    (tmp_path / "net.py").write_text(RIGHT_AND_WRONG)
    assert main(["gradcheck", f"{tmp_path}/net.py:Right", "--input", "3", "--elements", "0"]) == 0
    assert "gradcheck of Right: passed" in capsys.readouterr().out
    assert main(["gradcheck", f"{tmp_path}/net.py:Wrong", "--input", "3"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out and "backward / differences = 1.001" in out


def test_all_prints_a_line_for_each_name(capsys, monkeypatch):
    monkeypatch.setattr("minidl.cli.gradcheck.CASES", CASES[:5])
    assert main(["gradcheck", "all"]) == 0
    out = capsys.readouterr().out
    assert "add " in out and "5 cases, 0 wrong" in out


@pytest.mark.parametrize(
    "words, text",
    [
        (["gradcheck", "all", "--input", "3"], "--input goes with a network"),
        (["gradcheck", "resnet20", "--rtol", "0"], "--rtol must be above 0"),
        (["gradcheck", "resnet21"], "resnet20"),
    ],
)
def test_wrong_usage(words, text, capsys):
    assert main(words) == 2
    assert text in capsys.readouterr().err
