"""Tensors in other shapes, under PyTorch's names."""

import math
from typing import Any, Self

from minidl import primitives as op
from minidl.arguments import as_axes, as_axis, as_shape, new_shape
from minidl.reductions import Reductions


class Shaping(Reductions):
    """The methods that move, repeat, split or leave out elements without changing them."""

    __slots__ = ()

    def reshape(self, *dims: Any) -> Self:
        """The same elements in another shape; -1 stands for what is left."""
        return op.reshape(self, shape=new_shape("reshape", dims, self.shape))

    def view(self, *dims: Any) -> Self:
        """As reshape: a view where the memory allows it, else a copy (channels-last activations need one)."""
        return op.reshape(self, shape=new_shape("view", dims, self.shape))

    def permute(self, *dims: Any) -> Self:
        """The axes in another order."""
        axes = tuple(as_axis("permute", d, self.ndim) for d in as_shape(dims))
        if sorted(axes) != list(range(self.ndim)):
            raise RuntimeError(f"permute: {dims} must name each of the {self.ndim} axes once")
        return op.transpose(self, axes=axes)

    def transpose(self, dim0: int, dim1: int) -> Self:
        """Two axes exchanged."""
        i, j = (as_axis("transpose", d, self.ndim) for d in (dim0, dim1))
        dims = list(range(self.ndim))
        if self.ndim:
            dims[i], dims[j] = j, i
        return self.permute(*dims)

    def t(self) -> Self:
        """A matrix transposed."""
        if self.ndim > 2:
            raise RuntimeError(f"t: expected at most 2 axes, got shape {self.shape}")
        return self.T

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        """The axes from start_dim to end_dim joined."""
        first, last = (as_axis("flatten", d, self.ndim) for d in (start_dim, end_dim))
        if first > last:
            raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def squeeze(self, dim: Any = None) -> Self:
        """Without the axes (or those of `dim`) whose extent is 1."""
        gone = as_axes("squeeze", dim, self.ndim) if dim is not None else range(self.ndim)
        return self.reshape(*(n for i, n in enumerate(self.shape) if not (i in (gone or ()) and n == 1)))

    def unsqueeze(self, dim: int) -> Self:
        """With a new axis of extent 1 at `dim`."""
        dim = as_axis("unsqueeze", dim, self.ndim + 1)
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def expand(self, *dims: Any) -> Self:
        """Repeat axes of extent 1 without copying; -1 keeps an axis."""
        dims = as_shape(dims)
        lead = len(dims) - self.ndim
        shape = tuple(self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(dims))
        before = (1,) * lead + self.shape
        if lead < 0 or any(n != old and old != 1 or n < 0 for n, old in zip(shape, before, strict=True)):
            raise RuntimeError(f"expand: shape {self.shape} does not expand to {dims}")
        return op.broadcast_to(self, shape=shape)

    def expand_as(self, other: Self) -> Self:
        """Repeat axes of extent 1 up to the shape of `other`."""
        return self.expand(other.shape)

    def view_as(self, other: Self) -> Self:
        """The same elements in the shape of `other`."""
        return self.view(other.shape)

    reshape_as = view_as

    def unflatten(self, dim: int, sizes: Any) -> Self:
        """One axis split into several; -1 stands for what is left."""
        dim = as_axis("unflatten", dim, self.ndim)
        sizes = new_shape("unflatten", (tuple(sizes),), self.shape[dim : dim + 1])
        return self.reshape(*self.shape[:dim], *sizes, *self.shape[dim + 1 :])

    def swapaxes(self, axis0: int, axis1: int) -> Self:
        """As `transpose`."""
        return self.transpose(axis0, axis1)

    swapdims = swapaxes

    def movedim(self, source: int, destination: int) -> Self:
        """One axis moved to another place."""
        i, j = (as_axis("movedim", d, self.ndim) for d in (source, destination))
        dims = [d for d in range(self.ndim) if d != i]
        return self.permute(*dims[:j], i, *dims[j:])

    def repeat(self, *sizes: Any) -> Self:
        """Repeat the whole sizes[i] times along each axis i; further axes come before the first."""
        sizes = as_shape(sizes)
        lead = len(sizes) - self.ndim
        if lead < 0 or min(sizes, default=0) < 0:
            raise RuntimeError(f"repeat: expected {self.ndim} or more counts >= 0 for shape {self.shape}, got {sizes}")
        shape = (1,) * lead + self.shape
        apart = self.reshape(*(n for extent in shape for n in (1, extent)))
        return apart.expand(*(n for pair in zip(sizes, shape, strict=True) for n in pair)).reshape(
            *(count * extent for count, extent in zip(sizes, shape, strict=True))
        )

    # --- parts ----------------------------------------------------------------------------------------------------
    def narrow(self, dim: int, start: int, length: int) -> Self:
        """The `length` elements from `start` on along `dim`; a negative start counts from the end."""
        axis = as_axis("narrow", dim, self.ndim)
        extent = self.shape[axis] if self.ndim else 0
        if not -extent <= start <= extent:
            raise IndexError(f"narrow: start {start} is out of range for axis {dim} of {self.shape}")
        first = start + extent if start < 0 else start
        if not 0 <= length <= extent - first:
            raise RuntimeError(f"narrow: {length} elements from {start} on are not in axis {dim} of {self.shape}")
        return self[(slice(None),) * axis + (slice(first, first + length),)]

    def split(self, split_size: Any, dim: int = 0) -> tuple[Self, ...]:
        """Parts of `split_size` elements along `dim`, the last one shorter if need be; or of the sizes in a list."""
        axis = as_axis("split", dim, self.ndim)
        extent = self.shape[axis] if self.ndim else 0
        if isinstance(split_size, list | tuple):
            sizes = as_shape(tuple(split_size))
            if sum(sizes) != extent or min(sizes, default=0) < 0:
                raise RuntimeError(f"split: sizes {split_size} do not add up to the {extent} elements of axis {dim}")
        else:
            if isinstance(split_size, bool) or not isinstance(split_size, int) or split_size < (extent > 0):
                raise RuntimeError(f"split: split_size must be a positive integer, got {split_size!r}")
            sizes = [min(split_size, extent - i) for i in range(0, extent, max(split_size, 1))] or [0]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return tuple(self.narrow(axis, start, size) for start, size in zip(starts, sizes, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Self, ...]:
        """At most `chunks` parts of equal size along `dim`, the last one shorter if need be."""
        axis = as_axis("chunk", dim, self.ndim)
        if not isinstance(chunks, int) or chunks < 1 or not self.ndim:
            raise RuntimeError(f"chunk: chunks must be a positive integer for a Tensor with axes, got {chunks!r}")
        if not self.shape[axis]:
            return self.split([0] * chunks, axis)
        return self.split(math.ceil(self.shape[axis] / chunks), axis)

    def unbind(self, dim: int = 0) -> tuple[Self, ...]:
        """The slices along `dim`, without that axis."""
        axis = as_axis("unbind", dim, self.ndim)
        if not self.ndim:
            raise IndexError("unbind: a 0-d Tensor has no axis")
        return tuple(self[(slice(None),) * axis + (i,)] for i in range(self.shape[axis]))

    def flip(self, *dims: Any) -> Self:
        """The elements in reverse along the axes `dims`."""
        axes = as_axes("flip", list(as_shape(dims)), self.ndim) or ()
        return self[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(self.ndim))]
