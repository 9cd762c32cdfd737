"""Networks without batch norm begin with a smaller learning rate, which their recipe holds."""

import pytest

from minidl import nn
from minidl.models import get_model, list_models
from minidl.training import Recipe
from minidl.training.recipe import NO_BATCH_NORM_LR, WITHOUT_BATCH_NORM


def test_the_list_is_that_of_the_models_without_batch_norm(monkeypatch):
    class Tiny(nn.Linear):
        def __init__(self, *sizes):
            super().__init__(1, 1)

    monkeypatch.setattr("minidl.models.vgg.Linear", Tiny)  # VGG's hold half a gigabyte
    names = [name for name in list_models() if not name.startswith(("resnet", "plain"))] + ["resnet20", "plain20"]
    assert set(WITHOUT_BATCH_NORM) < set(names)
    for name in names:
        normed = any(isinstance(module, nn.BatchNorm2d) for module in get_model(name).modules())
        assert (name in WITHOUT_BATCH_NORM) == (not normed), name


@pytest.mark.parametrize("name", ["lenet", "lenet_dropout", "lenet_caffe", "vgg16"])
def test_the_recipe_holds_the_learning_rate(name):
    recipe = Recipe.of("mnist", model=name)
    assert recipe.lr == recipe.to_dict()["lr"] == NO_BATCH_NORM_LR == 0.01
    assert Recipe.of("mnist", model=name, lr=0.1).lr == 0.1
    assert Recipe.of("mnist", model="resnet20").lr == Recipe.of("mnist").lr == 0.1
    assert Recipe.from_dict({**recipe.to_dict(), "lr": 0.1}).lr == 0.1  # stored by an earlier version
