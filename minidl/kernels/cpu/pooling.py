"""Pooling over contiguous channels: the inner loops run along them, one tap of the window at a time."""

import math

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty, owner
from minidl.kernels.cpu.elementwise import cut_block, is_rectified, over
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import channels_last, floats
from minidl.kernels.cpu.signs import GROUP, keep_signs, new_signs
from minidl.kernels.deferred import Deferred
from minidl.kernels.tape import contiguous


@jit
def mean_over_pixels(start, stop, crew, x, y):
    """y[n] = the mean of x[n] (pixels, C) for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    N, pixels, C = x.shape
    total = np.empty(C)
    for n in range(start, stop):
        total[:] = 0
        for i in range(pixels):
            for c in range(C):
                total[c] += x[n, i, c]
        for c in range(C):
            y[n, c] = total[c] / pixels


@jit
def spread_over_pixels(start, stop, crew, dy, dx):
    """dx[n, i] = dy[n] / pixels for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    N, pixels, C = dx.shape
    for n in range(start, stop):
        for i in range(pixels):
            for c in range(C):
                dx[n, i, c] = dy[n, c] / pixels


@jit
def maxima(start, stop, crew, x, low, y, index, signs, kernel, stride, padding, dilation):
    """y = the first maximum of max(x, low) in each window (NaN wins) and `index` where it is, for images start..stop.

    If there is room for them, the signs of y are kept.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = x.shape, y.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW), flat = kernel, stride, padding, dilation, y.reshape(-1)
    for n in range(start, stop):
        for oh in range(OH):
            for ow in range(OW):
                best, place = y[n, oh, ow], index[n, oh, ow]
                best[:], place[:] = -np.inf, 0
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW * DH - top, ow * SW + k % KW * DW - left
                    if 0 <= h < H and 0 <= w < W:
                        pixel = x[n, h, w]
                        for c in range(C):
                            v, b = pixel[c], best[c]
                            v = low if v <= low else v
                            wins = (v > b) | ((v != v) & (b == b))
                            best[c] = v if wins else b
                            place[c] = k if wins else place[c]
        if signs.size:
            keep_signs(flat, n * OH * OW * C, OH * OW * C, signs)


@jit
def spread_to_maxima(start, stop, crew, dy, index, dx, kernel, stride, padding, dilation):
    """dx += dy where `index` says, for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = dx.shape, dy.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW), zero = kernel, stride, padding, dilation, dx.dtype.type(0)
    once = stride == kernel and DH == DW == 1 and top == left == 0 and OH * KH == H and OW * KW == W  # each pixel
    for n in range(start, stop):
        if not once:
            dx[n] = 0
        for oh in range(OH):
            for ow in range(OW):
                incoming, place = dy[n, oh, ow], index[n, oh, ow]
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW * DH - top, ow * SW + k % KW * DW - left
                    if 0 <= h < H and 0 <= w < W:
                        pixel = dx[n, h, w]
                        if once:
                            for c in range(C):
                                d = incoming[c]
                                pixel[c] = d if place[c] == k else zero
                        else:
                            for c in range(C):
                                d = incoming[c]
                                pixel[c] += d if place[c] == k else zero


@jit
def sums(start, stop, crew, x, divisor, y, kernel, stride, padding):
    """y = (Σ of each window) / divisor for images start..stop; divisor (OH, OW)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = x.shape, y.shape
    (KH, KW), (SH, SW), (top, left) = kernel, stride, padding
    for n in range(start, stop):
        for oh in range(OH):
            for ow in range(OW):
                total = y[n, oh, ow]
                total[:] = 0
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW - top, ow * SW + k % KW - left
                    if 0 <= h < H and 0 <= w < W:
                        pixel = x[n, h, w]
                        for c in range(C):
                            total[c] += pixel[c]
                for c in range(C):
                    total[c] /= divisor[oh, ow]


@jit
def spread_over_windows(start, stop, crew, dy, divisor, dx, kernel, stride, padding):
    """dx += dy / divisor over each window, for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = dx.shape, dy.shape
    (KH, KW), (SH, SW), (top, left) = kernel, stride, padding
    for n in range(start, stop):
        dx[n] = 0
        for oh in range(OH):
            for ow in range(OW):
                incoming = dy[n, oh, ow]
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW - top, ow * SW + k % KW - left
                    if 0 <= h < H and 0 <= w < W:
                        pixel = dx[n, h, w]
                        for c in range(C):
                            pixel[c] += incoming[c] / divisor[oh, ow]


def poolable(x, window):
    return floats(x) and math.prod(window.kernel_size) < 1 << 15


def max_pool(x, window, low=-np.inf):
    """The maxima of max(x, low); where low is 0, their signs are kept with the index."""
    N, C, *size = x.shape
    y = empty((N, *window.output, C), x.dtype)
    index = empty(y.shape, np.int16)
    signs = new_signs(index) if low == 0 else np.empty(0, np.uint16)
    threads.run(maxima, N, channels_last(x), x.dtype.type(low), y, index, signs, *window[:4])
    return y.transpose(0, 3, 1, 2), (index.transpose(0, 3, 1, 2)[:, :, None], window, tuple(size))


@override("max_pool2d_forward", "cpu", when=lambda x, *, window: poolable(x, window))
def max_pool2d_forward(x, *, window):
    return max_pool(x, window)


@override(
    "max_pool2d_forward",
    "deferred",
    when=lambda x, *, window: is_rectified(x) and x.shape[1] % GROUP == 0 and poolable(x, window),
)
def max_pool2d_of_relu(x, *, window):
    return max_pool(*x.sources, window, low=0)


def spread(dy, index, window, size):
    """dx (N, C, *size): dy at the maxima."""
    N, C = dy.shape[:2]
    dx = empty((N, *size, C), dy.dtype)
    threads.run(spread_to_maxima, N, channels_last(dy), channels_last(index[:, :, 0]), dx, *window[:4])
    return dx.transpose(0, 3, 1, 2)


@override("max_pool2d_backward", "cpu", when=lambda dy, saved, needs: floats(dy))
def max_pool2d_backward(dy, saved, needs):
    index, window, size = saved
    return (Deferred((*dy.shape[:2], *size), dy.dtype, spread, dy, index, window, size),)


def comes_from_pooling(dy, y, needs):
    """Whether dy is what pooling of this ReLU passes back, and the signs of the maxima are known."""
    if not (isinstance(dy, Deferred) and dy.make is spread and not dy.is_made):
        return False
    return getattr(owner(dy.sources[1]), "signs", None) is not None


@override("relu_backward", "deferred", when=comes_from_pooling)
def relu_backward_before_pooling(dy, y, needs):
    """Cut the gradients of the maxima, which are fewer, and then put them where they belong."""
    d, index, window, size = dy.sources
    d = channels_last(d).transpose(0, 3, 1, 2)
    return (spread(over(cut_block, d, more=[owner(index).signs]), index, window, size),)


@override("avg_pool2d_forward", "cpu", when=lambda x, *, window, divisor: floats(x, array_or_none(divisor)))
def avg_pool2d_forward(x, *, window, divisor):
    N, C, *size = x.shape
    y = empty((N, *window.output, C), x.dtype)
    threads.run(sums, N, channels_last(x), whole(divisor, window, x), y, *window[:3])
    return y.transpose(0, 3, 1, 2), (window, divisor, tuple(size))


@override("avg_pool2d_backward", "cpu", when=lambda dy, saved, needs: floats(dy, array_or_none(saved[1])))
def avg_pool2d_backward(dy, saved, needs):
    window, divisor, size = saved
    N, C = dy.shape[:2]
    dx = empty((N, *size, C), dy.dtype)
    threads.run(spread_over_windows, N, channels_last(dy), whole(divisor, window, dy), dx, *window[:3])
    return (dx.transpose(0, 3, 1, 2),)


def array_or_none(divisor):
    return divisor if isinstance(divisor, np.ndarray) else None


def whole(divisor, window, x):
    """The divisor of each window (OH, OW)."""
    return np.array(np.broadcast_to(divisor, window.output), x.dtype)


def whole_image(x, rows, columns):
    return len(rows) == len(columns) == 1 and floats(x, rows)


@override("adaptive_avg_pool2d_forward", "cpu", when=lambda x, *, rows, columns: whole_image(x, rows, columns))
def adaptive_avg_pool2d_forward(x, *, rows, columns):
    N, C, H, W = x.shape
    y = np.empty((N, C), x.dtype)
    threads.run(mean_over_pixels, N, channels_last(x).reshape(N, H * W, C), y)
    return y.reshape(N, C, 1, 1), (rows, columns)


@override("adaptive_avg_pool2d_backward", "cpu", when=lambda dy, saved, needs: whole_image(dy, *saved))
def adaptive_avg_pool2d_backward(dy, saved, needs):
    (N, C), H, W = dy.shape[:2], saved[0].shape[1], saved[1].shape[1]
    dx = empty((N, H * W, C), dy.dtype)
    threads.run(spread_over_pixels, N, contiguous(dy).reshape(N, C), dx)
    return (dx.reshape(N, H, W, C).transpose(0, 3, 1, 2),)
