"""A metric over a numeric field of a sweep, a line for each value of another field."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.scores import BARS, Scores, over_the_rest

# Okabe and Ito, "Color Universal Design", 2008, which colour-blind readers tell apart too; without
# its yellow, which is hardly seen on white, and with a grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
_MARKERS = "osD^vPX*"
_MOST_LINES = 2 * len(_COLOURS)  # the second half with dashes
_MOST_TICKS = 9
_LEAST_GAP = 0.055  # between the labels of two ticks, as a share of the axis
_APART = 0.008  # of the axis, between error bars at one value


@dataclass(frozen=True)
class _Line:
    """Of settings with one value of the other field.

    Attributes:
      name: that value; empty where there is one line only.
      places: of its settings, by the numeric field.
      joined: whether they are points of one curve.
      look: colour, marker and style of the line.
      is_reference: whether it is one setting at 0, as without the loss, for all others to be held
        against.
    """

    name: str
    places: Sequence[int]
    joined: bool
    look: tuple[Any, str, str]
    is_reference: bool


def response_curve(scores: Scores, x: Axis, axes: Sequence[Axis]) -> Figure:
    """Means with 95 % t-intervals, and single seeds as faint dots.

    Where settings differ in more fields than are drawn, the best of them stands at each place;
    where no two settings share a place, all are drawn, and not joined.

    Args:
      scores: of the settings.
      x: the numeric axis.
      axes: all those in which the settings differ.
    """
    other = _told_apart(x, axes)
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
    figure.supxlabel(BARS, fontsize="x-small", color="0.35")
    panel.set_ylabel(scores.label)
    panel.set_ylim(scores.limits(*panel.get_ylim()))
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    if rest and any(line.joined for line in lines):
        panel.set_title(over_the_rest(x, hue, rest), fontsize="small", loc="left")
    elif rest:
        title = f"Each dot one setting; {', '.join(axis.label for axis in rest)} differ too"
        panel.set_title(title, fontsize="small", loc="left")
    if told:
        heading = other.label if other else None
        figure.legend(handles=told, title=heading, loc="outside right upper", frameon=False)
    return figure


def _told_apart(x: Axis, axes: Sequence[Axis]) -> Axis | None:
    """The axis that has a line for each of its values: in words if there is one, else the only."""
    others = [axis for axis in axes if axis is not x and len(set(axis.values)) <= _MOST_LINES]
    words = [axis for axis in others if not axis.numeric]
    if words:
        return words[0]
    return others[0] if len(axes) == 2 and others else None


def _lines(scores: Scores, x: Axis, other: Axis | None, has_rest: bool) -> list[_Line]:
    groups: dict[Any, list[int]] = {}
    for place in scores.places:
        groups.setdefault(other.values[place] if other else None, []).append(place)
    names = sorted(groups) if other and other.numeric else list(groups)
    lines = []
    for name, look in zip(names, _looks(names), strict=True):
        shared: dict[Any, list[int]] = {}
        for place in groups[name]:
            shared.setdefault(x.values[place], []).append(place)
        best = [scores.best(shared[value]) for value in sorted(shared)]
        joined = not has_rest or len(shared) < len(groups[name])
        is_reference = len(names) > 1 and list(shared) == [0]
        told = "" if other is None else shown(name)
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
    """Where each setting is drawn: lines that meet at a value stand around it."""
    at_value: dict[float, list[int]] = {}
    for place in (place for line in lines for place in line.places):
        at_value.setdefault(float(x.values[place]), []).append(place)
    scale = panel.xaxis.get_transform()
    values = scale.transform(np.array(sorted(at_value)))
    apart = _APART * float(values[-1] - values[0])
    drawn_at: dict[int, float] = {}
    for value, places in zip(values, (at_value[key] for key in sorted(at_value)), strict=True):
        shifts = (np.arange(len(places)) - (len(places) - 1) / 2) * apart
        drawn_at |= dict(zip(places, scale.inverted().transform(value + shifts), strict=True))
    return drawn_at


def _draw(
    panel: Axes, scores: Scores, drawn_at: Mapping[int, float], line: _Line
) -> ErrorbarContainer:
    """Draws a line; returns what stands for it in the legend."""
    colour, marker, style = line.look
    places = list(line.places)
    values = [drawn_at[place] for place in places]
    bars = panel.errorbar(
        values,
        scores.mean[places],
        scores.half[places],
        color=colour,
        marker=marker,
        markersize=5,
        linestyle=style if line.joined else "none",
        capsize=2.5,
        elinewidth=1.0,
        label=line.name,
    )
    seeds = [
        (value, one) for value, p in zip(values, places, strict=True) for one in scores.seeds[p]
    ]
    panel.plot(
        *np.transpose(seeds), "o", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.35
    )
    if line.is_reference:
        panel.axhline(scores.mean[places[0]], color=colour, linestyle=":", linewidth=1.2)
    return bars


def _mark_missing(panel: Axes, scores: Scores, x: Axis) -> Sequence[Line2D]:
    """A cross below each value at which a setting has no finished seed; its place in the legend."""
    missing = {value for place, value in enumerate(x.values) if place not in scores.places}
    if not missing:
        return []
    below = panel.get_xaxis_transform()
    heights = [0.03] * len(missing)
    label = "without a\nfinished seed"
    return panel.plot(sorted(missing), heights, "x", transform=below, color="0.4", label=label)


def _set_scale(panel: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where positive values span more than a decade; 0 has its place on it."""
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
    places = panel.xaxis.get_transform().transform(np.array(values, float))
    panel.set_xticks(values, _labels(values, places))
    panel.xaxis.set_minor_locator(NullLocator())


def _round_numbers(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers; of few decades 2 and 5 times them too."""
    digits = (1, 2, 5) if high < 1000 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [number for number in found if low <= number <= high]


def _labels(values: Sequence[float], places: np.ndarray) -> list[str]:
    """Of ticks; one that would touch the label to its left has none."""
    reach = float(places[-1] - places[0])
    labels, last = [], -math.inf
    for value, place in zip(values, places, strict=True):
        is_clear = float(place) - last >= _LEAST_GAP * reach
        labels.append(shown(value) if is_clear else "")
        last = float(place) if is_clear else last
    return labels
