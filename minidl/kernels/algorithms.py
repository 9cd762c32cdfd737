"""Which algorithm convolutions take."""

__all__ = ["ALGORITHMS", "get_conv_algorithm", "set_conv_algorithm"]

ALGORITHMS = ("auto", "direct", "winograd", "text")
_algorithm = "auto"


def get_conv_algorithm() -> str:
    """Return what `set_conv_algorithm` has set."""
    return _algorithm


def set_conv_algorithm(algorithm: str) -> None:
    """Choose how convolutions are computed on the CPU, in all threads from now on.

    Args:
        algorithm: "winograd" takes F(4x4, 3x3) and F(2x2, 5x5) wherever it can (float32, stride and dilation 1, no
            groups, channels a multiple of the vector's lanes), whose rounding errors are a few times larger and where
            one NaN or Inf reaches all outputs of its tile; "direct" never does; "auto" does where it is faster;
            "text" runs the plain text.

    Raises:
        ValueError: another name.
    """
    global _algorithm
    if algorithm not in ALGORITHMS:
        raise ValueError(f"set_conv_algorithm: algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    _algorithm = algorithm
