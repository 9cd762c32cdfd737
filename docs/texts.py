"""Directives that take equations and code from minidl.ops, so that each stands in one place.

    ```{text} conv2d_backward
    ```

shows the equations of a text and its source (`:equations-only:` without the source), and

    ```{equations} minidl.ops.conv
    ```

those of all texts of a file.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import minidl.ops
from minidl.kernels import Kernel, get_kernel, list_kernels
from minidl.study.formulas import latex_equation

for module in pkgutil.iter_modules(minidl.ops.__path__, "minidl.ops."):
    importlib.import_module(module.name)  # registers its texts


class Text(SphinxDirective):
    """Show texts by name: their equations as one aligned block each, then their source."""

    required_arguments, optional_arguments, final_argument_whitespace = 1, 0, True
    option_spec = {"equations-only": directives.flag}

    def run(self):
        found = []
        for name in self.arguments[0].split():
            if name in list_kernels():
                text = get_kernel(name)
                function = text.text
                found += [self.equations(text)] if text.formulas else []
            else:
                function = self.function(name)
            if "equations-only" not in self.options:
                found += self.source(function)
        return found

    def function(self, name):
        """A function that is no text, by its full name."""
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ValueError, ImportError, AttributeError):
            raise self.error(f"there is no text and no function named {name!r}") from None

    def equations(self, *texts):
        lines = [
            latex_equation(v, formula, derivative=text.name.endswith("_backward"))
            for text in texts
            for v, formula in text.formulas.items()
        ]
        aligned = r" \\[3pt] ".join(line.replace(" = ", " &= ", 1) for line in lines)
        body = rf"\begin{{aligned}} {aligned} \end{{aligned}}"
        return nodes.math_block(body, body, nowrap=False, number=None, label=None, docname=self.env.docname)

    def source(self, function):
        path = Path(inspect.getsourcefile(function))
        self.env.note_dependency(str(path))
        lines, first = inspect.getsourcelines(function)
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        code = nodes.literal_block("".join(lines[start:]), "".join(lines[start:]), language="python")
        place = path.relative_to(Path(minidl.__file__).parents[1]).as_posix()
        caption = nodes.paragraph("", "", nodes.literal("", f"{place}, line {first + start}"), classes=["text-place"])
        return [caption, code]


class Equations(Text):
    """The equations of all texts of a module: forward and backward together, in the order of its file."""

    option_spec = {}

    def run(self):
        module = importlib.import_module(self.arguments[0])
        self.env.note_dependency(module.__file__)
        operations = {}
        for text in vars(module).values():
            if isinstance(text, Kernel) and text.text.__module__ == module.__name__ and text.formulas:
                operations.setdefault(re.sub("_(forward|backward)$", "", text.name), []).append(text)
        found = []
        for name, texts in operations.items():
            found += [nodes.paragraph("", "", nodes.literal("", name), classes=["text-name"]), self.equations(*texts)]
        return found


def setup(app):
    app.add_directive("text", Text)
    app.add_directive("equations", Equations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
