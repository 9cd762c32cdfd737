import numpy as np
import pytest

from minidl.data import (
    AlternatingFlip,
    ArrayDataset,
    Compose,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
)
from minidl.data.transforms import to_float


def images(dtype=np.uint8, shape=(7, 6, 9, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def crop_by_loops(x, size, padding, tops, lefts):
    N, H, W, C = x.shape
    out = np.zeros((N, *size, C), x.dtype)
    for n in range(N):
        for i in range(size[0]):
            for j in range(size[1]):
                row, column = i + tops[n] - padding[0], j + lefts[n] - padding[1]
                if 0 <= row < H and 0 <= column < W:
                    out[n, i, j] = x[n, row, column]
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("size", "padding"), [((6, 9), (0, 0)), ((6, 9), (4, 4)), ((4, 5), (1, 2)), ((1, 13), (0, 2))])
def test_crop_is_the_window_that_a_loop_cuts(dtype, size, padding):
    x = images(dtype)
    rng = np.random.default_rng(5)
    tops = rng.integers(0, 6 + 2 * padding[0] - size[0] + 1, 7)
    lefts = rng.integers(0, 9 + 2 * padding[1] - size[1] + 1, 7)
    before = x.copy()
    y = RandomCrop(size, padding)(x, np.random.default_rng(5))
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, crop_by_loops(x, size, padding, tops, lefts))
    np.testing.assert_array_equal(x, before)


def test_crop_of_reflected_borders():
    x = images()
    y = RandomCrop((6, 9), (3, 2), padding_mode="reflect")(x, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    tops, lefts = rng.integers(0, 7, 7), rng.integers(0, 5, 7)
    for n in range(7):
        rows, columns = np.abs(np.arange(6) + tops[n] - 3), np.abs(np.arange(9) + lefts[n] - 2)
        rows, columns = np.where(rows > 5, 10 - rows, rows), np.where(columns > 8, 16 - columns, columns)
        np.testing.assert_array_equal(y[n], x[n][rows][:, columns])


def test_crop_reaches_every_offset():
    x = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1).repeat(2000, axis=0)
    y = RandomCrop(3)(x, np.random.default_rng(0))
    corners, counts = np.unique(y[:, 0, 0, 0], return_counts=True)
    assert corners.tolist() == [0, 1, 2, 5, 6, 7, 10, 11, 12]
    assert counts.min() > 150


def test_flip_mirrors_the_chosen_images_only():
    x = images()
    before = x.copy()
    chosen = np.random.default_rng(2).random(7) < 0.5
    y = RandomHorizontalFlip()(x, np.random.default_rng(2))
    assert 0 < chosen.sum() < 7
    for n in range(7):
        np.testing.assert_array_equal(y[n], x[n, :, ::-1] if chosen[n] else x[n])
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(RandomHorizontalFlip(0)(x, np.random.default_rng(2)), x)
    np.testing.assert_array_equal(RandomHorizontalFlip(1)(x, np.random.default_rng(2)), x[:, :, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize_against_float64(dtype):
    x = images(dtype)
    mean, std = (0.49, 0.48, 0.1), (0.2, 0.3, 0.25)
    unit = x / 255 if dtype == np.uint8 else x.astype(np.float64)
    y = Normalize(mean, std)(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, (unit - mean) / std, rtol=2e-6, atol=2e-6)


def test_normalize_takes_a_view_that_is_not_contiguous():
    x = images()[:, ::-1, ::2]
    y = Normalize((0.5,) * 3, (0.5,) * 3)(x)
    np.testing.assert_allclose(y, x / 127.5 - 1, atol=2e-6)


def test_to_float_is_exact_division():
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_float(x), x.astype(np.float32) / np.float32(255))
    y = x.astype(np.float32)
    assert to_float(y) is y


def test_compose_draws_in_order_and_repeats_with_the_seed():
    x = images()
    steps = [RandomCrop((6, 9), 2), RandomHorizontalFlip(), Normalize((0.5,) * 3, (0.5,) * 3)]
    rng = np.random.default_rng(1)
    expected = steps[2](steps[1](steps[0](x, rng), rng), rng)
    both = Compose(steps)
    np.testing.assert_array_equal(both(x, np.random.default_rng(1)), expected)
    assert not np.array_equal(both(x, np.random.default_rng(2)), expected)


def test_repr():
    assert repr(Compose([RandomCrop(32, 4), RandomHorizontalFlip(), Normalize((0.5,), (0.25,))])) == (
        "Compose(\n"
        "    RandomCrop(size=(32, 32), padding=(4, 4))\n"
        "    RandomHorizontalFlip(p=0.5)\n"
        "    Normalize(mean=(0.5,), std=(0.25,))\n"
        ")"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RandomCrop(0), ValueError, "size must be >= 1, got 0"),
        (lambda: RandomCrop(3.5), TypeError, "size must be an integer or a pair of integers, got 3.5"),
        (lambda: RandomCrop(True), TypeError, "size"),
        (lambda: RandomCrop((1, 2, 3)), TypeError, "size"),
        (lambda: RandomCrop(3, -1), ValueError, "padding must be >= 0, got -1"),
        (lambda: RandomCrop(3, 1, "wrap"), ValueError, "padding_mode must be 'constant' or 'reflect', got 'wrap'"),
        (lambda: RandomCrop(6, 6, "reflect")(images(), np.random.default_rng(0)), ValueError, "cannot be reflected"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: RandomHorizontalFlip("1"), TypeError, "p must be a number"),
        (lambda: Normalize((0.5,), (0.5, 0.5)), ValueError, "one number per channel"),
        (lambda: Normalize((), ()), ValueError, "one number per channel"),
        (lambda: Normalize((0.5,), (0.0,)), ValueError, "std positive"),
        (lambda: Normalize((float("nan"),), (1.0,)), ValueError, "finite"),
        (lambda: Compose([None]), TypeError, r"transforms\[0\] must be callable, got None"),
        (lambda: RandomCrop(40, 4)(images(), np.random.default_rng(0)), ValueError, r"size \(40, 40\) is larger"),
        (lambda: RandomCrop(3)(images(np.float64), np.random.default_rng(0)), TypeError, "got float64"),
        (lambda: RandomCrop(3)(images()[0], np.random.default_rng(0)), ValueError, r"\(N, H, W, C\), got shape"),
        (lambda: RandomCrop(3)(images(), None), TypeError, "rng must be a numpy.random.Generator, got NoneType"),
        (lambda: RandomHorizontalFlip()(images(), 0), TypeError, "rng"),
        (lambda: Normalize((0.5,), (0.5,))(images()), ValueError, "images have 3 channels .* mean and std have 1"),
        (lambda: to_float([1]), TypeError, "got list"),
    ],
)
def test_bad_calls_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_alternating_flip_shows_every_image_both_ways_in_any_two_epochs():
    pictures = np.random.default_rng(0).integers(0, 256, (1000, 4, 6, 3), np.uint8)
    numbers = np.arange(500, 1500)
    before = pictures.copy()

    def mirrored(epoch, chosen=slice(None)):
        out = AlternatingFlip()(pictures[chosen], None, numbers[chosen], epoch)
        flipped = (out == pictures[chosen][:, :, ::-1]).all((1, 2, 3))
        assert ((out == pictures[chosen]).all((1, 2, 3)) ^ flipped).all()
        return flipped

    first = mirrored(0)
    assert 450 < first.sum() < 550  # half of the images
    assert (first[:-1] == first[1:]).sum() < 700  # not in turns
    np.testing.assert_array_equal(mirrored(1), ~first)
    np.testing.assert_array_equal(mirrored(2), first)
    np.testing.assert_array_equal(mirrored(0, slice(30, 50)), first[30:50])  # whatever else is in the batch
    np.testing.assert_array_equal(pictures, before)


def test_a_transform_by_image_gets_numbers_and_epoch_from_the_loader():
    seen = []

    class Spy:
        by_image = True

        def __call__(self, images, rng, numbers, epoch):
            seen.append((epoch, numbers.tolist()))
            return images

    data = np.zeros((5, 2, 2, 1), np.uint8)
    loader = DataLoader(ArrayDataset(data, np.zeros(5, int), transform=Compose([Spy()])), batch_size=2)
    list(loader), list(loader)
    assert seen == [(e, n) for e in (0, 1) for n in ([0, 1], [2, 3], [4])]
