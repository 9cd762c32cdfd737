"""Which algorithm convolutions take."""

__all__ = ["ALGORITHMS", "get_conv_algorithm", "set_conv_algorithm"]

ALGORITHMS = ("auto", "direct", "winograd", "text")
_algorithm = "auto"


def get_conv_algorithm() -> str:
    """Return what `set_conv_algorithm` has set."""
    return _algorithm


class set_conv_algorithm:
    """Choose how convolutions are computed on the CPU, in all threads from now on, or until the end of a with block.

    Args:
        algorithm: "winograd" takes F(4x4, 3x3) and F(2x2, 5x5) wherever it can (float32, stride and dilation 1, no
            groups, channels a multiple of the vector's lanes), whose rounding errors are a few times larger and where
            one NaN or Inf reaches all outputs of its tile; "direct" never does; "auto" does where it is faster;
            "text" runs the plain text.

    Raises:
        ValueError: another name.
    """

    def __init__(self, algorithm: str):
        global _algorithm
        if algorithm not in ALGORITHMS:
            raise ValueError(f"set_conv_algorithm: algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
        self._before, _algorithm = _algorithm, algorithm

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        global _algorithm
        _algorithm = self._before
