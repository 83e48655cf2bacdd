"""The plot of `tools.bench_losses`: how many times as long as ours each contender takes."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.loss_table import Result

_COLUMNS = 3
_PANEL = (4.6, 3.5)  # inches
_MARKERS = "osD^vPX*"


def save(path: str, results: Sequence[Result]) -> None:
    """A panel for each family: medians over rounds, bars over their range, both axes log."""
    from matplotlib.figure import Figure

    by_family = [list(group) for _, group in itertools.groupby(results, lambda one: one.family)]
    columns = min(_COLUMNS, len(by_family))
    lines = -(-len(by_family) // columns)
    figure = Figure(figsize=(columns * _PANEL[0], lines * _PANEL[1]), layout="constrained")
    for place, group in enumerate(by_family, start=1):
        _draw(figure.add_subplot(lines, columns, place), group)
    figure.savefig(path, dpi=150)


def _draw(panel: Any, results: Sequence[Result]) -> None:
    """One family."""
    from matplotlib.ticker import LogLocator, NullLocator

    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.axhline(1.0, color="black", linewidth=1.0, label="ours")
    names = dict.fromkeys(name for one in results for name in one.measured if name != "ours")
    for name, marker in zip(names, itertools.cycle(_MARKERS), strict=False):
        places, ratios = _ratios(results, name)
        middle = [np.median(found) for found in ratios]
        reach = [(m - min(found), max(found) - m) for m, found in zip(middle, ratios, strict=True)]
        panel.errorbar(
            places, middle, np.transpose(reach), marker=marker, markersize=4, capsize=2, label=name
        )
    problems = [one.problem for one in results]
    several = len({problem.width for problem in problems}) > 1
    labels = [f"{p.items} × {p.width}" if several else str(p.items) for p in problems]
    sizes = [problem.items for problem in problems]
    panel.set_xticks(sizes, labels)
    panel.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.45), max(high, 2.2))  # never so close to 1 that nothing is labelled
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_title(results[0].family)
    panel.set_xlabel("batch size B × width D" if several else "batch size B, pairs")
    panel.set_ylabel("time / our time")
    panel.grid(which="major", alpha=0.3)
    panel.legend(fontsize="x-small")


def _ratios(results: Sequence[Result], name: str) -> tuple[list[int], list[np.ndarray]]:
    """The sizes that a contender took part in, and its time over ours in each round."""
    present = [one for one in results if name in one.measured]
    return [one.problem.items for one in present], [
        one.measured[name].seconds / one.measured["ours"].seconds for one in present
    ]
