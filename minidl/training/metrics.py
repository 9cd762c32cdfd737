"""How well a classifier does: loss, top-1 and top-5 accuracy, summed so that a resumed run gets the same numbers."""

from typing import Any

import numpy as np

__all__ = ["Metrics", "topk_accuracy", "topk_correct"]


def topk_correct(logits: Any, labels: Any, k: int = 1) -> int:
    """Count the rows whose label is among the `k` largest logits.

    rank_n = #{c : z_nc > z_n,label} + #{c < label : z_nc = z_n,label},  row n is correct when rank_n < k

    so that k = 1 agrees with argmax (the first of equal logits wins). A row that contains NaN is wrong.

    Args:
        logits: (N, C) Tensor or array.
        labels: (N,) integers in 0 .. C - 1, Tensor or array.
        k: at least 1; a k above C counts as C.

    Raises:
        ValueError, TypeError: shapes, labels or `k` that do not fit.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"topk_correct: k must be a positive integer, got {k!r}")
    z, label = np.asarray(getattr(logits, "array", logits)), np.asarray(getattr(labels, "array", labels))
    if z.ndim != 2 or label.shape != z.shape[:1]:
        raise ValueError(f"topk_correct: logits must be (N, C) and labels (N,), got {z.shape} and {label.shape}")
    if not np.issubdtype(label.dtype, np.integer):
        raise TypeError(f"topk_correct: labels must be integers, got {label.dtype}")
    N, C = z.shape
    if N and not 0 <= label.min() <= label.max() < C:
        raise ValueError(f"topk_correct: labels must be in 0 .. {C - 1}, got {label.min()} .. {label.max()}")
    own = z[np.arange(N), label][:, None]
    ahead = (z > own) | ((z == own) & (np.arange(C) < label[:, None]))
    return int(np.count_nonzero((ahead.sum(1) < k) & ~np.isnan(z).any(1)))


def topk_accuracy(logits: Any, labels: Any, k: int = 1) -> float:
    """Return the share of rows whose label is among the `k` largest logits, in [0, 1]; see `topk_correct`.

    Raises:
        ValueError, TypeError: as `topk_correct`, and for zero rows.
    """
    if not len(labels):
        raise ValueError("topk_accuracy: there are no rows to average over")
    return topk_correct(logits, labels, k) / len(labels)


class Metrics:
    """Loss, top-1 and top-5 over the batches added so far.

    The sums are Python integers and floats, which JSON keeps exactly: a run that stores `state_dict()` in the middle
    of an epoch ends the epoch with the same numbers, bit for bit.
    """

    def __init__(self) -> None:
        self.count, self.loss_sum, self.top1_sum, self.top5_sum = 0, 0.0, 0, 0

    def add(self, loss: float, logits: Any, labels: Any) -> None:
        """Add one batch: its mean loss, logits (N, C) and labels (N,)."""
        self.count += len(labels)
        self.loss_sum += float(loss) * len(labels)
        self.top1_sum += topk_correct(logits, labels, 1)
        self.top5_sum += topk_correct(logits, labels, 5)

    def result(self) -> dict[str, float]:
        """Return {"loss", "top1", "top5"}: the mean loss per image, and accuracies in [0, 1]; NaN before any image."""
        count = self.count or float("nan")
        return {"loss": self.loss_sum / count, "top1": self.top1_sum / count, "top5": self.top5_sum / count}

    def state_dict(self) -> dict[str, int | float]:
        """Return the sums, for JSON."""
        return {"count": self.count, "loss": self.loss_sum, "top1": self.top1_sum, "top5": self.top5_sum}

    def load_state_dict(self, state: dict[str, int | float]) -> None:
        """Restore the sums that `state_dict` returned."""
        self.count, self.loss_sum = int(state["count"]), float(state["loss"])
        self.top1_sum, self.top5_sum = int(state["top1"]), int(state["top5"])
