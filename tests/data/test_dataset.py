import numpy as np
import pytest

import minidl
from minidl.data import ArrayDataset, Compose, Normalize, RandomCrop, RandomHorizontalFlip


def dataset(N=60, transform=None):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    return ArrayDataset(data, np.arange(N) % 3, ["a", "b", "c"], (0.5,) * 3, (0.2,) * 3, transform)


def test_item_is_channels_first_float_and_int():
    ds = dataset()
    image, label = ds[4]
    assert image.dtype == np.float32
    assert type(label) is int and label == 1
    np.testing.assert_array_equal(image, ds.data[4].transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(ds[-1][0], ds[59][0])
    assert len(list(iter(ds))) == 60  # Python's own iteration ends at IndexError


def test_fetch_gathers_a_batch_in_channels_last_memory():
    ds = dataset(transform=Normalize((0.5,) * 3, (0.2,) * 3))
    indices = np.array([5, 5, 59, 0])
    images, labels = ds.fetch(indices)
    assert images.shape == (4, 3, 8, 8) and images.transpose(0, 2, 3, 1).flags.c_contiguous
    assert labels.dtype == np.int64 and labels.tolist() == [2, 2, 2, 0]
    for image, index in zip(images, indices, strict=True):
        np.testing.assert_array_equal(image, ds[int(index)][0])


def test_a_crop_without_normalisation_is_scaled_too():
    images, _ = dataset(transform=RandomCrop(4)).fetch(np.arange(60), np.random.default_rng(0))
    assert images.shape == (60, 3, 4, 4) and images.dtype == np.float32 and images.max() == 1


def test_random_item_follows_the_global_seed():
    ds = dataset(transform=Compose([RandomCrop(8, 4), RandomHorizontalFlip()]))
    minidl.manual_seed(3)
    first = [ds[0][0] for _ in range(4)]
    minidl.manual_seed(3)
    np.testing.assert_array_equal(first, [ds[0][0] for _ in range(4)])
    assert not np.array_equal(first[0], first[1])


def test_split_is_balanced_disjoint_and_repeatable():
    ds = dataset(90)
    train, validation = ds.split(30, seed=1)
    assert (len(train), len(validation)) == (60, 30)
    assert np.bincount(validation.targets).tolist() == [10, 10, 10]
    rows = {image.tobytes() for image in train.data} | {image.tobytes() for image in validation.data}
    assert len(rows) == 90
    np.testing.assert_array_equal(ds.split(30, seed=1)[1].data, validation.data)
    assert not np.array_equal(ds.split(30, seed=2)[1].data, validation.data)
    assert len(ds.split()[1]) == 9
    assert validation.classes == ["a", "b", "c"] and validation.std == ds.std


def test_split_of_unequal_classes_keeps_the_shares():
    ds = ArrayDataset(np.zeros((100, 1, 1, 1), np.uint8), np.repeat([0, 1], [80, 20]))
    assert np.bincount(ds.split(10)[1].targets).tolist() == [8, 2]


def test_subset_and_with_transform_leave_the_original_alone():
    ds = dataset()
    part = ds.subset(np.array([3, 1]))
    assert part.targets.tolist() == [0, 1] and len(ds) == 60
    other = ds.with_transform(RandomCrop(4))
    assert ds.transform is None and other.data is ds.data
    assert repr(part) == "ArrayDataset(2 images of 8x8x3, 3 classes, transform=None)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ArrayDataset(np.zeros((2, 3, 3, 1)), np.zeros(2, int)),
            TypeError,
            "uint8 and targets integer, got float64",
        ),
        (lambda: ArrayDataset(np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2)), TypeError, "float64"),
        (lambda: ArrayDataset(np.zeros((2, 3, 3), np.uint8), np.zeros(2, int)), ValueError, r"\(2, 3, 3\)"),
        (lambda: ArrayDataset(np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3, int)), ValueError, r"\(3,\)"),
        (lambda: ArrayDataset(np.zeros((1, 3, 3, 1), np.uint8), np.array([2]), ["a", "b"]), ValueError, "0 .. 1"),
        (lambda: ArrayDataset(np.zeros((1, 3, 3, 1), np.uint8), np.array([-1])), ValueError, "got -1"),
        (lambda: ArrayDataset(np.zeros((1, 3, 3, 1), np.uint8), np.array([0]), mean=(0, 0)), ValueError, "1 numbers"),
        (lambda: dataset()[60], IndexError, "index 60 is out of range for 60 images"),
        (lambda: dataset()[1.5], TypeError, "1.5"),
        (lambda: dataset().split(60), ValueError, r"holdout must be in 1 .. 59 .* got 60"),
        (lambda: dataset().split(0.1), TypeError, "holdout must be an integer, got 0.1"),
        (lambda: dataset(transform=lambda x, rng: x[:1]).fetch(np.arange(4)), ValueError, "returned 1 images for 4"),
        (lambda: dataset(transform=lambda x, rng: x / 2).fetch(np.arange(4)), TypeError, "float64"),
    ],
)
def test_bad_calls_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
