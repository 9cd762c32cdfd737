"""`minidl info`: versions, the machine, and what minidl found on it."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import minidl
from minidl import kernels
from minidl.cli.common import add_command
from minidl.data import available, cache_folder
from minidl.models import list_models


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    add_command(commands, "info", run, "show versions, the machine, the models and the data found", "  minidl info")


def run(args: argparse.Namespace) -> int:
    """Show."""
    for name, value in describe().items():
        print(f"{name + ':':12} {value}")
    return 0


def describe() -> dict[str, str]:
    """Return what `minidl info` shows, by name."""
    texts = kernels.list_kernels()
    overridden = [name for name in texts if kernels.overrides(name, "cpu")]
    datasets = (f"{name} in {place}" if place else name for name, place in available().items())
    return {
        "minidl": f"{minidl.__version__} in {Path(minidl.__file__).parent}",
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in ("numpy", "numba", "tqdm", "matplotlib", "cupy")),
        "CPU": cpu_name(),
        "cores": f"{_cores()} of {os.cpu_count()} usable, {minidl.get_num_threads()} threads in use",
        "vectors": _vectors(),
        "BLAS": _blas(),
        "kernels": f"{len(overridden)} of {len(texts)} texts overridden on the CPU: {', '.join(overridden)}",
        "GPU": _gpu(),
        "models": ", ".join(list_models()),
        "datasets": ", ".join(datasets),
        "cache": str(cache_folder()),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _vectors() -> str:
    """Tell the width of the vectors that the kernels are compiled for."""
    from minidl.kernels.cpu.jit import VECTOR_BYTES

    return f"{8 * VECTOR_BYTES} bits, {VECTOR_BYTES // 4} float32"


def _blas() -> str:
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _gpu() -> str:
    cupy = "CuPy is installed" if importlib.util.find_spec("cupy") else "CuPy is not installed"
    program = shutil.which("nvidia-smi")
    if program is None:
        return f"none found; {cupy}"
    try:
        asked = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return f"nvidia-smi does not answer; {cupy}"
    return "; ".join([*asked.stdout.splitlines(), cupy])
