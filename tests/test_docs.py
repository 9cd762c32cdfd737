"""The documentation's own code: docstrings become reStructuredText, and no file of equations is forgotten."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
OPS = Path(__file__).parents[1] / "minidl" / "ops"


@pytest.fixture(scope="module")
def translate():
    sys.path.insert(0, str(DOCS))
    try:
        from docstrings import to_restructured_text
    finally:
        sys.path.remove(str(DOCS))
    return lambda text, *names: "\n".join(to_restructured_text(text.split("\n"), set(names))).strip()


def test_what_means_something_to_restructured_text_stands_for_itself(translate):
    assert translate("|x - y| <= atol * y_ and **options") == r"\|x - y\| \<= atol \* y\_ and \*\*options"


def test_code_in_backticks_becomes_a_link_or_code(translate):
    assert translate("See `nn.Linear`: `x + 1`.") == "See :py:obj:`nn.Linear`: :code:`x + 1`."
    assert translate("the `x`s").startswith("the :py:obj:`x`\\ s")


def test_several_names_on_a_line(translate):
    text = "Sentence.\n\nArgs:\n    x: (..., IN). weight, bias: (OUT,)\n        or None. Note: no name.\n"
    assert translate(text, "x", "weight", "bias").split("\n") == [
        "Sentence.",
        "",
        ":Parameters:",
        "    * **x**: (..., IN).",
        "    * **weight**, **bias**: (OUT,) or None. Note: no name.",
    ]


def test_equations_keep_their_lines(translate):
    assert translate("Both:\n\n    a  = 1\n    bc = 2\n\nEnd.") == "Both:\n\n::\n\n    a  = 1\n    bc = 2\n\nEnd."
    assert translate("v = m v + g\nw = w - lr v").split("\n") == ["::", "", "    v = m v + g", "    w = w - lr v"]


def test_returns_is_a_field(translate):
    assert translate("Do.\n\nReturns:\n    (N, *).\n\nRaises:\n    ValueError, TypeError: bad.") == (
        "Do.\n\n:Returns: (N, \\*).\n\n:Raises:\n    * **ValueError**, **TypeError**: bad."
    )


def test_every_file_of_equations_is_on_the_page():
    page = (DOCS / "equations.md").read_text(encoding="utf-8")
    files = [path.stem for path in OPS.glob("*.py") if "@kernel(" in path.read_text(encoding="utf-8")]
    assert len(files) > 10
    assert [name for name in files if f"{{equations}} minidl.ops.{name}\n" not in page] == []
