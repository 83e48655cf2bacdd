"""Plots of a sweep's validation results, as PNG files."""

import io
import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from vmr.sweeps.results import Axis, Results, half_interval, in_short, paired_differences
from vmr.training.disk import write_bytes

_DPI = 150
_MOST_ROWS = 40
_ROW = 0.32  # inches
_COLOUR = "#0072B2"
_MOST_CELLS = 14  # of a heat map, along one side
_CELL = 0.75  # inches
_MARGINS = 2.4, 1.5  # inches, for labels and the colour bar
# Okabe and Ito, "Color Universal Design", 2008, which colour-blind readers tell apart too; without
# its yellow, which is hardly seen on white, and with a grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
_MARKERS = "osD^vPX*"
_MOST_LINES = 2 * len(_COLOURS)  # the second half with dashes
_MOST_TICKS = 9
_LEAST_GAP = 0.055  # between the labels of two ticks, as a share of the axis
_APART = 0.008  # of the axis, between error bars at one value
_BARS = "bars: 95 % t-interval of the mean over seeds; faint dots: single seeds"


def save_plots(folder: pathlib.Path, results: Results) -> list[pathlib.Path]:
    """Draws what the sweep's fields allow; returns the files, each written whole or not at all.

    `response_FIELD.png` for each numeric field, `heat_map_FIELD_FIELD.png` for each two that were
    crossed; `settings.png` where no field is numeric; `differences.png`, seed by seed, where seeds
    are shared with the first setting. Settings without a finished seed are left out; without any
    other nothing is drawn.

    Args:
      folder: where to write.
      results: results of the sweep.

    Raises:
      UserError: a file cannot be written; an earlier one is whole.
    """
    scores = Scores(results)
    if not scores.finished:
        return []
    axes = [axis for axis in results.axes if axis.varies]
    numeric = [axis for axis in axes if axis.numeric]
    figures: dict[str, Figure] = {}
    for x in numeric:
        figures[f"response_{_file_name(x)}"] = response_curve(scores, x, axes)
    for x, y in itertools.combinations(numeric, 2):
        if is_crossed(scores, x, y):
            figures[f"heat_map_{_file_name(x)}_{_file_name(y)}"] = heat_map(scores, x, y, axes)
    if not numeric:
        figures["settings"] = setting_rows(scores, axes)
    differences = paired_differences(results)
    if differences:
        figures["differences"] = difference_rows(differences, axes, scores.label)
    return [_save(folder / f"{name}.png", figure) for name, figure in figures.items()]


def _file_name(axis: Axis) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", axis.label).strip("_.")


def _save(path: pathlib.Path, figure: Figure) -> pathlib.Path:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    write_bytes(path, drawn.getvalue())
    return path


class Scores:
    """A validation metric of S settings, as arrays; a setting is named by its index.

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
        """Cuts the ends of an axis to the values that the metric can have."""
        most = 100.0 if self.is_percent else np.inf
        return max(low, 0.0), min(high, most)

    def best(self, indices: Iterable[int]) -> int:
        """The setting with the highest mean, of equals the first."""
        return max(indices, key=lambda index: self.mean[index])


def _over_the_rest(x: Axis, others: Sequence[Axis], rest: Sequence[Axis]) -> str:
    """Title of a panel that shows the best setting over the rest of the axes; empty if none."""
    if not rest:
        return ""
    fixed = " and ".join(axis.label for axis in (x, *others))
    return f"Best over {', '.join(axis.label for axis in rest)} at each {fixed}"


@dataclass(frozen=True)
class _Line:
    """Line of a response curve: the settings with one value of the other field.

    Attributes:
      name: that value; empty where there is one line only.
      settings: their indices, by the numeric field.
      joined: True if they are points of one curve.
      look: colour, marker and style.
      is_reference: True for a single setting at 0, as without the loss, to hold all others against.
    """

    name: str
    settings: Sequence[int]
    joined: bool
    look: tuple[Any, str, str]
    is_reference: bool


def response_curve(scores: Scores, x: Axis, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots.

    Where settings differ in more fields than are drawn, the best of them stands at each value;
    where no two settings share a value, all are drawn, and not joined.

    Args:
      scores: scores of the settings.
      x: the numeric axis.
      axes: all those in which the settings differ.
    """
    other = _hue_axis(x, axes)
    hue = [other] if other else []
    rest = [axis for axis in axes if axis is not x and axis is not other]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    panel = figure.add_subplot()
    lines = _lines(scores, x, other, bool(rest))
    _set_scale(panel, sorted(set(x.values)))
    drawn_at = _side_by_side(panel, lines, x)
    drawn = [_draw(panel, scores, drawn_at, line) for line in lines]
    told = [*(drawn if other else []), *_mark_missing(panel, scores, x)]
    panel.set_xlabel(x.label)
    figure.supxlabel(_BARS, fontsize="x-small", color="0.35")
    panel.set_ylabel(scores.label)
    panel.set_ylim(scores.limits(*panel.get_ylim()))
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    if rest and any(line.joined for line in lines):
        panel.set_title(_over_the_rest(x, hue, rest), fontsize="small", loc="left")
    elif rest:
        title = f"Each dot one setting; {', '.join(axis.label for axis in rest)} differ too"
        panel.set_title(title, fontsize="small", loc="left")
    if told:
        heading = other.label if other else None
        figure.legend(handles=told, title=heading, loc="outside right upper", frameon=False)
    return figure


def _hue_axis(x: Axis, axes: Sequence[Axis]) -> Axis | None:
    """Axis with a line for each value: one in words if there is any, else the only other one."""
    others = [axis for axis in axes if axis is not x and len(set(axis.values)) <= _MOST_LINES]
    words = [axis for axis in others if not axis.numeric]
    if words:
        return words[0]
    return others[0] if len(axes) == 2 and others else None


def _lines(scores: Scores, x: Axis, other: Axis | None, has_rest: bool) -> list[_Line]:
    groups: dict[Any, list[int]] = {}
    for index in scores.finished:
        groups.setdefault(other.values[index] if other else None, []).append(index)
    names = sorted(groups) if other and other.numeric else list(groups)
    lines = []
    for name, look in zip(names, _looks(names), strict=True):
        shared: dict[Any, list[int]] = {}
        for index in groups[name]:
            shared.setdefault(x.values[index], []).append(index)
        best = [scores.best(shared[value]) for value in sorted(shared)]
        joined = not has_rest or len(shared) < len(groups[name])
        is_reference = len(names) > 1 and list(shared) == [0]
        told = "" if other is None else in_short(name)
        lines.append(_Line(told, best, joined, look, is_reference))
    return lines


def _looks(names: Sequence[Any]) -> list[tuple[Any, str, str]]:
    """Colour, marker and style of each line; numbers from dark to light."""
    colours: Sequence[Any] = _COLOURS
    if len(names) > 1 and all(isinstance(name, int | float) for name in names):
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(names))).tolist()
    looks = []
    for number in range(len(names)):
        marker, style = _MARKERS[number % len(_MARKERS)], "--" if number >= len(_COLOURS) else "-"
        looks.append((colours[number % len(colours)], marker, style))
    return looks


def _side_by_side(panel: Axes, lines: Sequence[_Line], x: Axis) -> dict[int, float]:
    """Abscissa of each setting: lines that meet at a value stand around it."""
    at_value: dict[float, list[int]] = {}
    for index in (index for line in lines for index in line.settings):
        at_value.setdefault(float(x.values[index]), []).append(index)
    scale = panel.xaxis.get_transform()
    values = scale.transform(np.array(sorted(at_value)))
    apart = _APART * float(values[-1] - values[0])
    drawn_at: dict[int, float] = {}
    for value, indices in zip(values, (at_value[key] for key in sorted(at_value)), strict=True):
        shifts = (np.arange(len(indices)) - (len(indices) - 1) / 2) * apart
        drawn_at |= dict(zip(indices, scale.inverted().transform(value + shifts), strict=True))
    return drawn_at


def _draw(
    panel: Axes, scores: Scores, drawn_at: Mapping[int, float], line: _Line
) -> ErrorbarContainer:
    """Draws a line; returns its entry in the legend."""
    colour, marker, style = line.look
    indices = list(line.settings)
    values = [drawn_at[index] for index in indices]
    bars = panel.errorbar(
        values,
        scores.mean[indices],
        scores.half[indices],
        color=colour,
        marker=marker,
        markersize=5,
        linestyle=style if line.joined else "none",
        capsize=2.5,
        elinewidth=1.0,
        label=line.name,
    )
    seeds = [
        (value, one) for value, p in zip(values, indices, strict=True) for one in scores.seeds[p]
    ]
    panel.plot(
        *np.transpose(seeds), "o", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.35
    )
    if line.is_reference:
        panel.axhline(scores.mean[indices[0]], color=colour, linestyle=":", linewidth=1.2)
    return bars


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
    if is_log and values[0] == 0:
        panel.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    elif is_log:
        panel.set_xscale("log")
    if len(values) > _MOST_TICKS:
        if not is_log:
            return
        values = [*values[: values[0] == 0], *_round_numbers(positive[0], positive[-1])]
    positions = panel.xaxis.get_transform().transform(np.array(values, float))
    panel.set_xticks(values, _labels(values, positions))
    panel.xaxis.set_minor_locator(NullLocator())


def _round_numbers(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers; of few decades 2 and 5 times them too."""
    digits = (1, 2, 5) if high < 1000 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [number for number in found if low <= number <= high]


def _labels(values: Sequence[float], positions: np.ndarray) -> list[str]:
    """Labels of ticks; one that would touch the label to its left is empty."""
    reach = float(positions[-1] - positions[0])
    labels, last = [], -math.inf
    for value, position in zip(values, positions, strict=True):
        is_clear = float(position) - last >= _LEAST_GAP * reach
        labels.append(in_short(value) if is_clear else "")
        last = float(position) if is_clear else last
    return labels


def is_crossed(scores: Scores, x: Axis, y: Axis) -> bool:
    """True if the settings make a grid of the two axes, at least half of it filled."""
    pairs = {(x.values[index], y.values[index]) for index in scores.finished}
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
      scores: scores of the settings.
      x: the axis of the columns.
      y: the axis of the rows.
      axes: all those in which the settings differ.
    """
    cells: dict[tuple[int, int], list[int]] = {}
    columns, rows = sorted(set(x.values)), sorted(set(y.values))
    for index in scores.finished:
        cell = rows.index(y.values[index]), columns.index(x.values[index])
        cells.setdefault(cell, []).append(index)
    best = {cell: scores.best(indices) for cell, indices in cells.items()}
    means = np.full((len(rows), len(columns)), np.nan)
    for cell, index in best.items():
        means[cell] = scores.mean[index]

    size = len(columns) * _CELL + _MARGINS[0], len(rows) * _CELL + _MARGINS[1]
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.add_subplot()
    panel.set_facecolor("0.93")
    image = panel.imshow(means, origin="lower", cmap="viridis", aspect="auto")
    low, high = np.nanmin(means), np.nanmax(means)
    for cell in np.ndindex(means.shape):
        if cell not in best:
            panel.text(cell[1], cell[0], "–", ha="center", va="center", color="0.4")
    for cell, index in best.items():
        half = scores.half[index]
        spread = "" if np.isnan(half) else f"\n± {half:.{scores.digits}f}"
        shade = float(means[cell] - low) / float(high - low or 1.0)
        _write(panel, cell, f"{means[cell]:.{scores.digits}f}{spread}", shade)
    _frame(panel, max(best, key=lambda cell: means[cell]))
    panel.set_xticks(range(len(columns)), [in_short(value) for value in columns])
    panel.set_yticks(range(len(rows)), [in_short(value) for value in rows])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel(x.label)
    panel.set_ylabel(y.label)
    rest = [axis for axis in axes if axis is not x and axis is not y]
    if rest:
        figure.suptitle(_over_the_rest(x, [y], rest), fontsize="small")
    figure.colorbar(image, ax=panel, label=scores.label).outline.set_visible(False)
    return figure


def _write(panel: Axes, cell: tuple[int, int], text: str, shade: float) -> None:
    """Writes the figures of a cell, white on dark colours."""
    row, column = cell
    colour = "white" if shade < 0.55 else "black"
    panel.text(column, row, text, ha="center", va="center", fontsize="small", color=colour)


def _frame(panel: Axes, cell: tuple[int, int]) -> None:
    row, column = cell
    frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False)
    frame.set(edgecolor="#D55E00", linewidth=2.5)
    panel.add_patch(frame)


def setting_rows(scores: Scores, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots; the best 40 settings.

    Args:
      scores: scores of the settings.
      axes: in which the settings differ, if they do.
    """
    ranked = sorted(scores.finished, key=lambda index: -scores.mean[index])[:_MOST_ROWS]
    figure = Figure(figsize=(7.2, len(ranked) * _ROW + 1.2), layout="constrained")
    panel = figure.add_subplot()
    values = [scores.seeds[index] for index in ranked]
    _draw_rows(panel, scores.mean[ranked], scores.half[ranked], values)
    names = [" · ".join(in_short(axis.values[index]) for axis in axes) for index in ranked]
    panel.set_yticks(np.arange(len(ranked)) if axes else [], names if axes else [])
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    panel.set_xlabel(scores.label)
    panel.set_xlim(scores.limits(*panel.get_xlim()))
    figure.supxlabel(_BARS, fontsize="x-small", color="0.35")
    return figure


def _draw_rows(
    panel: Axes,
    means: Sequence[float] | np.ndarray,
    halves: Sequence[float] | np.ndarray,
    values: Sequence[np.ndarray],
) -> None:
    """Draws a mean with its interval, and the values behind it as faint dots, a row each.

    Args:
      panel: to draw in.
      means: means of each row.
      halves: halves of each row's interval.
      values: values of each row, (S,) one a seed.
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


def difference_rows(
    differences: Sequence[tuple[int, np.ndarray]], axes: Sequence[Axis], label: str
) -> Figure:
    """Mean differences with 95 % t-intervals, and single seeds as faint dots; at most 40 settings.

    Args:
      differences: differences of `paired_differences`.
      axes: in which the settings differ.
      label: label of the metric.
    """
    differences = differences[:_MOST_ROWS]
    values = [of_setting for _, of_setting in differences]
    figure = Figure(figsize=(7.2, len(values) * _ROW + 1.4), layout="constrained")
    panel = figure.add_subplot()
    _draw_rows(
        panel, [one.mean() for one in values], [half_interval(one) for one in values], values
    )
    panel.axvline(0.0, color="0.4", linestyle=":", linewidth=1.2)
    names = [" · ".join(in_short(axis.values[index]) for axis in axes) for index, _ in differences]
    panel.set_yticks(np.arange(len(values)), names)
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    first = " · ".join(in_short(axis.values[0]) for axis in axes)
    panel.set_xlabel(f"{label}: difference to {first}, seed by seed\n{_BARS}", fontsize="small")
    return figure
