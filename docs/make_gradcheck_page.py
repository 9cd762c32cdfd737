"""Write gradcheck.md, the page of `minidl gradcheck all`: python docs/make_gradcheck_page.py."""

import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from minidl.interop.safetensors import write_atomically

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gradcheck.md"

HEAD = """\
# Every derivative against finite differences

*Written by `python docs/make_gradcheck_page.py` on {date}, commit {commit}, Python {python}, NumPy {numpy}, {machine}.*

Backward's gradients in float64 are compared, element by element, with differences of the forward pass, for a random
gradient of the output: `minidl.study.gradcheck`. Second derivatives are checked in the same way (`--second`).
**Relative error** is that of the worst element. What the differences themselves can tell ends between 1e-12 and 1e-7,
the worse the more strongly a function is curved. **Kinks** are elements where it has no derivative. The inputs and
random numbers are the same in every run.
"""


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def commit():
    """The commit that was checked, and whether minidl/ has been changed since."""
    changed = output("git", "status", "--porcelain", "--untracked-files=all", "--", "minidl")
    return output("git", "rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def table(text):
    """The command's title, its table as Markdown, its last line; columns stand two blanks apart or more."""
    title, names, _, *rows, remark = text.split("\n")
    cells = [re.split(" {2,}", row.strip()) for row in rows]
    lines = [re.split(" {2,}", names.strip()), ["---", "---:", "---", "---:", "---:", "---"]]
    lines += [[f"`{name}`", cases, f"`{worst}`", *rest] for name, cases, worst, *rest in cells]
    return title, "\n".join("| " + " | ".join(line) + " |" for line in lines), remark


def section(*options):
    command = ["gradcheck", "all", *options]
    title, body, remark = table(output(sys.executable, "-m", "minidl", *command))
    return f"## {title[0].upper()}{title[1:]}\n\n    minidl {' '.join(command)}\n\n{body}\n\n{remark}\n"


def page():
    date, machine = datetime.date.today().isoformat(), f"{platform.machine()}, {os.cpu_count()} cores"
    facts = {"date": date, "commit": commit(), "python": platform.python_version(), "numpy": np.__version__}
    return "\n".join([HEAD.format(**facts, machine=machine), section(), section("--second")])


if __name__ == "__main__":
    write_atomically(PAGE, [page().encode()])
