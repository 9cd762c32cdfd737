"""The notebooks beside docs/ as pages of it: the build copies them into docs/notebooks, which is not kept in git."""

import re
import shutil
from pathlib import Path

DOCS = Path(__file__).parent
NOTEBOOKS, COPIES = DOCS.parent / "notebooks", DOCS / "notebooks"


def copy(app, config):
    """Copies keep their dates, so that Sphinx sees what has changed."""
    COPIES.mkdir(exist_ok=True)
    notebooks = {path.name: path for path in NOTEBOOKS.glob("*.md")}
    for page in COPIES.glob("*.md"):
        if page.name not in notebooks:
            page.unlink()
    for name, path in notebooks.items():
        shutil.copy2(path, COPIES / name)


def point_into_pages(app, docname, source):
    """Links from a notebook to docs/ are written as seen from notebooks/."""
    if docname.startswith("notebooks/"):
        source[0] = re.sub(r"\]\(\.\./docs/", "](../", source[0])


def setup(app):
    app.connect("config-inited", copy)
    app.connect("source-read", point_into_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
