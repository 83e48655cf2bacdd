"""Tables to read: rows of cells as aligned text, Markdown or LaTeX.

The first row is the header. `columns` aligns them, a letter each, `l` or `r`; the last letter holds
for all that follow, so "lr" is a column of names before any number of columns of numbers.
"""

import re
from collections.abc import Callable, Sequence

Rows = Sequence[Sequence[str]]

_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\to$",
    "±": r"$\pm$",
    "−": r"$-$",
    "<": r"$<$",
}
# A sign, not the hyphen of a name.
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")


class Bold(str):
    """A cell that stands out: bold, or behind a star where text has no bold."""

    __slots__ = ()


def text(rows: Rows, columns: str = "lr") -> str:
    """Columns of one width for a terminal, two spaces between them, no spaces at a line's end."""
    lines = [[spell(cell, "text") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = _alignments(columns, len(widths))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(rows: Rows, columns: str = "lr") -> str:
    """A table of GitHub's Markdown."""
    head, *body = rows
    return "\n".join([markdown_head(head, columns), *map(markdown_row, body)])


def markdown_head(cells: Sequence[str], columns: str = "lr") -> str:
    """The header and the rule below it, two lines; rows may follow one at a time."""
    rule = ["---:" if side == "r" else "---" for side in _alignments(columns, len(cells))]
    return f"{markdown_row(cells)}\n|{'|'.join(rule)}|"


def markdown_row(cells: Sequence[str]) -> str:
    """Line of a Markdown table."""
    return "| " + " | ".join(spell(cell, "markdown") for cell in cells) + " |"


def latex(rows: Rows, columns: str = "lr") -> str:
    """A `tabular` for a paper that loads `booktabs`."""
    # An empty group keeps LaTeX from reading [ as the spacing after a line's end.
    lines = ["{}" + " & ".join(spell(cell, "latex") for cell in row) + r" \\" for row in rows]
    sides = _alignments(columns, len(rows[0]))
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{sides}}}",
            *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
            r"\end{tabular}",
        ]
    )


FORMS: dict[str, Callable[[Rows], str]] = {"text": text, "markdown": markdown, "latex": latex}


def spell(cell: str, form: str) -> str:
    """A cell or a line beside a table, with what its form would read as markup escaped."""
    bold = isinstance(cell, Bold)
    if form == "markdown":
        cell = " ".join(cell.replace("|", r"\|").split())  # a line break would end the row
        return f"**{cell}**" if bold else cell
    if form == "latex":
        cell = "".join(_LATEX.get(character, character) for character in _MINUS.sub("−", cell))
        return rf"\textbf{{{cell}}}" if bold else cell
    return f"*{cell}" if bold else cell


def _alignments(columns: str, count: int) -> str:
    return columns[:count] + columns[-1] * (count - len(columns))
