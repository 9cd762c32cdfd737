"""What onnxruntime computes of an exported model, compared with what minidl computes."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.interop import export_onnx


def run(path, *arrays):
    """The outputs that onnxruntime computes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {node.name: array for node, array in zip(session.get_inputs(), arrays, strict=True)})


def compared(model, batches, tmp_path, tolerance=2e-5, **options):
    """Export for the first of the batches, and compare on all of them; differences count beside the largest output."""
    pytest.importorskip("onnx")
    path = tmp_path / "a.onnx"
    model.eval()
    export_onnx(model, batches[0], path, **options)
    for x in batches:
        with minidl.no_grad():
            y = model(minidl.from_numpy(x)).numpy()
        (z,) = run(path, x)
        assert (z.shape, z.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(z, y, rtol=tolerance, atol=tolerance * abs(y).max(initial=1e-30))
    return path


def stirred(model):
    """Give BN's statistics, weights and biases numbers other than 0 and 1; returns the model."""
    rng = np.random.default_rng(2)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in ((m.running_mean, -0.1, 0.1), (m.running_var, 0.7, 1.4)):
                tensor.copy_(rng.uniform(low, high, tensor.shape).astype(tensor.dtype))
            for tensor, low, high in ((m.bias, -0.1, 0.1), (m.weight, 0.8, 1.2)):
                tensor.data.copy_(rng.uniform(low, high, tensor.shape).astype(tensor.dtype))
    return model
