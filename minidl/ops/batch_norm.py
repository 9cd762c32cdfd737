"""Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167), for x (N, D), and per channel for (N, C, ...).

Training is Algorithm 1 and the six derivatives of section 3; evaluation is a fixed linear transform (Algorithm 2, 11).
"""

import numpy as np

from minidl.kernels import kernel


def batch_axes(x):
    """Everything but the channel axis: the m values that share one mean."""
    return (0, *range(2, x.ndim))


def per_channel(v, x):
    """View v (C,) so that it broadcasts along axis 1 of x."""
    return np.reshape(v, (-1,) + (1,) * (x.ndim - 2))


@kernel(
    mean=r"\frac{1}{m} \sum x",
    var=r"\frac{1}{m} \sum (x - mean)^2",
    inv_std=r"\frac{1}{\sqrt{var + eps}}",
    x_hat=r"(x - mean) \cdot inv_std",
    y=r"gamma \cdot x_hat + beta",
)
def batch_norm_forward(x, gamma, beta, *, eps):
    """Algorithm 1; `var` is the biased variance of the mini-batch."""
    axes = batch_axes(x)
    # fmt: off
    mean    = np.mean(x, axis=axes, keepdims=True)                  # mini-batch mean
    var     = np.mean((x - mean) ** 2, axis=axes, keepdims=True)    # mini-batch variance
    inv_std = 1 / np.sqrt(var + eps)
    x_hat   = (x - mean) * inv_std                                  # normalize
    y       = per_channel(gamma, x) * x_hat + per_channel(beta, x)  # scale and shift
    # fmt: on
    return y, (x, gamma, mean, var, inv_std)


@kernel(
    dx_hat=r"dy \cdot gamma",
    dvar=r"-\frac{1}{2} inv_std^3 \sum dx_hat \cdot (x - mean)",
    dmean=r"-inv_std \sum dx_hat + dvar \cdot \frac{1}{m} \sum -2 (x - mean)",
    dx=r"dx_hat \cdot inv_std + dvar \cdot \frac{2}{m} (x - mean) + \frac{1}{m} dmean",
    dgamma=r"\sum dy \cdot x_hat",
    dbeta=r"\sum dy",
)
def batch_norm_backward(dy, saved, needs):
    """The six derivatives, in the paper's order; sums run over the m values of a channel."""
    x, gamma, mean, var, inv_std = saved
    axes = batch_axes(x)
    m = max(1, x.shape[0] * int(np.prod(x.shape[2:])))

    def total(v):
        return np.sum(v, axis=axes, keepdims=True)

    x_hat = (x - mean) * inv_std
    # fmt: off
    dx_hat = dy * per_channel(gamma, x)
    dvar   = total(dx_hat * (x - mean)) * -0.5 * inv_std**3
    dmean  = total(dx_hat) * -inv_std + dvar * total(-2 * (x - mean)) / m
    dx     = dx_hat * inv_std + dvar * 2 * (x - mean) / m + dmean / m
    dgamma = np.reshape(total(dy * x_hat), gamma.shape)
    dbeta  = np.reshape(total(dy), gamma.shape)
    # fmt: on
    return tuple(d if need else None for d, need in zip((dx, dgamma, dbeta), needs, strict=True))


@kernel(running=r"(1 - momentum) \cdot running + momentum \cdot correction \cdot new")
def move_running(running, new, *, momentum, correction):
    """Move running statistics towards a mini-batch's, in place; `correction` is Bessel's m / (m - 1) for a variance."""
    running *= 1 - momentum
    running += momentum * (new * correction)


@kernel(inv_std=r"\frac{1}{\sqrt{var + eps}}", x_hat=r"(x - mean) \cdot inv_std", y=r"gamma \cdot x_hat + beta")
def batch_norm_inference_forward(x, gamma, beta, mean, var, *, eps):
    """y = γ (x - E[x]) / √(Var[x] + ε) + β with population statistics mean, var (C,)."""
    inv_std = 1 / np.sqrt(var + eps)
    x_hat = (x - per_channel(mean, x)) * per_channel(inv_std, x)
    return per_channel(gamma, x) * x_hat + per_channel(beta, x), (x, gamma, mean, inv_std)


@kernel(
    dx=r"dy \cdot gamma \cdot inv_std",
    dgamma=r"\sum dy \cdot x_hat",
    dbeta=r"\sum dy",
    dmean=r"-gamma \cdot inv_std \cdot \sum dy",
    dvar=r"-\frac{1}{2} gamma \cdot inv_std^2 \cdot \sum dy \cdot x_hat",
)
def batch_norm_inference_backward(dy, saved, needs):
    x, gamma, mean, inv_std = saved
    axes = batch_axes(x)
    scale = gamma * inv_std  # (C,)
    dx = dgamma = dbeta = dmean = dvar = None
    x_hat = (x - per_channel(mean, x)) * per_channel(inv_std, x)
    if needs[0]:
        dx = dy * per_channel(scale, x)
    if needs[1] or needs[4]:
        dgamma = np.sum(dy * x_hat, axis=axes)
    if needs[2] or needs[3]:
        dbeta = np.sum(dy, axis=axes)
    if needs[3]:
        dmean = -scale * dbeta
    if needs[4]:
        dvar = -0.5 * gamma * inv_std**2 * dgamma
    return dx, dgamma if needs[1] else None, dbeta if needs[2] else None, dmean, dvar
