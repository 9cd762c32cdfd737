import os
from pathlib import Path

import pytest
from cifar_files import RECORDS, cifar_batches

from minidl.data import cifar10


@pytest.fixture
def small_cifar(monkeypatch):
    """Let each CIFAR-10 file hold 40 records instead of 10,000, and return the content of all six."""
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    return cifar_batches(RECORDS)


@pytest.fixture(scope="session")
def real_data():
    folder = os.environ.get("MINIDL_DATA")
    if not folder:
        pytest.skip("MINIDL_DATA is not set: the real files are not tested")
    return Path(folder)
