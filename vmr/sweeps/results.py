"""Results of a sweep on validation: one table, a row a run, and what is chosen by it."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from scipy import stats

from vmr.sweeps.jobs import failure_of
from vmr.sweeps.points import SweepPoint
from vmr.training.grid import Run
from vmr.training.log import whole_lines
from vmr.training.progress import is_finished


@dataclasses.dataclass(frozen=True)
class Row:
    """A run as its folder tells of it.

    Attributes:
      point: point of the sweep.
      run: run of the point.
      status: `finished`, `failed` or `unfinished`.
      failure: what stopped it, if it failed.
      best_step: step of the best validation so far; None before the first.
      validation: the metrics at that step, `v2m/R@10` and so on; empty before the first.
    """

    point: SweepPoint
    run: Run
    status: str
    failure: str
    best_step: int | None
    validation: Mapping[str, float]

    @property
    def seed(self) -> int:
        """The run's seed, set by the sweep or not."""
        return self.point.config.seed

    def value(self, field: str) -> Any:
        """The value that a field has in the run's config, set by the sweep or not."""
        return _value(self.point.config, field)


def row_of(point: SweepPoint, run: Run) -> Row:
    """Reads the run's folder, however far it is."""
    failure = failure_of(run)
    # A run may have failed at a try and come to its end at the next.
    status = "finished" if is_finished(run.workdir) else "failed" if failure else "unfinished"
    key = f"val/{point.config.selection}"
    log = run.workdir / "metrics.jsonl"
    lines = [line for line in whole_lines(log) if _is_score(line.get(key))]
    if not lines and status == "finished":
        failure = f"{log} is damaged: it holds no {key}, although the run has come to its end"
        status = "failed"
    if not lines:
        return Row(point, run, status, failure, None, {})
    best = max(lines, key=lambda line: line[key])  # of equals the first, as the checkpoints
    validation = {
        name.removeprefix("val/"): value for name, value in best.items() if name.startswith("val/")
    }
    return Row(point, run, status, failure, int(best["step"]), validation)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Rows that differ in their seeds alone.

    Attributes:
      name: name of the setting.
      rows: one a seed.
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
        """The value that a field has in all its runs, set by the sweep or not."""
        return self.rows[0].value(field)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> a validation metric, of each finished run."""
        return {
            row.seed: row.validation[metric]
            for row in self.rows
            if row.status == "finished" and metric in row.validation
        }

    def values(self, metric: str) -> np.ndarray:
        """A validation metric of each finished run, (S,)."""
        return np.array(list(self.by_seed(metric).values()))

    def mean(self, metric: str) -> float:
        """Mean over the finished runs; NaN where there is none."""
        values = self.values(metric)
        return float(values.mean()) if len(values) else math.nan


def half_interval(values: np.ndarray) -> float:
    """Half the width of the 95 % t-interval of the mean of (S,) values; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field in which settings may differ, or fields that are equal in every setting.

    Attributes:
      fields: fields of the config.
      values: one a setting.
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
        return all(type(value) in (int, float) for value in self.values)


@dataclasses.dataclass(frozen=True)
class Results:
    """Table of a sweep, a row a run; text, Markdown, CSV, JSON and plots are made of it.

    Attributes:
      rows: in the order of the sweep.
      metric: metric of validation, which chooses: `v2m/R@10`.
    """

    rows: tuple[Row, ...]
    metric: str

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """The rows by setting, in the order of the sweep."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.point.setting, []).append(row)
        return [Setting(name, tuple(group)) for name, group in groups.items()]

    @functools.cached_property
    def axes(self) -> list[Axis]:
        """Fields that the sweep sets, but the seed, in the order in which it names them."""
        tied: dict[tuple[Any, ...], list[str]] = {}
        for field in dict.fromkeys(name for setting in self.settings for name in setting.changes):
            values = tuple(setting.value(field) for setting in self.settings)
            tied.setdefault(values, []).append(field)
        return [Axis(tuple(fields), values) for values, fields in tied.items()]

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
          per: a field: one setting is chosen for each of its values. None chooses one of all.
        """
        best: dict[str, Setting] = {}
        for setting in self.settings:
            if not setting.finished:
                continue
            group = str(setting.value(per)) if per else ""
            if group not in best or setting.mean(self.metric) > best[group].mean(self.metric):
                best[group] = setting
        return list(best.values())

    def reference(self, best: Setting, config: ml_collections.ConfigDict) -> Setting | None:
        """Setting that a single chosen one is held against; never looks at another split.

        The config as it is, if the sweep has it as a setting; otherwise the runner-up.

        Args:
          best: the chosen one.
          config: that the sweep changes.
        """
        others = [one for one in self.settings if one.finished and one.name != best.name]
        unchanged = [
            one
            for one in others
            if all(one.value(field) == _value(config, field) for field in one.changes)
        ]
        ranked = sorted(others, key=lambda one: -one.mean(self.metric))
        return next(iter([*unchanged, *ranked]), None)


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
    """A value of a field, as tables and plots write it."""
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
