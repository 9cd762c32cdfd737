"""Writes PyTorch's files byte by byte, knowing nothing of minidl or PyTorch: also files that lie."""

import pickle
import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C


def text(value):
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def dict_of(**entries):
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def call(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + tuple_of(*arguments) + b"R"


def storage(key, count, kind="FloatStorage", view=None):
    """A persistent id; `view`, None or (key, offset, count), makes it one of the old format."""
    tail = [] if view is None else [b"N" if view == () else tuple_of(text(view[0]), *map(number, view[1:]))]
    return tuple_of(text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), number(count), *tail) + b"Q"


def tensor(stored, shape, strides, offset=0):
    numbers = [tuple_of(*map(number, part)) for part in (shape, strides)]
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", stored, number(offset), *numbers, b"\x89", hooks)


def program(opcodes):
    return b"\x80\x02" + opcodes + b"."


def zip_file(path, opcodes, storages=None, order=b"little", extra=None, compression=zipfile.ZIP_STORED):
    """The format since PyTorch 1.6; `storages`: key -> bytes."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", program(opcodes))
        if order is not None:
            archive.writestr("model/byteorder", order)
        for key, content in (storages or {}).items():
            archive.writestr(f"model/data/{key}", content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def legacy_file(path, opcodes, storages=None, version=1001):
    """The format before: key -> (elements, bytes)."""
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(value, 2) for value in (MAGIC, version, sizes)]
    parts += [program(opcodes), pickle.dumps(list(storages or {}), 2)]
    parts += [struct.pack("<q", count) + content for count, content in (storages or {}).values()]
    path.write_bytes(b"".join(parts))
    return path
