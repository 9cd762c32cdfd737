"""Top-k accuracy and the sums of an epoch."""

import json

import numpy as np
import pytest

from minidl.training.metrics import Metrics, topk_accuracy, topk_correct


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_topk_against_sorting(k):
    rng = np.random.default_rng(k)
    logits, labels = rng.standard_normal((200, 10)), rng.integers(0, 10, 200)
    best = np.argsort(-logits, axis=1)[:, :k]
    expected = sum(label in row for row, label in zip(best, labels, strict=True))
    assert topk_correct(logits, labels, k) == expected
    assert topk_accuracy(logits, labels, k) == expected / 200


def test_ties_agree_with_argmax():
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(0, 3, (500, 10)).astype(np.float32), rng.integers(0, 10, 500)
    assert topk_correct(logits, labels, 1) == np.sum(logits.argmax(1) == labels)
    assert topk_correct(np.zeros((10, 10)), np.arange(10), 1) == 1
    assert topk_correct(np.zeros((10, 10)), np.arange(10), 5) == 5


@pytest.mark.parametrize("k", [1, 5, 10, 99])
def test_nan_is_wrong_and_infinity_is_a_number(k):
    logits = np.zeros((4, 10))
    logits[0, 3] = np.nan  # the label's own logit
    logits[1, 4] = np.nan  # another one
    logits[2, 3] = np.inf
    logits[3] = -np.inf
    assert topk_correct(logits, np.array([3, 3, 3, 0]), k) == 2


@pytest.mark.parametrize(
    ("logits", "labels", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), 1, r"got \(2, 3\) and \(3,\)"),
        (np.zeros(3), np.zeros(3, int), 1, r"got \(3,\)"),
        (np.zeros((2, 3)), np.array([0, 3]), 1, r"labels must be in 0 .. 2, got 0 .. 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), 1, "got -1 .. 0"),
        (np.zeros((2, 3)), np.zeros(2), 1, "integers, got float64"),
        (np.zeros((2, 3)), np.zeros(2, int), 0, "k must be a positive integer, got 0"),
    ],
)
def test_bad_input_is_named(logits, labels, k, message):
    with pytest.raises((ValueError, TypeError), match=message):
        topk_correct(logits, labels, k)


def test_no_rows():
    with pytest.raises(ValueError, match="no rows"):
        topk_accuracy(np.zeros((0, 3)), np.zeros(0, int))


def test_sums_survive_json_bit_for_bit():
    rng = np.random.default_rng(0)
    batches = [(float(rng.random()), rng.standard_normal((n, 10)), rng.integers(0, 10, n)) for n in (7, 7, 7, 3)]
    whole, first = Metrics(), Metrics()
    for batch in batches:
        whole.add(*batch)
    for batch in batches[:2]:
        first.add(*batch)
    second = Metrics()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for batch in batches[2:]:
        second.add(*batch)
    assert second.result() == whole.result()
    losses, counts = [batch[0] for batch in batches], [7, 7, 7, 3]
    np.testing.assert_allclose(whole.result()["loss"], np.average(losses, weights=counts), rtol=1e-15)
