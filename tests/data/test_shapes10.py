import hashlib

import numpy as np
import pytest

from minidl.data import Shapes10


def test_sizes_classes_and_balance():
    train = Shapes10(size=500)
    assert train.data.shape == (500, 32, 32, 3) and train.data.dtype == np.uint8 and train.data.flags.c_contiguous
    assert np.bincount(train.targets).tolist() == [50] * 10 and len(train.classes) == 10
    assert len(Shapes10(train=False)) == 2000
    assert abs(train.data.mean() / 255 - train.mean[0]) < 0.02 and abs(train.data.std() / 255 - train.std[0]) < 0.02


def test_the_seed_gives_the_same_bits_on_every_machine():
    ds = Shapes10(size=250)
    digest = hashlib.sha256(ds.data.tobytes() + ds.targets.tobytes()).hexdigest()
    assert digest == "7e0d6d0f07f8ca031a0574a4f5b4c16dc461df65c372187df7dba5170b744e21"


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    small, large = Shapes10(size=300), Shapes10(size=700)
    np.testing.assert_array_equal(small.data, large.data[:300])
    np.testing.assert_array_equal(small.targets, large.targets[:300])


def test_train_test_and_seeds_are_separate():
    sets = [Shapes10(size=500), Shapes10(False, size=250), Shapes10(size=250, seed=1)]
    images = {image.tobytes() for ds in sets for image in ds.data}
    assert len(images) == 1000


def linear_accuracy(train, test):
    """Return the test accuracy of ridge regression on the pixels, the best over some penalties."""
    x, x_test = (ds.data.reshape(len(ds), -1) / np.float32(255) for ds in (train, test))
    mean = x.mean(axis=0)
    x, x_test = x - mean, x_test - mean
    gram, moment = x.T @ x, x.T @ (np.eye(10, dtype=np.float32)[train.targets] - np.float32(0.1))
    eye = np.eye(len(gram), dtype=np.float32)
    scores = [x_test @ np.linalg.solve(gram + penalty * eye, moment) for penalty in (100, 1000, 10_000)]
    return max((score.argmax(axis=1) == test.targets).mean() for score in scores)


def test_a_linear_model_learns_little():
    train, test = Shapes10(), Shapes10(train=False)
    assert linear_accuracy(train, test) < 0.3


def test_the_linear_model_would_notice_an_easy_set():
    train, test = Shapes10(size=3000), Shapes10(train=False, size=500)
    for ds in (train, test):
        ds.data[:, :2, :2] = (ds.targets * 25)[:, None, None, None]
        ds.data[np.arange(len(ds)), 5, ds.targets] = 255
        ds.data[np.arange(len(ds)), 5, (ds.targets + 1) % 10] = 0
    assert linear_accuracy(train, test) > 0.6


def test_colour_says_nothing_about_the_class():
    ds = Shapes10()
    means = np.stack([ds.data[ds.targets == k].mean(axis=(0, 1, 2)) for k in range(10)])
    assert np.abs(means - means.mean(axis=0)).max() < 6  # of 255; the standard error of a mean is about 1.7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "size must be >= 1, got 0"),
        ({"size": 1.5}, TypeError, "size must be an integer, got 1.5"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"seed": None}, TypeError, "seed must be an integer, got None"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Shapes10(**arguments)
