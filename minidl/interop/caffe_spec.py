"""What a prototxt says of each layer apart from its type: names, blobs, phases, multipliers; also in the old form."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from minidl.interop.caffe_fields import Fields
from minidl.interop.prototxt import Message, Word

__all__ = ["LayerSpec", "ParamSpec", "State", "read_layers"]

PHASES = ("TRAIN", "TEST")

#: The types of `layers { type: CONVOLUTION }`, Caffe's form of 2013 and 2014.
OLD_TYPES = {
    **{"ACCURACY": "Accuracy", "CONCAT": "Concat", "CONVOLUTION": "Convolution", "DATA": "Data", "DROPOUT": "Dropout"},
    **{"ELTWISE": "Eltwise", "EUCLIDEAN_LOSS": "EuclideanLoss", "FLATTEN": "Flatten", "HDF5_DATA": "HDF5Data"},
    **{"IMAGE_DATA": "ImageData", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN", "MEMORY_DATA": "MemoryData"},
    **{"POOLING": "Pooling", "RELU": "ReLU", "SIGMOID": "Sigmoid", "SILENCE": "Silence", "SPLIT": "Split"},
    **{"SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss", "SOFTMAX": "Softmax", "TANH": "TanH"},
    **{"SOFTMAX_LOSS": "SoftmaxWithLoss"},
}


class State(NamedTuple):
    """The state of a net that `include` and `exclude` ask for."""

    phase: str
    level: int
    stages: frozenset[str]


class ParamSpec(NamedTuple):
    """Factors of the learning rate and the weight decay (None: not given), and the name that shares a parameter."""

    lr_mult: float | None = None
    decay_mult: float | None = None
    name: str = ""


@dataclass
class LayerSpec:
    """One layer of the net in its state; `fields` holds the rest of its message."""

    fields: Fields
    name: str
    type: str
    type_line: int
    bottoms: list[str]
    tops: list[str]
    params: list[ParamSpec] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)


def read_layers(root: Fields, state: State) -> list[LayerSpec]:
    """Read the layers that a state includes, in their order.

    Raises:
        PrototxtError: a layer without a name or type, two of one name, old and new form mixed, or wrong fields.
    """
    new, old = root.all("layer"), root.all("layers")
    if new and old:
        root.fail(f'"layer" and "layers" (line {old[0].line}) are Caffe\'s new and old form; use one of them')
    specs: dict[str, LayerSpec] = {}
    for one in new or old:
        if not isinstance(one.value, Message):
            root.fail("a layer must be a message in braces", one.line)
        spec = _read(one.value, root.file, state, is_old=bool(old))
        if spec is None:
            continue
        if spec.name in specs:
            first = specs[spec.name].fields.line
            spec.fields.fail(f"another layer of this name stands in line {first}, and {state.phase} includes both")
        specs[spec.name] = spec
    return list(specs.values())


def _read(message: Message, file: str, state: State, is_old: bool) -> LayerSpec | None:
    names = [one.value for one in message.fields if one.name == "name" and isinstance(one.value, str)]
    fields = Fields(message, file, f'layer "{names[0]}"' if names else "a layer")
    name = fields.string("name")
    if not name:
        fields.fail("it has no name")
    if not _is_included(fields, state):
        return None
    kind = fields.one("type")
    if kind is None:
        fields.fail("it has no type")
    if isinstance(kind.value, Message) or is_old != isinstance(kind.value, Word):
        form = "a word, such as CONVOLUTION, in a layers message" if is_old else "a text in quotes in a layer message"
        fields.fail(f"type must be {form}", kind.line)
    type_name = OLD_TYPES.get(str(kind.value), str(kind.value)) if is_old else str(kind.value)
    fields.ignore("propagate_down", "phase")
    params = _old_params(fields) if is_old else _params(fields)
    bottoms, tops, weights = fields.strings("bottom"), fields.strings("top"), fields.numbers("loss_weight")
    return LayerSpec(fields, name, type_name, kind.line, bottoms, tops, params, weights)


def _is_included(fields: Fields, state: State) -> bool:
    """By Caffe's rules: one `include` that holds is enough, one `exclude` that holds is too much."""
    include, exclude = fields.messages("include"), fields.messages("exclude")
    if include and exclude:
        fields.fail("it has both include and exclude rules", exclude[0].line)
    met = [_is_met(rule, state) for rule in include or exclude]
    return any(met) if include else not any(met)


def _is_met(rule: Fields, state: State) -> bool:
    tests = [
        rule.choice("phase", state.phase, PHASES) == state.phase,
        rule.integer("min_level", state.level) <= state.level <= rule.integer("max_level", state.level),
        set(rule.strings("stage")) <= state.stages,
        not set(rule.strings("not_stage")) & state.stages,
    ]
    rule.finish()
    return all(tests)


def _params(fields: Fields) -> list[ParamSpec]:
    specs = []
    for param in fields.messages("param"):
        param.choice("share_mode", "STRICT", ("STRICT",))
        factors = (param.number(name, None, least=0.0) for name in ("lr_mult", "decay_mult"))
        specs.append(ParamSpec(*factors, param.string("name", "")))
    return specs


def _old_params(fields: Fields) -> list[ParamSpec]:
    """`blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 param: "shared name"`."""
    columns: list[Iterable] = [fields.numbers("blobs_lr"), fields.numbers("weight_decay"), fields.strings("param")]
    rates, decays, names = map(list, columns)
    if min([0.0, *rates, *decays]) < 0:
        fields.fail("blobs_lr and weight_decay must be >= 0")
    count = max(map(len, (rates, decays, names)))
    rates, decays = ([*values, *[None] * (count - len(values))] for values in (rates, decays))
    names = [*names, *[""] * (count - len(names))]
    return [ParamSpec(*values) for values in zip(rates, decays, names, strict=True)]
