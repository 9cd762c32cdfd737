"""The command line: whole runs in small, resuming after every kind of end, and errors of one line."""

import contextlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.cli import main
from minidl.data import DownloadError, Shapes10
from minidl.interop import load_file
from minidl.training import load_checkpoint, read_log
from minidl.training.fit import unfinished_path

SMALL = ["--dataset", "shapes10", "--limit", "64", "--holdout", "32", "--batch-size", "16", "--epochs", "2"]
SMALL += ["--lr", "0.05", "--no-progress"]
STEPS = 8


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Run in an empty folder, without the user's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setattr("minidl.data.catalog.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PYTHONPATH", str(Path(minidl.__file__).parent.parent))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run: its folder and what it printed."""
    folder, out = tmp_path_factory.mktemp("whole") / "run", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder, out.getvalue()


def assert_same_weights(folder, other):
    (tensors, _), (others, _) = (load_file(f / "checkpoint.safetensors") for f in (folder, other))
    assert tensors.keys() == others.keys()
    different = [name for name in tensors if tensors[name].tobytes() != others[name].tobytes()]
    assert different == []


def failure(capsys, *words):
    """Run a command that must fail; return its exit code and its one line."""
    code = main([str(word) for word in words])
    err = capsys.readouterr().err
    assert err.startswith("minidl: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return code, err


def test_a_run_leaves_a_checkpoint_a_log_and_a_curve(finished):
    folder, out = finished
    assert sorted(os.listdir(folder)) == ["checkpoint.safetensors", "curves.png", "log.csv"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [row["step"] for row in read_log(folder / "log.csv")] == [4, 8]
    lines = out.splitlines()
    assert re.fullmatch(r"test accuracy: \d+\.\d\d %", lines[-1])
    assert lines[-4:-1] == [
        f"checkpoint: {folder / 'checkpoint.safetensors'}",
        f"log: {folder / 'log.csv'}",
        f"curve: {folder / 'curves.png'}",
    ]
    assert re.search(r"top-5 \d+\.\d\d %", lines[-5])
    saved = load_checkpoint(folder / "checkpoint.safetensors")
    assert saved.configuration["recipe"]["lr"] == 0.05 and saved.step == STEPS


def test_eval_repeats_the_test_of_the_run(finished, capsys):
    folder, out = finished
    assert main(["eval", str(folder)]) == 0
    text = capsys.readouterr().out
    assert out.splitlines()[-1].removeprefix("test accuracy: ") == re.search(r"top-1: (.*)", text)[1]
    assert re.search(r"loss: \d+\.\d{4}\n", text) and "test: 64 images" in text
    assert main(["eval", str(folder / "checkpoint.safetensors"), "--split", "val"]) == 0
    val = 100 * read_log(folder / "log.csv")[-1]["val_top1"]
    assert f"top-1: {val:.2f} %" in capsys.readouterr().out


def test_threads_and_workers_do_not_change_the_weights(finished, tmp_path):
    before = minidl.get_num_threads()
    try:
        assert main(["train", *SMALL, "--out", str(tmp_path / "one"), "--threads", "1", "--workers", "0"]) == 0
        assert minidl.get_num_threads() == 1
        assert main(["train", *SMALL, "--out", str(tmp_path / "two"), "--threads", "2", "--workers", "3"]) == 0
    finally:
        minidl.set_num_threads(before)
    assert_same_weights(finished[0], tmp_path / "one")
    assert_same_weights(finished[0], tmp_path / "two")


def test_another_seed_gives_other_weights(finished, tmp_path):
    assert main(["train", *SMALL, "--seed", "1", "--out", str(tmp_path / "run")]) == 0
    with pytest.raises(AssertionError):
        assert_same_weights(finished[0], tmp_path / "run")


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "minidl", "train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def reached(folder):
    """Return the last step that any checkpoint in the folder holds, -1 for none."""
    checkpoint = folder / "checkpoint.safetensors"
    steps = [-1]
    for file in (checkpoint, unfinished_path(checkpoint)):
        with contextlib.suppress(FileNotFoundError):
            steps.append(load_checkpoint(file).step)
    return max(steps)


def end_at(process, folder, step, signum):
    """Send a signal once the run has saved `step`; return (exit code, stdout, stderr)."""
    deadline = time.monotonic() + 60
    while reached(folder) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("signum", "step"), [(signal.SIGINT, 2), (signal.SIGTERM, 5)])
def test_a_signal_saves_and_resuming_ends_with_the_same_weights(finished, tmp_path, signum, step, capsys):
    folder = tmp_path / "run"
    code, out, err = end_at(start(*SMALL, "--out", str(folder), "--save-every", "0"), folder, step, signum)
    assert code == 128 + signum, err
    assert "test accuracy" not in out and "Traceback" not in err
    assert err.splitlines()[-1].endswith(f"go on with: minidl train --resume {folder}")
    assert step <= reached(folder) < STEPS

    assert main(["train", "--resume", str(folder), "--no-progress"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == finished[1].splitlines()[-1]
    assert_same_weights(finished[0], folder)
    assert [row["epoch"] for row in read_log(folder / "log.csv")] == [1, 2]
    assert sorted(os.listdir(folder)) == ["checkpoint.safetensors", "curves.png", "log.csv"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_at_random_steps_and_resumed(finished, tmp_path):
    draw, folder = random.Random(4), tmp_path / "run"
    words, step = [*SMALL, "--out", str(folder)], 0
    for _ in range(2):
        step = draw.randrange(step + 1, STEPS - 1)
        code, _, err = end_at(start(*words, "--save-every", "0"), folder, step, signal.SIGKILL)
        assert code == -signal.SIGKILL, err
        step = reached(folder)
        (folder / ".checkpoint.safetensors.1-1.tmp").write_bytes(b"half")  # what a kill in the middle of a save leaves
        words = ["--resume", str(folder), "--no-progress"]
    assert main(["train", *words]) == 0
    assert sorted(os.listdir(folder)) == ["checkpoint.safetensors", "curves.png", "log.csv"]
    assert_same_weights(finished[0], folder)
    assert [row["epoch"] for row in read_log(folder / "log.csv")] == [1, 2]


def test_a_finished_run_can_be_resumed_to_see_its_test_again(finished, capsys):
    folder, out = finished
    before = (folder / "checkpoint.safetensors").read_bytes()
    assert main(["train", "--resume", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == out.splitlines()[-1]
    assert load_file(folder / "checkpoint.safetensors")[1] and len(before)
    assert_same_weights(folder, finished[0])


@pytest.mark.parametrize(
    "words",
    [
        ["--lr", "0.1"],
        ["--epochs", "3"],
        ["--seed", "1"],
        ["--dataset", "mnist"],
        ["--model", "resnet32"],
        ["--schedule", "multistep"],
        ["--milestones", "1"],
        ["--no-kernels"],
        ["--conv-algorithm", "direct"],
        ["--flip", "random"],
        ["--limit", "32"],
    ],
)
def test_a_resumed_run_keeps_its_recipe(finished, capsys, words):
    code, line = failure(capsys, "train", "--resume", finished[0], *words)
    assert code == 2 and words[0] in line and "recipe" in line


def test_options_that_change_nothing_may_differ(finished, tmp_path, capsys):
    words = ["--threads", str(minidl.get_num_threads()), "--workers", "2", "--lr", "0.05", "--dataset", "auto"]
    assert main(["train", "--resume", str(finished[0]), "--out", str(tmp_path / "copy"), *words]) == 0
    assert_same_weights(finished[0], tmp_path / "copy")


def test_other_training_images_are_noticed(finished, capsys, monkeypatch):
    other = Shapes10(size=96, seed=5)
    monkeypatch.setattr("minidl.training.recipe.Shapes10", lambda **options: other)
    code, line = failure(capsys, "train", "--resume", finished[0])
    assert code == 2 and "other training images" in line


def test_folders_are_numbered_and_never_overwritten(finished, capsys):
    words = ["train", *SMALL[:-3], "--lr", "0.05", "--no-progress", "--limit", "16", "--epochs", "1"]
    for number in (1, 2):
        assert main(words) == 0
        assert f"run: runs/resnet20-shapes10-{number}\n" in capsys.readouterr().out
    before = (finished[0] / "checkpoint.safetensors").read_bytes()
    code, line = failure(capsys, *words, "--out", finished[0])
    assert code == 2 and "already holds a run" in line and f"--resume {finished[0]}" in line
    assert (finished[0] / "checkpoint.safetensors").read_bytes() == before


def test_auto_says_which_dataset_it_takes(capsys, monkeypatch, tmp_path):
    words = ["train", "--limit", "16", "--holdout", "16", "--no-progress"]
    assert main([*words, "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "CIFAR-10 was not found, using Shapes10; `minidl data download cifar10` fetches" in out
    for place in ("minidl.cli.train.find", "minidl.training.recipe.find"):
        monkeypatch.setattr(place, lambda name, folder=None: tmp_path / "there" if name == "cifar10" else None)
    monkeypatch.setattr("minidl.training.recipe.CIFAR10", lambda root, train: Shapes10(train=train, size=50))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"on cifar10 in {tmp_path / 'there'}: 16 training and 16 validation images" in out
    assert "1 epoch, for a first look; `--epochs 10` gives the real result" in out


def test_the_test_set_can_be_left_alone(capsys, monkeypatch):
    splits = []
    load = minidl.cli.train.load_dataset
    monkeypatch.setattr(
        "minidl.cli.train.load_dataset", lambda recipe, split, *r: splits.append(split) or load(recipe, split, *r)
    )
    words = ["--limit", "16", "--holdout", "8", "--epochs", "1", "--out", "run", "--no-test", "--no-progress"]
    assert main(["train", "--dataset", "shapes10", *words]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"curve: {Path('run/curves.png')}"
    assert "test" not in splits


def test_without_kernels_and_without_validation(capsys):
    words = ["--limit", "16", "--holdout", "0", "--epochs", "1", "--out", "run", "--no-kernels"]
    assert main(["train", "--dataset", "shapes10", *words]) == 0
    assert "16 training and 0 validation images" in capsys.readouterr().out
    assert read_log("run/log.csv")[0]["val_loss"] is None
    assert load_checkpoint("run/checkpoint.safetensors").configuration["recipe"]["kernels"] is False
    assert minidl.kernels.kernels_enabled()


def test_conv_algorithm_is_part_of_the_recipe(capsys, monkeypatch):
    seen = set()
    monkeypatch.setattr("minidl.cli.train.fit", lambda *args, **options: seen.add(minidl.get_conv_algorithm()) or [])
    monkeypatch.setattr("minidl.cli.train.plot_curves", lambda *args, **options: None)
    words = ["--limit", "16", "--epochs", "1", "--out", "run", "--no-test", "--conv-algorithm", "text"]
    assert main(["train", "--dataset", "shapes10", *words]) == 0
    assert seen == {"text"} and minidl.get_conv_algorithm() == "auto"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--epochs", "0"], "--epochs: expected an integer >= 1, got '0'"),
        (["train", "--epochs", "many"], "got 'many'"),
        (["train", "--lr", "0"], "lr must be finite, above 0, got 0"),
        (["train", "--lr", "nan"], "lr must be finite"),
        (["train", "--momentum", "1"], "momentum must be finite, at least 0 and below 1, got 1.0"),
        (["train", "--weight-decay", "-1"], "weight_decay"),
        (["train", "--label-smoothing", "1.5"], "label_smoothing"),
        (["train", "--schedule", "multistep"], "needs milestones"),
        (["train", "--milestones", "3", "2"], "milestones must increase, got (3, 2)"),
        (["train", "--model", "resnet21"], "resnet21"),
        (["train", "--dataset", "imagenet"], "imagenet"),
        (["train", "--threads", "0"], "--threads"),
        (["train", "--data", "nowhere"], "there is no folder nowhere"),
        (["train", "--resume", "nowhere"], "there is no checkpoint nowhere"),
        (["eval", "nowhere"], "there is no checkpoint nowhere"),
        (["eval"], "CHECKPOINT"),
        (["data"], "ACTION"),
        (["data", "download", "imagenet"], "imagenet"),
        (["data", "show", "shapes10", "--out", "no/folder.png"], "there is no folder no"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys, words, message):
    code, line = failure(capsys, *words)
    assert code == 2 and message in line
    assert not Path("runs").exists()


def test_failures_are_one_line_and_code_1(capsys, monkeypatch, finished):
    code, line = failure(capsys, "train", "--dataset", "cifar10")
    assert code == 1 and "cifar10 was not found" in line and "minidl data download cifar10" in line

    Path("bad.safetensors").write_bytes(b"<html>")
    code, line = failure(capsys, "eval", "bad.safetensors")
    assert code == 1 and "bad.safetensors: not a safetensors file" in line

    code, line = failure(capsys, "train", "--dataset", "shapes10", "--limit", "64", "--lr", "1e30", "--holdout", "16")
    assert code == 1 and "loss is" in line and "learning rate" in line

    def offline(name, root):
        raise DownloadError("no mirror\ndelivered")

    monkeypatch.setattr("minidl.cli.data.download", offline)
    assert failure(capsys, "data", "download", "mnist") == (1, "minidl: error: no mirror delivered\n")

    def broken(*args, **options):
        raise KeyError("odd")

    monkeypatch.setattr("minidl.cli.evaluate.evaluate", broken)
    code, line = failure(capsys, "eval", finished[0])
    assert code == 1 and "KeyError: 'odd' (--debug shows where)" in line
    for words in (["--debug", "eval"], ["eval", "--debug"]):
        with pytest.raises(KeyError):
            main([*words, str(finished[0])])


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(capsys, monkeypatch):
    calls, fsync = [], os.fsync

    def fail_later(handle):
        calls.append(handle)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail_later)
    code, line = failure(capsys, "train", *SMALL, "--out", "run", "--save-every", "0")
    assert code == 1 and "No space left on device" in line
    assert 0 <= reached(Path("run")) < STEPS
    assert not list(Path("run").glob("*.tmp"))


def test_data_commands(capsys, monkeypatch):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cifar10    not found; `minidl data download cifar10`")
    assert lines[2] == "shapes10   made from a seed, needs no files"
    monkeypatch.setattr("minidl.cli.data.download", lambda name, root: Path("there"))
    assert main(["data", "download", "mnist"]) == 0
    assert capsys.readouterr().out == "mnist is in there\n"
    assert main(["data", "show", "shapes10", "--split", "test", "--out", "sheet.png"]) == 0
    assert capsys.readouterr().out == "sheet.png\n"
    image = pytest.importorskip("PIL.Image").open("sheet.png").convert("RGB")
    assert np.asarray(image).std() > 20


def test_info_help_and_version(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in (minidl.__version__, np.__version__, "cores:", "BLAS:", "GPU:", "kernels:", "shapes10"):
        assert word in out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minidl {minidl.__version__}\n"
    for words in ([], ["train"], ["eval"], ["data"], ["data", "show"], ["info"]):
        assert main([*words, "--help"]) == 0
        out = capsys.readouterr().out
        assert "examples:" in out and "  minidl " in out
    assert "(default: cifar10 1, mnist 1, shapes10 4)" not in out


def test_python_m_minidl():
    done = subprocess.run([sys.executable, "-m", "minidl", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"minidl {minidl.__version__}\n")
