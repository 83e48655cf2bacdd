"""A metric of all settings of a sweep, one below the other, the best first."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.scores import BARS, Scores

MOST_ROWS = 40
ROW = 0.32  # inches
_COLOUR = "#0072B2"


def setting_rows(scores: Scores, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots; the best 40 settings.

    Args:
      scores: of the settings.
      axes: in which the settings differ, if they do.
    """
    ranked = sorted(scores.places, key=lambda place: -scores.mean[place])[:MOST_ROWS]
    figure = Figure(figsize=(7.2, len(ranked) * ROW + 1.2), layout="constrained")
    panel = figure.add_subplot()
    values = [scores.seeds[place] for place in ranked]
    draw_rows(panel, scores.mean[ranked], scores.half[ranked], values)
    names = [" · ".join(shown(axis.values[place]) for axis in axes) for place in ranked]
    panel.set_yticks(np.arange(len(ranked)) if axes else [], names if axes else [])
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    panel.set_xlabel(scores.label)
    panel.set_xlim(scores.limits(*panel.get_xlim()))
    figure.supxlabel(BARS, fontsize="x-small", color="0.35")
    return figure


def draw_rows(
    panel: Axes,
    means: Sequence[float] | np.ndarray,
    halves: Sequence[float] | np.ndarray,
    values: Sequence[np.ndarray],
) -> None:
    """Draws a mean with its interval, and the values behind it as faint dots, a row each.

    Args:
      panel: to draw in.
      means: of each row.
      halves: of each row's interval.
      values: of each row, (S,) one a seed.
    """
    rows = np.arange(len(means))
    panel.errorbar(
        means,
        rows,
        xerr=halves,
        color=_COLOUR,
        marker="o",
        markersize=6,
        linestyle="none",
        capsize=2.5,
        elinewidth=1.0,
    )
    for row, of_row in zip(rows, values, strict=True):
        panel.plot(of_row, np.full(len(of_row), row), "o", color=_COLOUR, markersize=3, alpha=0.35)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
