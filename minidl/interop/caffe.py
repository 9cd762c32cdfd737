"""Caffe's networks: a prototxt, a list of layers from data to loss, becomes a Module."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from minidl.interop.caffe_data import DATA_TYPES, blob_shape, input_shapes
from minidl.interop.caffe_fields import Fields
from minidl.interop.caffe_layers import LAYERS, LayerType, check_size, text
from minidl.interop.caffe_spec import PHASES, LayerSpec, State, read_layers
from minidl.interop.prototxt import PrototxtError, parse, read_source
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor

__all__ = ["CaffeNet", "from_prototxt"]

MAX_PARAMETERS = 1 << 29  # of a net: 2 GB in float32
MAX_BLOB = (1 << 31) - 1  # Caffe's own limit


class Layer(NamedTuple):
    """One layer of a net: blobs in, blobs out; data layers have no bottom, and no module of the same name."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the tops
    loss_weights: tuple[float, ...]


def from_prototxt(
    path_or_text: str | os.PathLike,
    phase: str = "TRAIN",
    *,
    image_shape: tuple[int, int, int] | None = None,
    level: int = 0,
    stages: Iterable[str] = (),
) -> "CaffeNet":
    """Build the network that a Caffe prototxt describes, with fresh weights from its fillers.

    Args:
        path_or_text: the file, or its text.
        phase: "TRAIN" or "TEST": which layers are included, and the mode that the network begins in.
        image_shape: (C, H, W) of the images of a Data layer whose source is no dataset that minidl knows.
        level, stages: what `min_level`, `max_level`, `stage` and `not_stage` of the layers ask for.

    Returns:
        The network; the weights of layer "conv1" are "conv1.weight" and "conv1.bias" in its state dict.

    Raises:
        PrototxtError (a ValueError): what cannot be read or built; it begins with file:line.
        ValueError, TypeError: an argument that does not fit. OSError: the file cannot be read.
    """
    if phase not in PHASES:
        raise ValueError(f"from_prototxt: phase must be 'TRAIN' or 'TEST', got {phase!r}")
    if image_shape is not None:
        image_shape = tuple(image_shape)
        if len(image_shape) != 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in image_shape):
            raise ValueError(f"from_prototxt: image_shape must be (C, H, W), got {image_shape!r}")
    content, name = read_source(path_or_text)
    root = Fields(parse(content, name), name, "")
    net = CaffeNet(root.string("name", ""), phase)
    _Builder(net, root).build(read_layers(root, State(phase, level, frozenset(stages))), image_shape)
    return net if phase == "TRAIN" else net.eval()


class CaffeNet(Module):
    """A network built by `from_prototxt`; `print(net)` lists its layers with the shapes of their blobs.

        net(x)                 the prediction alone: what goes into the loss, or what comes out of a net without loss
        net(x, label)          a dict of all outputs by name, e.g. net(x, label)["loss"]
        net(data=x, label=y)   the same, by the names of the inputs; layers whose bottoms are missing are left out

    Attributes:
        name, phase: as in the file, and as it was built for.
        layers: its layers in order. inputs, blobs: the shapes by name, with the batch that the file names; the network
            takes any other batch as well.
        multipliers: parameter's name -> (lr_mult, decay_mult). Parameters of lr_mult 0 require no gradient.
    """

    def __init__(self, name: str, phase: str):
        super().__init__()
        self.name, self.phase = name, phase
        self.layers: list[Layer] = []
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.blobs: dict[str, tuple[int, ...]] = {}
        self.multipliers: dict[str, tuple[float, float]] = {}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the layers in order (see the class).

        Raises:
            TypeError: too many inputs, or one that the network does not have. ValueError: a shape that does not fit.
        """
        blobs = self._given(inputs, named)
        outputs: dict[str, None] = {}  # made, and not read since
        scored: dict[str, Any] = {}  # what goes into the losses
        losses: dict[str, None] = {}
        for layer in self.layers:
            if layer.name not in self._modules:
                continue
            if LAYERS[layer.type].is_loss and layer.bottoms[0] in blobs:
                scored[layer.bottoms[0]] = blobs[layer.bottoms[0]]
            if any(name not in blobs for name in layer.bottoms):
                for name in layer.tops:
                    blobs.pop(name, None)
                continue
            made = self._modules[layer.name](*(blobs[name] for name in layer.bottoms))
            for name in layer.bottoms:
                outputs.pop(name, None)
            made = made if isinstance(made, tuple) else (made,)
            for name, blob, weight in zip(layer.tops, made, layer.loss_weights, strict=True):
                blobs[name] = blob
                (losses if weight else outputs)[name] = None
        results = {name: blobs[name] for name in (*outputs, *losses)}
        if len(inputs) != 1 or named:
            return results
        predictions = scored or results
        return next(iter(predictions.values())) if len(predictions) == 1 else predictions

    def total_loss(self, outputs: dict[str, Any]) -> Any:
        """Sum the losses among the outputs of `net(x, label)`, each times its `loss_weight`.

        Raises:
            ValueError: there is no loss among them.
        """
        tops = (pair for layer in self.layers for pair in zip(layer.tops, layer.loss_weights, strict=True))
        terms = [outputs[name].sum() * weight for name, weight in tops if weight and name in outputs]
        if not terms:
            raise ValueError(f"total_loss: no loss among the outputs {', '.join(outputs)}")
        return sum(terms[1:], terms[0])

    def parameter_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return groups for an optimiser: parameters with lr · lr_mult and weight_decay · decay_mult; lr_mult 1 first.

        Parameters of lr_mult 0 are in no group.
        """
        groups: dict[tuple[float, float], list[Parameter]] = {}
        for name, parameter in self.named_parameters():
            if self.multipliers[name][0]:
                groups.setdefault(self.multipliers[name], []).append(parameter)
        return [
            {"params": groups[rate, decay], "lr": lr * rate, "weight_decay": weight_decay * decay}
            for rate, decay in sorted(groups, key=lambda factors: factors[0] != 1)
        ]

    def describe(self) -> None:
        """Print the layers, the shapes of their blobs in Caffe's form, and how many parameters they have."""
        print(self)

    def __repr__(self) -> str:
        rows = [self._row(layer) for layer in self.layers]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        count = sum(parameter.numel() for parameter in self.parameters())
        return "\n".join([f"{self.name or type(self).__name__}, phase {self.phase}, {count:,} parameters", *lines])

    def _row(self, layer: Layer) -> tuple[str, str, str, str]:
        tops = [f"{name} -> {text(shape or (1,))}" for name, shape in zip(layer.tops, layer.shapes, strict=True)]
        module = self._modules.get(layer.name)
        sizes = module._parameters.items() if module is not None else ()
        parameters = ", ".join(f"{name} {text(p.shape)}" for name, p in sizes if p is not None)
        place = " (in place)" if set(layer.tops) & set(layer.bottoms) else ""
        return layer.name, layer.type, ", ".join(tops) + place, parameters

    def _given(self, inputs: tuple, named: dict[str, Any]) -> dict[str, Any]:
        """The inputs by name, as Tensors."""
        unknown = [name for name in named if name not in self.inputs]
        if len(inputs) > len(self.inputs) or unknown or not (inputs or named):
            got = f"{len(inputs)} in order" + f" and {', '.join(map(repr, named))}" * bool(named)
            raise TypeError(f"CaffeNet: it has the inputs {', '.join(self.inputs)}, got {got}")
        given = dict(zip(self.inputs, inputs, strict=False))
        twice = [name for name in named if name in given]
        if twice:
            raise TypeError(f"CaffeNet: the input {twice[0]!r} was given twice")
        for name, value in {**given, **named}.items():
            x = given[name] = value if isinstance(value, Tensor) else Tensor(np.asarray(value))
            expected = self.inputs[name]
            if len(expected) > 1 and (x.ndim != len(expected) or x.shape[1:] != expected[1:]):
                extents = ", ".join(map(str, expected[1:]))
                raise ValueError(f"CaffeNet: {name} has shape {tuple(x.shape)}, expected (N, {extents})")
        return given


class _Builder:
    """Connects layers by the names of their blobs."""

    def __init__(self, net: CaffeNet, root: Fields):
        self.net, self.root = net, root
        self.makers: dict[str, LayerSpec | None] = {}  # of each blob; None for an input of the net itself
        self.shared: dict[str, tuple[Parameter, str, tuple]] = {}  # name -> parameter, where it is, multipliers
        self.count = 0  # of parameters

    def build(self, specs: list[LayerSpec], image_shape: Any) -> None:
        """Add the inputs and all layers to the net."""
        self.root.ignore("force_backward", "debug_info", "state", "name")
        for name, shape in self.declared_inputs():
            self.add_blob(None, name, shape)
            self.net.inputs[name] = shape
        self.root.finish()
        for number, spec in enumerate(specs):
            if spec.type in DATA_TYPES:
                shapes = input_shapes(spec, image_shape)
                self.net.inputs.update(zip(spec.tops, shapes, strict=True))
                self.add(spec, shapes)
            else:
                self.connect(spec, specs[number + 1 :])
            spec.fields.finish()
        if not self.net._modules:
            raise PrototxtError(f"{self.root.file}: it has no layers in phase {self.net.phase}")
        if not self.net.inputs:
            raise PrototxtError(f"{self.root.file}: it has no input and no layer of type {', '.join(DATA_TYPES)}")

    def declared_inputs(self) -> list[tuple[str, tuple[int, ...]]]:
        """`input: "data"` with four `input_dim`, or an `input_shape`, each."""
        names, dims = self.root.strings("input"), self.root.integers("input_dim", least=1)
        shapes = [blob_shape(shape) for shape in self.root.messages("input_shape")]
        if dims and not shapes and len(dims) % 4 == 0:
            shapes = [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
        elif dims:
            self.root.fail(f"input_dim: expected 4 for each input and no input_shape, got {len(dims)}")
        if len(names) != len(shapes):
            self.root.fail(f"there are {len(names)} inputs, but shapes for {len(shapes)}")
        return list(zip(names, shapes, strict=True))

    def connect(self, spec: LayerSpec, later: list[LayerSpec]) -> None:
        """Make a layer's module and add it."""
        kind = LAYERS.get(spec.type)
        if kind is None:
            known = ", ".join(sorted([*LAYERS, *DATA_TYPES]))
            raise PrototxtError(
                f'{self.root.file}:{spec.type_line}: layer "{spec.name}" has type "{spec.type}", '
                f"which minidl does not know; it knows {known}"
            )
        if kind.is_loss and not spec.tops:
            spec.tops = [spec.name]
        self.check_counts(spec, kind)
        for bottom in spec.bottoms:
            self.check_bottom(spec, bottom, later)
        built = kind.build(spec.fields, [self.net.blobs[name] for name in spec.bottoms], len(spec.tops))
        self.net._modules[spec.name] = built.module
        self.add_parameters(spec, built.module)
        self.add(spec, built.tops, kind)

    def check_counts(self, spec: LayerSpec, kind: LayerType) -> None:
        for what, names, (least, most) in (("bottoms", spec.bottoms, kind.bottoms), ("tops", spec.tops, kind.tops)):
            if not least <= len(names) <= most:
                expected = f"{least}" if least == most else f"{least} or more"
                spec.fields.fail(f"a layer of type {spec.type} takes {expected} {what}, got {len(names)}")

    def check_bottom(self, spec: LayerSpec, bottom: str, later: list[LayerSpec]) -> None:
        if bottom in self.makers:
            return
        maker = next((other for other in [spec, *later] if bottom in other.tops), None)
        if maker is None:
            spec.fields.fail(
                f'its bottom "{bottom}" is made by no layer; there are {", ".join(self.makers) or "no blobs"}'
            )
        if maker is spec:
            spec.fields.fail(f'its bottom "{bottom}" is made by the layer itself alone')
        spec.fields.fail(
            f'its bottom "{bottom}" is made only further down, by layer "{maker.name}" in line {maker.fields.line}; '
            "layers run in the order of the file, so that a net has no cycles"
        )

    def add(self, spec: LayerSpec, shapes: list[tuple[int, ...]], kind: LayerType | None = None) -> None:
        """Add a layer and its blobs."""
        for place, (name, shape) in enumerate(zip(spec.tops, shapes, strict=True)):
            in_place = spec.bottoms[place : place + 1] == [name]
            if name in self.makers and not (in_place and kind and kind.in_place):
                maker = self.makers[name]
                first = f'layer "{maker.name}" (line {maker.fields.line})' if maker else "an input of the net"
                hint = f"; a layer of type {spec.type} cannot work in place" if in_place else ""
                spec.fields.fail(f'its top "{name}" was already made by {first}{hint}')
            self.add_blob(spec, name, shape)
        weights = spec.loss_weights or [float(bool(kind and kind.is_loss))] * len(spec.tops)
        if len(weights) != len(spec.tops):
            spec.fields.fail(f"loss_weight: expected one for each of its {len(spec.tops)} tops, got {len(weights)}")
        lists = (spec.bottoms, spec.tops, shapes, weights)
        self.net.layers.append(Layer(spec.name, spec.type, *map(tuple, lists)))

    def add_blob(self, spec: LayerSpec | None, name: str, shape: tuple[int, ...]) -> None:
        check_size(spec.fields if spec else self.root, f'blob "{name}"', shape, MAX_BLOB)
        self.net.blobs[name], self.makers[name] = shape, spec

    def add_parameters(self, spec: LayerSpec, module: Module) -> None:
        """Note the parameters' multipliers, and put shared ones in the place of the layer's own."""
        names = [name for name, parameter in module._parameters.items() if parameter is not None]
        self.count += sum(parameter.numel() for parameter in module.parameters())
        if self.count > MAX_PARAMETERS:
            spec.fields.fail(f"up to here the net has {self.count:,} parameters, more than {MAX_PARAMETERS:,}")
        if spec.type == "BatchNorm":  # Caffe lists its statistics as parameters, and never learns them
            if len(spec.params) > 3 or any(param.lr_mult or param.name for param in spec.params):
                spec.fields.fail("the statistics of a BatchNorm layer take at most 3 params, of lr_mult 0 and no name")
            return
        if len(spec.params) > len(names):
            spec.fields.fail(f"it has {len(names)} parameters, got {len(spec.params)} params")
        for place, name in enumerate(names):
            param = spec.params[place] if place < len(spec.params) else None
            path, given = f"{spec.name}.{name}", (param.lr_mult, param.decay_mult) if param else (None, None)
            if param and param.name in self.shared:
                self.share(spec, module, name, param.name, given)
                continue
            factors = tuple(1.0 if factor is None else factor for factor in given)
            parameter = getattr(module, name)
            parameter.requires_grad_(factors[0] > 0)
            self.net.multipliers[path] = factors
            if param and param.name:
                self.shared[param.name] = parameter, path, factors

    def share(self, spec: LayerSpec, module: Module, name: str, shared: str, given: tuple) -> None:
        parameter, path, factors = self.shared[shared]
        if getattr(module, name).shape != parameter.shape:
            shapes = f"{text(parameter.shape)}, but here it would have {text(getattr(module, name).shape)}"
            spec.fields.fail(f'it shares "{shared}" with {path}, of shape {shapes}')
        if any(new is not None and new != old for new, old in zip(given, factors, strict=True)):
            spec.fields.fail(f'it shares "{shared}" with {path}, but gives it another lr_mult or decay_mult')
        setattr(module, name, parameter)
