"""Results of a sweep on validation: one table, a row a run, and the choice of settings by it."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from scipy import stats

from vmr.sweeps.jobs import failure_of, grouped
from vmr.sweeps.points import SweepPoint
from vmr.training.grid import Run
from vmr.training.log import whole_lines
from vmr.training.progress import is_finished


@dataclasses.dataclass(frozen=True)
class Row:
    """Row of the table: a run and its state, read from its folder.

    Attributes:
      point: point of the sweep.
      run: run of the point.
      status: `finished`, `failed` or `unfinished`.
      failure: reason why it failed; empty if it did not.
      best_step: step of the best validation so far; None before the first.
      validation: metrics at that step, `v2m/R@10` and so on; empty before the first.
    """

    point: SweepPoint
    run: Run
    status: str
    failure: str
    best_step: int | None
    validation: Mapping[str, float]

    @property
    def seed(self) -> int:
        """Seed of the run, set by the sweep or not."""
        return self.point.config.seed

    def value(self, field: str) -> Any:
        """Value of a field in the run's config, set by the sweep or not."""
        return _value(self.point.config, field)


def row_of(point: SweepPoint, run: Run) -> Row:
    """Reads the row of a run from its folder, finished or not."""
    failure = failure_of(run)
    # A run may have failed at a try and come to its end at the next.
    status = "finished" if is_finished(run.workdir) else "failed" if failure else "unfinished"
    key = f"val/{point.config.selection}"
    log = run.workdir / "metrics.jsonl"
    lines = [line for line in whole_lines(log) if _is_score(line.get(key))]
    # Its checkpoint may be whole, but nothing says how good it is: it must not be chosen.
    if not lines and status == "finished":
        failure = f"{log} is damaged: it holds no {key}, although the run has come to its end"
        status = "failed"
    if not lines:
        return Row(point, run, status, failure, None, {})
    best = max(lines, key=lambda line: line[key])  # of ties the first, as the checkpoints
    validation = {
        name.removeprefix("val/"): value for name, value in best.items() if name.startswith("val/")
    }
    return Row(point, run, status, failure, int(best["step"]), validation)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Rows that differ in their seeds alone.

    Attributes:
      name: name of the setting.
      rows: rows of its runs, one a seed.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def changes(self) -> dict[str, Any]:
        """Field -> value, as the sweep sets it; without the seed."""
        changes = self.rows[0].point.changes
        return {field: value for field, value in changes.items() if field != "seed"}

    @property
    def finished(self) -> bool:
        """True if all its seeds have come to their ends."""
        return all(row.status == "finished" for row in self.rows)

    def value(self, field: str) -> Any:
        """Value of a field in all its runs, set by the sweep or not."""
        return self.rows[0].value(field)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> a validation metric, of each finished run."""
        return {
            row.seed: row.validation[metric]
            for row in self.rows
            if row.status == "finished" and metric in row.validation
        }

    def values(self, metric: str) -> np.ndarray:
        """Validation metric of each finished run, (S,)."""
        return np.array(list(self.by_seed(metric).values()))

    def mean(self, metric: str) -> float:
        """Mean over the finished runs; NaN where there is none."""
        values = self.values(metric)
        return float(values.mean()) if len(values) else math.nan


def half_interval(values: np.ndarray) -> float:
    """Half the width of the 95 % t-interval of the mean of (S,) values; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    # Of a few seeds: with three, the normal distribution would give less than half of this.
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


@dataclasses.dataclass(frozen=True)
class Axis:
    """Field in which settings may differ, or fields that are equal in every setting.

    Attributes:
      fields: fields of the config.
      values: values of these fields, one a setting.
    """

    fields: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """Name of the field; of several that share a group `loss.weights.{music,video}`."""
        groups = {field.rpartition(".")[0] for field in self.fields}
        if len(self.fields) == 1 or len(groups) > 1:
            return " = ".join(self.fields)
        names = ",".join(field.rpartition(".")[2] for field in self.fields)
        return f"{groups.pop()}.{{{names}}}".removeprefix(".")

    @property
    def varies(self) -> bool:
        """True if settings differ in it."""
        return len(set(self.values)) > 1

    @property
    def numeric(self) -> bool:
        """True if all its values are numbers."""
        # By exact type: a bool is an int to isinstance, yet no point of an axis.
        return all(type(value) in (int, float) for value in self.values)


@dataclasses.dataclass(frozen=True)
class Results:
    """Table of a sweep, a row a run; text, Markdown, CSV, JSON and plots are made of it.

    Attributes:
      rows: rows in the order of the sweep.
      metric: validation metric that chooses: `v2m/R@10`.
    """

    rows: tuple[Row, ...]
    metric: str

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """Rows by setting, in the order of the sweep."""
        groups = grouped(self.rows, lambda row: row.point.setting)
        return [Setting(rows[0].point.setting, tuple(rows)) for rows in groups]

    @functools.cached_property
    def axes(self) -> list[Axis]:
        """Fields that the sweep sets, but the seed, in its order; equal ones are one axis."""
        fields = dict.fromkeys(field for setting in self.settings for field in setting.changes)
        values = {name: tuple(each.value(name) for each in self.settings) for name in fields}
        return [Axis(tuple(tied), values[tied[0]]) for tied in grouped(fields, values.__getitem__)]

    @property
    def failed(self) -> list[Row]:
        """Rows of the runs that have failed, by setting."""
        return [row for row in self.by_setting() if row.status == "failed"]

    def by_setting(self) -> Iterator[Row]:
        """Walks the rows setting by setting."""
        for setting in self.settings:
            yield from setting.rows

    def choose(self, per: str | None = None) -> list[Setting]:
        """Settings with the highest mean on validation; never looks at another split.

        Those with a run that has not finished are passed over.

        Args:
          per: field for each of whose values one setting is chosen; None chooses one of all.
        """
        finished = [setting for setting in self.settings if setting.finished]
        groups = grouped(finished, lambda setting: str(setting.value(per)) if per else "")
        # Of ties the first in the sweep, so that the same call again chooses the same.
        return [max(group, key=lambda setting: setting.mean(self.metric)) for group in groups]

    def reference(self, best: Setting, config: ml_collections.ConfigDict) -> Setting | None:
        """Setting that a single chosen one is compared with; never looks at another split.

        The config as it is, if the sweep has it as a setting; otherwise the runner-up.

        Args:
          best: the chosen setting.
          config: config that the sweep changes.
        """
        others = [each for each in self.settings if each.finished and each.name != best.name]
        for setting in others:
            if all(setting.value(field) == _value(config, field) for field in setting.changes):
                return setting
        return max(others, key=lambda setting: setting.mean(self.metric), default=None)


def paired_differences(results: Results) -> list[tuple[int, np.ndarray]]:
    """Differences to the first setting over the seeds that both have finished: (index, (S,)).

    Seeds that are shared have their initialisation and batches in common, so their differences
    scatter less than the settings do. Settings with fewer than two shared seeds are left out.
    """
    first, *others = [setting.by_seed(results.metric) for setting in results.settings]
    differences = []
    for index, of_setting in enumerate(others, start=1):
        seeds = sorted(first.keys() & of_setting.keys())
        if len(seeds) > 1:
            values = np.array([of_setting[seed] - first[seed] for seed in seeds])
            differences.append((index, values))
    return differences


def in_short(value: Any) -> str:
    """Short spelling of a field's value, for tables and plots."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "×".join(map(in_short, value)) or "none"
    return str(value)


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _value(config: ml_collections.ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        value = value[part]
    return tuple(value) if isinstance(value, list) else value
