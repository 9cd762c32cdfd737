"""Convolution without an im2col copy: the micro-kernel walks the windows of a padded channels-last image in place.

An image that needs zeros around it is copied once into a scratch image, which stays in the L2 cache. Weights are packed
in panels of a few output channels, (groups, panels, KH KW C/groups, PANEL): what one pass over an image needs of them
is contiguous.
"""

import math

import numpy as np

from minidl.grad_mode import is_grad_enabled
from minidl.kernels import override, threads
from minidl.kernels.algorithms import get_conv_algorithm
from minidl.kernels.buffers import empty, is_buffer
from minidl.kernels.cpu import columns, depthwise, neighbours, winograd
from minidl.kernels.cpu.copies import copy_rows, copy_transposed
from minidl.kernels.cpu.finish import filled
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import channels_last, floats
from minidl.kernels.cpu.micro import product
from minidl.kernels.cpu.sums import column_sums
from minidl.kernels.deferred import Deferred
from minidl.kernels.tape import compute, contiguous, do

PANEL_BYTES = 2 * VECTOR_BYTES  # two vectors of output channels
PIXELS = 128  # of a block of rows in the weight gradient: small enough for the L1 cache
LONG = 512  # terms of a sum that are added one after the other
FEW = 8  # images
STRIP = 1 << 18  # bytes of an image of 1x1 windows that stay in the L2 cache while all panels pass
NARROW = 8  # numbers in a row of a window, below which all of its rows are taken together
PARTS = 16  # partial weight gradients, a fixed number so that sums do not depend on the number of threads
PART_BYTES = 64 << 20  # that all partial gradients together may take


@routine
def add_in_runs(pixels, width, a, ia, rs, as_, b, ib, panel, c, ic, ldc, R, K, accumulate, run):
    """As `product` for a long sum: runs of it are summed first, so that rounding errors do not grow with its length.

    Also for fewer columns than a vector holds: whole vectors of a panel are computed, and `width` numbers taken.
    """
    lanes = VECTOR_BYTES // a.itemsize
    whole = -(-width // lanes) * lanes
    for first in range(0, pixels, PIXELS):
        rows = min(PIXELS, pixels - first)
        for r in range(R):
            for k in range(0, K, LONG):
                length = min(LONG, K - k)
                product(
                    rows, whole, a, ia + first * rs + r * as_ + k, rs, 0, 1, b, ib + (r * K + k) * panel, 0, panel,
                    run, 0, panel, 1, length, 0,
                )  # fmt: skip
                for p in range(rows):
                    here = ic + (first + p) * ldc
                    for q in range(width):
                        c[here + q] = run[p * panel + q] + (c[here + q] if accumulate or r + k > 0 else c.dtype.type(0))


@routine
def finish_rows(c, first, rows, bias, scale, low, other):
    """c = max(scale c + bias (+ other), low) for rows of channels from c[first] on; other is flat, as c."""
    C = bias.size
    for i in range(first, first + rows * C, C):
        row = c[i : i + C]
        if other.size:
            more = other[i : i + C]
            for k in range(C):
                v = scale[k] * row[k] + bias[k] + more[k]
                row[k] = low if v <= low else v  # NaN passes
        else:
            for k in range(C):
                v = scale[k] * row[k] + bias[k]
                row[k] = low if v <= low else v


@jit
def forward(start, stop, crew, x, w, bias, y, size, kernel, stride, padding, dilation, groups, strips, finish):
    """y = x * w + bias for tasks start..stop of images * strips: x (N, H, W, C), y (N, OH, OW, OC), w from `panels`.

    `finish` has all parts but signs, see minidl.kernels.cpu.finish.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    (HP, WP), (KH, KW), (SH, SW), (top, left), (DH, DW) = size, kernel, stride, padding, dilation
    (_, H, W, C), (_, OH, OW, OC) = x.shape, y.shape
    (_, panels, K, panel), CG, OCG = w.shape, C // groups, OC // groups
    in_place = H == HP and W == WP  # nothing to pad
    padded = np.zeros(0 if in_place else HP * WP * C, x.dtype)
    image_in, b, c, (scale, low, other) = x.reshape(-1), w.reshape(-1), y.reshape(-1), finish
    a = image_in if in_place else padded
    merge_rows = SH == 1 and OW * SW == WP  # the image is one long row
    runs = groups == 1 and DW == 1  # a row of a window is KW * C contiguous numbers, else KW times C / groups
    steps, R, L, across = (1, KH, KW * C, DH * WP * C) if runs else (KH, KW, CG, DW * C)
    run = np.empty(PIXELS * panel, x.dtype)
    for task in range(start, stop):
        n, strip = divmod(task, strips)
        top_row, rows = OH * strip // strips, OH * (strip + 1) // strips - OH * strip // strips
        calls, pixels = (1, rows * OW) if merge_rows else (rows, OW)
        begin = (n * OH + top_row) * OW * OC
        image = n * HP * WP * C if in_place else 0
        if not in_place:
            copy_rows(image_in, n * H * W * C, W * C, padded, (top * WP + left) * C, WP * C, H, W * C)
        begun = 0 if scale.size else bias.size
        if begun:
            copy_rows(bias, 0, 0, c, begin, OC, rows * OW, OC)
        for g in range(groups):
            for o in range(panels):
                ib, width = (g * panels + o) * K * panel, min(panel, OCG - o * panel)
                for h in range(calls):
                    ia, ic = image + (top_row + h) * SH * WP * C + g * CG, begin + h * OW * OC + g * OCG + o * panel
                    if runs and (KH * KW * C > LONG or width % (VECTOR_BYTES // x.itemsize)):
                        add_in_runs(
                            pixels, width, a, ia, SW * C, DH * WP * C, b, ib, panel, c, ic, OC,
                            KH, KW * C, begun, run,
                        )  # fmt: skip
                        continue
                    for i in range(steps):
                        product(
                            pixels, width, a, ia + i * DH * WP * C, SW * C, across, 1,
                            b, ib + i * R * L * panel, L * panel, panel, c, ic, OC, R, L, begun + i,
                        )  # fmt: skip
        if scale.size:
            finish_rows(c, begin, rows * OW, bias, scale, low, other)


@routine
def gather_windows(a, begin, row, step, KH, length, rows, OW, taps):
    """taps[i length + j, r OW + w] = a[begin + (r + i) row + w step + j]: a block of windows, a row for each tap.

    `row` is that of the first tap of neighbouring outputs as well as of neighbouring taps (stride and dilation 1).
    """
    for i in range(KH):
        for j in range(length):
            tap = taps[i * length + j]
            for r in range(rows):
                here, there = a[begin + (r + i) * row + j :], tap[r * OW :]
                if step == 1:  # a loop of vectors
                    for w in range(OW):
                        there[w] = here[w]
                else:
                    for w in range(OW):
                        there[w] = here[w * step]


@jit
def weight_gradient(start, stop, crew, x, dy, parts, size, kernel, stride, padding, dilation, groups):
    """parts[t] = the sum over its share of the images, for parts start..stop; parts (T, packed weights)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (HP, WP), (KH, KW), (SH, SW), (top, left), (DH, DW) = size, kernel, stride, padding, dilation
    (_, H, W, C), (N, OH, OW, OC) = x.shape, dy.shape
    T, CG, OCG = parts.shape[0], C // groups, OC // groups
    in_place = H == HP and W == WP
    padded = np.zeros(0 if in_place else HP * WP * C, x.dtype)
    image_in, b = x.reshape(-1), dy.reshape(-1)
    a = image_in if in_place else padded
    block = max(1, PIXELS // OW)  # output rows at a time
    runs = groups == 1 and DW == 1
    steps, L = (1, KW * C) if runs else (KW, CG)
    narrow = runs and KW * C < NARROW and SH == DH == 1  # too few rows for the micro-kernel: all taps at once
    taps = np.empty((KH * KW * C if narrow else 0, block * OW), x.dtype)
    for t in range(start, stop):
        dw = parts[t]
        for n in range(N * t // T, N * (t + 1) // T):
            image = n * HP * WP * C if in_place else 0
            if not in_place:
                copy_rows(image_in, n * H * W * C, W * C, padded, (top * WP + left) * C, WP * C, H, W * C)
            for h in range(0, OH, block):
                R, ib, begun = min(block, OH - h), (n * OH + h) * OW * OC, int(n > N * t // T or h > 0)
                if narrow:
                    gather_windows(a, image + h * WP * C, WP * C, SW * C, KH, KW * C, R, OW, taps)
                    product(
                        KH * KW * C, OC, taps.reshape(-1), 0, block * OW, 0, 1, b, ib, 0, OC,
                        dw, 0, OC, 1, R * OW, begun,
                    )  # fmt: skip
                    continue
                for i in range(KH):
                    row = image + (h * SH + i * DH) * WP * C
                    for g in range(groups):
                        for j in range(steps):
                            product(
                                L, OCG, a, row + j * DW * C + g * CG, 1, SH * WP * C, SW * C,
                                b, ib + g * OCG, OW * OC, OC,
                                dw, ((g * KH + i) * steps + j) * L * OCG, OCG, R, OW, begun,
                            )  # fmt: skip


@jit
def input_gradient(start, stop, crew, dy, w, dx, size, kernel, stride, padding, dilation, groups):
    """dx for images start..stop, tap by tap: w packed as (groups, KH, KW, OC / groups, C / groups)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (HP, WP), (KH, KW), (SH, SW), (top, left), (DH, DW) = size, kernel, stride, padding, dilation
    (_, H, W, C), (OH, OW, OC) = dx.shape, dy.shape[1:]
    CG, OCG = C // groups, OC // groups
    padded, zero = np.empty(HP * WP * C, dx.dtype), dx.dtype.type(0)
    a, c, image_out = dy.reshape(-1), padded, dx.reshape(-1)
    for n in range(start, stop):
        for k in range(padded.size):
            padded[k] = zero
        for h in range(OH):
            for g in range(groups):
                ia = (n * OH + h) * OW * OC + g * OCG
                for i in range(KH):
                    for j in range(KW):
                        ic = ((h * SH + i * DH) * WP + j * DW) * C + g * CG
                        ib = ((g * KH + i) * KW + j) * CG * OCG
                        product(OW, CG, a, ia, OC, 0, 1, w, ib, 0, CG, c, ic, SW * C, 1, OCG, 1)
        copy_rows(padded, (top * WP + left) * C, WP * C, image_out, n * H * W * C, W * C, H, W * C)


@jit
def pack(start, stop, crew, weight, taps, panels):
    """Panels start..stop of all groups for `panels`: weight (OC, C/G * taps), panels (G, count, taps * C/G, PANEL)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (groups, count, K, width), OC = panels.shape, len(weight)
    flat, columns, CG, OCG = weight.reshape(-1), np.zeros(K * width, weight.dtype), K // taps, OC // groups
    for panel in range(start, stop):
        g, p = divmod(panel, count)
        out, channels = panels[g, p], min(width, OCG - p * width)
        if channels < width:
            columns[:] = 0
        copy_transposed(flat, (g * OCG + p * width) * K, K, channels, K, columns, width)
        for c in range(CG):
            for t in range(taps):
                here, there = columns[(c * taps + t) * width :], out[t * CG + c]
                for o in range(width):
                    there[o] = here[o]


def panels(weight, groups):
    """Pack weights (OC, C/G, KH, KW) for `forward`: (G, panels, KH KW C/G, PANEL), the last panel filled with zeros."""
    OC, CG, KH, KW = weight.shape
    width = PANEL_BYTES // weight.itemsize
    packed = empty((groups, -(-(OC // groups) // width), KH * KW * CG, width), weight.dtype)
    rows = contiguous(weight).reshape(OC, -1)
    threads.run_over(weight.size, pack, groups * packed.shape[1], rows, KH * KW, packed)
    return packed


def geometry(window, H, W):
    """The arguments of the kernels that describe the windows; size is that of the padded image."""
    (top, bottom), (left, right) = window.padded(H, W)
    size = (top + H + bottom, left + W + right)
    return size, window.kernel_size, window.stride, (top, left), window.dilation


def takes_winograd(window, groups, dtype, N, C, OC):
    algorithm = get_conv_algorithm()
    return (
        algorithm in ("auto", "winograd")
        and winograd.fits(window, groups, dtype, C, OC)
        and (algorithm == "winograd" or winograd.pays(window, N))
    )


def is_product(window, H, W):
    """Whether every pixel is a window: then the image is a matrix, pixels times channels."""
    return window.kernel_size == window.stride == (1, 1) and window.output == (H, W)


def direct(x, panels, OC, bias, window, finish=()):
    """y (N, OH, OW, OC) of x (N, H, W, C) and weights from `panels`, finished (minidl.kernels.cpu.finish)."""
    N, H, W, _ = x.shape
    y = empty((N, *window.output, OC), x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else bias
    OH = window.output[0]
    strips = max(1, min(FEW // N, OH))  # of an image, so that a few are work for all threads
    if is_product(window, H, W):
        strips = max(strips, min(OH, x.nbytes // (N * STRIP)))
    finish = filled(finish, x.dtype)[:3]
    threads.run(forward, N * strips, x, panels, bias, y, *geometry(window, H, W), len(panels), strips, finish)
    return y


def together(x, panels, OC, bias, window, finish=()):
    """As `direct`, for weights from `neighbours.banded`: a few neighbouring pixels of y are one of more channels."""
    wide = neighbours.widened(window, panels.shape[2] // (window.kernel_size[0] * x.shape[3]))
    count = window.output[1] // wide.output[1]
    bias = None if bias is None else compute(np.tile, bias, count)
    if finish:
        finish = (compute(np.tile, finish[0], count), *finish[1:])
    return direct(x, panels, count * OC, bias, wide, finish).reshape(len(x), *window.output, OC)


def prepared(x, weight, window, groups):
    """The way to convolve channels-last x, and the weights packed for it."""
    (N, _, _, C), OC = x.shape, weight.shape[0]
    if takes_winograd(window, groups, x.dtype, N, C, OC):
        return winograd.correlate, winograd.planes(weight.swapaxes(0, 1))
    if depthwise.fits(weight.shape, groups):
        return depthwise.correlate, depthwise.taps(weight)
    if columns.fits(window, groups, N):
        return columns.correlate, columns.matrix(weight)
    if get_conv_algorithm() == "auto" and neighbours.fits(window, groups, x.dtype, N, OC):
        return together, panels(compute(neighbours.banded, weight, window), 1)
    return direct, panels(weight, groups)


def convolve(x, way, weights, OC, window, scale, shift, other=None, low=-np.inf, signs=None):
    """max(scale (x * w) + shift + other, low) (N, OC, OH, OW) for channels-last x; scale None for 1.

    With signs (Winograd only) `other` is added where they let it pass.
    """
    finish = ()
    if scale is not None or other is not None or low > -np.inf:
        finish = (np.ones(OC, x.dtype) if scale is None else scale, x.dtype.type(low))
        finish += () if other is None else (channels_last(other).reshape(-1),)
        finish += () if signs is None else (signs,)
        shift = np.zeros(OC, x.dtype) if shift is None else shift
    return way(x, weights, OC, shift, window, finish).transpose(0, 3, 1, 2)


def is_winograd(x):
    """Whether x is a convolution by Winograd that has still to be computed."""
    return isinstance(x, Deferred) and x.make is convolve and not x.is_made and x.sources[1] is winograd.correlate


def conv2d_dx(dy, weight, window, groups, shape):
    """The input gradient (N, C, H, W): for stride 1 a convolution of dy with the flipped kernel, else tap by tap."""
    (N, C, H, W), (OC, CG, KH, KW) = shape, weight.shape
    reach = tuple(d * (k - 1) - p for d, k, p in zip(window.dilation, (KH, KW), window.padding, strict=True))
    if window.stride == (1, 1) and min(reach) >= 0:
        flipped = weight[:, :, ::-1, ::-1].reshape(groups, OC // groups, CG, KH, KW).swapaxes(1, 2)
        flipped = (flipped if groups == 1 else contiguous(flipped)).reshape(C, OC // groups, KH, KW)
        window = window._replace(padding=reach, output=(H, W))
        return Deferred(shape, dy.dtype, convolve, dy, *prepared(dy, flipped, window, groups), C, window, None, None)
    if depthwise.fits(weight.shape, groups):
        return depthwise.input_gradient(dy, weight, window, shape).transpose(0, 3, 1, 2)
    if columns.fits(window, groups, N):
        return columns.input_gradient(dy, weight, window, shape).transpose(0, 3, 1, 2)
    w = contiguous(weight.reshape(groups, OC // groups, CG, KH, KW).transpose(0, 3, 4, 1, 2))
    dx = empty((N, H, W, C), dy.dtype)
    threads.run(input_gradient, N, dy, w.reshape(-1), dx, *geometry(window, H, W), groups)
    return dx.transpose(0, 3, 1, 2)


def conv2d_dweight(x, dy, shape, window, groups):
    """The weight gradient of the given shape, for channels-last x and dy."""
    (N, H, W, C), (OC, CG, KH, KW) = x.shape, shape
    if takes_winograd(window, groups, x.dtype, N, C, OC):
        return winograd.conv2d_dweight(x, dy, KH, *window.padding)
    if depthwise.fits(shape, groups):
        return depthwise.weight_gradient(x, dy, shape, window)
    if columns.fits(window, groups, N):
        return columns.weight_gradient(x, dy, shape, window)
    T = max(1, min(PARTS, N, PART_BYTES // (math.prod(shape) * x.itemsize)))
    parts, packed, dweight = (empty(s, x.dtype) for s in ((T, math.prod(shape)), (math.prod(shape),), shape))
    threads.run(weight_gradient, T, x, dy, parts, *geometry(window, H, W), groups)
    do(np.add.reduce, parts, 0, None, packed)
    packed = packed.reshape(groups, KH, KW, CG, OC // groups).transpose(0, 4, 3, 1, 2)
    do(np.copyto, dweight.reshape(packed.shape), packed)
    return dweight


def as_kernel(*arrays):
    return get_conv_algorithm() != "text" and floats(*arrays)


@override("conv2d_forward", "cpu", when=lambda x, weight, bias, **_: as_kernel(x, weight, bias))
def conv2d_forward(x, weight, bias, *, window, groups):
    images, OC = channels_last(x), weight.shape[0]
    shift = None if bias is None else compute(np.array, bias)
    parts = (images, *prepared(images, weight, window, groups), OC, window, None, shift)
    private = is_buffer(images) or not np.may_share_memory(images, x)
    if private and not is_grad_enabled():  # what follows may be done on the way; backward would need y
        y = Deferred((len(images), OC, *window.output), x.dtype, convolve, *parts)
    else:
        y = convolve(*parts)
    return y, (x, weight, window, groups)


@override("conv2d_backward", "cpu", when=lambda dy, saved, needs: as_kernel(dy, *saved[:2]))
def conv2d_backward(dy, saved, needs):
    x, weight, window, groups = saved
    dy = channels_last(dy)
    dx = dweight = dbias = None
    if needs[0]:
        dx = conv2d_dx(dy, weight, window, groups, x.shape)
    if needs[1]:
        dweight = conv2d_dweight(channels_last(x), dy, weight.shape, window, groups)
    if needs[2]:
        dbias = column_sums(dy.reshape(-1, dy.shape[3]))
    return dx, dweight, dbias
