"""Whitening: decorrelated features of variance 1, forward and backward through the eigendecomposition.

With x̄ = x - mean, Σ = x̄ᵀx̄ / m + ε I = U Λ Uᵀ and y = x̄ Wᵀ:

    ZCA  W = U Λ^(-1/2) Uᵀ  (of all whitenings the one that moves x least)
    PCA  W = Λ^(-1/2) Uᵀ    (the coordinates are the principal components)

Source: Kessy, Lewin & Strimmer 2018 (arXiv 1512.00809) for W; derivatives of a function of a symmetric matrix:
Daleckii & Krein 1965; of eigenvectors: Magnus 1985.
"""

import numpy as np

from minidl.kernels import kernel


def whitening_matrix(cov, mode):
    """W (D, D), the eigenvalues (D,) in ascending order and the eigenvectors U (D, D) as columns."""
    values, U = np.linalg.eigh(cov)
    if mode == "pca":  # eigenvectors have no sign of their own: the largest component of each is positive
        largest = np.argmax(np.abs(U), axis=0)
        U = U * np.sign(U[largest, np.arange(len(U))])
        return (U / np.sqrt(values)).T, values, U
    return (U / np.sqrt(values)) @ U.T, values, U


@kernel(
    mean=r"\frac{1}{m} \sum x",
    x_bar="x - mean",
    cov=r"\frac{1}{m} x_bar^T x_bar",
    W=r"U \Lambda^{-1/2} U^T (zca), \; \Lambda^{-1/2} U^T (pca), \; U \Lambda U^T = cov + eps \cdot I",
    y=r"x_bar \, W^T",
)
def whiten_forward(x, *, mode, eps):
    """Whiten rows x (m, D): y (m, D)."""
    # fmt: off
    mean  = np.mean(x, axis=0)
    x_bar = x - mean
    cov   = x_bar.T @ x_bar / len(x)
    W, values, U = whitening_matrix(cov + eps * np.eye(len(cov), dtype=x.dtype), mode)
    y     = x_bar @ W.T
    # fmt: on
    return y, (x_bar, W, values, U, mode, mean, cov)


@kernel(
    dW="dy^T x_bar",
    dcov=r"U (F \cdot U^T dW \, U) U^T (zca), \; U (K \cdot U^T dU + diag(dvalues)) U^T (pca)",
    dx_bar=r"dy \, W + \frac{1}{m} x_bar (dcov + dcov^T)",
    dx=r"dx_bar - \frac{1}{m} \sum dx_bar",
)
def whiten_backward(dy, saved, needs):
    """Through y = x̄ Wᵀ directly, and through W, Λ and U to Σ."""
    x_bar, W, values, U, mode, _, _ = saved
    root, m = np.sqrt(values), len(x_bar)
    dW = dy.T @ x_bar
    if mode == "zca":
        # fmt: off
        F    = -1 / (root[:, None] * root * (root[:, None] + root))      # (f(λi) - f(λj)) / (λi - λj), f(λ) = λ^(-1/2)
        dcov = U @ (F * (U.T @ dW @ U)) @ U.T
        # fmt: on
    else:
        # fmt: off
        dU      = dW.T / root                                            # W = Λ^(-1/2) Uᵀ
        dvalues = -0.5 * np.sum(dW.T * U, axis=0) / root**3
        gaps    = values - values[:, None]
        K       = np.where(gaps == 0, 0, 1 / np.where(gaps == 0, 1, gaps))  # equal eigenvalues have no derivative
        dcov    = U @ (K * (U.T @ dU) + np.diag(dvalues)) @ U.T
        # fmt: on
    dx_bar = dy @ W + x_bar @ (dcov + dcov.T) / m
    return (dx_bar - np.mean(dx_bar, axis=0),)
