"""How kernels are compiled: without the GIL, cached on disk, with floating-point rules that keep NaN and Inf.

The cache folder's name is a hash of all kernel sources, the CPU, the vector width and the versions, because numba
itself notices a change only in the file of the function that is called, not in one that it calls.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core import config, types
from numba.core.registry import CPUDispatcher

__all__ = ["VECTOR_BYTES", "cache_folder", "exact_jit", "jit", "routine"]

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}  # never nnan or ninf: a diverging run must show NaN


def _vector_bytes() -> int:
    """Width of the host's vector registers; MINIDL_VECTOR_BYTES asks for narrower ones."""
    features = llvmlite.binding.get_host_cpu_features()
    widest = 64 if features.get("avx512f") else 32 if features.get("avx2") and features.get("fma") else 16
    asked = os.environ.get("MINIDL_VECTOR_BYTES", "")
    return min(widest, int(asked)) if asked in ("16", "32", "64") else widest


VECTOR_BYTES = _vector_bytes()


def _cache_folder() -> Path | None:
    """The private folder for compiled kernels, or None where none can be written."""
    key = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        key.update(source.name.encode() + source.read_bytes())
    host = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    key.update(repr((numba.__version__, llvmlite.__version__, host, VECTOR_BYTES, config.BOUNDSCHECK)).encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "minidl" / f"kernels-{key.hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


cache_folder = _cache_folder()


OPTIONS = dict(nopython=True, nogil=True, fastmath=FASTMATH, error_model="numpy", no_cfunc_wrapper=True)


class Routine(CPUDispatcher):
    """A compiled function that has no way in from the interpreter."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{self.__name__} is a part of kernels: only they can call it")

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template([types.unliteral(a) for a in args], kws)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` when it is first called."""
    return cached(CPUDispatcher(function, targetoptions=dict(OPTIONS)))


def exact_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `jit`, with each operation rounded as it is written: the same bits in every build, and as the text's."""
    return cached(CPUDispatcher(function, targetoptions=OPTIONS | {"fastmath": False}))


def routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only kernels call: for the types of its arguments, not again for each constant."""
    return cached(Routine(function, targetoptions=OPTIONS | {"no_cpython_wrapper": True}))


def cached(dispatcher: CPUDispatcher) -> CPUDispatcher:
    """Keep what it compiles in the cache folder, if there is one."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(cache_folder or "")
    try:
        if cache_folder is not None:
            dispatcher.enable_caching()
        return dispatcher
    finally:
        config.CACHE_DIR = before
