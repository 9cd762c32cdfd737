"""The whitening layer: what batch norm leaves out, correlations between features, at its full price."""

from typing import Any

import numpy as np

from minidl.autograd import differentiable
from minidl.creation import from_numpy, zeros
from minidl.nn import functional as F
from minidl.nn.checks import require
from minidl.nn.module import Module
from minidl.nn.norm import update_running
from minidl.ops.whitening import whiten_backward, whiten_forward, whitening_matrix

__all__ = ["Whitening", "whiten"]

MODES = ("zca", "pca")
_whiten = differentiable(whiten_forward, whiten_backward)


def whiten(x: Any, mode: str = "zca", eps: float = 1e-5) -> Any:
    """Whiten rows: y = (x - mean) Wᵀ has mean 0 and covariance I (up to eps), gradients flow through W.

    Args:
        x: (m, D), more rows than columns.
        mode: "zca" or "pca" (see minidl.ops.whitening).
        eps: added to the diagonal of the covariance.

    Raises:
        ValueError, TypeError: x is not a floating-point matrix of 2 rows or more, or another mode.
    """
    require("whiten", x=x)
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(f"whiten: x must have shape (m, D) with m >= 2, got {x.shape}")
    if mode not in MODES:
        raise ValueError(f"whiten: mode must be 'zca' or 'pca', got {mode!r}")
    return _whiten(x, mode=mode, eps=eps)


class Whitening(Module):
    """Whiten features, the channels of each pixel, or patches; in evaluation with running statistics.

    Args:
        num_features: D: features of x (N, D), channels of x (N, D, H, W), or with patch_size the channels C.
        mode: "zca" (default) or "pca".
        eps: added to the diagonal of the covariance.
        momentum: weight of the new batch in the running mean and covariance.
        patch_size: k: whiten the C k² numbers of each k x k patch of images whose sides are multiples of k.

    Its cost beside batch norm's: D² instead of D numbers of statistics, m D² instead of m D multiply-adds, and an
    eigendecomposition of D³.
    """

    def __init__(
        self,
        num_features: int,
        mode: str = "zca",
        eps: float = 1e-5,
        momentum: float = 0.1,
        patch_size: int | None = None,
        dtype: Any = np.float32,
    ):
        super().__init__()
        for name, value in dict(num_features=num_features, patch_size=1 if patch_size is None else patch_size).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Whitening: {name} must be a positive integer, got {value!r}")
        if mode not in MODES:
            raise ValueError(f"Whitening: mode must be 'zca' or 'pca', got {mode!r}")
        self.num_features, self.mode, self.eps, self.momentum = num_features, mode, eps, momentum
        self.patch_size = patch_size
        D = num_features * (patch_size or 1) ** 2
        self.register_buffer("running_mean", zeros(D, dtype=dtype))
        self.register_buffer("running_cov", from_numpy(np.eye(D, dtype=dtype)))

    def forward(self, x: Any) -> Any:
        ndims = (4,) if self.patch_size else (2, 4)
        if x.ndim not in ndims or x.shape[1] != self.num_features:
            C, k = self.num_features, self.patch_size
            wanted = f"(N, {C}, H, W)" if k else f"(N, {C}) or (N, {C}, H, W)"
            raise ValueError(f"Whitening: x must have shape {wanted}, got {x.shape}")
        if x.ndim == 2:
            return self.rows(x)
        k, (N, C, H, W) = self.patch_size or 1, x.shape
        if H % k or W % k:
            raise ValueError(f"Whitening: the sides of x must be multiples of patch_size {k}, got {x.shape}")
        grid = x.reshape(N, C, H // k, k, W // k, k).permute(0, 2, 4, 1, 3, 5)  # a patch: C k k numbers
        y = self.rows(grid.reshape(-1, C * k * k))
        return y.reshape(N, H // k, W // k, C, k, k).permute(0, 3, 1, 4, 2, 5).reshape(N, C, H, W)

    def rows(self, x: Any) -> Any:
        """Whiten x (m, D)."""
        if not self.training:
            cov = self.running_cov.array
            W, _, _ = whitening_matrix(cov + self.eps * np.eye(len(cov), dtype=cov.dtype), self.mode)
            return F.linear(x - self.running_mean, W)
        require("Whitening", x=x)
        m = x.shape[0]
        if m < 2:
            raise ValueError(f"Whitening: training needs 2 rows or more, got {m}")
        y, (*_, mean, cov) = _whiten.with_saved(x, mode=self.mode, eps=self.eps)
        update_running(self.running_mean, mean, self.momentum)
        update_running(self.running_cov, cov, self.momentum, m / (m - 1))
        return y

    def extra_repr(self) -> str:
        patch = f", patch_size={self.patch_size}" if self.patch_size else ""
        return f"{self.num_features}, mode={self.mode!r}, eps={self.eps}, momentum={self.momentum}{patch}"
