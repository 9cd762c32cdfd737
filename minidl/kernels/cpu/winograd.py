"""3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): 36 products for 16 outputs instead of 144.

The image is cut into tiles of 4x4 outputs. A block of tiles is transformed into 36 planes (tiles, C), each plane is
multiplied by its plane of the transformed weights (C, OC), and the products are transformed back, all within the cache.
The weight gradient sums dyᵀ x in the same planes; the input gradient is the forward of dy with flipped weights.
"""

import numpy as np

from minidl.kernels import threads
from minidl.kernels.cpu.buffers import empty
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit
from minidl.kernels.cpu.micro import product
from minidl.kernels.cpu.tiles import (
    gradient_tile,
    input_tile,
    output_tile,
    prefetch,
    weight_gradient_tile,
    weight_tile,
)

LANES = VECTOR_BYTES // 4
PANEL = 2 * LANES  # output channels that the micro-kernel takes at a time
OUTSIDE = -(1 << 40)  # offset of a row or column outside of the image: any sum with it is negative
BLOCK_BYTES = 320 << 10  # of all planes of a block of tiles in `forward`: they stay in the L2 cache
BLOCK = 64  # tiles of a block in `weight_gradient`
PARTS = 8  # partial weight gradients, a fixed number so that sums do not depend on the number of threads
PART_BYTES = 16 << 20  # that all of them together may take
WIDE = 64  # output channels of a task of the weight gradient
WEIGHTS = 2048  # 3x3 kernels that `transform_weights` takes at a time: waking a thread costs more than a few
GROUP = 8  # input channels that `collect` takes at a time
PAD = 16  # numbers between planes: a power of two as their distance would throw all into one cache set


@jit
def set_offsets(offsets, count, first, extent, step, base):
    """Offsets of `count` pixels in a line from `first` on: OUTSIDE where it leaves 0 <= pixel < extent."""
    for k in range(count):
        offsets[k] = base + (first + k) * step if 0 <= first + k < extent else OUTSIDE


@jit
def ask_for(image, tile, down, across, H, W, C, begin, channels, write):
    """Have the 4x4 pixels of a tile brought to the cache; where it hangs over the edge, something beside it."""
    n, r = divmod(tile, down * across)
    first = ((n * H + r // across * 4) * W + r % across * 4) * C + begin
    for h in range(4):
        for w in range(4):
            for k in range(0, channels, LANES):
                here = first + (h * W + w) * C + k
                if write:
                    prefetch(image, here, 1)
                else:
                    prefetch(image, here, 0)


@jit
def forward(start, stop, x, u, bias, y, block, top, left):
    """y = x * w for blocks of tiles start..stop: x (N, H, W, C), y (N, OH, OW, OC), u from `transform_weights`."""
    (N, H, W, C), (_, OH, OW, OC) = x.shape, y.shape
    down, across = (OH + 3) // 4, (OW + 3) // 4
    tiles = N * down * across
    v_plane, m_plane = block * C + PAD, block * OC + PAD
    v, m, waste = np.empty(36 * v_plane, x.dtype), np.empty(36 * m_plane, x.dtype), np.empty(LANES, x.dtype)
    rows, columns = np.empty(6, np.intp), np.empty(6, np.intp)
    a, c = x.reshape(-1), y.reshape(-1)
    for first in range(start * block, min(stop * block, tiles), block):
        count = min(block, tiles - first)
        for i in range(count):
            n, r = divmod(first + i, down * across)
            set_offsets(rows, 6, r // across * 4 - top, H, W * C, n * H * W * C)
            set_offsets(columns, 6, r % across * 4 - left, W, C, 0)
            for k in range(0, C, LANES):
                input_tile(a, rows, columns, k, v, i * C + k, v_plane)
        for e in range(36):
            for i in range(first + block * e // 36, first + block * (e + 1) // 36):
                ask_for(a, i + block, down, across, H, W, C, 0, C, False)
                ask_for(c, i, down, across, OH, OW, OC, 0, OC, True)
            for o in range(0, OC, PANEL):
                width = min(PANEL, OC - o)
                product(
                    count, width, v, e * v_plane, C, 0, 1, u, (e * OC + o) * C, 0, width,
                    m, e * m_plane + o, OC, 1, C, 0,
                )  # fmt: skip
        for i in range(count):
            n, r = divmod(first + i, down * across)
            set_offsets(rows, 4, r // across * 4, OH, OW * OC, n * OH * OW * OC)
            set_offsets(columns, 4, r % across * 4, OW, OC, 0)
            for k in range(0, OC, LANES):
                output_tile(m, i * OC + k, m_plane, bias, c, rows, columns, k, waste)


@jit
def weight_gradient(start, stop, x, dy, parts, block, wide, top, left):
    """parts[t, o] = the planes (36, C, wide) of share t of the tiles and run o of the output channels.

    For tasks start..stop of T * runs; parts (T, runs, 36 * C * wide), each share holds a tile.
    """
    (N, H, W, C), (_, OH, OW, OC) = x.shape, dy.shape
    down, across = (OH + 3) // 4, (OW + 3) // 4
    T, runs = parts.shape[:2]
    tiles = N * down * across
    v_plane, d_plane = block * C + PAD, block * wide + PAD
    v, d = np.empty(36 * v_plane, x.dtype), np.empty(36 * d_plane, x.dtype)
    rows, columns = np.empty(6, np.intp), np.empty(6, np.intp)
    a, b = x.reshape(-1), dy.reshape(-1)
    for task in range(start, stop):
        t, run = divmod(task, runs)
        out, begin_tile, last = parts[t, run], tiles * t // T, tiles * (t + 1) // T
        begin, channels = run * wide, min(wide, OC - run * wide)
        for first in range(begin_tile, last, block):
            count = min(block, last - first)
            for i in range(count):
                n, r = divmod(first + i, down * across)
                set_offsets(rows, 6, r // across * 4 - top, H, W * C, n * H * W * C)
                set_offsets(columns, 6, r % across * 4 - left, W, C, 0)
                for k in range(0, C, LANES):
                    input_tile(a, rows, columns, k, v, i * C + k, v_plane)
                set_offsets(rows, 4, r // across * 4, OH, OW * OC, n * OH * OW * OC + begin)
                set_offsets(columns, 4, r % across * 4, OW, OC, 0)
                for k in range(0, channels, LANES):
                    panel = k // PANEL * PANEL
                    width = min(PANEL, channels - panel)
                    gradient_tile(b, rows, columns, k, d, panel * block + i * width + k - panel, d_plane)
            for e in range(36):
                for i in range(first + block * (e + 36) // 36, first + block * (e + 37) // 36):
                    ask_for(a, i, down, across, H, W, C, 0, C, False)
                    ask_for(b, i, down, across, OH, OW, OC, begin, channels, False)
                for o in range(0, channels, PANEL):
                    width = min(PANEL, channels - o)
                    product(
                        C, width, v, e * v_plane, 1, 0, C, d, e * d_plane + o * block, 0, width,
                        out, e * C * wide + o, wide, 1, count, first > begin_tile,
                    )  # fmt: skip


@jit
def transform_weights(start, stop, w, u, share):
    """u = G w Gᵀ for shares start..stop of the input channels of w (C, OC, 3, 3): 36 planes of (C, PANEL) panels."""
    C, OC = w.shape[:2]
    taps = np.empty((9, OC), u.dtype)
    flat = taps.reshape(-1)
    for c in range(start * share, min(stop * share, C)):
        for o in range(OC):
            for k in range(9):
                taps[k, o] = w[c, o, k // 3, k % 3]
        for o in range(0, OC, LANES):
            panel = o // PANEL * PANEL
            width = min(PANEL, OC - panel)
            weight_tile(flat, o, OC, u, panel * C + c * width + o - panel, C * OC)


@jit
def collect(start, stop, parts, wide, dweight):
    """dweight = Gᵀ Σ_t parts[t] G for groups start..stop of input channels; dweight (OC, C, 3, 3)."""
    OC, C = dweight.shape[:2]
    T, runs = parts.shape[:2]
    total, taps = np.empty((36, GROUP * wide), parts.dtype), np.empty((9, wide), parts.dtype)
    source, target = total.reshape(-1), taps.reshape(-1)
    for first in range(start * GROUP, min(stop * GROUP, C), GROUP):
        count = min(GROUP, C - first)
        for run in range(runs):
            begin, channels = run * wide, min(wide, OC - run * wide)
            for e in range(36):
                here = (e * C + first) * wide
                total[e, : count * wide] = parts[0, run, here : here + count * wide]
                for t in range(1, T):
                    total[e, : count * wide] += parts[t, run, here : here + count * wide]
            for c in range(count):
                for o in range(0, channels, LANES):
                    weight_gradient_tile(source, c * wide + o, GROUP * wide, target, o, wide)
                for o in range(channels):
                    for k in range(9):
                        dweight[begin + o, first + c, k // 3, k % 3] = taps[k, o]


def fits(window, groups, dtype, C, OC):
    """Whether Winograd can compute this convolution."""
    return (
        window.kernel_size == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and groups == 1
        and dtype == np.float32
        and C % LANES == OC % LANES == 0
    )


def pays(window, N):
    """Whether its products are few enough: tiles that hang over the edge are computed whole."""
    OH, OW = window.output
    tiles = -(-OH // 4) * -(-OW // 4)
    return 36 * tiles < 0.75 * 9 * OH * OW and N * tiles >= LANES


def block_size(numbers):
    """Tiles of a block whose planes hold so many numbers a tile: a multiple of 8."""
    return min(32, max(16, BLOCK_BYTES // (36 * 4 * numbers) // 8 * 8))


def correlate(x, w, bias, output, top, left):
    """y (N, OH, OW, OC) of x (N, H, W, C), w (C, OC, 3, 3) of any strides, `top` and `left` zeros before the image."""
    (N, _, _, C), OC, (OH, OW) = x.shape, w.shape[1], output
    u = empty((36 * C * OC,), x.dtype)
    share = max(1, WEIGHTS // OC)
    threads.run(transform_weights, -(-C // share), w, u, share)
    y = empty((N, OH, OW, OC), x.dtype)
    block = block_size(C + OC)
    tiles = N * -(-OH // 4) * -(-OW // 4)
    threads.run(forward, -(-tiles // block), x, u, bias, y, block, top, left)
    return y


def conv2d_dweight(x, dy, top, left):
    """The weight gradient (OC, C, 3, 3) for x (N, H, W, C) and dy (N, OH, OW, OC)."""
    (N, OH, OW, OC), C = dy.shape, x.shape[3]
    tiles = N * -(-OH // 4) * -(-OW // 4)
    wide = min(WIDE, OC)
    T, runs = max(1, min(PARTS, tiles // BLOCK, PART_BYTES // (36 * C * OC * x.itemsize))), -(-OC // wide)
    parts = empty((T, runs, 36 * C * wide), x.dtype)
    threads.run(weight_gradient, T * runs, x, dy, parts, BLOCK, wide, top, left)
    dweight = np.empty((OC, C, 3, 3), x.dtype)
    threads.run(collect, -(-C // GROUP), parts, wide, dweight)
    return dweight
