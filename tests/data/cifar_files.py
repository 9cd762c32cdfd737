"""Writers of CIFAR-10's published layouts, at any number of records."""

import io
import pickle
import tarfile

import numpy as np

RECORDS = 40


def cifar_batches(records):
    rng = np.random.default_rng(3)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    return {
        name: (rng.integers(0, 10, records), rng.integers(0, 256, (records, 3072), dtype=np.uint8)) for name in names
    }


def binary_record_file(labels, pixels):
    return np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()


def pickled(labels, pixels, name="data_batch_1", protocol=2):
    entry = {b"batch_label": name.encode(), b"labels": [int(label) for label in labels], b"data": pixels}
    return pickle.dumps(entry, protocol=protocol)


def python2_pickled(labels, pixels):
    """Write the opcodes that Python 2's cPickle (protocol 2) left in the official files."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def integer(value):
        return b"J" + int(value).to_bytes(4, "little")

    raw = pixels.tobytes()
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86" + dtype
    array += b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([int(label)]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def tar_gz(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
