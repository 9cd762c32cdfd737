"""The examples run, in small."""

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(monkeypatch, tmp_path, name, *words):
    """Run an example as a script in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_train_cifar10_without_cifar10(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setattr("minidl.data.catalog.cache_folder", lambda: tmp_path)
    run(monkeypatch, tmp_path, "train_cifar10.py", "--limit", "200", "--epochs", "2")
    lines = capsys.readouterr().out.splitlines()
    assert "Shapes10" in lines[0]
    assert re.fullmatch(r"test accuracy: \d+\.\d\d %", lines[-1])
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif("MINIDL_DATA" not in os.environ, reason="needs the real CIFAR-10 ($MINIDL_DATA)")
def test_train_cifar10_on_the_real_files(tmp_path, monkeypatch, capsys):
    run(monkeypatch, tmp_path, "train_cifar10.py", "--data", os.environ["MINIDL_DATA"], "--limit", "40")
    lines = capsys.readouterr().out.splitlines()
    assert "CIFAR10" in lines[0] and lines[-1].startswith("test accuracy: ")


@pytest.mark.skipif("MINIDL_DATA" not in os.environ, reason="needs the real MNIST ($MINIDL_DATA)")
def test_train_caffe_net(tmp_path, monkeypatch, capsys):
    run(monkeypatch, tmp_path, "train_caffe_net.py", "--data", os.environ["MINIDL_DATA"], "--limit", "200")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LeNet, phase TRAIN, 431,080 parameters"
    assert re.fullmatch(r"test accuracy: \d+\.\d\d %", lines[-1])
