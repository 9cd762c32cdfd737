"""The CSV log and the PNG of the curves."""

import sys

import numpy as np
import pytest

from minidl.training import plot_curves, read_log, write_log
from minidl.training.log import COLUMNS


def history(epochs, val=True):
    rows = []
    for epoch in range(1, epochs + 1):
        values = (epoch, 79 * epoch, 0.1 / epoch, 2 / epoch, 0.5, 2.1 / epoch, 0.4, 0.9, 301.5, 30.0)
        row = dict(zip(COLUMNS, values, strict=True))
        rows.append(row if val else {**row, "val_loss": None, "val_top1": None, "val_top5": None})
    return rows


def test_round_trip(tmp_path):
    rows = history(3) + history(1, val=False)
    write_log(rows, tmp_path / "log.csv")
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,lr,train_loss,train_top1,val_loss,val_top1,val_top5,images_per_s,seconds"
    assert lines[4] == "1,79,0.1,2,0.5,,,,301.5,30"
    for row, expected in zip(read_log(tmp_path / "log.csv"), rows, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert row[name] == value or abs(row[name] - value) < 1e-5 * value


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n1,2\n", ",".join(COLUMNS) + "\n" + "x," * 9]
)
def test_files_that_are_no_log(tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(ValueError, match="log.csv"):
        read_log(tmp_path / "log.csv")


def test_a_picture_is_drawn(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # other tests may have imported it
    image = pytest.importorskip("PIL.Image")
    write_log(history(5), tmp_path / "log.csv")
    plot_curves(tmp_path / "log.csv", tmp_path / "a.png", title="one")
    plot_curves(history(1, val=False), tmp_path / "b.png")
    plot_curves({"first": tmp_path / "log.csv", "second": history(50)}, tmp_path / "c.png")
    for name in "abc":
        pixels = np.asarray(image.open(tmp_path / f"{name}.png").convert("RGB"))
        assert pixels.shape[0] > 400 and pixels.shape[1] > 1000
        strong = (pixels.max(2).astype(int) - pixels.min(2)) > 40
        assert strong.sum() > 100  # coloured lines or points
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("runs", [[], {}, {"a": []}])
def test_nothing_to_draw(tmp_path, runs):
    with pytest.raises(ValueError, match="at least one epoch"):
        plot_curves(runs, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
