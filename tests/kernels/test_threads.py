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
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import change, deal, do_job, job_of, look, share_out


@pytest.fixture(autouse=True)
def restore_threads():
    before = minidl.get_num_threads()
    yield
    minidl.set_num_threads(before)


@jit
def count(start, stop, crew, done):
    if crew:
        return share_out(job_of(start, stop), crew)
    for task in range(start, stop):
        done[task] += 1


@jit
def fail(start, stop, crew):
    if crew:
        return share_out(job_of(start, stop), crew)
    if start == 0:
        raise IndexError


@pytest.mark.parametrize("number", [1, 2, 3, 7, 5000])
@pytest.mark.parametrize("tasks", [0, 1, 2, 5, 64])
def test_every_task_is_done_once(number, tasks):
    minidl.set_num_threads(number)
    for _ in range(10):
        done = np.zeros(tasks, int)
        threads.run(count, tasks, done)
        assert (done == 1).all()


@jit
def note_order(start, stop, crew, number, turn, order):
    """order[task] = when it is done by the thread `number` of the crew; turn[0] counts."""
    if crew:
        job = job_of(start, stop)
        deal(job, crew)
        return do_job(job, crew, number)
    for task in range(start, stop):
        order[task] = turn[0]
        turn[0] += 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_threads_begin_with_their_own_share(number):
    """So that a core finds what it wrote in its own cache; then come the shares of the others."""
    mailboxes = np.zeros((3, threads.MAILBOX // 8), np.int64)
    mailboxes[0, threads.HELPERS] = 2
    order = np.zeros(10, int)
    note_order(0, 10, mailboxes.ctypes.data, number, np.zeros(1, int), order)
    shares = [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert list(np.argsort(order)) == sum(shares[number:] + shares[:number], [])


@jit
def meet(start, stop, crew, arrived, looks):
    """Count the tasks that have begun, and look out for the other one: arrived[1] says whether it came."""
    if crew:
        return share_out(job_of(start, stop), crew)
    place = arrived.ctypes.data
    for _ in range(start, stop):
        before = look(place)
        while not change(place, before, before + 1):
            before = look(place)
        for _ in range(looks):
            if look(place) == 2:
                arrived[1] = 1
                break


def test_helpers_do_part_of_the_work():
    """Two tasks can meet only if two threads do them."""
    minidl.set_num_threads(2)
    met = False
    for _ in range(1000):
        arrived = np.zeros(2, np.int64)
        threads.run(meet, 2, arrived, 100_000)
        met = met or (arrived[0] == 2 and arrived[1] == 1 and threads._crew.mailboxes[1, 0] != threads.ASLEEP)
    assert met


def test_an_error_reaches_the_caller():
    for number in (1, 2):
        minidl.set_num_threads(number)
        with pytest.raises(IndexError):
            threads.run(fail, 2)
        done = np.zeros(5, int)
        threads.run(count, 5, done)  # and the crew goes on
        assert (done == 1).all()


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


def test_code_compiled_anew_and_from_the_cache_computes_the_same_bits(tmp_path):
    """Else a run that is resumed in another process would end elsewhere."""
    code = "import sys; sys.path.insert(0, 'tests/kernels'); import test_threads as t; t.write_gradients(sys.argv[1])"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    written = []
    for name in ("anew", "cached"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, env=environment)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def write_gradients(path):
    with open(path, "wb") as file:
        for g in gradients(0):
            file.write(np.asarray(g).tobytes())


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
