"""What a gradient check found: a table, its HTML, and the curve of the error against the step size."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.study.table import Table

__all__ = ["GradcheckError", "GradcheckReport", "InputCheck"]

SHOWN = 3  # kinks listed for an input


class GradcheckError(RuntimeError):
    """A gradient differs from finite differences."""


@dataclass
class InputCheck:
    """What was found for one input.

    Attributes:
        name, shape: of the input. checked: elements compared one by one.
        worst: index of the element with the largest relative error, with `backward`, `numeric`, `absolute`, `relative`.
        failures: elements beyond the tolerance.
        kinks: (index, backward, slope below, slope above) of elements where L has no derivative.
        direction: relative error along a random direction, where not every element was compared.
        problem: what else is wrong.
    """

    name: str
    shape: tuple[int, ...]
    checked: int = 0
    worst: tuple[int, ...] | None = None
    backward: float = 0.0
    numeric: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    failures: int = 0
    kinks: list[tuple[tuple[int, ...], float, float, float]] = field(default_factory=list)
    direction: float | None = None
    problem: str = ""

    def add(self, index: tuple[int, ...], backward: float, numeric: float, relative: float, passed: bool) -> None:
        """Count one element, and remember it if it is the worst so far; NaN is worse than everything."""
        self.checked += 1
        self.failures += not passed
        if self.worst is None or not relative <= self.relative:
            self.worst, self.backward, self.numeric = index, backward, numeric
            self.absolute, self.relative = abs(backward - numeric), relative

    @property
    def passed(self) -> bool:
        return not self.failures and not self.problem

    @property
    def verdict(self) -> str:
        if self.problem:
            return f"WRONG: {self.problem}"
        if self.failures:
            ratio = f", backward / differences = {self.backward / self.numeric:.6g}" if self.numeric else ""
            return f"WRONG: {self.failures} of {self.checked} elements{ratio}"
        return "ok" + (f", {len(self.kinks)} at a kink" if self.kinks else "")


class GradcheckReport:
    """The outcome of `gradcheck`: true if every gradient passed.

    Attributes:
        checks: an `InputCheck` for each input. notes: sentences on kinks met by the forward pass.
        rtol, atol: the tolerances. name: what was checked.
    """

    COLUMNS = (
        "input",
        "shape",
        ">checked",
        "worst at",
        ">backward",
        ">differences",
        ">abs error",
        ">rel error",
        "verdict",
    )

    def __init__(self, problem: Any, checks: list[InputCheck], notes: list[str], rtol: float, atol: float):
        self._problem, self.checks, self.notes, self.rtol, self.atol = problem, checks, notes, rtol, atol
        self.name = problem.name

    def __bool__(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> InputCheck:
        """The check of the input with the largest error."""
        return max(self.checks, key=lambda c: (not c.passed, np.inf if np.isnan(c.relative) else c.relative))

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells."""
        table = []
        for c in self.checks:
            at = "" if c.worst is None else "[" + ", ".join(map(str, c.worst)) + "]"
            numbers = [f"{c.backward:.6e}", f"{c.numeric:.6e}", f"{c.absolute:.1e}", f"{c.relative:.1e}"]
            size = int(np.prod(c.shape))
            compared = c.checked + len(c.kinks)
            counted = f"{compared}" if compared >= size else f"{compared} of {size}"
            table.append((c.name, str(tuple(c.shape)), counted, at, *(numbers if at else [""] * 4), c.verdict))
        return table

    def remarks(self) -> list[str]:
        """Sentences below the table."""
        lines = []
        for c in self.checks:
            for index, backward, below, above in c.kinks[:SHOWN]:
                at = f"{c.name}{list(index)} sits on a kink"
                lines.append(f"{at}: slopes {below:.6g} and {above:.6g}, backward {backward:.6g}")
            if len(c.kinks) > SHOWN:
                lines.append(f"{c.name}: {len(c.kinks) - SHOWN} more elements sit on kinks")
            if c.direction is not None:
                lines.append(f"{c.name}: relative error {c.direction:.1e} along a random direction of all elements")
        return lines + self.notes

    def table(self) -> Table:
        """The report as a table."""
        title = f"gradcheck of {self.name}: {'passed' if self else 'FAILED'} (relative tolerance {self.rtol:g})"
        wrong = [i for i, check in enumerate(self.checks) if not check.passed]
        return Table(self.COLUMNS, self.rows(), title, self.remarks(), wrong)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def curve(self, name: str | None = None, steps: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Relative errors of the worst element of an input against the step size.

        Args:
            name: the input; by default the worst one.
            steps: step sizes (default: from 0.1 down to 1e-12).

        Returns:
            Step sizes, errors of the plain central difference (order 2), errors of the four-point one (order 4).

        Raises:
            ValueError: there is no such input, or no element of it was compared.
        """
        check = self.worst if name is None else next((c for c in self.checks if c.name == name), None)
        if check is None or check.worst is None:
            known = ", ".join(c.name for c in self.checks if c.worst is not None)
            raise ValueError(f"curve: no element of an input {name!r} was compared; there are {known}")
        x = self._problem.leaves[check.name]
        steps = np.logspace(-1, -12, 45) if steps is None else np.asarray(steps, float)
        i = int(np.ravel_multi_index(check.worst, check.shape)) if check.shape else 0
        second, fourth = [], []
        for h in steps:
            one, minus, two, minus_two = self._problem.change(x, i, [h, -h, 2 * h, -2 * h])
            second.append((one - minus) / (2 * h))
            fourth.append((8 * (one - minus) - (two - minus_two)) / (12 * h))
        scale = max(abs(check.backward), abs(check.numeric)) or 1.0
        return steps, *(np.abs(np.array(found) - check.backward) / scale for found in (second, fourth))

    def plot(self, names: list[str] | None = None, axes: Any = None) -> Any:
        """Draw the error against the step size: truncation falls with the step, rounding grows; a wrong gradient stays.

        Args:
            names: inputs to draw (default: the worst one).
            axes: matplotlib axes to draw into; by default new ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=(6.4, 4), layout="constrained")[1] if axes is None else axes
        for name in names or [self.worst.name]:
            steps, second, fourth = self.curve(name)
            (line,) = axes.loglog(steps, np.maximum(second, 1e-17), ".-", label=f"{name}: two points")
            axes.loglog(steps, np.maximum(fourth, 1e-17), "x--", color=line.get_color(), label=f"{name}: four points")
        axes.axhline(self.rtol, color="0.5", linewidth=1, label="tolerance")
        axes.set(xlabel="step h", ylabel="relative error", title=f"gradcheck of {self.name}")
        axes.legend()
        return axes
