"""Tables for the terminal and the notebook."""

import html
from collections.abc import Sequence

__all__ = ["Table"]

MARK = " style='background:rgba(214,39,40,.25)'"  # a red that is legible on white and on black


class Table:
    """Cells of text under column names: `str()` for a terminal, HTML in a notebook.

    Args:
        columns: their names; one that begins with ">" is aligned to the right.
        rows: the cells.
        title: a line above. remarks: lines below.
        marked: numbers of rows to stand out.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        title: str = "",
        remarks: Sequence[str] = (),
        marked: Sequence[int] = (),
    ):
        self.right = [name.startswith(">") for name in columns]
        self.columns, self.rows = [name.removeprefix(">") for name in columns], [list(row) for row in rows]
        self.title, self.remarks, self.marked = title, list(remarks), set(marked)

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = ["  ".join(map(self._aligned, line, widths, self.right)).rstrip() for line in lines]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([*([self.title] if self.title else []), text[0], rule, *text[1:], *self.remarks])

    __repr__ = __str__

    @staticmethod
    def _aligned(cell: str, width: int, right: bool) -> str:
        return cell.rjust(width) if right else cell.ljust(width)

    def _repr_html_(self) -> str:
        sides = ["right" if right else "left" for right in self.right]

        def line(tag: str, cells: Sequence[str]) -> str:
            pairs = zip(cells, sides, strict=True)
            return "".join(f"<{tag} style='text-align:{side}'>{html.escape(cell)}</{tag}>" for cell, side in pairs)

        body = "".join(f"<tr{MARK * (i in self.marked)}>{line('td', row)}</tr>" for i, row in enumerate(self.rows))
        title = f"<div>{html.escape(self.title)}</div>" if self.title else ""
        remarks = "".join(f"<div>{html.escape(remark)}</div>" for remark in self.remarks)
        scroll = "<div style='overflow-x:auto'>"
        return f"{title}{scroll}<table><tr>{line('th', self.columns)}</tr>{body}</table></div>{remarks}"
