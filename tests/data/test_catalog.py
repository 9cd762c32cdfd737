import numpy as np
import pytest

import minidl.data
from minidl.data import CIFAR10, DATASETS, MNIST, Shapes10, available, cache_folder, find


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Point every place that `find` looks at into the temporary folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {
        "folder": tmp_path / "folder",
        "environment": tmp_path / "environment",
        "working folder": tmp_path / "work" / "data",
        "cache": tmp_path / "cache" / "minidl",
    }


def put(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar10", "test_batch.bin"),
        ("cifar10", "data_batch_1"),
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("mnist", "t10k-images.idx3-ubyte"),
    ],
)
def test_places_are_searched_in_order(name, file, places):
    assert find(name, places["folder"]) is None
    for place in reversed(places.values()):
        put(place, file)
        found = find(name, places["folder"])
        assert found is not None and found.resolve() == place.resolve()
    assert find(name).resolve() == places["environment"].resolve()


def test_available(places):
    assert available() == {"shapes10": None}
    put(places["cache"], "cifar-10-binary.tar.gz")
    assert available() == {"cifar10": places["cache"], "shapes10": None}
    assert find("shapes10", places["folder"]) is None


def test_cache_folder_without_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "minidl"


def test_registry_and_names():
    assert list(DATASETS.items()) == [("cifar10", CIFAR10), ("mnist", MNIST), ("shapes10", Shapes10)]
    with pytest.raises(ValueError, match="name must be one of cifar10, mnist, shapes10, got 'cifar'"):
        find("cifar")
    assert all(hasattr(minidl.data, name) for name in minidl.data.__all__)
    np.testing.assert_equal(sorted(minidl.data.__all__), sorted(set(minidl.data.__all__)))
