"""What the runs of a sweep have reached on validation, and which setting is chosen by it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from scipy import stats

from vmr.sweeps.folder import failure_of
from vmr.sweeps.points import SweepPoint
from vmr.training.grid import Run
from vmr.training.log import whole_lines
from vmr.training.progress import is_finished


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a point.

    Attributes:
      point: of the sweep.
      run: of the point.
      status: `finished`, `failed` or `unfinished`.
      failure: what stopped it, if it failed.
      best_step: of the best validation so far; None before the first.
      validation: the metrics at that step, `v2m/R@10` and so on; empty before the first.
    """

    point: SweepPoint
    run: Run
    status: str
    failure: str
    best_step: int | None
    validation: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the points of one setting, which differ in their seeds, have reached together.

    Attributes:
      name: of the setting.
      changes: of the config.
      outcomes: one a seed.
    """

    name: str
    changes: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def finished(self) -> bool:
        """Whether all its seeds have come to their ends."""
        return all(outcome.status == "finished" for outcome in self.outcomes)

    def values(self, metric: str) -> np.ndarray:
        """A validation metric of each finished seed."""
        return np.array(
            [
                outcome.validation[metric]
                for outcome in self.outcomes
                if outcome.status == "finished" and metric in outcome.validation
            ]
        )

    def mean(self, metric: str) -> float:
        """Of the finished seeds; NaN where there is none."""
        values = self.values(metric)
        return float(values.mean()) if len(values) else math.nan

    def half_interval(self, metric: str) -> float:
        """Half the width of the 95 % t-interval of the mean; NaN for fewer than two seeds."""
        return half_interval(self.values(metric))


def half_interval(values: np.ndarray) -> float:
    """Half the width of the 95 % t-interval of the mean of (S,) values; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def outcome_of(point: SweepPoint, run: Run) -> Outcome:
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
        return Outcome(point, run, status, failure, None, {})
    best = max(lines, key=lambda line: line[key])  # of equals the first, as the checkpoints
    validation = {
        name.removeprefix("val/"): value for name, value in best.items() if name.startswith("val/")
    }
    return Outcome(point, run, status, failure, int(best["step"]), validation)


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def settings_of(outcomes: Sequence[Outcome]) -> list[Setting]:
    """The outcomes by setting, in the order of the sweep."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.point.setting, []).append(outcome)
    return [Setting(name, group[0].point.changes, tuple(group)) for name, group in groups.items()]


def chosen(settings: Sequence[Setting], metric: str, per: str | None = None) -> list[Setting]:
    """The settings with the highest mean on validation; never looks at another split.

    Args:
      settings: of the sweep; those with a seed that has not finished are passed over.
      metric: of validation.
      per: a field: one setting is chosen for each of its values. None chooses one of all.
    """
    best: dict[Any, Setting] = {}
    for setting in settings:
        if not setting.finished:
            continue
        group = str(value_of(setting, per)) if per else ""
        if group not in best or setting.mean(metric) > best[group].mean(metric):
            best[group] = setting
    return list(best.values())


def reference(
    settings: Sequence[Setting], best: Setting, metric: str, config: ml_collections.ConfigDict
) -> Setting | None:
    """What a single chosen setting is held against; never looks at another split than validation.

    The config as it is, if the sweep has it as a setting; otherwise the runner-up.

    Args:
      settings: of the sweep.
      best: the chosen one.
      metric: of validation.
      config: that the sweep changes.
    """
    others = [one for one in settings if one.finished and one.name != best.name]
    unchanged = [one for one in others if _is_unchanged(one, config)]
    ranked = sorted(others, key=lambda one: -one.mean(metric))
    return next(iter([*unchanged, *ranked]), None)


def _is_unchanged(setting: Setting, config: ml_collections.ConfigDict) -> bool:
    fields = [field for field in setting.changes if field != "seed"]
    return all(value_of(setting, field) == _field(config, field) for field in fields)


def value_of(setting: Setting, field: str) -> Any:
    """The value that a field has in a setting, changed by it or not."""
    return _field(setting.outcomes[0].point.config, field)


def _field(config: ml_collections.ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        value = value[part]
    return tuple(value) if isinstance(value, list) else value
