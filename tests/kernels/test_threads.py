"""Worker threads: every task once, errors handed on, forks survived, results the same for any number."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.kernels import threads


@pytest.fixture(autouse=True)
def restore_threads():
    before = minidl.get_num_threads()
    yield
    minidl.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize("tasks", [0, 1, 2, 5, 64])
def test_every_task_is_done_once(number, tasks):
    minidl.set_num_threads(number)
    done = np.zeros(tasks, int)

    def count(start, stop, array):
        array[start:stop] += 1

    threads.run(count, tasks, done)
    assert (done == 1).all()


def test_an_error_of_a_worker_reaches_the_caller():
    minidl.set_num_threads(2)

    def fail(start, stop):
        if start == 0:
            raise OSError("in the worker")

    with pytest.raises(OSError, match="in the worker"):
        threads.run(fail, 2)
    threads.run(lambda start, stop: None, 2)  # and the pool goes on


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_a_bad_number_is_refused(bad):
    with pytest.raises(ValueError, match="set_num_threads: num_threads must be a positive integer"):
        minidl.set_num_threads(bad)


def gradients(seed):
    """All gradients of a small network on a fixed batch."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 20, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5),
    )  # fmt: skip
    for p in net.parameters():
        p.data.copy_(rng.standard_normal(p.shape).astype(np.float32) * 0.2)
    x = minidl.from_numpy(rng.standard_normal((19, 3, 24, 24)).astype(np.float32))
    loss = nn.functional.cross_entropy(net(x), rng.integers(0, 5, 19))
    loss.backward()
    return [loss.item()] + [p.grad.array for p in net.parameters()]


def test_results_do_not_depend_on_the_number_of_threads():
    minidl.set_num_threads(1)
    expected = gradients(0)
    for number in (2, 3, 5):
        minidl.set_num_threads(number)
        for g, e in zip(gradients(0), expected, strict=True):
            np.testing.assert_array_equal(g, e)


def test_python_threads_can_compute_at_once():
    expected = [gradients(seed) for seed in range(4)]
    found = [None] * 4

    def work(seed):
        found[seed] = gradients(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for f, e in zip(found, expected, strict=True):
        for g, h in zip(f, e, strict=True):
            np.testing.assert_array_equal(g, h)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes():
    minidl.set_num_threads(2)
    expected = gradients(0)[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(gradients(0)[0]))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


def test_importing_compiles_nothing_and_draws_nothing():
    heavy = ("numba", "matplotlib", "cupy", "torch")
    code = f"import sys, minidl, minidl.data, minidl.training; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("width", ["16", "32"])
def test_narrower_vectors_compute_the_same(width, tmp_path):
    """What hosts with SSE, NEON (16 bytes) or AVX2 (32) run, from the same sources."""
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'tests/kernels'); import test_threads as t\n"
        "np.savez(sys.argv[1], *t.gradients(0))"
    )
    file = tmp_path / "gradients.npz"
    environment = {**os.environ, "MINIDL_VECTOR_BYTES": width}
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, env=environment)
    with np.load(file) as found:
        for name, expected in zip(found.files, gradients(0), strict=True):
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
