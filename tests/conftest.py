"""Settings for all tests: seeded, no windows, and PyTorch leaves the cores to the kernels."""

import importlib.util
import os

import pytest

import minidl

os.environ.setdefault("MPLBACKEND", "agg")

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)  # its threads spin, and slow everything else down


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, alone or after others."""
    minidl.manual_seed(0)
