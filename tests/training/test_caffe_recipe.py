"""`minidl train --net`: a prototxt in the recipe, its multipliers in the optimiser, resuming and evaluation."""

import sys
from pathlib import Path

import numpy as np
import pytest

from minidl.cli import main
from minidl.interop import load_file
from minidl.training import Recipe, build, load_checkpoint

LENET = Path(__file__).parents[2] / "examples" / "lenet.prototxt"
SMALL = ["--dataset", "shapes10", "--limit", "64", "--holdout", "32", "--no-progress", "--seed", "3"]

NET = """
name: "My net/1"
layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "elsewhere" batch_size: 16 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    Path("net.prototxt").write_text(NET)


def failure(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err


def test_a_net_is_trained_and_evaluated_without_its_file(capsys):
    assert main(["train", "--net", "net.prototxt", *SMALL, "--epochs", "2", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "My-net-1 (30,730 parameters) on shapes10: 64 training and 32 validation images" in out
    assert "batch 16, onecycle lr 0.01" in out
    Path("net.prototxt").unlink()
    assert main(["eval", "run"]) == 0
    assert out.splitlines()[-1].removeprefix("test accuracy: ") in capsys.readouterr().out
    recipe = load_checkpoint("run/checkpoint.safetensors").configuration["recipe"]
    assert recipe["net"] == NET and recipe["model"] == "My-net-1"


def test_a_resumed_net_ends_with_the_same_weights(capsys, monkeypatch):
    words = ["train", "--net", "net.prototxt", *SMALL, "--epochs", "2"]
    assert main([*words, "--out", "whole"]) == 0

    def full_disk(history, path):
        if history:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:  # an end between the first and the second epoch
        patched.setattr(sys.modules["minidl.training.fit"], "write_log", full_disk)
        code, err = failure(capsys, *words, "--out", "broken")
    assert code == 1 and "No space left" in err and load_checkpoint("broken/checkpoint.safetensors").epoch == 1
    assert main(["train", "--resume", "broken", "--net", "net.prototxt", "--no-progress"]) == 0
    (whole, _), (resumed, _) = (load_file(f"{name}/checkpoint.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys() and all(np.array_equal(whole[k], resumed[k]) for k in whole)
    Path("net.prototxt").write_text(NET + "# changed")
    code, err = failure(capsys, "train", "--resume", "broken", "--net", "net.prototxt")
    assert code == 2 and "--net contradicts the run's recipe (net of another text)" in err


def test_multipliers_reach_the_optimiser_and_the_schedule():
    recipe = Recipe.of("shapes10", net=NET, limit=32, holdout=0, epochs=2, lr=0.1, weight_decay=0.01)
    parts = build(recipe)
    groups = parts.optimizer.param_groups
    assert [[tuple(p.shape) for p in group["params"]] for group in groups] == [[(10, 3072)], [(10,)]]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in groups])
        parts.optimizer.step()
        parts.scheduler.step()
    np.testing.assert_allclose([b for _, b in seen], [2 * a for a, _ in seen], rtol=1e-6)
    np.testing.assert_allclose(parts.scheduler.max_lrs, [0.1, 0.2])


def test_lenet_fits_other_datasets():
    recipe = Recipe.of("shapes10", net=LENET, limit=32, holdout=0)
    assert (recipe.model, recipe.batch_size, recipe.lr) == ("LeNet", 64, 0.01)
    assert build(recipe).model.blobs["conv1"] == (64, 20, 28, 28)


def test_recipes_of_earlier_versions_have_no_net():
    values = Recipe.of("shapes10").to_dict()
    assert values.pop("net") is None
    assert Recipe.from_dict(values) == Recipe.of("shapes10")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ('type: "Dropout"', 'type: "Drop"'),
            'net.prototxt:6: layer "drop" has type "Drop", which minidl does not know',
        ),
        (("num_output: 10", "num_output: 9"), "the net's scores (16, 9) do not fit the 10 classes"),
        (('"SoftmaxWithLoss"', '"EuclideanLoss"'), "same size"),
        (('top: "loss" }', 'top: "loss" loss_weight: 2 }'), "the net's loss must be the mean over all labels"),
        (('top: "loss" }', 'top: "loss" loss_param { ignore_label: 3 } }'), "must be the mean over all labels"),
        (('type: "SoftmaxWithLoss"', 'type: "Silence"'), "takes 0 tops"),
        (
            ('top: "loss" }', 'top: "loss" include { phase: TEST } }'),
            "one loss in phase TRAIN, of type SoftmaxWithLoss; it has none",
        ),
    ],
)
def test_nets_that_cannot_be_trained(capsys, change, message):
    Path("net.prototxt").write_text(NET.replace(*change))
    code, err = failure(capsys, "train", "--net", "net.prototxt", *SMALL)
    assert code in (1, 2) and message in err and err.startswith("minidl: error: ") and err.count("\n") == 1
    assert not list(Path(".").glob("runs/*"))


def test_a_net_or_a_model(capsys):
    code, err = failure(capsys, "train", "--net", "net.prototxt", "--model", "resnet20")
    assert code == 2 and "not allowed with" in err
    code, err = failure(capsys, "train", "--net", "none.prototxt", *SMALL)
    assert code == 2 and "none.prototxt" in err
