"""Files shared with other programs. Nothing here ever runs code found in a file."""

from minidl.interop.caffe import CaffeNet, from_prototxt
from minidl.interop.compare import compare_with_torch
from minidl.interop.files import load, save
from minidl.interop.onnx_export import export_onnx
from minidl.interop.prototxt import PrototxtError
from minidl.interop.safetensors import load_file, save_file, write_atomically
from minidl.interop.weights import load_weights, state_dict_of

__all__ = [
    "CaffeNet",
    "PrototxtError",
    "compare_with_torch",
    "export_onnx",
    "from_prototxt",
    "load",
    "load_file",
    "load_weights",
    "save",
    "save_file",
    "state_dict_of",
    "write_atomically",
]
