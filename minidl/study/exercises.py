"""Exercises of the notebooks: a reader's answer is tried, and told what does not hold yet."""

from collections.abc import Callable
from typing import Any

__all__ = ["check"]


def check(answer: Callable[..., Any], **tests: Callable[[Callable[..., Any]], Any]) -> None:
    """Try an answer, and print whether it is right; it never raises.

        check(sigmoid_backward, shape=lambda f: f(dy, y).shape == dy.shape, values=lambda f: np.allclose(f(dy, y), dx))

    Prints "sigmoid_backward: right", or "sigmoid_backward: not yet" with the first test that does not hold.

    Args:
        answer: the reader's function; one that raises NotImplementedError is not written yet.
        tests: each is called with the answer and returns whether it holds; its name tells the reader what it looks at.
    """
    print(f"{answer.__name__}: {verdict(answer, tests)}")


def verdict(answer: Callable[..., Any], tests: dict[str, Callable[[Callable[..., Any]], Any]]) -> str:
    for name, test in tests.items():
        try:
            holds = bool(test(answer))
        except NotImplementedError:
            return "not yet"
        except Exception as error:
            return f"not yet; {name} ends in {type(error).__name__}: {error}"
        if not holds:
            return f"not yet; {name} does not hold"
    return "right"
