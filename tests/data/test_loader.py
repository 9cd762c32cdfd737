import gc
import json
import threading
import time

import numpy as np
import pytest

import minidl
from minidl.data import ArrayDataset, Compose, DataLoader, Dataset, RandomCrop, RandomHorizontalFlip


def array_dataset(N=22):
    data = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    return ArrayDataset(data, np.arange(N), transform=Compose([RandomCrop(8, 2), RandomHorizontalFlip()]))


def arrays(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def assert_same(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(images, other_images)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("minidl-loader")]


def assert_threads_end():
    for thread in loader_threads():
        thread.join(20)
    assert loader_threads() == []


class Items(Dataset):
    """Generic samples; `fail_at` raises there, `started` counts how many were asked for."""

    def __init__(self, N=20, fail_at=None, error=None):
        self.N, self.fail_at, self.error = N, fail_at, error
        self.started = 0

    def __len__(self):
        return self.N

    def __getitem__(self, index):
        self.started += 1
        if index == self.fail_at:
            raise self.error
        time.sleep(0.001 * (index % 3))
        return np.full((2, 3, 4), index, np.float32), index


def test_batches_are_tensors_in_channels_last_memory():
    batches = list(DataLoader(array_dataset(), batch_size=8))
    assert [len(labels) for _, labels in batches] == [8, 8, 6]
    images, labels = batches[0]
    assert isinstance(images, minidl.Tensor) and isinstance(labels, minidl.Tensor)
    assert images.shape == (8, 3, 8, 8) and images.array.transpose(0, 2, 3, 1).flags.c_contiguous
    assert images.array.dtype == np.float32 and labels.array.dtype == np.int64
    assert labels.numpy().tolist() == list(range(8))


def test_drop_last_and_length():
    assert len(DataLoader(array_dataset(), 8)) == 3
    loader = DataLoader(array_dataset(), 8, drop_last=True)
    assert len(loader) == 2 and [len(labels) for _, labels in loader] == [8, 8]
    assert len(DataLoader(array_dataset(16), 8)) == 2
    assert list(DataLoader(array_dataset(4), 8, drop_last=True)) == []


def test_order_and_augmentation_are_the_documented_ones():
    ds = array_dataset()
    loader = DataLoader(ds, 8, shuffle=True, seed=7)
    for epoch in range(2):
        order = np.random.default_rng([7, epoch]).permutation(22)
        expected = [ds.fetch(order[b * 8 : b * 8 + 8], np.random.default_rng([7, epoch, b + 1])) for b in range(3)]
        assert_same(arrays(loader), expected)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_change_nothing(workers):
    plain = DataLoader(array_dataset(), 4, shuffle=True, seed=1)
    threaded = DataLoader(array_dataset(), 4, shuffle=True, seed=1, num_workers=workers)
    for _ in range(3):
        assert_same(arrays(threaded), arrays(plain))
    assert_threads_end()


@pytest.mark.parametrize("workers", [0, 2])
def test_continue_at_any_batch(workers):
    def loader():
        return DataLoader(array_dataset(), 4, shuffle=True, seed=5, num_workers=workers)

    whole = loader()
    epochs = [arrays(whole) for _ in range(3)]
    for position in range(7):
        first = loader()
        list(first)
        batches = iter(first)
        for _ in range(position):
            next(batches)
        state = json.loads(json.dumps(first.state_dict()))
        assert state == {"seed": 5, "epoch": 1, "position": position}
        second = DataLoader(array_dataset(), 4, shuffle=True, num_workers=workers)
        second.load_state_dict(state)
        assert second.state_dict() == state
        assert_same(arrays(second), epochs[1][position:])
        assert second.state_dict() == {"seed": 5, "epoch": 2, "position": 0}
        assert_same(arrays(second), epochs[2])


def test_position_counts_what_was_delivered_not_what_was_made():
    loader = DataLoader(array_dataset(), 2, num_workers=2, prefetch_factor=3, seed=0)
    batches = iter(loader)
    next(batches), next(batches)
    assert loader.state_dict()["position"] == 2


def test_an_iteration_left_early_is_followed_by_the_next_epoch():
    loader = DataLoader(array_dataset(), 4, shuffle=True, seed=5)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    next(old)  # an older iteration goes on with its own batches and moves nothing
    assert loader.state_dict() == {"seed": 5, "epoch": 1, "position": 1}
    other = DataLoader(array_dataset(), 4, shuffle=True, seed=5)
    list(other)
    assert_same(arrays(new), arrays(other)[1:])


def test_without_a_seed_the_global_generator_decides():
    minidl.manual_seed(11)
    first = arrays(DataLoader(array_dataset(), 4, shuffle=True))
    second = arrays(DataLoader(array_dataset(), 4, shuffle=True))
    minidl.manual_seed(11)
    assert_same(first, arrays(DataLoader(array_dataset(), 4, shuffle=True)))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_an_evaluation_leaves_the_global_generator_alone():
    minidl.manual_seed(4)
    before = minidl.get_rng_state()
    loader = DataLoader(array_dataset(), 4, num_workers=1)
    list(loader)
    assert loader.state_dict() == {"seed": 0, "epoch": 1, "position": 0}
    assert minidl.get_rng_state() == before


@pytest.mark.parametrize("workers", [0, 3])
def test_generic_samples_come_in_order(workers):
    batches = list(DataLoader(Items(), 3, num_workers=workers))
    assert [label for _, labels in batches for label in labels.numpy()] == list(range(20))
    assert batches[0][0].shape == (3, 2, 3, 4) and batches[0][0].array.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(batches[1][0].numpy()[:, 1, 2, 3], [3, 4, 5])


class Odd(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("error", [Odd(3, "x"), KeyError("k"), StopIteration("s"), KeyboardInterrupt()])
def test_an_error_reaches_the_caller_in_its_turn(workers, error):
    loader = DataLoader(Items(fail_at=7, error=error), 2, num_workers=workers)
    received = []
    expected = RuntimeError if isinstance(error, StopIteration) else type(error)  # as in any generator
    with pytest.raises(expected) as caught:
        for _, labels in loader:
            received += labels.numpy().tolist()
    assert received == list(range(6))
    raised = caught.value.__cause__ if isinstance(error, StopIteration) else caught.value
    assert raised is error
    frames = []
    trace = raised.__traceback__
    while trace:
        frames.append(trace.tb_frame.f_code.co_qualname)
        trace = trace.tb_next
    assert "Items.__getitem__" in frames
    if workers:
        assert "batch 3" in "".join(raised.__notes__)
        raised.__notes__.clear()
    assert_threads_end()


def test_threads_stay_within_the_window():
    ds = Items(200)
    batches = iter(DataLoader(ds, 1, num_workers=2, prefetch_factor=2))
    for _ in range(3):
        next(batches)
    time.sleep(0.2)
    assert ds.started <= 3 + 4
    batches.close()
    assert_threads_end()


@pytest.mark.parametrize("how", ["close", "forget", "never begun", "cycle"])
def test_threads_end_when_the_iteration_is_left(how):
    batches = iter(DataLoader(Items(1000), 1, num_workers=3))
    if how != "never begun":
        next(batches)
        assert loader_threads()
    if how == "close":
        batches.close()
    elif how == "cycle":
        ring = [batches]
        ring.append(ring)
        del ring
    del batches
    gc.collect()
    assert_threads_end()


def test_collate_parts():
    class Mixed(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            scalar = np.float32(index)
            return {
                "x": minidl.tensor([index, 1.0]),
                "name": str(index),
                "parts": [index, index / 2, index > 0, scalar],
            }

    batch = next(iter(DataLoader(Mixed(), 2)))
    assert batch["name"] == ["0", "1"]
    np.testing.assert_array_equal(batch["x"].numpy(), [[0, 1], [1, 1]])
    assert [str(part.array.dtype) for part in batch["parts"]] == ["int64", "float64", "bool", "float32"]


def test_a_collate_function_gets_the_list_of_samples():
    loader = DataLoader(array_dataset(), 4, collate_fn=lambda samples: [label for _, label in samples])
    assert list(loader)[0] == [0, 1, 2, 3]


class Listed(list):
    """A list of samples is a dataset too."""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DataLoader(array_dataset(), 0), ValueError, "batch_size must be a positive integer, got 0"),
        (lambda: DataLoader(array_dataset(), 2.0), TypeError, "batch_size must be a positive integer, got 2.0"),
        (lambda: DataLoader(array_dataset(), True), TypeError, "batch_size"),
        (
            lambda: DataLoader(array_dataset(), num_workers=-1),
            ValueError,
            "num_workers must be an integer >= 0, got -1",
        ),
        (lambda: DataLoader(array_dataset(), prefetch_factor=0), ValueError, "prefetch_factor"),
        (lambda: DataLoader(array_dataset(), seed=-1), ValueError, "seed must be an integer >= 0, got -1"),
        (lambda: DataLoader(array_dataset(), collate_fn=3), TypeError, "collate_fn must be callable, got 3"),
        (lambda: DataLoader(7), TypeError, "dataset must have __len__ and __getitem__, got int"),
        (
            lambda: list(DataLoader(Listed([np.zeros(2), np.zeros(3)]), 2)),
            ValueError,
            r"one shape, got \[\(2,\), \(3,\)\]",
        ),
        (lambda: list(DataLoader(Listed([(1, 2), (1,)]), 2)), ValueError, r"equally many parts, got \[1, 2\]"),
        (lambda: list(DataLoader(Listed([None, None]), 2)), TypeError, "of type NoneType; pass a"),
    ],
)
def test_bad_calls_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"seed": 1, "epoch": 0},
        {"seed": 1, "epoch": 0, "position": 7},
        {"seed": 1, "epoch": -1, "position": 0},
        {"seed": 1.5, "epoch": 0, "position": 0},
    ],
)
def test_a_bad_state_changes_nothing(state):
    loader = DataLoader(array_dataset(), 4, seed=9)
    list(loader)
    with pytest.raises((TypeError, ValueError), match="DataLoader: "):
        loader.load_state_dict(state)
    assert loader.state_dict() == {"seed": 9, "epoch": 1, "position": 0}
