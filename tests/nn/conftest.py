"""Every test draws the same random numbers, alone or after others; PyTorch leaves the cores to the kernels."""

import pytest

import minidl


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
