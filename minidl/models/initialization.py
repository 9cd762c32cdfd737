"""Initial weights that the networks share."""

from minidl.nn import Conv2d, Module, init

__all__ = ["he_init"]


def he_init(module: Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): convolutions from N(0, 2 / fan_in), biases 0; linear layers stay."""
    if isinstance(module, Conv2d):
        init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            init.zeros_(module.bias)
