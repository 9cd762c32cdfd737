"""Whether there is a GPU, under PyTorch's names; Tensors live in NumPy arrays, so far."""

__all__ = ["device_count", "is_available"]


def is_available() -> bool:
    """Tell whether Tensors can live on a GPU: not yet."""
    return False


def device_count() -> int:
    """Count the GPUs that Tensors can live on: 0."""
    return 0
