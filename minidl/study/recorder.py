"""Recording how a network learns: activations and gradients by layer and step, and what the steps do to the weights."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.nn.module import Module
from minidl.study.distribution import Distribution
from minidl.study.recording import QUANTILES, Recording
from minidl.tensor import Tensor
from minidl.watch import here, watch

__all__ = ["Recorder"]

RECORDED = ("conv2d", "linear", "batch_norm", "batch_norm_inference", "relu", "sigmoid", "tanh")


class Recorder:
    """Record training steps of a model: `with recorder.step(): loss.backward(); optimizer.step()`.

    On every `every`-th step the numbers of each chosen operation's output, and of the gradient by it, stream by once,
    and leave their norm, mean, standard deviation, quantiles (within 1 %), a histogram, and the fraction of channels
    that are 0 (dead units). After the step each parameter's gradient norm, norm, and the ratio of update to norm are
    noted. Steps in between cost next to nothing.

    Args:
        model: the network.
        every: record one of so many steps, beginning with the first.
        operations: names of the operations whose outputs are recorded.
        bins: of the histograms.

    Attributes:
        recording: what was recorded, with plots (see `minidl.study.recording.Recording`).
        steps: the number of steps so far, recorded or not.
    """

    def __init__(self, model: Module, every: int = 10, operations: Sequence[str] = RECORDED, bins: int = 64):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Recorder: every must be a positive integer, got {every!r}")
        self.model, self.every, self.operations = model, every, tuple(operations)
        self.names = {id(module): name for name, module in model.named_modules()}
        self.recording, self.steps = Recording(every, bins), 0

    def resume(self, step: int, recording: Recording | None = None) -> None:
        """Count on from `step`, in a recording of the same network whose later steps are forgotten.

        Args:
            step: the number of the next step.
            recording: by default that of this recorder; its `every` and `bins` hold from now on.
        """
        if recording is not None:
            self.recording, self.every = recording, recording.every
        self.recording.forget(step)
        self.steps = step

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count a step, and record what happens inside if its turn has come."""
        number, self.steps = self.steps, self.steps + 1
        if number % self.every:
            yield
            return
        before = {name: p.array.copy() for name, p in self.model.named_parameters()}
        self.recording.begin(number)
        met: dict[str, int] = {}

        def look(op: Any, inputs: tuple, options: dict, output: Tensor, saved: Any) -> None:
            if op.__name__ in self.operations and (name := self.name_of(op.__name__, met)) is not None:
                self.recording.operations[name] = op.__name__
                self.note("activation", name, output)
                if output.requires_grad:
                    output.register_hook(lambda dy: self.note("gradient", name, dy))

        try:
            with watch(look):
                yield
        except BaseException:
            self.recording.forget(number)  # half a step is none
            raise
        for name, p in self.model.named_parameters():
            norm = float(np.linalg.norm(before[name]))
            change = float(np.linalg.norm(p.array - before[name]))
            gradient = np.nan if p.grad is None else float(np.linalg.norm(p.grad.array))
            self.recording.add_parameter(name, norm, gradient, change / norm if norm else np.nan)

    def note(self, kind: str, name: str, values: Tensor) -> None:
        self.recording.add(kind, name, summary(values.array, self.recording.bins))

    def name_of(self, operation: str, met: dict[str, int]) -> str | None:
        """The path of the module that runs, with the operation where the module runs others too; None outside."""
        path = next((self.names[id(m)] for m in reversed(here.modules) if id(m) in self.names), None)
        if path is None:
            return None
        module = here.modules[-1]
        name = f"{path}:{operation}" if module._modules or not path else path
        met[name] = met.get(name, 0) + 1
        return name if met[name] == 1 else f"{name}#{met[name]}"

    def save(self, path: str | os.PathLike) -> None:
        """Write the recording to a file; see `Recording.save`."""
        self.recording.save(path)


@np.errstate(all="ignore")  # a run that diverges is worth looking at too
def summary(x: np.ndarray, bins: int) -> dict[str, Any]:
    """Norm, mean, standard deviation, quantiles, histogram, fraction of channels that are 0."""
    rows = (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).reshape(-1, x.shape[1] if x.ndim > 1 else 1)
    found = Distribution(rows)
    counts, edges = found.histogram(bins)
    return {
        "norm": found.norm,
        "mean": found.mean,
        "std": found.std,
        "quantiles": found.quantiles(QUANTILES),
        "histogram": counts,
        "edges": edges,
        "dead": found.dead,
    }
