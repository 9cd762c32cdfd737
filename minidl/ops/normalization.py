"""Normalisation within one image: over groups of channels, over a layer, over neighbouring channels."""

import numpy as np

from minidl.kernels import kernel


@kernel(
    mean=r"\frac{1}{m} \sum_{axes} x",
    inv_std=r"\frac{1}{\sqrt{\frac{1}{m} \sum_{axes} (x - mean)^2 + eps}}",
    x_hat=r"(x - mean) \cdot inv_std",
)
def normalize_forward(x, *, axes, eps):
    """x_hat = (x - mean) / √(var + ε), statistics over `axes` (Ba et al. 2016, arXiv 1607.06450; Wu & He 2018)."""
    mean = np.mean(x, axis=axes, keepdims=True)
    inv_std = 1 / np.sqrt(np.mean((x - mean) ** 2, axis=axes, keepdims=True) + eps)
    x_hat = (x - mean) * inv_std
    return x_hat, (x_hat, inv_std, axes)


@kernel(
    dx=r"inv_std \cdot (dx_hat - \frac{1}{m} \sum_{axes} dx_hat - \frac{1}{m} x_hat \sum_{axes} dx_hat \cdot x_hat)"
)
def normalize_backward(dx_hat, saved, needs):
    """dx = inv_std (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)): batch norm's derivatives, collected."""
    x_hat, inv_std, axes = saved

    def mean(v):
        return np.mean(v, axis=axes, keepdims=True)

    return (inv_std * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)),)


def sum_of_neighbours(x, before, after):
    """Σ of x (N, C, ...) over the channels c - before ... c + after, as far as there are any."""
    C, rest = x.shape[1], ((0, 0),) * (x.ndim - 2)
    x_pad = np.pad(x, ((0, 0), (before, after), *rest))
    total = x_pad[:, :C]
    for i in range(1, before + 1 + after):
        total = total + x_pad[:, i : i + C]
    return total


@kernel(d=r"k + \frac{alpha}{size} \sum_{near} x^2", y=r"x \cdot d^{-beta}")
def local_response_norm_forward(x, *, size, alpha, beta, k):
    """y_c = x_c / d_c^β, d_c = k + α/n Σ x_j² over the n channels around c.

    Krizhevsky et al. 2012, section 3.3, where α stands for this α/n; as here in Caffe and PyTorch.
    """
    before, after = size // 2, (size - 1) // 2
    d = k + alpha / size * sum_of_neighbours(x * x, before, after)
    return x * d**-beta, (x, d, size, alpha, beta)


@kernel(
    dx=r"dy \cdot d^{-beta} - \frac{2 \, alpha \, beta}{size} \cdot x \cdot \sum_{near} dy \cdot x \cdot d^{-beta - 1}"
)
def local_response_norm_backward(dy, saved, needs):
    """dx_c = dy_c d_c^-β - 2αβ/n x_c Σ dy_j x_j d_j^(-β-1) over the channels j that x_c counts for."""
    x, d, size, alpha, beta = saved
    before, after = (size - 1) // 2, size // 2
    spread = sum_of_neighbours(dy * x * d ** (-beta - 1), before, after)
    return (dy * d**-beta - 2 * alpha * beta / size * x * spread,)
