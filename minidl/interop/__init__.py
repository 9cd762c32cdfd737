"""Files shared with other programs. Nothing here ever runs code found in a file."""

from minidl.interop.safetensors import load_file, save_file, write_atomically

__all__ = ["load_file", "save_file", "write_atomically"]
