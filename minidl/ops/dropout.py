"""Dropout (Srivastava et al. 2014), scaled so that nothing is left to do in evaluation ("inverted")."""

from minidl.kernels import kernel


@kernel(y=r"\frac{x \cdot keep}{1 - p}")
def dropout_forward(x, keep, *, p):
    """y = x keep / (1 - p): each element of `keep` is False with probability p, drawn by the caller."""
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * keep * scale, (keep, scale)


@kernel(dx=r"\frac{dy \cdot keep}{1 - p}")
def dropout_backward(dy, saved, needs):
    keep, scale = saved
    return dy * keep * scale, None
