"""`minidl bench` in small: both libraries compute the same, a wrong network is noticed, the report is complete."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.bench import compare, job, layers, networks, operations, sides
from minidl.bench.memory import peak_memory
from minidl.bench.networks import WORKS, Work
from minidl.cli import main

torch = pytest.importorskip("torch")


def small(name, **changes):
    """A work with few images, and smaller ones where the network allows it."""
    return replace(WORKS[name], batch=8 if WORKS[name].batch > 1 else 1, **changes)


@pytest.fixture
def quick(monkeypatch):
    """Two small works, no warming up, one step per turn."""
    works = {"lenet": small("lenet"), "resnet20-infer-1": small("resnet20-infer-1")}
    monkeypatch.setattr(compare, "WORKS", works)
    monkeypatch.setattr("minidl.cli.bench.WORKS", works)
    monkeypatch.setattr(compare, "PAUSE", 0)
    monkeypatch.setattr(layers, "PAUSE", 0)
    monkeypatch.setattr(layers, "LAYERS", [(2, 3, 4, 8, 3, 1), (2, 4, 4, 8, 1, 2)])
    monkeypatch.setattr("minidl.cli.bench.LAYERS", layers.LAYERS)
    monkeypatch.setattr(layers, "LINEARS", [(3, 4, 5)])
    monkeypatch.setattr(layers, "peak", lambda: 100.0)
    monkeypatch.setattr("minidl.cli.bench.peak", lambda: 100.0)
    monkeypatch.setattr("minidl.cli.bench.bandwidth", lambda: 10.0)


@pytest.mark.parametrize("name", WORKS)
def test_both_libraries_compute_the_same(name):
    work = small(name, image=(256, 8, 8)) if name == "bottleneck" else small(name)
    other, weights = sides.torch_side(work, "eager channels_last")
    own = sides.minidl_side(work, weights)
    assert compare.check(own.first(), other.first()) < compare.TOLERANCE
    own.step(), other.step()
    if work.train and work.classes:
        assert own.step() == pytest.approx(other.step(), rel=0.05)


def test_a_wrong_network_is_noticed():
    work = small("lenet")
    other, weights = sides.torch_side(work, "eager NCHW")
    weights["fc2.weight"] = weights["fc2.weight"] * 1.2
    own = sides.minidl_side(work, weights)
    with pytest.raises(ValueError, match="do not compute the same"):
        compare.check(own.first(), other.first())
    with pytest.raises(ValueError, match="name different things"):
        compare.differences({"a": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(ValueError, match=r"shape \(2,\) in minidl and \(3,\)"):
        compare.differences({"a": np.ones(2)}, {"a": np.ones(3)})


def test_rounding_errors_of_gradients_that_are_zero_do_not_count():
    found = compare.check({"a": np.ones(3), "b": np.full(3, 2e-7)}, {"a": np.ones(3), "b": np.full(3, -1e-7)})
    assert found == 0


def test_the_report(quick, capsys, tmp_path):
    before = minidl.get_num_threads()
    try:
        words = ["bench", "--rounds", "2", "--threads", "1", "--no-compile", "--json", str(tmp_path / "b.json")]
        assert main(words) == 0
    finally:
        minidl.set_num_threads(before)
        torch.set_num_threads(before)
    out = capsys.readouterr().out
    assert "LeNet (5x5), training, batch 8" in out and "times as fast as PyTorch eager" in out
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["threads"] == 1 and report["torch"] == torch.__version__
    first = report["networks"][0]
    assert first["milliseconds"].keys() == {"minidl", "PyTorch eager NCHW", "PyTorch eager channels_last"}
    assert first["ratio"] > 0 and first["ratio_quartiles"][0] <= first["ratio"] <= first["ratio_quartiles"][1]


def test_another_batch(quick, capsys):
    assert main(["bench", "lenet", "--rounds", "1", "--no-compile", "--batch", "3"]) == 0
    assert "LeNet (5x5), training, batch 3" in capsys.readouterr().out


def test_layers(quick, capsys):
    assert main(["bench", "--layers", "--rounds", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum("weight gradient" in row for row in rows) == 3
    assert "3 -> 4, 3x3, 8x8, batch 2" in rows[4] and "4 -> 4, 1x1 / 2, 8x8, batch 2" in rows[7]


@pytest.fixture
def few_operations(monkeypatch):
    """One operation of each shape, small."""
    monkeypatch.setattr(layers, "PAUSE", 0)
    found = {shape: (title, compute) for title, shape, compute in operations.OPERATIONS}
    small = [(title, (3, 4, 6, 6)[: len(shape)], compute) for shape, (title, compute) in found.items()]
    monkeypatch.setattr(operations, "OPERATIONS", small)
    monkeypatch.setattr("minidl.cli.bench.OPERATIONS", small)


def test_operations(few_operations, capsys, tmp_path):
    assert main(["bench", "--operations", "--rounds", "2", "--json", str(tmp_path / "o.json")]) == 0
    assert "adaptive_avg_pool2d 1x1            3x4x6x6 " in capsys.readouterr().out
    results = json.loads((tmp_path / "o.json").read_text())["operations"]
    assert len(results) == 5 and all(r["forward"] > 0 and r["ratio"] > 0 and r["both"] > 0 for r in results)


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda o: f"{o[0]} {o[1]}")
def test_operations_compute_the_same(operation, monkeypatch):
    title, shape, compute = operation
    monkeypatch.setattr(operations, "OPERATIONS", [(title, (4, 16, 6, 6)[: len(shape)], compute)])
    monkeypatch.setattr(operations, "alternate", lambda calls, rounds: np.ones((len(calls), rounds)))
    if "layer_norm" in title:
        monkeypatch.setattr(operations, "OPERATIONS", [(title, (3, 256), compute)])
    assert [r["ratio"] for r in operations.measure_operations(2)] == [1]


def test_operations_that_differ_are_noticed(monkeypatch):
    wrong = ("relu", (2, 3), lambda F, x, t: F.relu(x) * (1.01 if F is torch.nn.functional else 1))
    monkeypatch.setattr(operations, "OPERATIONS", [wrong])
    with pytest.raises(ValueError, match="do not compute the same"):
        next(operations.measure_operations(1))


def test_the_job(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("minidl.cli.bench.measure_job", lambda rounds, tick: job.measure_job(rounds, 2, tick))
    monkeypatch.setitem(job.DEFAULTS["cifar10"], "batch_size", 4)
    assert main(["bench", "--job", "--rounds", "2", "--json", str(tmp_path / "job.json")]) == 0
    assert "images/s with loader and augmentation" in capsys.readouterr().out
    result = json.loads((tmp_path / "job.json").read_text())["job"]
    assert 0 < result["share_quartiles"][0] <= result["share"] <= result["share_quartiles"][1]


def test_without_pytorch_minidl_is_timed_alone(quick, few_operations, capsys, monkeypatch):
    for module in ("compare", "layers", "operations"):
        monkeypatch.setattr(f"minidl.bench.{module}.torch_version", lambda: None)
    monkeypatch.setattr("minidl.cli.bench.torch_version", lambda: None)
    assert main(["bench", "lenet", "--rounds", "1"]) == 0
    assert main(["bench", "--layers", "--rounds", "1"]) == 0
    assert main(["bench", "--operations", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "PyTorch absent" in out and "images/s" in out and "times as fast" not in out


@pytest.mark.parametrize("side", ["minidl", "eager NCHW"])
def test_peak_memory_is_that_of_another_process(side, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(minidl.__file__).parent.parent))
    assert 50 < peak_memory("resnet20-infer-1", side) < 2000


def test_wrong_usage(capsys):
    assert main(["bench", "resnet1000"]) == 2
    assert "there is no work 'resnet1000'; there are resnet20" in capsys.readouterr().err
    assert main(["bench", "resnet20", "--layers"]) == 2
    assert main(["bench", "--job", "--layers"]) == 2
    assert main(["bench", "--job", "--operations"]) == 2
    assert main(["bench", "--job", "--memory"]) == 2
    assert main(["bench", "--layers", "--batch", "8"]) == 2
    assert main(["bench", "--memory", "--batch", "8"]) == 2


def test_the_networks_are_written_for_either_library():
    import minidl.nn.functional as F

    names = {"CifarResNet", "ResNet18", "VGG19", "LeNet", "Bottleneck"}
    assert vars(networks.define(minidl.nn, F)).keys() == names
    assert all(isinstance(work, Work) and work.wanted >= 1 for work in WORKS.values())


def test_the_peak_is_a_speed():
    assert layers.peak() > 0.1 and layers.bandwidth() > 0.1
