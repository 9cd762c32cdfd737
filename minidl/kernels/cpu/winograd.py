"""Convolutions of stride 1 by Winograd: F(4x4, 3x3) with 36 products for 16 outputs instead of 144, F(2x2, 5x5) with
36 for 4 instead of 100.

The image is cut into tiles of `size` x `size` outputs (4 or 2). A block of tiles is transformed into 36 planes
(tiles, C), each plane is multiplied by its plane of the transformed weights (C, OC), and the products are transformed
back, all within the cache. The weight gradient sums dyᵀ x in the same planes; the input gradient is the forward of dy
with flipped weights.
"""

import numpy as np

from minidl.kernels import threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.columns import NARROW
from minidl.kernels.cpu.finish import filled
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.micro import special_product as product
from minidl.kernels.cpu.tiles import (
    gradient_tile_2,
    gradient_tile_4,
    input_tile,
    output_tile_2,
    output_tile_4,
    read_soon_2,
    read_soon_4,
    weight_gradient_tile_3,
    weight_gradient_tile_5,
    weight_tile_3,
    weight_tile_5,
    write_soon_2,
    write_soon_4,
)

LANES = VECTOR_BYTES // 4
PANEL = 2 * LANES  # output channels that the micro-kernel takes at a time
OUTSIDE = -(1 << 40)  # offset of a row or column outside of the image: any sum with it is negative
BLOCK_BYTES = 320 << 10  # of all planes of a block of tiles in `forward`: they stay in the L2 cache
BLOCK = 32  # tiles of a block in `weight_gradient`; twice as many for many channels
MANY_CHANNELS = 128  # whose sums are read and written less often in larger blocks
PARTS = 8  # partial weight gradients, a fixed number so that sums do not depend on the number of threads
PART_BYTES = 16 << 20  # that all of them together may take
WIDE = 64  # output channels of a task of the weight gradient
MANY = 48  # tiles that are worth a transform of the weights
WEIGHTS = 2048  # 3x3 kernels that `transform_weights` takes at a time: waking a thread costs more than a few
GROUP = 8  # input channels whose weights are gathered or scattered together: their taps lie side by side
PAD = 16  # numbers between planes: a power of two as their distance would throw all into one cache set


@routine
def place_of(tile, down, across):
    """(image, row, column) of a tile, down and across of them in an image."""
    n, r = divmod(tile, down * across)
    return n, r // across, r % across


@routine
def after(place, down, across):
    """The place of the next tile, without a division."""
    n, h, w = place
    w += 1
    if w == across:
        h, w = h + 1, 0
        if h == down:
            n, h = n + 1, 0
    return n, h, w


@routine
def set_offsets(offsets, count, first, extent, step, base):
    """Offsets of `count` pixels in a line from `first` on: OUTSIDE where it leaves 0 <= pixel < extent."""
    for k in range(count):
        offsets[k] = base + (first + k) * step if 0 <= first + k < extent else OUTSIDE


@routine
def ask_for(image, place, side, H, W, C, begin, channels, write):
    """Have the pixels of a tile brought to the cache; where it hangs over the edge, something beside it."""
    (n, h, w), size = place, len(side)
    first = ((n * H + h * size) * W + w * size) * C + begin
    for here in range(first, first + channels, LANES):
        if len(side) == 4:
            if write:
                write_soon_4(image, here, W * C, C)
            else:
                read_soon_4(image, here, W * C, C)
        elif write:
            write_soon_2(image, here, W * C, C)
        else:
            read_soon_2(image, here, W * C, C)


@routine
def transform_tiles(image, place, count, size, down, across, H, W, C, top, left, rows, columns, v, v_plane):
    """v = the planes (36, count, C) of `count` tiles of the images from a place on; returns the place after them."""
    for i in range(count):
        n, h, w = place
        set_offsets(rows, 6, h * size - top, H, W * C, n * H * W * C)
        set_offsets(columns, 6, w * size - left, W, C, 0)
        for k in range(0, C, LANES):
            input_tile(image, rows, columns, k, v, i * C + k, v_plane)
        place = after(place, down, across)
    return place


@jit
def forward(start, stop, crew, x, u, bias, y, side, block, top, left, finish):
    """y = x * w + bias for blocks of tiles start..stop: x (N, H, W, C), y (N, OH, OW, OC), u from `transform_weights`.

    `finish` has all parts, see minidl.kernels.cpu.finish. `side` is a tuple as long as the side of a tile: then numba
    compiles the code of one size only.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    size, plain = len(side), finish[0].size == 0
    (N, H, W, C), (_, OH, OW, OC) = x.shape, y.shape
    down, across = -(-OH // size), -(-OW // size)
    tiles = N * down * across
    v_plane, m_plane, u_plane = block * C + PAD, block * OC + PAD, C * OC + PAD
    v, m, waste = np.empty(36 * v_plane, x.dtype), np.empty(36 * m_plane, x.dtype), np.empty(LANES, x.dtype)
    rows, columns = np.empty(6, np.intp), np.empty(6, np.intp)
    a, c = x.reshape(-1), y.reshape(-1)
    place = place_of(start * block, down, across)
    for first in range(start * block, min(stop * block, tiles), block):
        count = min(block, tiles - first)
        begin = place
        place = transform_tiles(a, begin, count, size, down, across, H, W, C, top, left, rows, columns, v, v_plane)
        wanted_in, wanted_out = place, begin
        for e in range(36):
            for _ in range(count * e // 36, count * (e + 1) // 36):
                ask_for(a, wanted_in, side, H, W, C, 0, C, False)
                ask_for(c, wanted_out, side, OH, OW, OC, 0, OC, True)
                wanted_in, wanted_out = after(wanted_in, down, across), after(wanted_out, down, across)
            for o in range(0, OC, PANEL):
                width = min(PANEL, OC - o)
                product(
                    count, width, v, e * v_plane, C, 0, 1, u, e * u_plane + o * C, 0, width,
                    m, e * m_plane + o, OC, 1, C, 0,
                )  # fmt: skip
        for i in range(count):
            n, h, w = begin
            set_offsets(rows, size, h * size, OH, OW * OC, n * OH * OW * OC)
            set_offsets(columns, size, w * size, OW, OC, 0)
            for k in range(0, OC, LANES):
                if len(side) == 4:
                    if plain:
                        output_tile_4(m, i * OC + k, m_plane, bias, c, rows, columns, k, waste, ())
                    else:
                        output_tile_4(m, i * OC + k, m_plane, bias, c, rows, columns, k, waste, finish)
                elif plain:
                    output_tile_2(m, i * OC + k, m_plane, bias, c, rows, columns, k, waste, ())
                else:
                    output_tile_2(m, i * OC + k, m_plane, bias, c, rows, columns, k, waste, finish)
            begin = after(begin, down, across)


@jit
def weight_gradient(start, stop, crew, x, dy, parts, side, block, wide, top, left):
    """parts[t, o] = the planes (36, C, wide) of share t of the tiles and run o of the output channels.

    For tasks start..stop of T * runs; parts (T, runs, 36 * C * wide), each share holds a tile; `side` as in `forward`.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    size = len(side)
    (N, H, W, C), (_, OH, OW, OC) = x.shape, dy.shape
    down, across = -(-OH // size), -(-OW // size)
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
        place = place_of(begin_tile, down, across)
        for first in range(begin_tile, last, block):
            count = min(block, last - first)
            here = place
            place = transform_tiles(a, here, count, size, down, across, H, W, C, top, left, rows, columns, v, v_plane)
            for i in range(count):
                n, h, w = here
                set_offsets(rows, size, h * size, OH, OW * OC, n * OH * OW * OC + begin)
                set_offsets(columns, size, w * size, OW, OC, 0)
                for k in range(0, channels, LANES):
                    panel = k // PANEL * PANEL
                    width = min(PANEL, channels - panel)
                    there = panel * block + i * width + k - panel
                    if len(side) == 4:
                        gradient_tile_4(b, rows, columns, k, d, there, d_plane)
                    else:
                        gradient_tile_2(b, rows, columns, k, d, there, d_plane)
                here = after(here, down, across)
            for e in range(36):
                for _ in range(count * e // 36, count * (e + 1) // 36):
                    ask_for(a, here, side, H, W, C, 0, C, False)
                    ask_for(b, here, side, OH, OW, OC, begin, channels, False)
                    here = after(here, down, across)
                for o in range(0, channels, PANEL):
                    width = min(PANEL, channels - o)
                    product(
                        C, width, v, e * v_plane, 1, 0, C, d, e * d_plane + o * block, 0, width,
                        out, e * C * wide + o, wide, 1, count, first > begin_tile,
                    )  # fmt: skip


@jit
def transform_weights(start, stop, crew, w, u, share, side):
    """u = G w Gᵀ for shares start..stop of the input channels of w (C, OC, K, K): 36 planes of (C, PANEL) panels."""
    if crew:
        return share_out(job_of(start, stop), crew)
    C, OC, _, K = w.shape
    taps = np.empty((GROUP, K * K, PANEL), u.dtype)
    flat = taps.reshape(-1)
    last = min(stop * share, C)
    for first in range(start * share, last, GROUP):
        count = min(GROUP, last - first)
        for panel in range(0, OC, PANEL):
            width = min(PANEL, OC - panel)
            for o in range(width):
                for c in range(count):
                    for i in range(K):
                        for j in range(K):
                            taps[c, i * K + j, o] = w[first + c, panel + o, i, j]
            for c in range(count):
                for o in range(0, width, LANES):
                    source, here = c * K * K * PANEL + o, panel * C + (first + c) * width + o
                    if len(side) == 4:
                        weight_tile_3(flat, source, PANEL, u, here, C * OC + PAD)
                    else:
                        weight_tile_5(flat, source, PANEL, u, here, C * OC + PAD)


@jit
def collect(start, stop, crew, parts, wide, dweight, side):
    """dweight = Gᵀ Σ_t parts[t] G for groups start..stop of input channels; dweight (OC, C, K, K)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    OC, C, _, K = dweight.shape
    T, runs = parts.shape[:2]
    total, taps = np.empty((36, GROUP * wide), parts.dtype), np.empty((GROUP, K * K, wide), parts.dtype)
    source, target = total.reshape(-1), taps.reshape(-1)
    for first in range(start * GROUP, min(stop * GROUP, C), GROUP):
        count = min(GROUP, C - first)
        for run in range(runs):
            begin, channels = run * wide, min(wide, OC - run * wide)
            for e in range(36):
                here = (e * C + first) * wide
                plane = total[e]
                for t in range(T):
                    part = parts[t, run, here : here + count * wide]
                    for k in range(count * wide):
                        plane[k] = part[k] if t == 0 else plane[k] + part[k]
            for c in range(count):
                for o in range(0, channels, LANES):
                    here = c * K * K * wide + o
                    if len(side) == 4:
                        weight_gradient_tile_3(source, c * wide + o, GROUP * wide, target, here, wide)
                    else:
                        weight_gradient_tile_5(source, c * wide + o, GROUP * wide, target, here, wide)
            for o in range(channels):
                for c in range(count):
                    for i in range(K):
                        for j in range(K):
                            dweight[begin + o, first + c, i, j] = taps[c, i * K + j, o]


def fits(window, groups, dtype, C, OC):
    """Whether Winograd can compute this convolution."""
    return (
        window.kernel_size in ((3, 3), (5, 5))
        and window.stride == window.dilation == (1, 1)
        and groups == 1
        and dtype == np.float32
        and C % LANES == OC % LANES == 0
    )


def tiles_of(K, N, OH, OW):
    """Outputs along the side of a tile for a kernel of side K, and the number of tiles."""
    size = 7 - K
    return size, N * -(-OH // size) * -(-OW // size)


def pays(window, N):
    """Whether its products are few enough: tiles that hang over the edge are computed whole."""
    (K, _), (OH, OW) = window.kernel_size, window.output
    _, tiles = tiles_of(K, N, OH, OW)
    narrow = OW < NARROW  # the other ways are slower there
    return 36 * tiles < (1.5 if narrow else 0.75) * K * K * N * OH * OW and tiles >= MANY


def block_size(numbers):
    """Tiles of a block whose planes hold so many numbers a tile: a multiple of 8."""
    return min(32, max(16, BLOCK_BYTES // (36 * 4 * numbers) // 8 * 8))


def planes(w):
    """The transformed weights for `correlate`, of w (C, OC, K, K) of any strides."""
    C, OC = w.shape[:2]
    u, share = empty((36 * (C * OC + PAD),), w.dtype), max(GROUP, WEIGHTS // OC)
    threads.run(transform_weights, -(-C // share), w, u, share, (0,) * (7 - w.shape[3]))
    return u


def correlate(x, u, OC, bias, window, finish=()):
    """y (N, OH, OW, OC) of x (N, H, W, C) and u from `planes`, finished (minidl.kernels.cpu.finish)."""
    (N, _, _, C), K, (OH, OW) = x.shape, window.kernel_size[0], window.output
    bias = np.zeros(OC, x.dtype) if bias is None else bias
    y, block, (size, tiles) = empty((N, OH, OW, OC), x.dtype), block_size(C + OC), tiles_of(K, N, OH, OW)
    finish = filled(finish, x.dtype)
    threads.run(forward, -(-tiles // block), x, u, bias, y, (0,) * size, block, *window.padding, finish)
    return y


def conv2d_dweight(x, dy, K, top, left):
    """The weight gradient (OC, C, K, K) for x (N, H, W, C) and dy (N, OH, OW, OC)."""
    (N, OH, OW, OC), C = dy.shape, x.shape[3]
    (size, tiles), wide = tiles_of(K, N, OH, OW), min(WIDE, OC)
    block, runs = BLOCK if C <= MANY_CHANNELS else 2 * BLOCK, -(-OC // wide)
    T = max(1, min(PARTS, tiles // (2 * BLOCK), PART_BYTES // (36 * C * OC * x.itemsize)))
    parts = empty((T, runs, 36 * C * wide), x.dtype)
    threads.run(weight_gradient, T * runs, x, dy, parts, (0,) * size, block, wide, top, left)
    dweight = empty((OC, C, K, K), x.dtype)
    threads.run(collect, -(-C // GROUP), parts, wide, dweight, (0,) * size)
    return dweight
