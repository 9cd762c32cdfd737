"""`minidl train --record` and `minidl plot`: recording changes no weight and goes on, pictures, errors of one line."""

import signal
from pathlib import Path

import numpy as np
import pytest

from minidl.cli import main
from minidl.interop import load_file
from minidl.study import Recording
from minidl.training import TrainingInterrupted, fit

pytest.importorskip("matplotlib")

SMALL = ["--dataset", "shapes10", "--limit", "32", "--holdout", "16", "--batch-size", "8", "--epochs", "2"]
SMALL += ["--lr", "0.05", "--no-progress", "--no-test"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of three runs: without and with a recording, and of another network."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *SMALL, "--out", str(folder / "bare")]) == 0
    assert main(["train", *SMALL, "--out", str(folder / "recorded"), "--record-every", "3"]) == 0
    assert main(["train", *SMALL, "--model", "plain20", "--out", str(folder / "plain"), "--record"]) == 0
    return folder


def tensors(folder):
    return {name: array.tobytes() for name, array in load_file(folder / "checkpoint.safetensors")[0].items()}


def failure(capsys, *words):
    code = main([str(word) for word in words])
    err = capsys.readouterr().err
    assert err.startswith("minidl: error: ") and err.count("\n") == 1, err
    return code, err


def test_recording_changes_no_weight(runs):
    assert tensors(runs / "recorded") == tensors(runs / "bare")
    assert Recording.load(runs / "recorded" / "recording.npz").steps == [0, 3, 6]
    assert Recording.load(runs / "plain" / "recording.npz").steps == [0]
    assert not (runs / "bare" / "recording.npz").exists()


def test_a_resumed_run_goes_on_with_its_recording(runs, tmp_path, monkeypatch, capsys):
    def broken_off(*args, report, **options):
        def stop(line):
            raise TrainingInterrupted(signal.SIGINT, Path(options["checkpoint"]))

        return fit(*args, report=stop, **options)

    with monkeypatch.context() as patched:
        patched.setattr("minidl.cli.train.fit", broken_off)
        assert main(["train", *SMALL, "--out", str(tmp_path / "run"), "--record-every", "3"]) == 130
    assert capsys.readouterr().err.startswith("minidl: saved ")
    assert Recording.load(tmp_path / "run" / "recording.npz").steps == [0, 3]
    code, err = failure(capsys, "train", "--resume", tmp_path / "run", "--record-every", "2")
    assert code == 2 and "--record-every contradicts the run's recording (every 3 steps)" in err
    assert main(["train", "--resume", str(tmp_path / "run"), "--no-progress", "--no-test"]) == 0
    assert tensors(tmp_path / "run") == tensors(runs / "bare")
    found, whole = (Recording.load(folder / "recording.npz") for folder in (tmp_path / "run", runs / "recorded"))
    assert found.steps == whole.steps == [0, 3, 6]
    for name in whole.names("gradient"):
        for key, values in whole.layer("gradient", name).items():
            np.testing.assert_array_equal(found.layer("gradient", name)[key], values)


@pytest.mark.parametrize(
    "words", [["curves"], ["activations"], ["gradients", "--layer", "bn1"], ["depth"], ["updates"], ["dead"]]
)
def test_pictures_of_two_runs(runs, tmp_path, capsys, words):
    image = pytest.importorskip("PIL.Image")
    out = tmp_path / "picture.png"
    command = ["plot", str(runs / "recorded"), str(runs / "plain"), "--what", *words, "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{out}\n"
    pixels = np.asarray(image.open(out).convert("RGB")).astype(int)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 600
    if words != ["dead"]:  # of which there may be none
        for half in np.array_split(pixels, 2, axis=1):
            assert (half.max(2) - half.min(2) > 40).sum() > 50  # coloured lines and bands in both halves


def test_the_picture_lies_in_the_first_run(runs, capsys):
    assert main(["plot", str(runs / "bare"), str(runs / "plain")]) == 0
    path = runs / "bare" / "plot-curves.png"
    assert capsys.readouterr().out == f"{path}\n" and path.read_bytes().startswith(b"\x89PNG")


def test_runs_go_by_the_ends_of_their_paths(runs, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        "minidl.cli.plot.plot_curves", lambda runs, path: seen.append({k: len(v) for k, v in runs.items()})
    )
    for name in ("a/run", "b/run"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "log.csv").write_bytes((runs / "bare" / "log.csv").read_bytes())  # of a run without weights
    assert main(["plot", str(tmp_path / "a/run"), str(tmp_path / "b/run")]) == 0
    assert main(["plot", str(tmp_path / "a/run"), str(runs / "bare")]) == 0
    assert seen == [{"a/run": 2, "b/run": 2}, {"run": 2, "bare": 2}]


def test_errors_are_one_line(runs, tmp_path, capsys):
    bare, recorded = runs / "bare", runs / "recorded"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "log.csv").write_text((bare / "log.csv").read_text().splitlines()[0] + "\n")
    cases = [
        (["plot"], 2, "RUN"),
        (["plot", tmp_path / "none"], 2, "there is no folder"),
        (["plot", tmp_path], 2, "is no run: it holds neither checkpoint.safetensors nor log.csv"),
        (["plot", tmp_path / "new"], 2, "has not finished an epoch yet"),
        (["plot", recorded, bare, "--what", "depth"], 2, f"{bare} holds no recording: `minidl train --record`"),
        (["plot", recorded, "--what", "gradients", "--layer", "nope"], 1, "no gradient of 'nope' was recorded"),
        (["plot", recorded, "--what", "depth", "--layer", "bn1"], 2, "--layer is for"),
        (["plot", bare, "--what", "magic"], 2, "invalid choice: 'magic'"),
        (["plot", bare, "--out", "x.svg"], 2, "--out: expected FILE.png, got x.svg"),
        (["plot", bare, bare], 2, "the same run is given twice"),
        (["plot", bare, "--out", tmp_path / "no" / "x.png"], 1, "no"),
    ]
    for words, code, text in cases:
        found, err = failure(capsys, *words)
        assert (found, text in err) == (code, True), err
    assert not (recorded / "plot-depth.png").exists()
