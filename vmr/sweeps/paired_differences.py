"""Every setting of a sweep less one of them, seed by seed: what differs beyond the seeds' luck."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vmr.sweeps.axes import Axis, shown
from vmr.sweeps.outcomes import Setting, half_interval
from vmr.sweeps.scores import BARS
from vmr.sweeps.setting_rows import MOST_ROWS, ROW, draw_rows


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
    differences = differences[:MOST_ROWS]
    values = [of_setting for _, of_setting in differences]
    figure = Figure(figsize=(7.2, len(values) * ROW + 1.4), layout="constrained")
    panel = figure.add_subplot()
    draw_rows(panel, [one.mean() for one in values], [half_interval(one) for one in values], values)
    panel.axvline(0.0, color="0.4", linestyle=":", linewidth=1.2)
    names = [" · ".join(shown(axis.values[place]) for axis in axes) for place, _ in differences]
    panel.set_yticks(np.arange(len(values)), names)
    panel.set_ylabel(" · ".join(axis.label for axis in axes))
    first = " · ".join(shown(axis.values[0]) for axis in axes)
    panel.set_xlabel(f"{label}: difference to {first}, seed by seed\n{BARS}", fontsize="small")
    return figure


def _by_seed(setting: Setting, metric: str) -> Mapping[int, float]:
    return {
        outcome.point.config.seed: outcome.validation[metric]
        for outcome in setting.outcomes
        if outcome.status == "finished" and metric in outcome.validation
    }
