"""DataLoader: seeded order, batches made ahead by threads, and a position that a checkpoint can hold."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minidl import random
from minidl.creation import from_numpy
from minidl.data.dataset import ArrayDataset, Dataset
from minidl.data.prefetch import prefetch
from minidl.tensor import Tensor

__all__ = ["DataLoader", "default_collate"]


class DataLoader:
    """Batches of a dataset, epoch by epoch.

    Epoch e is in the order default_rng([seed, e]).permutation(N) where `shuffle` is set, and batch b of it (from 0) is
    transformed with default_rng([seed, e, b + 1]). So a batch depends on seed, epoch and number alone: not on how many
    threads make it, nor on where an iteration began.

    Each `iter(loader)` begins the next epoch, also when the one before was left early. `state_dict()` says how many
    batches of the current epoch the consumer has received; after `load_state_dict()` the next `iter` continues there
    (and yields nothing where the epoch was complete up to its last batch). A loader that is iterated to its end stands
    at position 0 of the next epoch.

    Args:
        dataset: an `ArrayDataset` is read batch by batch through its `fetch`; of any other object with `__len__` and
            `__getitem__` the samples are taken one by one, in the worker threads where there are some.
        batch_size: samples per batch.
        shuffle: draw a new order for each epoch.
        num_workers: threads that make batches ahead (never processes); with 0 the caller makes them.
        drop_last: leave out the last batch where it is smaller.
        seed: integer >= 0; by default drawn from minidl's global generator when it is first needed, or 0 without
            `shuffle`, so that an evaluation leaves the generator as it is.
        prefetch_factor: batches made ahead, per thread.
        collate_fn: makes a batch from a list of samples, by default `default_collate`; an `ArrayDataset` too is then
            read sample by sample.

    Yields:
        (images, labels) for an `ArrayDataset`: Tensors (n, C, H, W) float32, channels-last in memory, and (n,) int64.

    Raises:
        TypeError, ValueError: an argument does not fit.
        Any error of the dataset, as it was raised, also from a thread.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        drop_last: bool = False,
        seed: int | None = None,
        prefetch_factor: int = 2,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"DataLoader: dataset must have __len__ and __getitem__, got {type(dataset).__name__}")
        if collate_fn is not None and not callable(collate_fn):
            raise TypeError(f"DataLoader: collate_fn must be callable, got {collate_fn!r}")
        self.dataset = dataset
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.num_workers = _integer("num_workers", num_workers, 0)
        self.prefetch_factor = _integer("prefetch_factor", prefetch_factor, 1)
        self.shuffle, self.drop_last, self.collate_fn = bool(shuffle), bool(drop_last), collate_fn
        self._seed = None if seed is None else _integer("seed", seed, 0)
        self._epoch = self._position = 0
        self._begun = False  # whether an iteration of this epoch has begun here: the next one is then a new epoch
        self._current: object = None  # only the newest iteration moves the position

    @property
    def seed(self) -> int:
        """The seed in use."""
        if self._seed is None:
            self._seed = int(random.generator().integers(2**63)) if self.shuffle else 0
        return self._seed

    def __len__(self) -> int:
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self._begun:
            self._epoch, self._position = self._epoch + 1, 0
        self._begun = True
        self._current = token = object()
        seed, epoch, samples = self.seed, self._epoch, len(self.dataset)
        order = np.random.default_rng([seed, epoch]).permutation(samples) if self.shuffle else np.arange(samples)
        numbers = range(self._position, len(self))

        def make(number: int) -> Any:
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            return self._batch(indices, np.random.default_rng([seed, epoch, number + 1]), epoch)

        return self._deliver(make, numbers, token)

    def _deliver(self, make: Callable[[int], Any], numbers: range, token: object) -> Iterator[Any]:
        if self.num_workers:
            batches = prefetch(make, numbers, self.num_workers, self.num_workers * self.prefetch_factor)
        else:
            batches = (make(number) for number in numbers)
        for number, batch in zip(numbers, batches, strict=True):
            if self._current is token:
                self._position = number + 1
            yield batch
        if self._current is token:
            self._epoch, self._position, self._begun = self._epoch + 1, 0, False

    def _batch(self, indices: np.ndarray, rng: np.random.Generator, epoch: int) -> Any:
        if self.collate_fn is None and isinstance(self.dataset, ArrayDataset):
            images, labels = self.dataset.fetch(indices, rng, epoch)
            return from_numpy(images), from_numpy(labels)
        samples = [self.dataset[int(index)] for index in indices]
        return (self.collate_fn or default_collate)(samples)

    def state_dict(self) -> dict[str, int]:
        """Return {"seed", "epoch", "position"}; position counts the batches of the epoch that were delivered."""
        return {"seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue at a state that `state_dict` returned: the next iteration begins with that epoch's next batch.

        Raises:
            TypeError, ValueError: a part is missing, not an integer or out of range; nothing is changed then.
        """
        if not isinstance(state, Mapping) or set(state) != {"seed", "epoch", "position"}:
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"DataLoader: a state must have seed, epoch and position, got {found}")
        seed, epoch, position = (_integer(part, state[part], 0) for part in ("seed", "epoch", "position"))
        if position > len(self):
            raise ValueError(f"DataLoader: position must be in 0 .. {len(self)} (batches of an epoch), got {position}")
        self._seed, self._epoch, self._position = seed, epoch, position
        self._begun, self._current = False, None


def default_collate(samples: list[Any]) -> Any:
    """Stack samples to a batch as PyTorch does.

    Arrays and Tensors are stacked along a new first axis (float images (C, H, W) channels-last in memory), ints become
    int64, floats float64, bools bool; strings and bytes stay a list; tuples, lists and dicts are batched part by part.

    Raises:
        TypeError, ValueError: parts of another type, or of unequal shapes or lengths.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        samples = [sample.array for sample in samples]
        first = samples[0]
    if isinstance(first, np.ndarray):
        shapes = {np.shape(sample) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(f"DataLoader: samples of a batch must have one shape, got {sorted(shapes)}")
        if first.ndim == 3:
            C, H, W = first.shape
            batch = np.empty((len(samples), H, W, C), np.result_type(*samples))
            return from_numpy(np.stack(samples, out=batch.transpose(0, 3, 1, 2)))
        return from_numpy(np.stack(samples))
    if isinstance(first, str | bytes):
        return list(samples)
    if isinstance(first, bool | int | float | np.generic):
        return from_numpy(np.array(samples))
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple | list):
        lengths = {len(sample) for sample in samples}
        if len(lengths) > 1:
            raise ValueError(f"DataLoader: samples of a batch must have equally many parts, got {sorted(lengths)}")
        return tuple(default_collate(list(parts)) for parts in zip(*samples, strict=True))
    raise TypeError(f"DataLoader: cannot batch samples of type {type(first).__name__}; pass a collate_fn")


def _integer(argument: str, value: Any, least: int) -> int:
    kind = "a positive integer" if least == 1 else f"an integer >= {least}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"DataLoader: {argument} must be {kind}, got {value!r}")
    if value < least:
        raise ValueError(f"DataLoader: {argument} must be {kind}, got {value}")
    return int(value)
