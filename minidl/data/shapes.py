"""Shapes10: ten classes of coloured shapes, 32x32, drawn from a seed.

A stand-in for CIFAR-10 that needs no download. Colours, place, size, rotation, background, distractors and noise carry
no information on the class, so that pixels alone tell a linear model little. All arithmetic is on integers and single
operations of IEEE floats (no reductions, no matrix products), so that every machine draws the same images.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from minidl.data.dataset import ArrayDataset
from minidl.data.transforms import Transform

__all__ = ["Shapes10"]

SIZES = {True: 10_000, False: 2_000}
CHUNK = 250  # images drawn at once, each chunk from its own stream
SIDE = 32
f4 = np.float32


class Shapes10(ArrayDataset):
    """Ten classes of coloured shapes on 32x32 pixels, made from a seed.

    The first n images are the same for every `size` >= n. Training and test images come from separate streams.

    Args:
        train: draw training images or test images.
        size: how many, by default 10,000 for training and 2,000 for the test.
        seed: integer >= 0.
        transform: see `ArrayDataset`.

    Raises:
        TypeError, ValueError: `size` or `seed` is not an integer >= 1 or >= 0.
    """

    names: ClassVar[list[str]] = [
        "disc", "ring", "half disc", "crescent", "square", "triangle", "cross", "star", "bars", "corner",
    ]  # fmt: skip
    channel_mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    channel_std: ClassVar[tuple[float, ...]] = (0.257, 0.257, 0.257)

    def __init__(self, train: bool = True, size: int | None = None, seed: int = 0, transform: Transform | None = None):
        size = SIZES[bool(train)] if size is None else size
        for argument, value, least in (("size", size, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"Shapes10: {argument} must be an integer, got {value!r}")
            if value < least:
                raise ValueError(f"Shapes10: {argument} must be >= {least}, got {value}")
        data = np.empty((size, SIDE, SIDE, 3), np.uint8)
        targets = np.empty(size, np.int64)
        for chunk, start in enumerate(range(0, size, CHUNK)):
            stream = np.random.SeedSequence(int(seed), spawn_key=(0 if train else 1, chunk))
            images, labels = _draw(np.random.Generator(np.random.PCG64(stream)))
            data[start : start + CHUNK] = images[: size - start].transpose(0, 2, 3, 1)
            targets[start : start + CHUNK] = labels[: size - start]
        super().__init__(data, targets, self.names, self.channel_mean, self.channel_std, transform)


# Each shape is a function of its own coordinates (u to the right, v down, about -1 to 1): negative inside, growing with
# the distance from the edge outside.


def _box(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(u) - f4(half_width), np.abs(v) - f4(half_height))


def _radius(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v)


def _sides(u: np.ndarray, v: np.ndarray, count: int) -> np.ndarray:
    """Return p . n_k for `count` evenly turned unit vectors n_k, stacked in front."""
    angles = 2 * np.pi * np.arange(count) / count
    normals = np.round(np.stack([np.sin(angles), np.cos(angles)], 1) * 4096).astype(f4) / f4(4096)
    return np.stack([u * nu + v * nv for nu, nv in normals])


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _radius(u, v) - f4(0.85)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(_radius(u, v) - f4(0.72)) - f4(0.2)


def _half_disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(_radius(u, v + f4(0.4)) - f4(1.0), -(v + f4(0.4)))


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(_radius(u, v) - f4(0.95), f4(0.75) - _radius(u - f4(0.45), v))


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _box(u, v, 0.75, 0.75)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _sides(u, v, 3).max(axis=0) - f4(0.5)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(_box(u, v, 0.95, 0.28), _box(u, v, 0.28, 0.95))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    sides = _sides(u, v, 5)  # a point of the five-pointed star is beyond at most one of five lines
    return np.partition(sides, 3, axis=0)[3] - f4(0.35)


def _bars(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _box(u, np.abs(v) - f4(0.55), 0.9, 0.25)


def _corner(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(_box(u, v - f4(0.55), 0.85, 0.28), _box(u - f4(0.57), v, 0.28, 0.83))


SHAPES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    _disc, _ring, _half_disc, _crescent, _square, _triangle, _cross, _star, _bars, _corner,
)  # fmt: skip


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one chunk: images (CHUNK, 3, 32, 32) uint8 and labels (CHUNK,)."""
    labels = rng.permutation(np.arange(CHUNK) % len(SHAPES))
    scene, average = _background(rng)
    scene = _distract(rng, scene, rng.integers(0, 3, CHUNK), first=True)
    radius = rng.integers(80, 126, CHUNK) / 10  # pixels
    centre = rng.integers(115, 196, (2, CHUNK)) / 10
    u, v = _coordinates(rng, centre, radius)
    inside = np.empty_like(u)
    for label, shape in enumerate(SHAPES):
        chosen = labels == label
        inside[chosen] = shape(u[chosen], v[chosen])
    colour = _contrasting(rng, average)
    shade = _wave(rng, 20)[:, None]
    scene = _paint(scene, inside * radius[:, None, None].astype(f4), colour + shade)
    scene = _distract(rng, scene, rng.integers(0, 2, CHUNK), first=False)
    amplitude = rng.integers(2, 15, (CHUNK, 1, 1, 1), dtype=np.int16)
    grain = rng.integers(-8, 9, (2, *scene.shape), dtype=np.int8)
    noise = (grain[0] + grain[1]) * amplitude // 8  # triangular distribution
    return np.clip(np.rint(scene) + noise.astype(f4), 0, 255).astype(np.uint8), labels


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(SIDE, dtype=f4)
    return axis[None, None, :], axis[None, :, None]


def _turn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine of a random angle per image, rounded so that they are the same on every machine."""
    angle = rng.integers(0, 720, CHUNK) * (np.pi / 360)
    cosine, sine = (np.rint(f(angle) * 4096).astype(f4) / f4(4096) for f in (np.cos, np.sin))
    return cosine[:, None, None], sine[:, None, None]


def _coordinates(rng: np.random.Generator, centre: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's place in a turned frame around `centre`, in units of `radius`: two (CHUNK, 32, 32) arrays."""
    x, y = _grid()
    cosine, sine = _turn(rng)
    dx, dy = (d - c.astype(f4)[:, None, None] for d, c in zip((x, y), centre, strict=True))
    unit = radius.astype(f4)[:, None, None]
    return (cosine * dx + sine * dy) / unit, (cosine * dy - sine * dx) / unit


def _wave(rng: np.random.Generator, amplitude: int) -> np.ndarray:
    """Return a triangle wave over each image, in a random direction, (CHUNK, 32, 32)."""
    period = rng.integers(50, 400, CHUNK) / 10
    across, _ = _coordinates(rng, rng.integers(0, 32, (2, CHUNK)), period)
    height = rng.integers(0, amplitude + 1, (CHUNK, 1, 1)).astype(f4)
    return height * (f4(4) * np.abs(across - np.rint(across)) - f4(1))


def _background(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a gradient between two related colours with a wave on it, and its middle colour (CHUNK, 3, 1, 1)."""
    middle = rng.integers(20, 236, (CHUNK, 3, 1, 1))
    slope = rng.integers(-45, 46, (CHUNK, 3, 1, 1)).astype(f4)
    along, _ = _coordinates(rng, np.full((2, CHUNK), 15.5), np.full(CHUNK, 22.0))
    scene = middle.astype(f4) + slope * along[:, None]
    return scene + _wave(rng, 25)[:, None], middle


def _contrasting(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Return random colours (CHUNK, 3, 1, 1), each of several draws the first that differs enough from `colour`."""
    drawn = rng.integers(0, 256, (CHUNK, 12, 3, 1, 1))
    distance = np.abs(drawn - colour[:, None]).sum(axis=2)[..., 0, 0]
    return drawn[np.arange(CHUNK), np.argmax(distance >= 190, axis=1)].astype(f4)


def _distract(rng: np.random.Generator, scene: np.ndarray, count: np.ndarray, first: bool) -> np.ndarray:
    """Paint up to two (behind) or one (in front) small discs, boxes or lines of random colour on each image."""
    for k in range(2 if first else 1):
        kind = rng.integers(0, 3, CHUNK)[:, None, None]
        radius = rng.integers(12, 31 if first else 21, CHUNK) / 10
        u, v = _coordinates(rng, rng.integers(0, 320, (2, CHUNK)) / 10, radius)
        box_or_line = np.where(kind == 1, _box(u, v, 0.8, 0.8), _box(u, v, 4, 0.25))
        edge = np.where(kind == 0, _radius(u, v) - f4(1), box_or_line)
        edge = np.where((k < count)[:, None, None], edge * radius.astype(f4)[:, None, None], f4(9))
        scene = _paint(scene, edge, rng.integers(0, 256, (CHUNK, 3, 1, 1)).astype(f4))
    return scene


def _paint(scene: np.ndarray, edge: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Cover `scene` with `colour` where `edge` (pixels from the outline, negative inside) is below 0, smoothly."""
    cover = np.clip(f4(0.5) - edge, f4(0), f4(1))[:, None]
    return scene + cover * (colour - scene)
