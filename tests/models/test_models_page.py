"""docs/models.md is what its script writes, and the counts are those that are expected."""

import importlib.util
import re
from pathlib import Path

import pytest

from minidl import models

DOCS = Path(__file__).parents[2] / "docs"

specification = importlib.util.spec_from_file_location("make_models_page", DOCS / "make_models_page.py")
script = importlib.util.module_from_spec(specification)
specification.loader.exec_module(script)


@pytest.fixture(scope="module")
def page():
    return script.page()


def test_the_page_is_up_to_date(page):
    assert (DOCS / "models.md").read_text(encoding="utf-8") == page, "run: python docs/make_models_page.py"


def rows(page):
    """(name, parameters, expected, multiply-adds, expected) of each network."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].startswith("`"):
            yield re.match("`(\\w+)`", cells[0])[1], *cells[2:6]


def test_every_network_is_on_the_page(page):
    assert {name for name, *_ in rows(page)} == set(models.list_models())


def test_counts_are_the_expected_ones(page):
    """Exact numbers stand in brackets; rounded ones are the papers', which cut 3.858 to 3.8."""
    compared = 0
    for name, parameters, expected, multiply_adds, expected_multiply_adds in rows(page):
        for found, wanted in ((parameters, expected), (multiply_adds, expected_multiply_adds)):
            for exact in re.findall(r"\((.*?)\)", wanted):
                assert found in (exact, f"{exact} G"), name
                compared += 1
            rounded = re.match(r"([\d.]+) ([MG])", wanted)
            if rounded:
                value = float(found.replace(",", "")) / 1e6 if found == parameters else float(found.split()[0])
                unit = 1 if rounded[2] == "M" or found != parameters else 1e3
                assert abs(value / unit - float(rounded[1])) < 0.02 * float(rounded[1]), name
                compared += 1
    assert compared > 50


def test_weights_are_drawn_again_afterwards(page):
    weights = models.lenet_caffe().conv1.weight.detach().numpy()
    assert abs(weights).max() > 0.1 and weights.std() > 0.1
