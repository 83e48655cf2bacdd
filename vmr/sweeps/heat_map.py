"""A metric over two numeric fields of a sweep, a cell for each pair of their values."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.scores import Scores, over_the_rest

_MOST_CELLS = 14  # along one side
_CELL = 0.75  # inches
_MARGINS = 2.4, 1.5  # inches, for labels and the colour bar


def is_crossed(scores: Scores, x: Axis, y: Axis) -> bool:
    """Whether the settings make a grid of the two axes, at least half of it filled."""
    pairs = {(x.values[place], y.values[place]) for place in scores.places}
    columns, rows = ({pair[side] for pair in pairs} for side in (0, 1))
    small, large = sorted((len(columns), len(rows)))
    return (
        small > 1
        and large <= _MOST_CELLS
        and 2 * len(pairs) >= small * large
        and (len(pairs) > large)
    )


def heat_map(scores: Scores, x: Axis, y: Axis, axes: Sequence[Axis]) -> Figure:
    """Means in colour and in figures, the best one framed; empty where no seed has finished.

    Where settings differ in further fields, the best of them stands in each cell.

    Args:
      scores: of the settings.
      x: the axis of the columns.
      y: the axis of the rows.
      axes: all those in which the settings differ.
    """
    cells: dict[tuple[int, int], list[int]] = {}
    columns, rows = sorted(set(x.values)), sorted(set(y.values))
    for place in scores.places:
        cell = rows.index(y.values[place]), columns.index(x.values[place])
        cells.setdefault(cell, []).append(place)
    best = {cell: scores.best(places) for cell, places in cells.items()}
    means = np.full((len(rows), len(columns)), np.nan)
    for cell, place in best.items():
        means[cell] = scores.mean[place]

    size = len(columns) * _CELL + _MARGINS[0], len(rows) * _CELL + _MARGINS[1]
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.add_subplot()
    panel.set_facecolor("0.93")
    image = panel.imshow(means, origin="lower", cmap="viridis", aspect="auto")
    low, high = np.nanmin(means), np.nanmax(means)
    for cell in np.ndindex(means.shape):
        if cell not in best:
            panel.text(cell[1], cell[0], "–", ha="center", va="center", color="0.4")
    for cell, place in best.items():
        half = scores.half[place]
        spread = "" if np.isnan(half) else f"\n± {half:.{scores.digits}f}"
        shade = float(means[cell] - low) / float(high - low or 1.0)
        _write(panel, cell, f"{means[cell]:.{scores.digits}f}{spread}", shade)
    _frame(panel, max(best, key=lambda cell: means[cell]))
    panel.set_xticks(range(len(columns)), [shown(value) for value in columns])
    panel.set_yticks(range(len(rows)), [shown(value) for value in rows])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel(x.label)
    panel.set_ylabel(y.label)
    rest = [axis for axis in axes if axis is not x and axis is not y]
    if rest:
        figure.suptitle(over_the_rest(x, [y], rest), fontsize="small")
    figure.colorbar(image, ax=panel, label=scores.label).outline.set_visible(False)
    return figure


def _write(panel: Axes, cell: tuple[int, int], text: str, shade: float) -> None:
    """The figures of a cell, white on its dark colours."""
    row, column = cell
    colour = "white" if shade < 0.55 else "black"
    panel.text(column, row, text, ha="center", va="center", fontsize="small", color=colour)


def _frame(panel: Axes, cell: tuple[int, int]) -> None:
    row, column = cell
    frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False)
    frame.set(edgecolor="#D55E00", linewidth=2.5)
    panel.add_patch(frame)
