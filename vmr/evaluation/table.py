"""Tables of results and of comparisons, in text, Markdown or LaTeX.

A table of results has one block per direction and one row per model, the chance row last. All
functions take plain data: results of `vmr.evaluation.evaluate`, or comparisons of
`vmr.evaluation.comparison`.
"""

from collections.abc import Sequence
from typing import Any

from vmr import tables
from vmr.errors import UserError
from vmr.evaluation.metrics import DIRECTIONS, LOWER_IS_BETTER, RANKS, RECALLS
from vmr.tables import Bold

# The one column with its interval, for width; the other intervals are in the results file.
INTERVAL = "R@10"
_DECIMALS = {metric: 3 if metric == "MRR" else 1 for metric in (*RECALLS, *RANKS)}

# Names of the queries and of the ranked items. The key `unit` of a result of `evaluate_segments`
# tells whether these are segments, or how the segments of a video and a track make one score.
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
Comparison = dict[str, Any]


def render(rows: Rows, directions: Sequence[str] = tuple(DIRECTIONS)) -> str:
    """Renders (name, result of `evaluate`) pairs as aligned text for a terminal.

    Of `evaluate_segments`, one of its results a model, the same for all rows. A block for each of
    the directions.

    Raises:
        UserError: no rows, or rows that cannot be compared: other queries or galleries, segments
            beside tracks, or tracks scored in different ways.
    """
    return "\n\n".join(_barred(*block) for block in _results(rows, directions))


def render_run(name: str, result: dict) -> str:
    """Renders a result of `trec.score_run`, which is of one direction, as aligned text."""
    lines = [["", *RECALLS, *RANKS], ["run", *_cells(result["values"], result["ci95"])]]
    lines.append(["chance", *_cells(result["chance"], {})])
    title = f"{name}: {result['queries']:,} queries against {result['gallery']:,} items"
    return _barred(title, lines)


def _barred(title: str, lines: list[list[str]]) -> str:
    """A block with a bar between recalls and ranks."""
    split = 1 + len(RECALLS)
    return f"{title}\n{tables.text([[*line[:split], '|', *line[split:]] for line in lines])}"


def render_markdown(rows: Rows) -> str:
    """Renders as `render` does, in Markdown for a README."""
    blocks = [
        f"**{title}**\n\n{tables.markdown(lines)}"
        for title, lines in _results(rows, tuple(DIRECTIONS))
    ]
    return "\n\n".join(blocks)


def _results(rows: Rows, directions: Sequence[str]) -> list[tuple[str, list[list[str]]]]:
    """Title and lines of each direction's block."""
    _check_comparable(rows)
    blocks = []
    for direction in directions:
        chance = {"v2m": "chance", "m2v": "m2v_chance"}[direction]
        lines = [["", *RECALLS, *RANKS]]
        for name, result in rows:
            intervals = result.get("ci95", {}).get(direction, {})
            lines.append([name, *_cells(result[direction], intervals)])
        # Results of other programs may have the chance of one direction only.
        if chance in rows[0][1]:
            lines.append(["chance", *_cells(rows[0][1][chance], {})])
        blocks.append((_result_title(direction, rows[0][1]), lines))
    return blocks


def _result_title(direction: str, result: dict) -> str:
    if direction == "v2m":
        asked, gallery = result["queries"], result["gallery"]
    else:
        asked = result.get("m2v_queries", result["gallery"])
        gallery = result.get("m2v_gallery", result["queries"])
    return _title(direction, result["split"], asked, gallery, result.get("unit", ""))


def _title(direction: str, split: str, asked: int, gallery: int, unit: str = "") -> str:
    queries, items = (_SEGMENTS if unit == "segment" else _WHOLE)[direction]
    return (
        f"{DIRECTIONS[direction]} ({direction}), {split}: {asked:,} {queries} against "
        f"{gallery:,} {items}{_SCORES.get(unit, '')}"
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
    titles = {_result_title("v2m", result) for _, result in rows}
    if len(titles) > 1:
        found = " and ".join(sorted(titles))
        raise UserError(f"results of different galleries cannot share a table; found {found}")


def in_words(metric: str, one: dict[str, Any]) -> str:
    """Writes a difference and its verdict as `R@10 +2.1 [0.8, 3.4], p = 0.002: better`."""
    return f"{metric} {_difference(metric, one)}: {one['verdict']}"


def render_comparison(comparison: Comparison, form: str = "text") -> str:
    """Renders a comparison: a table of systems, then their differences, for both directions.

    Args:
      comparison: comparison of `vmr.evaluation.comparison`.
      form: `text` for a terminal, one line per difference; or `markdown` or `latex` (for a paper
        that loads `booktabs`), tables in which distinguishably better differences are bold.
    """
    if form == "text":
        return _comparison_text(comparison)
    heading = {"markdown": "**{}**", "latex": r"\paragraph{{{}}}"}[form]
    blocks = []
    for direction in DIRECTIONS:
        title = tables.spell(_comparison_title(comparison, direction), form)
        systems, differences = _systems(comparison, direction), _differences(comparison, direction)
        blocks += [heading.format(title), *map(tables.FORMS[form], (systems, differences))]
    notes = _notes(comparison, "Bold: distinguishably better. ")
    return "\n\n".join([*blocks, tables.spell(notes, form)])


def _comparison_text(comparison: Comparison) -> str:
    blocks = []
    for direction in DIRECTIONS:
        title = _comparison_title(comparison, direction)
        blocks.append(f"{title}\n{tables.text(_systems(comparison, direction))}")
        for pair in comparison[direction]["pairs"]:
            lines = [in_words(metric, one) for metric, one in pair["metrics"].items()]
            heading = f"{pair['system']} against {pair['baseline']}"
            heading += f" ({pair['scope']})" if pair["scope"] else ""
            blocks.append("\n".join([heading, *(f"  {line}" for line in lines)]))
    return "\n\n".join([*blocks, _notes(comparison, "")])


def render_narrow(comparison: Comparison, form: str) -> str:
    """Renders one row per system, both directions side by side; the best mean of a column is bold.

    Rows for the baseline, if there is one, and for chance follow the systems.

    Args:
      comparison: comparison of `vmr.evaluation.comparison`.
      form: `text`, `markdown`, or `latex` for a paper that loads `booktabs`.
    """
    columns = [(way, metric) for way in DIRECTIONS for metric in comparison["metrics"]]
    best = {column: _best(comparison, *column) for column in columns}
    lines = [["", *(f"{way} {metric}" for way, metric in columns)]]
    for name in comparison["systems"]:
        cells = []
        for way, metric in columns:
            reached = comparison[way]["systems"][name][metric]
            cells.append(_marked(_reached(metric, reached), reached["mean"] == best[way, metric]))
        lines.append([name, *cells])
    if "baseline" in comparison:
        cells = []
        for way, metric in columns:
            value = comparison["baseline"][way][metric]
            cells.append(_marked(_number(metric, value), value == best[way, metric]))
        lines.append([comparison["baseline"]["name"], *cells])
    by_chance = [_number(metric, comparison[way]["chance"][metric]) for way, metric in columns]
    lines.append(["chance", *by_chance])
    systems = comparison["systems"]
    seeds = ", ".join(f"{name} {system['seeds']}" for name, system in systems.items())
    part = comparison["v2m"]
    notes = (
        f"{comparison['split']}: {part['queries']:,} videos, {part['gallery']:,} tracks. Means ± "
        f"standard deviation over seeds ({seeds}). Bold: the best mean, whether or not its "
        "difference can be told from nothing."
    )
    return f"{tables.FORMS[form](lines)}\n\n{tables.spell(notes, form)}"


def _marked(cell: str, bold: bool) -> str:
    return Bold(cell) if bold else cell


def _best(comparison: Comparison, way: str, metric: str) -> float:
    means = [metrics[metric]["mean"] for metrics in comparison[way]["systems"].values()]
    if "baseline" in comparison:
        means.append(comparison["baseline"][way][metric])
    return min(means) if metric in LOWER_IS_BETTER else max(means)


def _systems(comparison: Comparison, direction: str) -> list[list[str]]:
    """Lines of the systems: the mean over the seeds of each, ± their standard deviation."""
    lines = [["", "seeds", *comparison["metrics"]]]
    for name, metrics in comparison[direction]["systems"].items():
        cells = []
        for metric, summary in metrics.items():
            cells.append(_reached(metric, summary))
        lines.append([name, str(comparison["systems"][name]["seeds"]), *cells])
    return lines


def _differences(comparison: Comparison, direction: str) -> list[list[str]]:
    """Lines of the pairs of systems; a star marks a pair with a system of one seed."""
    lines = [["", *comparison["metrics"]]]
    for pair in comparison[direction]["pairs"]:
        row = [f"{pair['system']} − {pair['baseline']}{'*' if pair['scope'] else ''}"]
        for metric, one in pair["metrics"].items():
            worse = ": worse" if one["verdict"] == "worse" else ""
            row.append(_marked(_difference(metric, one) + worse, one["verdict"] == "better"))
        lines.append(row)
    return lines


def _comparison_title(comparison: Comparison, direction: str) -> str:
    part = comparison[direction]
    return _title(direction, comparison["split"], part["queries"], part["gallery"])


def _reached(metric: str, summary: dict[str, Any]) -> str:
    mean = _number(metric, summary["mean"])
    return mean if summary["seed_sd"] is None else f"{mean} ± {_number(metric, summary['seed_sd'])}"


def _number(metric: str, value: float) -> str:
    return f"{value:.{_DECIMALS[metric]}f}"


def _difference(metric: str, one: dict[str, Any]) -> str:
    digits = _DECIMALS[metric]
    low, high = (_rounded(bound, digits) for bound in one["ci95"])
    return f"{_rounded(one['difference'], digits, '+')} [{low}, {high}], p {_p(one['p_holm'])}"


def _rounded(value: float, digits: int, sign: str = "") -> str:
    """Rounded value, with a sign unless it rounds to zero."""
    # Adding 0.0 turns -0.0 into 0.0, which would be printed with its sign.
    rounded = round(value, digits) + 0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}"


def _p(value: float) -> str:
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def _notes(comparison: Comparison, marked: str) -> str:
    pairs = [pair for direction in DIRECTIONS for pair in comparison[direction]["pairs"]]
    scopes = dict.fromkeys(pair["scope"] for pair in pairs if pair["scope"])
    starred = [f"* {each}." for each in scopes] if marked else []
    ranks = [metric for metric in comparison["metrics"] if metric in LOWER_IS_BETTER]
    median = " (MedR of several seeds: bootstrap)" if "MedR" in ranks else ""
    smaller = [f"{' and '.join(ranks)}: smaller is better."] if ranks else []
    return " ".join(
        [
            f"{marked}± standard deviation over seeds. [95 % interval] of the difference: paired",
            f"bootstrap over queries by track, {comparison['samples']:,} resamples, with the",
            f"scatter of seeds. p: randomisation test{median}, {comparison['correction']}.",
            *smaller,
            *starred,
        ]
    )
