"""Model files written for PyTorch, run under minidl, as ONNX files."""

import pytest
from onnx_judge import compared, stirred
from pytorch_code.loading import load
from test_pytorch_code import SMALL

import minidl
from minidl.interop import export_onnx

REFUSED = {"attention_blocks": "getitem.*SpatialGate"}  # x.max(dim) takes the place of the maximum, found from numbers


@pytest.mark.parametrize("name", [name for name in SMALL if name not in REFUSED])
def test_files_written_for_pytorch(name, tmp_path):
    file, construct, height = SMALL[name]
    model = stirred(construct(load(file, "minidl"), 0.3))
    compared(model, [minidl.randn(n, 3, height, height).numpy() for n in (2, 3)], tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_numbers_is_refused(name, tmp_path):
    pytest.importorskip("onnx")
    file, construct, height = SMALL[name]
    with pytest.raises(ValueError, match=REFUSED[name]):
        export_onnx(construct(load(file, "minidl"), 0.3), minidl.randn(2, 3, height, height), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
