"""A validation metric of every setting of a sweep, in the form in which plots draw it."""

from collections.abc import Iterable, Sequence

import numpy as np

from vmr.sweeps.axes import Axis
from vmr.sweeps.outcomes import Setting

# What the parts of a plot are.
BARS = "bars: 95 % t-interval of the mean over seeds; faint dots: single seeds"


class Scores:
    """The metric over the finished seeds of each setting.

    Attributes:
      label: of the metric, with its split and unit.
      is_percent: whether it is one, from 0 to 100.
      digits: after the point, with which it is written.
      seeds: the value of each finished seed, one array a setting.
      mean: over them, (S,); NaN where there are none.
      half: of the 95 % t-interval, (S,); NaN where there are fewer than two.
      places: numbers of the settings that have a finished seed.
    """

    def __init__(self, settings: Sequence[Setting], metric: str):
        """Of S settings; `metric` as `v2m/R@10`."""
        is_share = metric.endswith("MRR")
        self.is_percent = not is_share and "/R@" in metric
        self.label = f"validation {metric.replace('/', ' ')}{'' if is_share else ' (%)'}"
        self.digits = 3 if is_share else 1
        self.seeds = [setting.values(metric) for setting in settings]
        self.mean = np.array([setting.mean(metric) for setting in settings])
        self.half = np.array([setting.half_interval(metric) for setting in settings])
        self.places = [place for place, values in enumerate(self.seeds) if len(values)]

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """The ends of an axis of the metric, none of them where it has no values."""
        most = 100.0 if self.is_percent else np.inf
        return max(low, 0.0), min(high, most)

    def best(self, places: Iterable[int]) -> int:
        """The setting with the highest mean, of equals the first."""
        return max(places, key=lambda place: self.mean[place])


def over_the_rest(x: Axis, others: Sequence[Axis], rest: Sequence[Axis]) -> str:
    """What a panel says that shows the best setting over the rest of the axes; empty if none."""
    if not rest:
        return ""
    fixed = " and ".join(axis.label for axis in (x, *others))
    return f"Best over {', '.join(axis.label for axis in rest)} at each {fixed}"
