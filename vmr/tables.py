"""Tables for readers: rows of cells as aligned text, Markdown or LaTeX.

The first row is the header. `columns` has one letter per column, `l` or `r`, for its alignment; the
last letter holds for all further columns, so that "lr" fits a column of names before any number of
columns of numbers.
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
# A minus sign, unlike the hyphen in a name (run-2).
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")


class Bold(str):
    """Emphasised cell: bold, or marked by a star in plain text."""

    __slots__ = ()


def text(rows: Rows, columns: str = "lr") -> str:
    """Table for a terminal: columns padded to their widest cell, two spaces between them."""
    lines = [[spell(cell, "text") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    alignments = _alignments(columns, len(widths))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if alignment == "r" else cell.ljust(width)
            for cell, width, alignment in zip(line, widths, alignments, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(rows: Rows, columns: str = "lr") -> str:
    """Table in GitHub's Markdown."""
    head, *body = rows
    return "\n".join([markdown_head(head, columns), *map(markdown_row, body)])


def markdown_head(cells: Sequence[str], columns: str = "lr") -> str:
    """Header of a Markdown table and the rule below it, for rows that are printed one at a time."""
    letters = _alignments(columns, len(cells))
    rule = ["---:" if letter == "r" else "---" for letter in letters]
    return f"{markdown_row(cells)}\n|{'|'.join(rule)}|"


def markdown_row(cells: Sequence[str]) -> str:
    """Row of a Markdown table, one line."""
    return "| " + " | ".join(spell(cell, "markdown") for cell in cells) + " |"


def latex(rows: Rows, columns: str = "lr") -> str:
    """LaTeX `tabular` for a paper that loads `booktabs`."""
    # An empty group keeps LaTeX from reading [ as the spacing after a line's end.
    lines = ["{}" + " & ".join(spell(cell, "latex") for cell in row) + r" \\" for row in rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{_alignments(columns, len(rows[0]))}}}",
            *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
            r"\end{tabular}",
        ]
    )


FORMS: dict[str, Callable[[Rows], str]] = {"text": text, "markdown": markdown, "latex": latex}


def spell(cell: str, form: str) -> str:
    """Cell of a table, or a line beside it, with the markup characters of the form escaped."""
    bold = isinstance(cell, Bold)
    if form == "markdown":
        cell = " ".join(cell.replace("|", r"\|").split())  # a line break would end the row
        return f"**{cell}**" if bold else cell
    if form == "latex":
        # One character at a time, so that the backslashes of an escape are not escaped again.
        cell = "".join(_LATEX.get(character, character) for character in _MINUS.sub("−", cell))
        return rf"\textbf{{{cell}}}" if bold else cell
    return f"*{cell}" if bold else cell


def _alignments(columns: str, count: int) -> str:
    return columns[:count] + columns[-1] * (count - len(columns))
