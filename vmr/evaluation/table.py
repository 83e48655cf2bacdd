"""Results as a table to read: one block a direction, one row a model, the chance row last."""

from collections.abc import Callable, Sequence

from vmr.errors import UserError
from vmr.evaluation.metrics import CUTOFFS

RECALLS = tuple(f"R@{k}" for k in CUTOFFS)
RANKS = ("MedR", "MeanR", "MRR")
# Shown with its interval; the interval of every other column is in the results file.
INTERVAL = "R@10"
_ARROWS = {"v2m": "video → music", "m2v": "music → video"}

Rows = Sequence[tuple[str, dict]]
Layout = Callable[[str, list[list[str]]], str]


def render(rows: Rows) -> str:
    """(name, result of `evaluate`) pairs -> aligned text for a terminal.

    Raises:
        UserError: no rows, or results of different queries or galleries side by side.
    """
    return _render(rows, _aligned)


def render_markdown(rows: Rows) -> str:
    """As `render`, as Markdown for a README."""
    return _render(rows, _markdown)


def _render(rows: Rows, layout: Layout) -> str:
    _check_comparable(rows)
    blocks = []
    for direction, chance in (("v2m", "chance"), ("m2v", "m2v_chance")):
        lines = [["", *RECALLS, *RANKS]]
        for name, result in rows:
            intervals = result.get("ci95", {}).get(direction, {})
            lines.append([name, *_cells(result[direction], intervals)])
        # A result of another program may hold one direction's chance only.
        if chance in rows[0][1]:
            lines.append(["chance", *_cells(rows[0][1][chance], {})])
        blocks.append(layout(_title(direction, rows[0][1]), lines))
    return "\n\n".join(blocks)


def _title(direction: str, result: dict) -> str:
    if direction == "v2m":
        queries = f"{result['queries']:,} videos"
        gallery = f"{result['gallery']:,} unique tracks"
    else:
        queries = f"{result.get('m2v_queries', result['gallery']):,} tracks"
        gallery = f"{result.get('m2v_gallery', result['queries']):,} videos"
    return f"{_ARROWS[direction]} ({direction}), {result['split']}: {queries} against {gallery}"


def _cells(values: dict, intervals: dict) -> list[str]:
    recalls = [f"{values[name]:.1f}" for name in RECALLS]
    if INTERVAL in intervals:
        low, high = intervals[INTERVAL]
        recalls[RECALLS.index(INTERVAL)] += f" [{low:.1f}, {high:.1f}]"
    median = f"{values['MedR']:.1f}".removesuffix(".0")
    return [*recalls, median, f"{values['MeanR']:.1f}", f"{values['MRR']:.3f}"]


def _check_comparable(rows: Rows) -> None:
    if not rows:
        raise UserError("a table needs at least one result; found none")
    sizes = {(result["split"], result["queries"], result["gallery"]) for _, result in rows}
    if len(sizes) > 1:
        found = " and ".join(f"{s}: {q} queries, {g} tracks" for s, q, g in sorted(sizes))
        raise UserError(f"results of different galleries cannot share a table; found {found}")


def _aligned(title: str, lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [title]
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        recalls, ranks = padded[: len(RECALLS)], padded[len(RECALLS) :]
        text.append("  ".join([name.ljust(widths[0]), *recalls, "|", *ranks]))
    return "\n".join(text)


def _markdown(title: str, lines: list[list[str]]) -> str:
    header, *body = ["| " + " | ".join(cells) + " |" for cells in lines]
    rule = "|---|" + "---:|" * (len(lines[0]) - 1)
    return "\n".join([f"**{title}**", "", header, rule, *body])
