"""Run a PyTorch file as it stands, or as a user would port it: its imports swapped, and nothing else."""

import re
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent

#: as for sed -E, in docs/porting.md
SWAPS = [(r"^import torch *$", "import minidl as torch"), (r"^(import|from) torch([. ])", r"\1 minidl\2")]


def swapped(source: str) -> str:
    """The text of a PyTorch file with minidl in its imports."""
    for old, new in SWAPS:
        source = re.sub(old, new, source, flags=re.MULTILINE)
    return source


def load(name: str, library: str) -> ModuleType:
    """Execute tests/pytorch_code/<name>.py under "torch" (unchanged) or "minidl" (imports swapped)."""
    path = HERE / f"{name}.py"
    source = path.read_text()
    module = ModuleType(f"{name}_under_{library}")
    exec(compile(source if library == "torch" else swapped(source), path, "exec"), vars(module))
    return module
