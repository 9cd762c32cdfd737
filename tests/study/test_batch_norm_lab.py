"""The batch norm laboratory: its figures against NumPy's own."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.study.batch_norm_lab import (
    bessel_correction,
    compare_batch_norms,
    compare_folded,
    population_statistics,
    running_statistics,
)


def array(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("mode", ["training", "inference", "frozen"])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 5)])
def test_all_implementations_agree(mode, shape):
    table = compare_batch_norms(array(*shape).astype(np.float32), mode=mode, repeats=1)
    assert (
        len(table.rows) >= 3
        and table.columns[1:-1] == ["y", "dx", "dgamma", "dbeta"][: 1 if mode == "inference" else 4]
    )
    assert all(float(cell) < 1e-5 for row in table.rows for cell in row[1:-1])


def test_a_frozen_layer_lets_gradients_through_differently():
    x, dy = array(6, 3), array(6, 3)
    gradients = []
    for training in (True, False):
        t = minidl.tensor(x, requires_grad=True)
        minidl.nn.functional.batch_norm(t, x.mean(0), x.var(0), training=training, momentum=0.0).backward(
            minidl.from_numpy(dy)
        )
        gradients.append(t.grad.numpy())
    assert np.abs(gradients[0] - gradients[1]).max() > 0.1


def test_population_statistics_are_the_averages_of_algorithm_2():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=0.3)).double()
    model[1].eval()
    batches = [array(5, 3) * (i + 1) for i in range(4)]
    found = population_statistics(model, [(minidl.from_numpy(b), None) for b in batches])
    mean, var = found["0"]
    np.testing.assert_allclose(mean, np.mean([b.mean(0) for b in batches], axis=0))
    np.testing.assert_allclose(var, 5 / 4 * np.mean([b.var(0) for b in batches], axis=0))
    np.testing.assert_array_equal(model[2].running_var.numpy(), found["2"][1])
    assert model[2].momentum == 0.3 and model.training and not model[1].training


def test_running_statistics_follow_both_averages():
    batches = [array(8, 2, 3) + i for i in range(5)]
    found = running_statistics(batches, momentum=0.5)
    means = np.array([b.mean(axis=(0, 2)) for b in batches])
    expected, path = np.zeros(2), []
    for m in means:
        expected = 0.5 * expected + 0.5 * m
        path.append(expected)
    np.testing.assert_allclose(found.momentum_mean, path)
    np.testing.assert_allclose(found.cumulative_mean, np.cumsum(means, axis=0) / np.arange(1, 6)[:, None])
    whole = np.concatenate([np.moveaxis(b, 1, -1).reshape(-1, 2) for b in batches])
    np.testing.assert_allclose(found.var, whole.var(axis=0, ddof=1))
    np.testing.assert_allclose(found.mean, found.cumulative_mean[-1])


def test_the_running_statistics_can_be_drawn():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = running_statistics([array(8, 2) for _ in range(3)]).plot(channel=1)
    assert [len(ax.lines) for ax in axes] == [3, 3]
    matplotlib.pyplot.close(axes[0].figure)


def test_the_correction_takes_the_bias_away():
    for m, biased, expected, corrected in bessel_correction((2, 4, 50)).rows:
        assert float(biased) == pytest.approx(1 - 1 / int(m), abs=0.03) and float(corrected) == pytest.approx(
            1, abs=0.03
        )
        assert float(expected) == pytest.approx(1 - 1 / int(m), abs=1e-3)


def test_folding_changes_nothing_but_the_time():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    table = compare_folded(model, minidl.randn(2, 3, 6, 6), repeats=1)
    assert model.training and isinstance(model[1], nn.BatchNorm2d)
    assert float(table.remarks[0].split()[3].rstrip(",")) < 1e-5


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: compare_batch_norms(array(4, 3), mode="magic"), "mode must be one of"),
        (lambda: population_statistics(nn.Linear(2, 2), []), "no batch norm"),
        (lambda: population_statistics(nn.BatchNorm1d(2), []), "no batches"),
        (lambda: running_statistics([]), "expected mini-batches"),
        (lambda: bessel_correction([1]), "at least 2"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
