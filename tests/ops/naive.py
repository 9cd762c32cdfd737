"""Twins of the operations in plain loops; nothing here imports minidl."""

import math

import numpy as np


def pixels(window, size):
    """For each output pixel and kernel element: (oh, ow, tap, h, w), inside the image only."""
    (KH, KW), (SH, SW), (PH, PW), (DH, DW), (OH, OW) = window
    for oh in range(OH):
        for ow in range(OW):
            for i in range(KH):
                for j in range(KW):
                    h, w = oh * SH + i * DH - PH, ow * SW + j * DW - PW
                    if 0 <= h < size[0] and 0 <= w < size[1]:
                        yield oh, ow, i * KW + j, h, w


def conv2d(x, weight, bias, window, groups):
    (N, _, H, W), (OC, CG, _, KW) = x.shape, weight.shape
    y = np.zeros((N, OC, *window[4]))
    for n in range(N):
        for o in range(OC):
            first = o // (OC // groups) * CG
            for oh, ow, tap, h, w in pixels(window, (H, W)):
                for c in range(CG):
                    y[n, o, oh, ow] += x[n, first + c, h, w] * weight[o, c, tap // KW, tap % KW]
            if bias is not None:
                y[n, o] += bias[o]
    return y


def conv2d_gradients(dy, x, weight, window, groups):
    (N, _, H, W), (OC, CG, _, KW) = x.shape, weight.shape
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for n in range(N):
        for o in range(OC):
            first = o // (OC // groups) * CG
            for oh, ow, tap, h, w in pixels(window, (H, W)):
                for c in range(CG):
                    dx[n, first + c, h, w] += dy[n, o, oh, ow] * weight[o, c, tap // KW, tap % KW]
                    dweight[o, c, tap // KW, tap % KW] += dy[n, o, oh, ow] * x[n, first + c, h, w]
    return dx, dweight, np.array([dy[:, o].sum() for o in range(OC)])


def unfold(x, window):
    N, C, H, W = x.shape
    cols = np.zeros((N, C, math.prod(window[0]), *window[4]))
    for n in range(N):
        for c in range(C):
            for oh, ow, tap, h, w in pixels(window, (H, W)):
                cols[n, c, tap, oh, ow] = x[n, c, h, w]
    return cols


def fold(cols, window, size):
    N, C = cols.shape[:2]
    x = np.zeros((N, C, *size))
    for n in range(N):
        for c in range(C):
            for oh, ow, tap, h, w in pixels(window, size):
                x[n, c, h, w] += cols[n, c, tap, oh, ow]
    return x


def max_pool2d(x, window):
    N, C, H, W = x.shape
    y = np.full((N, C, *window[4]), -math.inf)
    for n in range(N):
        for c in range(C):
            for oh, ow, _, h, w in pixels(window, (H, W)):
                y[n, c, oh, ow] = max(y[n, c, oh, ow], x[n, c, h, w])
    return y


def avg_pool2d(x, window, divisor):
    N, C, H, W = x.shape
    y = np.zeros((N, C, *window[4]))
    divisor = np.broadcast_to(divisor, window[4])
    for n in range(N):
        for c in range(C):
            for oh, ow, _, h, w in pixels(window, (H, W)):
                y[n, c, oh, ow] += x[n, c, h, w] / divisor[oh, ow]
    return y


def adaptive_avg_pool2d(x, rows, columns):
    N, C, H, W = x.shape
    (OH, OW) = len(rows), len(columns)
    y = np.zeros((N, C, OH, OW))
    for i in range(OH):
        for j in range(OW):
            top, bottom = i * H // OH, math.ceil((i + 1) * H / OH)
            left, right = j * W // OW, math.ceil((j + 1) * W / OW)
            for n in range(N):
                for c in range(C):
                    cell = [x[n, c, h, w] for h in range(top, bottom) for w in range(left, right)]
                    y[n, c, i, j] = sum(cell) / len(cell)
    return y


def adaptive_max_pool2d(x, index):
    N, C, H, W = x.shape
    OH, OW = index[2].shape[0], index[3].shape[1]
    y = np.zeros((N, C, OH, OW))
    for n, c, i, j in np.ndindex(y.shape):
        rows = range(i * H // OH, math.ceil((i + 1) * H / OH))
        y[n, c, i, j] = max(x[n, c, h, w] for h in rows for w in range(j * W // OW, math.ceil((j + 1) * W / OW)))
    return y


def each(function, x):
    return np.array([function(float(v)) for v in x.flat]).reshape(x.shape)


def sigmoid(x):
    return each(lambda v: 1 / (1 + math.exp(-v)), x)


def erf(x):
    return each(math.erf, x)


def softplus(x, beta, threshold):
    return each(lambda v: v if beta * v > threshold else math.log(1 + math.exp(beta * v)) / beta, x)


def leaky_relu(x, slope):
    y, slope = np.empty_like(x), np.broadcast_to(slope, x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] * (1 if x[index] > 0 else slope[index])
    return y


def elu(x, alpha):
    return each(lambda v: v if v > 0 else alpha * (math.exp(v) - 1), x)


def gelu(x):
    return each(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2, x)


def gelu_tanh(x):
    return each(lambda v: v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))), x)


def silu(x):
    return each(lambda v: v / (1 + math.exp(-v)), x)


def hardtanh(x, low, high):
    return each(lambda v: low if v < low else high if v > high else v, x)


def clip(x, low, high):
    return hardtanh(x, -math.inf if low is None else low, math.inf if high is None else high)


def hardswish(x):
    return each(lambda v: 0.0 if v < -3 else v if v > 3 else v * (v + 3) / 6, x)


def dropout(x, keep, p):
    y = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        if np.broadcast_to(keep, x.shape)[index] and p < 1:
            y[index] = x[index] / (1 - p)
    return y


def binary_cross_entropy(p, t):
    y = np.empty_like(p)
    for i in np.ndindex(p.shape):
        y[i] = -t[i] * math.log(p[i]) - (1 - t[i]) * math.log(1 - p[i])
    return y


def huber(x, t, delta):
    y = np.empty_like(x)
    for i in np.ndindex(x.shape):
        d = abs(x[i] - t[i])
        y[i] = d * d / 2 if d <= delta else delta * (d - delta / 2)
    return y


def sigmoid_cross_entropy(x, t, pos_weight):
    w = np.broadcast_to(pos_weight, x.shape)
    y, p = np.empty_like(x), sigmoid(x)
    for i in np.ndindex(x.shape):
        y[i] = -w[i] * t[i] * math.log(p[i]) - (1 - t[i]) * math.log(1 - p[i])
    return y


def normalize(x, axes, eps):
    y = np.empty_like(x)
    inner = [a % x.ndim for a in axes]
    for index in np.ndindex(x.shape):
        line = x[tuple(slice(None) if a in inner else i for a, i in enumerate(index))]
        mean = math.fsum(line.flat) / line.size
        var = math.fsum((v - mean) ** 2 for v in line.flat) / line.size
        y[index] = (x[index] - mean) / math.sqrt(var + eps)
    return y


def local_response_norm(x, size, alpha, beta, k):
    """The sum of Krizhevsky et al. 2012, section 3.3, with alpha / size for their alpha."""
    y = np.empty_like(x)
    for n, c, *rest in np.ndindex(x.shape):
        first, last = max(0, c - size // 2), min(x.shape[1], c + (size - 1) // 2 + 1)
        squares = sum(x[(n, j, *rest)] ** 2 for j in range(first, last))
        y[(n, c, *rest)] = x[(n, c, *rest)] / (k + alpha / size * squares) ** beta
    return y


def batch_norm(x, gamma, beta, eps):
    """Algorithm 1, one channel at a time."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].flat]
        mean = math.fsum(values) / len(values)
        var = math.fsum((v - mean) ** 2 for v in values) / len(values)
        normal = [(v - mean) / math.sqrt(var + eps) * gamma[c] + beta[c] for v in values]
        y[:, c] = np.reshape(normal, x[:, c].shape)
    return y


def batch_norm_inference(x, gamma, beta, mean, var, eps):
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        c = index[1]
        y[index] = gamma[c] * (x[index] - mean[c]) / math.sqrt(var[c] + eps) + beta[c]
    return y


def softmax(x, axis):
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        line = tuple(slice(None) if i == axis % x.ndim else k for i, k in enumerate(index))
        y[index] = math.exp(x[index]) / sum(math.exp(v) for v in x[line])
    return y


def log_softmax(x, axis):
    return np.log(softmax(x, axis))


def cross_entropy(x, q):
    p = softmax(x, 1)
    return np.array([-sum(q[i, c] * math.log(p[i, c]) for c in range(x.shape[1])) for i in range(len(x))])


def linear(x, weight, bias):
    y = np.zeros((*x.shape[:-1], len(weight)))
    for index in np.ndindex(y.shape):
        *lead, o = index
        y[index] = sum(x[(*lead, i)] * weight[o, i] for i in range(weight.shape[1])) + (0 if bias is None else bias[o])
    return y


def matmul(x, w):
    rows = x[None] if x.ndim == 1 else x
    columns = w[:, None] if w.ndim == 1 else w
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    rows = np.broadcast_to(rows, (*batch, *rows.shape[-2:]))
    columns = np.broadcast_to(columns, (*batch, *columns.shape[-2:]))
    y = np.zeros((*batch, rows.shape[-2], columns.shape[-1]))
    for index in np.ndindex(y.shape):
        *lead, i, j = index
        y[index] = sum(rows[(*lead, i, k)] * columns[(*lead, k, j)] for k in range(rows.shape[-1]))
    if x.ndim == 1:
        y = y[..., 0, :]
    return y[..., 0] if w.ndim == 1 else y
