"""`check` tells a reader what does not hold yet."""

import pytest

from minidl.study.exercises import check


def missing(x):
    raise NotImplementedError


def broken(x):
    raise ZeroDivisionError("division by zero")


def half(x):
    return x / 2


@pytest.mark.parametrize(
    "answer, tests, said",
    [
        (missing, {"value": lambda f: f(2) == 1}, "missing: not yet"),
        (broken, {"value": lambda f: f(2) == 1}, "broken: not yet; value ends in ZeroDivisionError: division by zero"),
        (half, {"value": lambda f: f(2) == 1, "sign": lambda f: f(2) < 0}, "half: not yet; sign does not hold"),
        (half, {"value": lambda f: f(2) == 1, "sign": lambda f: f(2) > 0}, "half: right"),
    ],
)
def test_check_says(answer, tests, said, capsys):
    assert check(answer, **tests) is None
    assert capsys.readouterr().out == said + "\n"
