"""Schedules: the learning rate as a function of the step."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "MultiStepLR", "OneCycleLR"]


class LRScheduler:
    """Base of all schedules: `step()` once per optimizer step (or epoch) sets lr of every group by `rates()`."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rates(self) -> list[float]:
        """The learning rate of each group at `last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__} defines no rates()")

    def step(self) -> None:
        """Go one step on."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.rates(), strict=True):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, as numbers, strings and lists."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; the optimizer's own state dict holds the lr itself.

        Raises:
            ValueError: the keys are not those of this schedule.
        """
        if state_dict.keys() != self.state_dict().keys():
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: got keys {sorted(state_dict)}, "
                f"expected {sorted(self.state_dict())}"
            )
        self.__dict__.update(state_dict)


class MultiStepLR(LRScheduler):
    """Multiply the learning rate by `gamma` at each of the `milestones` (steps)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1):
        milestones = list(milestones)
        if not all(isinstance(m, int | np.integer) for m in milestones):
            raise TypeError(f"MultiStepLR: milestones must be integers, got {milestones}")
        if not isinstance(gamma, int | float | np.number):
            raise TypeError(f"MultiStepLR: gamma must be a number, got {gamma!r}")
        self.milestones, self.gamma = sorted(map(int, milestones)), gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [lr * self.gamma ** bisect_right(self.milestones, self.last_epoch) for lr in self.base_lrs]


class OneCycleLR(LRScheduler):
    """Raise the learning rate from max_lr / div_factor to max_lr, then lower it to initial / final_div_factor.

    Args:
        optimizer: whose groups are set; their momentum is cycled the other way with `cycle_momentum`.
        max_lr: the peak, one number or one per group.
        total_steps: length of the cycle; or epochs and steps_per_epoch.
        pct_start: share of the cycle spent raising.
        anneal_strategy: "cos" or "linear".
        div_factor, final_div_factor: max_lr / initial lr, and initial / final lr.
        three_phase: lower to the initial lr as fast as it was raised, then to the final one.
        cycle_momentum: lower momentum from max_momentum to base_momentum while the rate rises, and back.

    Raises:
        ValueError: options out of range, or a step past the end of the cycle.

    Source: Smith & Topin 2017 (arXiv 1708.07120), in PyTorch's form.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
                if not isinstance(value, int) or value <= 0:
                    raise ValueError(f"OneCycleLR: {name} must be a positive integer, got {value!r}")
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps <= 0:
            raise ValueError(f"OneCycleLR: total_steps must be a positive integer, got {total_steps!r}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if not value > 0:
                raise ValueError(f"OneCycleLR: {name} must be > 0, got {value}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"OneCycleLR: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        groups = optimizer.param_groups
        peaks = list(max_lr) if isinstance(max_lr, list | tuple) else [max_lr] * len(groups)
        if len(peaks) != len(groups):
            raise ValueError(f"OneCycleLR: max_lr has {len(peaks)} values for {len(groups)} groups")
        self.total_steps, self.anneal_strategy, self.three_phase = total_steps, anneal_strategy, three_phase
        top = pct_start * total_steps - 1  # the step of the peak
        self.ends = [top, 2 * top, total_steps - 1] if three_phase else [top, total_steps - 1]
        self.max_lrs = peaks
        self.initial_lrs = [peak / div_factor for peak in peaks]
        self.final_lrs = [lr / final_div_factor for lr in self.initial_lrs]
        self.cycle_momentum, self.momenta = cycle_momentum, [base_momentum, max_momentum]
        if cycle_momentum and any("momentum" not in group for group in groups):
            raise ValueError("OneCycleLR: cycle_momentum=True needs an optimizer with momentum")
        if last_epoch == -1:
            for group, lr in zip(groups, self.initial_lrs, strict=True):
                group["initial_lr"] = lr
        super().__init__(optimizer, last_epoch)

    def along(self, *values: float) -> float:
        """The value at this step of a quantity that starts at the first and reaches one after the other at `ends`."""
        phase = next((i for i, end in enumerate(self.ends) if self.last_epoch <= end), len(self.ends) - 1)
        start, end = self.ends[phase - 1] if phase else 0.0, self.ends[phase]
        # The one step() after the cycle stays at its end, where PyTorch goes on in the same line, below 0.
        share = min(1.0, (self.last_epoch - start) / (end - start)) if end != start else 1.0
        return self.anneal(values[phase], values[phase + 1], share)

    def anneal(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    def rates(self) -> list[float]:
        if self.last_epoch > self.total_steps:  # one step() after the last optimizer step is allowed, as in PyTorch
            raise ValueError(f"OneCycleLR: step {self.last_epoch} is past the cycle of {self.total_steps} steps")
        if self.cycle_momentum:
            low, high = self.momenta
            for group in self.optimizer.param_groups:
                group["momentum"] = self.along(high, low, *[high] * (len(self.ends) - 1))
        return [
            self.along(initial, peak, *[initial] * self.three_phase, final)
            for initial, final, peak in zip(self.initial_lrs, self.final_lrs, self.max_lrs, strict=True)
        ]
