"""Results as a table to read: one block a direction, one row a model, the chance row last."""

from collections.abc import Callable, Sequence

from vmr.errors import UserError
from vmr.evaluation.metrics import CUTOFFS

RECALLS = tuple(f"R@{k}" for k in CUTOFFS)
RANKS = ("MedR", "MeanR", "MRR")
# Shown with its interval; the interval of every other column is in the results file.
INTERVAL = "R@10"
_ARROWS = {"v2m": "video → music", "m2v": "music → video"}

# What asks and what is ranked. A result of `evaluate_segments` says in its key `unit` whether these
# were segments, or how the segments of a video and a track made one score.
_WHOLE = {"v2m": ("videos", "unique tracks"), "m2v": ("tracks", "videos")}
_SEGMENTS = {
    "v2m": ("video segments", "segments of unique tracks"),
    "m2v": ("music segments", "video segments"),
}
_SCORES = {
    "track_mean": ", mean over pairs of segments",
    "track_max": ", max over pairs of segments",
}

Rows = Sequence[tuple[str, dict]]
Layout = Callable[[str, list[list[str]]], str]


def render(rows: Rows) -> str:
    """(name, result of `evaluate`) pairs -> aligned text for a terminal.

    Of `evaluate_segments`, one of its results a model, the same for all rows.

    Raises:
        UserError: no rows, or results of different queries or galleries side by side, or of
            segments and tracks, or of tracks scored in different ways.
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
    unit = result.get("unit", "")
    queries, gallery = (_SEGMENTS if unit == "segment" else _WHOLE)[direction]
    if direction == "v2m":
        asked, found = result["queries"], result["gallery"]
    else:
        asked = result.get("m2v_queries", result["gallery"])
        found = result.get("m2v_gallery", result["queries"])
    return (
        f"{_ARROWS[direction]} ({direction}), {result['split']}: {asked:,} {queries} against "
        f"{found:,} {gallery}{_SCORES.get(unit, '')}"
    )


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
    titles = {_title("v2m", result) for _, result in rows}
    if len(titles) > 1:
        found = " and ".join(sorted(titles))
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
