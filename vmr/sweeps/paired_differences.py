"""Every setting of a sweep less one of them, seed by seed: what differs beyond the seeds' luck."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.outcomes import Setting, half_interval
from vmr.sweeps.scores import BARS

_MOST_ROWS = 40
_ROW = 0.32  # inches
_COLOUR = "#0072B2"


def paired_differences(settings: Sequence[Setting], metric: str) -> list[tuple[int, np.ndarray]]:
    """Differences to the first setting over the seeds that both have finished: (place, (S,)).

    Seeds that are shared have their initialisation and batches in common, so their differences
    scatter less than the settings do. Settings with fewer than two shared seeds are left out.
    """
    values = [_by_seed(setting, metric) for setting in settings]
    found = []
    for place, of_setting in enumerate(values[1:], start=1):
        seeds = sorted(values[0].keys() & of_setting.keys())
        if len(seeds) > 1:
            found.append((place, np.array([of_setting[seed] - values[0][seed] for seed in seeds])))
    return found


def difference_rows(
    differences: Sequence[tuple[int, np.ndarray]], axes: Sequence[Axis], label: str
) -> Figure:
    """Mean differences with 95 % t-intervals, and single seeds as faint dots; at most 40 settings.

    Args:
      differences: of `paired_differences`.
      axes: in which the settings differ.
      label: of the metric.
    """
    differences = differences[:_MOST_ROWS]
    rows = np.arange(len(differences))
    figure = Figure(figsize=(7.2, len(differences) * _ROW + 1.4), layout="constrained")
    panel = figure.add_subplot()
    panel.errorbar(
        [values.mean() for _, values in differences],
        rows,
        xerr=[half_interval(values) for _, values in differences],
        color=_COLOUR,
        marker="o",
        markersize=6,
        linestyle="none",
        capsize=2.5,
        elinewidth=1.0,
    )
    for row, (_, values) in zip(rows, differences, strict=True):
        panel.plot(values, np.full(len(values), row), "o", color=_COLOUR, markersize=3, alpha=0.35)
    panel.axvline(0.0, color="0.4", linestyle=":", linewidth=1.2)
    names = [" · ".join(shown(axis.values[place]) for axis in axes) for place, _ in differences]
    panel.set_yticks(rows, names)
    panel.set_ylim(len(differences) - 0.4, -0.6)
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    first = " · ".join(shown(axis.values[0]) for axis in axes)
    panel.set_xlabel(f"{label}: difference to {first}, seed by seed\n{BARS}", fontsize="small")
    panel.grid(axis="x", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def _by_seed(setting: Setting, metric: str) -> Mapping[int, float]:
    return {
        outcome.point.config.seed: outcome.validation[metric]
        for outcome in setting.outcomes
        if outcome.status == "finished" and metric in outcome.validation
    }
