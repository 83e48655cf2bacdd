"""Plots of a sweep's validation results, as PNG files."""

import io
import itertools
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from vmr.disk import write_bytes
from vmr.sweeps.results import Axis, Results, half_interval, in_short, paired_differences

_DPI = 150
_MOST_ROWS = 40
_ROW = 0.32  # inches
_MOST_CELLS = 14  # along one side of a heat map
_CELL = 0.75  # inches
# Okabe and Ito, "Color Universal Design", 2008, which colour-blind readers tell apart too; without
# its yellow, which is hardly seen on white, and with a grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
_MARKERS = "osD^vPX*"
_MOST_CURVES = 2 * len(_COLOURS)  # the second half with dashes
_MOST_TICKS = 9
_LEAST_GAP = 0.055  # between two ticks with level labels, as a share of the axis
_APART = 0.008  # share of the axis between error bars at one value
_BARS = "bars: 95 % t-interval of the mean over seeds; faint dots: single seeds"


def save_plots(folder: pathlib.Path, results: Results) -> list[pathlib.Path]:
    """Draws all plots that the sweep's fields allow; returns the files, each whole or not at all.

    `response_FIELD.png` for each numeric field, `heat_map_FIELD_FIELD.png` for each two that were
    crossed; `settings.png` where no field is numeric; `differences.png`, seed by seed, where seeds
    are shared with the first setting. Settings without a finished seed are left out; without any
    other nothing is drawn.

    Args:
      folder: folder of the files.
      results: results of the sweep.

    Raises:
      UserError: a file cannot be written; an earlier one is whole.
    """
    scores = Scores(results)
    if not scores.finished:
        return []
    axes = [axis for axis in results.axes if axis.varies]
    numeric = [axis for axis in axes if axis.numeric]
    figures = {f"response_{_file_name(x)}": response_curve(scores, x, axes) for x in numeric}
    for x, y in itertools.combinations(numeric, 2):
        if is_crossed(scores, x, y):
            figures[f"heat_map_{_file_name(x)}_{_file_name(y)}"] = heat_map(scores, x, y, axes)
    if not numeric:
        figures["settings"] = setting_rows(scores, axes)
    differences = paired_differences(results)
    if differences:
        figures["differences"] = difference_rows(differences, axes, scores.label)
    for name, figure in figures.items():
        drawn = io.BytesIO()  # first to memory: a full disk leaves an earlier plot whole
        figure.savefig(drawn, format="png", dpi=_DPI)
        write_bytes(folder / f"{name}.png", drawn.getvalue())
    return [folder / f"{name}.png" for name in figures]


def _file_name(axis: Axis) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", axis.label).strip("_.")


class Scores:
    """Validation metric of S settings, as arrays; a setting is its index.

    Attributes:
      label: metric with its split and unit.
      is_percent: True for a metric from 0 to 100.
      digits: decimals with which it is written.
      seeds: values of the finished seeds, one array a setting.
      mean: over them, (S,); NaN where there are none.
      half: half-width of the 95 % t-interval, (S,); NaN where there are fewer than two.
      finished: indices of the settings that have a finished seed.
    """

    def __init__(self, results: Results):
        """Takes the metric that chooses from results of S settings."""
        metric, settings = results.metric, results.settings
        is_share = metric.endswith("MRR")
        self.is_percent = not is_share and "/R@" in metric
        self.label = f"validation {metric.replace('/', ' ')}{'' if is_share else ' (%)'}"
        self.digits = 3 if is_share else 1
        self.seeds = [setting.values(metric) for setting in settings]
        self.mean = np.array([setting.mean(metric) for setting in settings])
        self.half = np.array([half_interval(values) for values in self.seeds])
        self.finished = [index for index, values in enumerate(self.seeds) if len(values)]

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """Limits of an axis, cut to the values that the metric can have."""
        most = 100.0 if self.is_percent else np.inf
        return max(low, 0.0), min(high, most)

    def best(self, indices: Iterable[int]) -> int:
        """Setting with the highest mean, of ties the first."""
        return max(indices, key=lambda index: self.mean[index])


def _over_the_rest(fixed: Sequence[Axis], rest: Sequence[Axis]) -> str:
    """Title of a panel that shows, at each value of some axes, the best over the rest of them."""
    names = ", ".join(axis.label for axis in rest)
    return f"Best over {names} at each {' and '.join(axis.label for axis in fixed)}"


class _Curve(NamedTuple):
    """Settings with one value of a second field.

    Attributes:
      value: that value; None where there is one curve only.
      settings: indices of the settings, in the order of the numeric field.
      is_joined: True if a line through them makes sense.
    """

    value: Any
    settings: list[int]
    is_joined: bool


def response_curve(scores: Scores, x: Axis, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots.

    Where settings differ in more fields than are drawn, the best of them stands at each value;
    where no two settings share a value, all are drawn, and not joined.

    Args:
      scores: scores of the settings.
      x: the numeric axis.
      axes: all those in which the settings differ.
    """
    hue = _hue_axis(x, axes)
    rest = [axis for axis in axes if axis is not x and axis is not hue]
    curves = _curves(scores, x, hue, bool(rest))
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    panel = figure.add_subplot()
    _set_scale(panel, sorted(set(x.values)))
    abscissas = _side_by_side(panel, x, [index for curve in curves for index in curve.settings])
    entries: list[ErrorbarContainer | Line2D] = []
    for curve, look in zip(curves, _looks([curve.value for curve in curves]), strict=True):
        if not curve.is_joined:
            look["linestyle"] = "none"
        positions = [abscissas[index] for index in curve.settings]
        values = [scores.seeds[index] for index in curve.settings]
        bars = _draw(panel, positions, values, label=in_short(curve.value), **look)
        if hue:
            entries.append(bars)
        # A single setting at 0, as without the loss, is what all others are held against.
        if len(curves) > 1 and [x.values[index] for index in curve.settings] == [0]:
            panel.axhline(values[0].mean(), color=look["color"], linestyle=":", linewidth=1.2)
    entries += _mark_missing(panel, scores, x)
    panel.set_xlabel(x.label)
    panel.set_ylabel(scores.label)
    panel.set_ylim(scores.limits(*panel.get_ylim()))
    panel.grid(alpha=0.25)
    figure.supxlabel(_BARS, fontsize="x-small", color="0.35")
    if rest:
        title = f"Each dot one setting; {', '.join(axis.label for axis in rest)} differ too"
        if any(curve.is_joined for curve in curves):
            title = _over_the_rest([x, hue] if hue else [x], rest)
        panel.set_title(title, fontsize="small", loc="left")
    if entries:
        heading = hue.label if hue else None
        figure.legend(handles=entries, title=heading, loc="outside right upper", frameon=False)
    return figure


def _hue_axis(x: Axis, axes: Sequence[Axis]) -> Axis | None:
    """Axis with a curve for each value: one in words if there is any, else the only other one."""
    others = [axis for axis in axes if axis is not x and len(set(axis.values)) <= _MOST_CURVES]
    words = [axis for axis in others if not axis.numeric]
    if words:
        return words[0]
    return others[0] if len(axes) == 2 and others else None


def _curves(scores: Scores, x: Axis, hue: Axis | None, has_rest: bool) -> list[_Curve]:
    """Curves, one for each value of `hue`; of settings that share both values the best one."""
    cells: dict[Any, dict[Any, list[int]]] = {}
    for index in scores.finished:
        cell = cells.setdefault(hue.values[index] if hue else None, {})
        cell.setdefault(x.values[index], []).append(index)
    curves = []
    for value in sorted(cells) if hue and hue.numeric else cells:
        shared = [cells[value][at] for at in sorted(cells[value])]
        is_joined = not has_rest or any(len(indices) > 1 for indices in shared)
        curves.append(_Curve(value, [scores.best(indices) for indices in shared], is_joined))
    return curves


def _looks(names: Sequence[Any]) -> list[dict[str, Any]]:
    """Colour, marker and style of each curve; numbers from dark to light."""
    colours: Sequence[Any] = _COLOURS
    if len(names) > 1 and all(isinstance(name, int | float) for name in names):
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(names))).tolist()
    return [
        {
            "color": colours[number % len(colours)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": "--" if number >= len(_COLOURS) else "-",
        }
        for number in range(len(names))
    ]


def _side_by_side(panel: Axes, x: Axis, indices: Sequence[int]) -> dict[int, float]:
    """Abscissa of each setting: those that meet at a value stand around it."""
    values = np.array([x.values[index] for index in indices], float)
    shares = values[:, None] == values
    ranks = np.tril(shares, -1).sum(axis=1) - (shares.sum(axis=1) - 1) / 2
    # Equal steps on the page are equal steps of the transformed axis, logarithmic or not.
    scale = panel.xaxis.get_transform()
    drawn = scale.transform(values)
    shifted = scale.inverted().transform(drawn + ranks * _APART * np.ptp(drawn))
    return dict(zip(indices, shifted, strict=True))


def _draw(
    panel: Axes,
    positions: Sequence[float],
    values: Sequence[np.ndarray],
    sideways: bool = False,
    **look: Any,
) -> ErrorbarContainer:
    """Draws means with their intervals, and the values behind them as faint dots.

    Args:
      panel: panel to draw in.
      positions: positions along the other axis.
      values: values at each position, (S,) one a seed.
      sideways: True draws the values from left to right.
      look: colour, marker, style and label, as matplotlib names them.
    """
    means, halves = [x.mean() for x in values], [half_interval(x) for x in values]
    dots = np.repeat(positions, [len(x) for x in values]), np.concatenate(values)
    style = {"color": look["color"], "markersize": 3.5, "markeredgewidth": 0, "alpha": 0.35}
    panel.plot(*(dots[::-1] if sideways else dots), "o", **style)
    panel.spines[["top", "right"]].set_visible(False)
    lines = {"markersize": 5.0, "capsize": 2.5, "elinewidth": 1.0, **look}
    if sideways:
        return panel.errorbar(means, positions, xerr=halves, **lines)
    return panel.errorbar(positions, means, yerr=halves, **lines)


def _mark_missing(panel: Axes, scores: Scores, x: Axis) -> Sequence[Line2D]:
    """Draws a cross below each value with a setting without a finished seed; returns its entry."""
    missing = {value for index, value in enumerate(x.values) if index not in scores.finished}
    if not missing:
        return []
    below = panel.get_xaxis_transform()
    heights = [0.03] * len(missing)
    label = "without a\nfinished seed"
    return panel.plot(sorted(missing), heights, "x", transform=below, color="0.4", label=label)


def _set_scale(panel: Axes, values: Sequence[float]) -> None:
    """Makes the axis logarithmic where positive values span more than a decade; 0 stays on it."""
    positive = [value for value in values if value > 0]
    is_log = values[0] >= 0 and len(positive) > 1 and positive[-1] > 10 * positive[0]
    # Linear from 0 to the least positive value, since 0 has no logarithm.
    if is_log and values[0] == 0:
        panel.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    elif is_log:
        panel.set_xscale("log")
    if len(values) > _MOST_TICKS:
        if not is_log:
            return
        # Too many to label each: 0 and powers of ten, within few decades 2 and 5 times them too.
        locator = LogLocator(subs=(1, 2, 5) if positive[-1] < 1000 * positive[0] else (1,))
        ticks = np.asarray(locator.tick_values(positive[0], positive[-1]))
        round_numbers = ticks[(ticks >= positive[0]) & (ticks <= positive[-1])]
        values = [*values[: values[0] == 0], *round_numbers.tolist()]
    panel.set_xticks(values, [in_short(value) for value in values])
    panel.minorticks_off()
    drawn = panel.xaxis.get_transform().transform(np.array(values, float))
    if len(drawn) > 1 and np.diff(drawn).min() < _LEAST_GAP * np.ptp(drawn):
        panel.tick_params(axis="x", rotation=90)  # level labels would run into each other


def is_crossed(scores: Scores, x: Axis, y: Axis) -> bool:
    """True if the settings make a grid of the two axes, at least half of it filled."""
    pairs = {(x.values[index], y.values[index]) for index in scores.finished}
    small, large = sorted(len(set(values)) for values in zip(*pairs, strict=True))
    is_filled = 2 * len(pairs) >= small * large and len(pairs) > large
    return small > 1 and large <= _MOST_CELLS and is_filled


def heat_map(scores: Scores, x: Axis, y: Axis, axes: Sequence[Axis]) -> Figure:
    """Means in colour and in figures, the best one framed; empty where no seed has finished.

    Where settings differ in further fields, the best of them stands in each cell.

    Args:
      scores: scores of the settings.
      x: the axis of the columns.
      y: the axis of the rows.
      axes: all those in which the settings differ.
    """
    columns, rows = sorted(set(x.values)), sorted(set(y.values))
    best: dict[tuple[int, int], int] = {}
    means = np.full((len(rows), len(columns)), np.nan)
    for index in scores.finished:
        cell = rows.index(y.values[index]), columns.index(x.values[index])
        best[cell] = scores.best([best.get(cell, index), index])
        means[cell] = scores.mean[best[cell]]
    figure = Figure(layout="constrained")
    # Inches; what is added is for labels and the colour bar.
    figure.set_size_inches(len(columns) * _CELL + 2.4, len(rows) * _CELL + 1.5)
    panel = figure.add_subplot()
    panel.set_facecolor("0.93")
    image = panel.imshow(means, origin="lower", cmap="viridis", aspect="auto")
    low, high = np.nanmin(means), np.nanmax(means)
    for row, column in np.ndindex(means.shape):
        text, colour = "–", "0.4"
        if (row, column) in best:
            half = scores.half[best[row, column]]
            spread = "" if np.isnan(half) else f"\n± {half:.{scores.digits}f}"
            text = f"{means[row, column]:.{scores.digits}f}{spread}"
            # White is unreadable on the light half of the colour map.
            colour = "white" if means[row, column] <= low + 0.55 * (high - low) else "black"
        panel.text(column, row, text, ha="center", va="center", fontsize="small", color=colour)
    row, column = max(best, key=lambda cell: means[cell])
    frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False)
    frame.set(edgecolor="#D55E00", linewidth=2.5)
    panel.add_patch(frame)
    panel.set_xticks(range(len(columns)), [in_short(value) for value in columns])
    panel.set_yticks(range(len(rows)), [in_short(value) for value in rows])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel(x.label)
    panel.set_ylabel(y.label)
    rest = [axis for axis in axes if axis is not x and axis is not y]
    if rest:
        figure.suptitle(_over_the_rest([x, y], rest), fontsize="small")
    figure.colorbar(image, ax=panel, label=scores.label).outline.set_visible(False)
    return figure


def setting_rows(scores: Scores, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots; the best 40 settings.

    Args:
      scores: scores of the settings.
      axes: axes in which the settings differ, if they do.
    """
    ranked = sorted(scores.finished, key=lambda index: -scores.mean[index])
    figure = _rows([(index, scores.seeds[index]) for index in ranked], axes, scores.label)
    (panel,) = figure.axes
    panel.set_xlim(scores.limits(*panel.get_xlim()))
    return figure


def difference_rows(
    differences: Sequence[tuple[int, np.ndarray]], axes: Sequence[Axis], label: str
) -> Figure:
    """Mean differences with 95 % t-intervals, and single seeds as faint dots; at most 40 settings.

    Args:
      differences: differences of `paired_differences`.
      axes: axes in which the settings differ.
      label: label of the metric.
    """
    title = f"{label}: difference to {_name(0, axes)}, seed by seed"
    figure = _rows(differences, axes, title)
    figure.axes[0].axvline(0.0, color="0.4", linestyle=":", linewidth=1.2)
    return figure


def _rows(rows: Sequence[tuple[int, np.ndarray]], axes: Sequence[Axis], label: str) -> Figure:
    """Rows of the first 40 settings, each (index, values of its seeds)."""
    rows = rows[:_MOST_ROWS]
    figure = Figure(figsize=(7.2, len(rows) * _ROW + 1.2), layout="constrained")
    panel = figure.add_subplot()
    at = range(len(rows))
    values = [of_setting for _, of_setting in rows]
    _draw(panel, at, values, sideways=True, color=_COLOURS[0], marker="o", linestyle="none")
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.25)
    names = [_name(index, axes) for index, _ in rows]
    panel.set_yticks(at if axes else [], names if axes else [])
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    panel.set_xlabel(label)
    figure.supxlabel(_BARS, fontsize="x-small", color="0.35")
    return figure


def _name(index: int, axes: Sequence[Axis]) -> str:
    """Values of a setting, in the order of the axes."""
    return " · ".join(in_short(axis.values[index]) for axis in axes)
