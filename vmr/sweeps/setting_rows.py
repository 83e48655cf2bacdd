"""A metric of all settings of a sweep, one below the other, the best first."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.scores import BARS, Scores

_MOST_ROWS = 40
_ROW = 0.32  # inches
_COLOUR = "#0072B2"


def setting_rows(scores: Scores, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots; the best 40 settings.

    Args:
      scores: of the settings.
      axes: in which the settings differ, if they do.
    """
    ranked = sorted(scores.places, key=lambda place: -scores.mean[place])[:_MOST_ROWS]
    figure = Figure(figsize=(7.2, len(ranked) * _ROW + 1.2), layout="constrained")
    panel = figure.add_subplot()
    rows = np.arange(len(ranked))
    panel.errorbar(
        scores.mean[ranked],
        rows,
        xerr=scores.half[ranked],
        color=_COLOUR,
        marker="o",
        markersize=6,
        linestyle="none",
        capsize=2.5,
        elinewidth=1.0,
    )
    for row, place in zip(rows, ranked, strict=True):
        seeds = scores.seeds[place]
        panel.plot(seeds, np.full(len(seeds), row), "o", color=_COLOUR, markersize=3, alpha=0.35)
    names = [" · ".join(shown(axis.values[place]) for axis in axes) for place in ranked]
    panel.set_yticks(rows if axes else [], names if axes else [])
    panel.set_ylim(len(ranked) - 0.4, -0.6)
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    panel.set_xlabel(scores.label)
    panel.set_xlim(scores.limits(*panel.get_xlim()))
    figure.supxlabel(BARS, fontsize="x-small", color="0.35")
    panel.grid(axis="x", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    return figure
