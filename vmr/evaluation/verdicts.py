"""A comparison to read: numbers and words, as text, Markdown or LaTeX.

All take the plain data of `vmr.evaluation.side_by_side`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vmr.evaluation.metrics import CUTOFFS

LOWER_IS_BETTER = ("MedR", "MeanR")
LEVEL = 0.05
NOTHING = "not distinguishable"
DIRECTIONS = {"v2m": "video → music", "m2v": "music → video"}
_QUERIES = {"v2m": ("videos", "unique tracks"), "m2v": ("tracks", "videos")}
_DECIMALS = {f"R@{k}": 1 for k in CUTOFFS} | {"MedR": 1, "MeanR": 1, "MRR": 3}
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

Found = dict[str, Any]


def verdict(metric: str, difference: float, p: float) -> str:
    """`better`, `worse` or `not distinguishable`, of the first system; p as corrected."""
    if p >= LEVEL or difference == 0:
        return NOTHING
    return "better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "worse"


def scope(system: str, baseline: str, seeds: Sequence[int]) -> str:
    """What an interval speaks of where a system or both have one seed; else nothing."""
    if min(seeds) > 1:
        return ""
    if max(seeds) == 1:
        return "one seed each: this speaks of these two runs, not of the methods"
    alone = (system, baseline)[list(seeds).index(1)]
    return f"one seed of {alone}: this speaks of that run of it, not of its method"


def in_words(metric: str, one: dict[str, Any]) -> str:
    """A difference with its verdict: `R@10 +2.1 [0.8, 3.4], p = 0.002: better`."""
    return f"{metric} {_difference(metric, one)}: {one['verdict']}"


def render_text(found: Found) -> str:
    """For a terminal: a table of systems and a line a difference, for both directions."""
    blocks = []
    for direction in DIRECTIONS:
        part = found[direction]
        blocks.append("\n".join([_title(found, direction), *_aligned(_systems(found, direction))]))
        for pair in part["pairs"]:
            lines = [in_words(metric, one) for metric, one in pair["metrics"].items()]
            heading = f"{pair['system']} against {pair['baseline']}"
            heading += f" ({pair['scope']})" if pair["scope"] else ""
            blocks.append("\n".join([heading, *(f"  {line}" for line in lines)]))
    return "\n\n".join([*blocks, _notes(found, "")])


def render_markdown(found: Found) -> str:
    """For a README; what is distinguishably better is bold."""
    return _tables(found, _markdown, lambda title: f"**{title}**", _markdown_table)


def render_latex(found: Found) -> str:
    """For a paper that loads `booktabs`; what is distinguishably better is bold."""
    return _tables(found, _latex, lambda title: rf"\paragraph{{{title}}}", _latex_table)


def render_narrow(found: Found, form: str) -> str:
    """A row a system, below them the baseline if there is one and chance; the best mean is bold.

    Both directions stand side by side.

    Args:
      found: a comparison.
      form: `text`, `markdown`, or `latex` for a paper that loads `booktabs`.
    """
    spell, table = _FORMS[form]
    columns = [(way, metric) for way in DIRECTIONS for metric in found["metrics"]]
    best = {column: _best(found, *column) for column in columns}
    lines = [["", *(spell(f"{way} {metric}") for way, metric in columns)]]
    for name in found["systems"]:
        cells = []
        for way, metric in columns:
            reached = found[way]["systems"][name][metric]
            cells.append(spell(_reached(metric, reached), reached["mean"] == best[way, metric]))
        lines.append([spell(name), *cells])
    if "baseline" in found:
        name, reached = found["baseline"]["name"], found["baseline"]
        cells = [
            spell(_number(metric, reached[way][metric]), reached[way][metric] == best[way, metric])
            for way, metric in columns
        ]
        lines.append([spell(name), *cells])
    by_chance = [_number(metric, found[way]["chance"][metric]) for way, metric in columns]
    lines.append([spell("chance"), *map(spell, by_chance)])
    seeds = ", ".join(f"{name} {system['seeds']}" for name, system in found["systems"].items())
    notes = (
        f"{found['split']}: {found['v2m']['queries']:,} videos, {found['v2m']['gallery']:,} "
        f"tracks. Means ± standard deviation over seeds ({seeds}). Bold: the best mean, whether or "
        "not its "
        "difference can be told from nothing."
    )
    return "\n".join([*table(lines), "", spell(notes)])


def _best(found: Found, way: str, metric: str) -> float:
    means = [metrics[metric]["mean"] for metrics in found[way]["systems"].values()]
    if "baseline" in found:
        means.append(found["baseline"][way][metric])
    return min(means) if metric in LOWER_IS_BETTER else max(means)


def _text(text: str, bold: bool = False) -> str:
    return f"*{text}" if bold else text


def _markdown(text: str, bold: bool = False) -> str:
    text = text.replace("|", r"\|")
    return f"**{text}**" if bold else text


def _markdown_table(lines: list[list[str]]) -> list[str]:
    head, *rows = ["| " + " | ".join(row) + " |" for row in lines]
    return [head, "|---|" + "---:|" * (len(lines[0]) - 1), *rows]


def _latex(text: str, bold: bool = False) -> str:
    # What LaTeX would read as a command is spelt out.
    text = _MINUS.sub("−", text)
    text = "".join(_LATEX.get(character, character) for character in text)
    return rf"\textbf{{{text}}}" if bold else text


def _latex_table(lines: list[list[str]]) -> list[str]:
    # An empty group keeps LaTeX from reading [ as the spacing after a line's end.
    head, *rows = ["{}" + " & ".join(row) + r" \\" for row in lines]
    columns = "l" + "r" * (len(lines[0]) - 1)
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabular}",
    ]


RENDERED: dict[str, Callable[[Found], str]] = {
    "text": render_text,
    "markdown": render_markdown,
    "latex": render_latex,
}


def _tables(
    found: Found,
    spell: Callable[..., str],
    title: Callable[[str], str],
    table: Callable[[list[list[str]]], list[str]],
) -> str:
    """Systems and differences of each direction; `spell` takes a text, and whether it is bold."""
    blocks = []
    for direction in DIRECTIONS:
        blocks.append(title(spell(_title(found, direction))))
        systems = [[spell(cell) for cell in row] for row in _systems(found, direction)]
        blocks.append("\n".join(table(systems)))
        pairs = [["", *map(spell, found["metrics"])]]
        for pair in found[direction]["pairs"]:
            mark = "*" if pair["scope"] else ""
            row = [spell(f"{pair['system']} − {pair['baseline']}{mark}")]
            for metric, one in pair["metrics"].items():
                worse = ": worse" if one["verdict"] == "worse" else ""
                row.append(spell(_difference(metric, one) + worse, one["verdict"] == "better"))
            pairs.append(row)
        blocks.append("\n".join(table(pairs)))
    return "\n\n".join([*blocks, spell(_notes(found, "Bold: distinguishably better. "))])


def _systems(found: Found, direction: str) -> list[list[str]]:
    """A row a system: the mean over its seeds, ± their standard deviation."""
    lines = [["", "seeds", *found["metrics"]]]
    for name, metrics in found[direction]["systems"].items():
        cells = []
        for metric, summary in metrics.items():
            cells.append(_reached(metric, summary))
        lines.append([name, str(found["systems"][name]["seeds"]), *cells])
    return lines


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
    """Without a sign where nothing is left of the value."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}"


def _p(value: float) -> str:
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def _title(found: Found, direction: str) -> str:
    part = found[direction]
    asked, gallery = _QUERIES[direction]
    return (
        f"{DIRECTIONS[direction]} ({direction}), {found['split']}: {part['queries']:,} {asked} "
        f"against {part['gallery']:,} {gallery}"
    )


def _notes(found: Found, marked: str) -> str:
    pairs = [pair for direction in DIRECTIONS for pair in found[direction]["pairs"]]
    scopes = dict.fromkeys(pair["scope"] for pair in pairs if pair["scope"])
    starred = [f"* {each}." for each in scopes] if marked else []
    ranks = [metric for metric in found["metrics"] if metric in LOWER_IS_BETTER]
    median = " (MedR of several seeds: bootstrap)" if "MedR" in ranks else ""
    smaller = [f"{' and '.join(ranks)}: smaller is better."] if ranks else []
    return " ".join(
        [
            f"{marked}± standard deviation over seeds. [95 % interval] of the difference: paired",
            f"bootstrap over queries by track, {found['samples']:,} resamples, with the scatter of",
            f"seeds. p: randomisation test{median}, {found['correction']}.",
            *smaller,
            *starred,
        ]
    )


def _aligned(lines: list[list[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *padded])


_FORMS: dict[str, tuple[Callable[..., str], Callable[[list[list[str]]], Iterable[str]]]] = {
    "text": (_text, _aligned),
    "markdown": (_markdown, _markdown_table),
    "latex": (_latex, _latex_table),
}
