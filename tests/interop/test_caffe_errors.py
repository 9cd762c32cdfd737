"""What is refused of Caffe's networks, by which message, in which line."""

import pytest

from minidl.interop.caffe import MAX_PARAMETERS, from_prototxt
from minidl.interop.prototxt import PrototxtError

INPUT = 'input: "data" input_shape { dim: 4 dim: 3 }\n'


def ip(name, bottom, top, options="", outputs=2):
    options += f" inner_product_param {{ num_output: {outputs} }}"
    return layer(name, "InnerProduct", [bottom], [top], options)


def layer(name, kind, bottoms, tops, options=""):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "{name}" type: "{kind}" {ends} {options} }}\n'


def one(kind, options, bottoms):
    """The text of a layer named l, from x0, x1, ... to y."""
    return layer("l", kind, [f"x{i}" for i in range(bottoms)], ["y"], options)


def inputs(shapes):
    """Inputs x0, x1, ..., each in a line of its own."""
    dims = [" ".join(f"dim: {n}" for n in shape) for shape in shapes]
    return "".join(f'input: "x{i}" input_shape {{ {text} }}\n' for i, text in enumerate(dims))


IMAGE, ROWS = (2, 4, 6, 6), (2, 3)
OPTIONS = {
    "no outputs": (
        "Convolution",
        "convolution_param { kernel_size: 3 }",
        [IMAGE],
        "convolution_param needs num_output",
    ),
    "no kernel": ("Convolution", "convolution_param { num_output: 2 }", [IMAGE], "needs kernel_size, or kernel_h"),
    "zero outputs": ("Convolution", "convolution_param { num_output: 0 }", [IMAGE], "must be an integer >= 1, got 0"),
    "float outputs": ("Convolution", "convolution_param { num_output: 2.0 }", [IMAGE], "an integer >= 1, got 2.0"),
    "two kernels": (
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3 }",
        [IMAGE],
        "either kernel_size, or both kernel_h and kernel_w",
    ),
    "half a kernel": ("Pooling", "pooling_param { kernel_h: 3 }", [IMAGE], "both kernel_h and kernel_w"),
    "3-D": (
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: [3, 3, 3] }",
        [IMAGE],
        "given 3 times; minidl knows images",
    ),
    "groups": (
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 3 group: 3 }",
        [IMAGE],
        "group 3 must divide",
    ),
    "large kernel": (
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 9 }",
        [IMAGE],
        "a kernel that spans 9 pixels does not fit into 6 pixels",
    ),
    "no image": ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", [ROWS], "N C H W, got 2 3"),
    "huge": ("InnerProduct", "inner_product_param { num_output: 2000000000 }", [ROWS], "more than 268,435,456"),
    "beyond 32 bits": ("InnerProduct", "inner_product_param { num_output: 99999999999 }", [ROWS], "integer of 32 bits"),
    "axis": ("InnerProduct", "inner_product_param { num_output: 2 axis: 2 }", [ROWS], "must be in -2..1"),
    "pool": (
        "Pooling",
        "pooling_param { pool: STOCHASTIC kernel_size: 2 }",
        [IMAGE],
        "must be MAX or AVE, got STOCHASTIC",
    ),
    "pool in quotes": (
        "Pooling",
        'pooling_param { pool: "MAX" kernel_size: 2 }',
        [IMAGE],
        "must be MAX or AVE, got 'MAX'",
    ),
    "no window": ("Pooling", "", [IMAGE], "either global_pooling or kernel_size"),
    "padding": ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", [IMAGE], "pad 2 must be less than the window, 2"),
    "empty window": (
        "Pooling",
        "pooling_param { kernel_size: 1 stride: 4 }",
        [IMAGE],
        "the last window of 1 holds nothing of 6 pixels",
    ),
    "lrn": ("LRN", "lrn_param { local_size: 4 }", [IMAGE], "local_size must be odd, got 4"),
    "dropout": ("Dropout", "dropout_param { dropout_ratio: 1 }", [ROWS], "dropout_ratio must be in"),
    "scale": ("Scale", "scale_param { axis: 1 num_axes: 2 }", [ROWS], "reach past the axes"),
    "eltwise": ("Eltwise", "", [ROWS, (2, 4)], "must have the same shape, got 2 3 and 2 4"),
    "coeff": ("Eltwise", "eltwise_param { coeff: 1 }", [ROWS, ROWS], "coeff belongs to SUM"),
    "concat": ("Concat", "", [ROWS, (3, 3)], "may differ along axis 1 alone, got 2 3 and 3 3"),
    "reshape": ("Reshape", "reshape_param { shape { dim: 4 dim: 2 } }", [ROWS], "dims 4 2 do not fit its bottom, 2 3"),
    "reshape twice": ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [ROWS], "do not fit"),
    "reshape zero": ("Reshape", "reshape_param { shape { dim: 6 dim: 1 dim: 0 } }", [ROWS], "do not fit"),
    "labels": ("SoftmaxWithLoss", "", [ROWS, (3,)], "scores of shape 2 3 need 2 labels, got 3"),
    "top_k": ("Accuracy", "accuracy_param { top_k: 4 }", [ROWS, (2,)], "top_k 4 is more than its 3 classes"),
    "targets": ("EuclideanLoss", "", [ROWS, (2,)], "same size, got 2 3 and 2"),
    "unknown field": ("ReLU", "relu_param { slope: 1 }", [ROWS], "does not know the field relu_param.slope"),
    "field of another": ("ReLU", "pooling_param { }", [ROWS], "does not know the field pooling_param"),
    "twice": ("ReLU", "relu_param { } relu_param { }", [ROWS], "relu_param is given twice (first in line"),
    "no message": ("ReLU", "relu_param: 3", [ROWS], "relu_param must be a message in braces, got 3"),
    "bool": ("Scale", "scale_param { bias_term: maybe }", [ROWS], "must be true or false, got maybe"),
    "number": ("LRN", 'lrn_param { alpha: "1" }', [IMAGE], "must be a number, got '1'"),
    "nan": ("LRN", "lrn_param { alpha: nan }", [IMAGE], "must be a number, got nan"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_fit_are_named_with_layer_and_line(case):
    kind, options, shapes, message = OPTIONS[case]
    with pytest.raises(PrototxtError) as error:
        from_prototxt(inputs(shapes) + one(kind, options, len(shapes)))
    assert str(error.value).startswith(f'prototxt:{len(shapes) + 1}: layer "l": ') and message in str(error.value)


REFUSED = {
    "type": (
        INPUT + '\nlayer {\n name: "foo"\n type: "Bar"\n}',
        '5: layer "foo" has type "Bar", which minidl does not know; it knows Accuracy, BatchNorm, Concat, Convolution,',
    ),
    "old type": (INPUT + 'layers { name: "a" type: DECONVOLUTION }', '2: layer "a" has type "DECONVOLUTION", which'),
    "type as a word": (INPUT + 'layer { name: "a" type: ReLU }', '2: layer "a": type must be a text in quotes'),
    "old type in quotes": (INPUT + 'layers { name: "a" type: "ReLU" }', '2: layer "a": type must be a word, such as'),
    "no type": (INPUT + 'layer { name: "a" }', '2: layer "a": it has no type'),
    "no name": (INPUT + 'layer { type: "ReLU" }', "2: a layer: it has no name"),
    "both forms": (
        INPUT + 'layer { name: "a" }\nlayers { name: "b" }',
        '1: "layer" and "layers" (line 3) are Caffe\'s',
    ),
    "field": (
        INPUT + ip("a", "data", "a", "\nfoo: 1"),
        '3: layer "a": minidl does not know the field foo; it knows bottom',
    ),
    "field of the net": (
        INPUT + "solver: 1\n" + ip("a", "data", "a"),
        "2: minidl does not know the field solver; it knows",
    ),
    "layer without braces": (INPUT + "layer: 3", "2: a layer must be a message in braces"),
    "bottom": (INPUT + ip("a", "datum", "a"), '2: layer "a": its bottom "datum" is made by no layer; there are data'),
    "order": (
        INPUT + ip("a", "b", "a") + ip("b", "data", "b"),
        '2: layer "a": its bottom "b" is made only further down, by layer "b" in line 3; layers run in the order',
    ),
    "cycle": (INPUT + ip("a", "b", "a") + ip("b", "a", "b"), 'further down, by layer "b" in line 3'),
    "own bottom": (INPUT + ip("a", "a", "a"), '2: layer "a": its bottom "a" is made by the layer itself alone'),
    "top twice": (
        INPUT + ip("a", "data", "y") + ip("b", "data", "y"),
        '3: layer "b": its top "y" was already made by layer "a" (line 2)',
    ),
    "top of an input": (
        INPUT + ip("a", "data", "data"),
        "made by an input of the net; a layer of type InnerProduct cannot",
    ),
    "top of another": (
        INPUT + ip("a", "data", "a") + layer("s", "Split", ["a"], ["b", "b"]),
        '3: layer "s": its top "b" was already made by layer "s" (line 3)',
    ),
    "name twice": (
        INPUT + ip("a", "data", "a") + ip("a", "a", "b"),
        '3: layer "a": another layer of this name stands in line 2',
    ),
    "bottoms": (
        INPUT + layer("a", "ReLU", ["data", "data"], ["a"]),
        '2: layer "a": a layer of type ReLU takes 1 bottoms, got 2',
    ),
    "tops": (INPUT + layer("a", "Eltwise", ["data", "data"], []), "takes 1 tops, got 0"),
    "few bottoms": (INPUT + layer("a", "Eltwise", ["data"], ["a"]), "takes 2 or more bottoms, got 1"),
    "bottom of data": (INPUT + layer("a", "Input", ["data"], ["b"]), "a layer of type Input has no bottom"),
    "no top of data": (INPUT + layer("a", "Input", [], []), "a layer of type Input needs a top"),
    "no shape": (layer("a", "Input", [], ["b"]), "input_param needs one shape, or one for each of its 1 tops"),
    "no batch": (layer("a", "Data", [], ["b"], 'data_param { source: "mnist" }'), "data_param needs batch_size"),
    "zero extent": ('input: "a" input_shape { dim: 0 }', "1: input_shape.dim must be an integer >= 1, got 0"),
    "five dims": (
        'input: "a"\n' + "input_dim: 1 " * 5,
        "1: input_dim: expected 4 for each input and no input_shape, got 5",
    ),
    "inputs": ('input: "a" input: "b" input_shape { dim: 1 }', "there are 2 inputs, but shapes for 1"),
    "nothing": ("# a net\n", "prototxt: it has no layers in phase TRAIN"),
    "no inputs": ('layer { name: "a" type: "Silence" }', "takes 1 or more bottoms, got 0"),
    "both rules": (
        INPUT + ip("a", "data", "a", "include { phase: TEST } exclude { phase: TRAIN }"),
        '2: layer "a": it has both include and exclude rules',
    ),
    "phase": (
        INPUT + ip("a", "data", "a", "include { phase: DEPLOY }"),
        "include.phase must be TRAIN or TEST, got DEPLOY",
    ),
    "loss weights": (
        INPUT + layer("a", "ReLU", ["data"], ["a"], "loss_weight: [1, 2]"),
        "one for each of its 1 tops, got 2",
    ),
    "learned statistics": (
        INPUT + layer("a", "BatchNorm", ["data"], ["a"], "param { lr_mult: 1 }"),
        "the statistics of a BatchNorm layer take at most 3 params, of lr_mult 0",
    ),
    "huge blob": (
        'input: "a" input_shape { dim: 2000000000 dim: 2000000000 }\n' + ip("l", "a", "b"),
        'blob "a" of shape 2000000000 2000000000 has 4,000,000,000,000,000,000 elements, more than 2,147,483,647',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nets_that_do_not_hold_together(case):
    text, message = REFUSED[case]
    with pytest.raises(PrototxtError) as error:
        from_prototxt(text)
    assert message in str(error.value) and str(error.value).startswith("prototxt:")


def test_a_net_of_too_many_parameters_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr("minidl.interop.caffe.MAX_PARAMETERS", 30)
    assert MAX_PARAMETERS * 4 == 1 << 31
    text = INPUT + "".join(ip(f"l{i}", "data", f"y{i}") for i in range(5))
    with pytest.raises(PrototxtError, match='5: layer "l3": up to here the net has 32 parameters, more than 30'):
        from_prototxt(text)
