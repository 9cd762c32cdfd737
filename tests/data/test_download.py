import contextlib
import errno
import hashlib
import http.server
import os
import socket
import threading

import numpy as np
import pytest

from minidl.data import MNIST, DownloadError, cache_folder, download
from minidl.data import download as exported
from minidl.data import mnist as mnist_module

module = __import__("sys").modules["minidl.data.download"]
CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Files by path; `cuts` bytes counts after which the next answers break off; `log` of (path, Range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.log = {}, [], []
        self.ranges = self.lengths = True
        self.wrong_range = False
        self.base = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.path, wanted))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            first = 0 if server.wrong_range else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(content)
        with contextlib.suppress(OSError):  # the client may have left
            self.wfile.write(content[start:end])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    """Let "cifar10" be one small file, and let no proxy stand between the tests and 127.0.0.1."""
    remote = module.RemoteFile("file.tar.gz", len(CONTENT), hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(module.SOURCES, "cifar10", module.Source("", ("http://127.0.0.1:9/",), (remote,)))
    monkeypatch.setenv("no_proxy", "*")
    assert exported is download


def test_download_and_nothing_to_do(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    root = tmp_path / "new" / "folder"
    assert download("cifar10", root, [server.base]) == root
    assert (root / "file.tar.gz").read_bytes() == CONTENT
    assert os.listdir(root) == ["file.tar.gz"]
    download("cifar10", root, [server.base.removesuffix("/")])
    assert len(server.log) == 1


def test_a_cut_connection_is_continued(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    server.cuts = [100_000, 50_000]
    download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.log] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_continues(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    server.cuts = [10_000] * module.TRIES
    with pytest.raises(DownloadError, match="cut at 40,000 of 300,000 bytes"):
        download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz.part").read_bytes() == CONTENT[:40_000]
    assert not (tmp_path / "file.tar.gz").exists()
    download("cifar10", tmp_path, [server.base])
    assert server.log[-1] == ("/file.tar.gz", "bytes=40000-")
    assert os.listdir(tmp_path) == ["file.tar.gz"]


def test_a_server_without_ranges_or_lengths(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    server.ranges = server.lengths = False
    server.cuts = [100_000]
    download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    server.wrong_range = True
    (tmp_path / "file.tar.gz.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="another range"):
        download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("part", [b"x" * 5000, b"x" * 300_000, b"x" * 300_001, CONTENT])
def test_a_part_file_that_is_wrong_or_complete(part, server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    (tmp_path / "file.tar.gz.part").write_bytes(part)
    download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["file.tar.gz"]


def test_a_damaged_file_in_place_is_fetched_again(server, tmp_path):
    server.files["/file.tar.gz"] = CONTENT
    (tmp_path / "file.tar.gz").write_bytes(CONTENT[:-1] + b"?")
    download("cifar10", tmp_path, [server.base])
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT


def test_wrong_checksum_then_the_next_mirror(server, tmp_path):
    server.files["/bad/file.tar.gz"] = CONTENT[::-1]
    server.files["/good/file.tar.gz"] = CONTENT
    with pytest.raises(DownloadError, match=r"127.0.0.1:\d+: sent a file with a wrong checksum \(expected MD5 "):
        download("cifar10", tmp_path, [server.base + "bad"])
    assert os.listdir(tmp_path) == []
    assert len(server.log) == 1
    download("cifar10", tmp_path, [server.base + "bad", server.base + "good"])
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT


def test_404_then_the_next_mirror(server, tmp_path):
    server.files["/good/file.tar.gz"] = CONTENT
    download("cifar10", tmp_path, [server.base + "none", server.base + "good"])
    assert [path for path, _ in server.log] == ["/none/file.tar.gz", "/good/file.tar.gz"]
    assert (tmp_path / "file.tar.gz").read_bytes() == CONTENT


def test_a_web_page_instead_of_the_file(server, tmp_path):
    server.files["/file.tar.gz"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="offers 26 bytes instead of 300,000"):
        download("cifar10", tmp_path, [server.base])
    server.lengths = False
    with pytest.raises(DownloadError, match="cut at 26 of|HTTP 416"):
        download("cifar10", tmp_path, [server.base])


def test_offline_says_what_was_tried_and_what_to_do(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(DownloadError) as caught:
            download("cifar10", tmp_path, [f"http://127.0.0.1:{port}/a", "http://no-such-host.invalid/"])
    message = str(caught.value)
    for part in (f"127.0.0.1:{port}: ", "no-such-host.invalid: ", f"http://127.0.0.1:{port}/a/file.tar.gz", "by hand"):
        assert part in message
    assert str(tmp_path / "file.tar.gz") in message and hashlib.md5(CONTENT).hexdigest() in message


def test_a_full_disk_keeps_its_error_type(server, tmp_path, monkeypatch):
    server.files["/file.tar.gz"] = CONTENT

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="download: cannot write to .*No space left") as caught:
        download("cifar10", tmp_path, [server.base])
    assert caught.value.errno == errno.ENOSPC and not isinstance(caught.value, DownloadError)
    assert not (tmp_path / "file.tar.gz").exists() and len(server.log) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="download: cannot write to"):
        download("cifar10", tmp_path / "file" / "below")


def test_mnist_lands_where_the_reader_looks(server, tmp_path, monkeypatch):
    import gzip

    monkeypatch.setattr(mnist_module, "COUNTS", {"train": 3, "t10k": 2})
    files = []
    for part, count in (("train", 3), ("t10k", 2)):
        images = np.full((count, 28, 28), 7, np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0])):
            header = np.array([0x0800 + array.ndim, *array.shape], ">i4").tobytes()
            content = gzip.compress(header + array.tobytes())
            server.files[f"/{part}-{name}-ubyte.gz"] = content
            files.append(module.RemoteFile(f"{part}-{name}-ubyte.gz", len(content), hashlib.md5(content).hexdigest()))
    monkeypatch.setitem(module.SOURCES, "mnist", module.Source("MNIST/raw", (server.base,), tuple(files)))
    ds = MNIST(tmp_path, download=True)
    assert len(ds) == 3 and len(MNIST(tmp_path, train=False)) == 2
    assert len(list((tmp_path / "MNIST" / "raw").iterdir())) == 4
    assert len(server.log) == 4


def test_the_default_folder_is_the_cache(server, tmp_path, monkeypatch):
    server.files["/file.tar.gz"] = CONTENT
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "minidl"
    assert download("cifar10", mirrors=[server.base]) == tmp_path / "minidl"
    assert (tmp_path / "minidl" / "file.tar.gz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imagenet",), "name must be one of cifar10, cifar10-python, mnist, got 'imagenet'"),
        (("cifar10", None, ["file:///etc"]), "mirrors must begin with https:// or http://, got 'file:///etc/'"),
        (("cifar10", None, []), "at least one address"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        download(*arguments)
