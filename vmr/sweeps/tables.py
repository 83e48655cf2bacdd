"""What a sweep has found, as files: sweep.json, sweep.csv, sweep.md; and as text for a terminal."""

import csv
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vmr.sweeps.axes import axes_of, shown
from vmr.sweeps.outcomes import Outcome, Setting, half_interval, value_of
from vmr.training.disk import write_text

_LINES = 15  # settings in the terminal's table
_HELD_AGAINST = (
    "One setting was chosen. It is held against the config as it is where the sweep has that as a "
    "setting, otherwise against the runner-up on validation."
)
_TEST_COLUMNS = ("v2m/R@1", "v2m/R@10", "v2m/MedR", "m2v/R@1", "m2v/R@10", "m2v/MedR")


@dataclass(frozen=True)
class SweepReport:
    """All that there is to tell of a sweep.

    Attributes:
      title: of the sweep.
      settings: in the order of the sweep.
      metric: of validation, which chooses: `v2m/R@10`.
      chosen: those of the settings that were chosen.
      per: the field for each of whose values one setting was chosen; None if one of all.
      test: name of a chosen setting -> one result a seed, each as `results/test.json` holds it.
      comparison: of the chosen settings on test, JSON-ready; None if there is none.
      verdicts: the comparison as Markdown to read.
    """

    title: str
    settings: Sequence[Setting]
    metric: str
    chosen: Sequence[Setting] = ()
    per: str | None = None
    test: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    verdicts: str = ""

    @property
    def directions(self) -> tuple[str, str]:
        """The metric that chooses, and the same of the other direction."""
        way, name = self.metric.split("/")
        return self.metric, f"{'m2v' if way == 'v2m' else 'v2m'}/{name}"

    def is_chosen(self, setting: Setting) -> bool:
        """Whether a setting was chosen."""
        return any(setting.name == one.name for one in self.chosen)


def write_tables(folder: pathlib.Path, report: SweepReport) -> list[pathlib.Path]:
    """Writes the three files, each whole or not at all; returns where they lie.

    Raises:
      UserError: one cannot be written; an earlier one is whole.
    """
    content = {
        "sweep.json": json.dumps(as_json(report), indent=2, allow_nan=False) + "\n",
        "sweep.csv": as_csv(report),
        "sweep.md": as_markdown(report),
    }
    for name, text in content.items():
        write_text(folder / name, text)
    return [folder / name for name in content]


def as_json(report: SweepReport) -> dict[str, Any]:
    """Plain data; None stands for a number that is not known."""
    content = {
        "title": report.title,
        "selection": report.metric,
        "per": report.per,
        "chosen": [setting.name for setting in report.chosen],
        "settings": [_setting_json(setting) for setting in report.settings],
        "points": [
            _point_json(outcome) for setting in report.settings for outcome in setting.outcomes
        ],
        "test": {name: list(results) for name, results in report.test.items()},
        "comparison": report.comparison,
    }
    return _known(content)


def _setting_json(setting: Setting) -> dict[str, Any]:
    metrics = dict.fromkeys(name for one in setting.outcomes for name in one.validation)
    values = {metric: setting.values(metric) for metric in metrics}
    return {
        "name": setting.name,
        "changes": _without_seed(setting.changes),
        "seeds": len(setting.outcomes),
        "finished_seeds": sum(one.status == "finished" for one in setting.outcomes),
        "validation": {
            metric: {
                "mean": setting.mean(metric),
                "standard_deviation": float(found.std(ddof=1)) if len(found) > 1 else None,
                "half_interval": setting.half_interval(metric),
            }
            for metric, found in values.items()
        },
    }


def _point_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.point.name,
        "setting": outcome.point.setting,
        "seed": outcome.point.config.seed,
        "changes": dict(outcome.point.changes),
        "status": outcome.status,
        "failure": outcome.failure,
        "best_step": outcome.best_step,
        "validation": dict(outcome.validation),
    }


def as_csv(report: SweepReport) -> str:
    """One row a point: the swept fields, how far it came, its best validation."""
    fields = [name for axis in axes_of(report.settings) for name in axis.fields]
    outcomes = [one for setting in report.settings for one in setting.outcomes]
    metrics = list(dict.fromkeys(name for one in outcomes for name in one.validation))
    head = ["name", "setting", "chosen", "seed", *fields, "status", "best_step", *metrics]
    text = io.StringIO()
    rows = csv.DictWriter(text, [*head, "failure"], restval="", lineterminator="\n")
    rows.writeheader()
    for setting in report.settings:
        for one in setting.outcomes:
            rows.writerow(
                {
                    "name": one.point.name,
                    "setting": setting.name,
                    "chosen": str(report.is_chosen(setting)).lower(),
                    **{name: value_of(setting, name) for name in fields},
                    "seed": one.point.config.seed,
                    "status": one.status,
                    "best_step": one.best_step,
                    **one.validation,
                    "failure": one.failure,
                }
            )
    return text.getvalue()


def as_markdown(report: SweepReport) -> str:
    """One row a setting, then what failed, and the test split of the chosen ones."""
    header, *rows = _rows(report, report.settings)
    numbers = [axis.numeric for axis in axes_of(report.settings) if axis.varies]
    rule = ["---:" if number else "---" for number in [*numbers, True, True, True, False]]
    lines = [_markdown_row(header), "|" + "|".join(rule) + "|", *map(_markdown_row, rows)]
    blocks = [f"# {_escaped(report.title)}", _explanation(report), "\n".join(lines)]
    if same := [axis for axis in axes_of(report.settings) if not axis.varies]:
        fixed = "; ".join(f"`{axis.label}` is {_escaped(shown(axis.values[0]))}" for axis in same)
        blocks.append(f"In every setting {fixed}.")
    outcomes = [one for setting in report.settings for one in setting.outcomes]
    if failed := [one for one in outcomes if one.status == "failed"]:
        told = [f"- `{one.point.name}`: {_escaped(one.failure)}" for one in failed]
        blocks.append("\n".join(["Failed:", "", *told]))
    if report.test:
        blocks += ["## Test, the chosen settings alone", _test_table(report)]
    if report.verdicts:
        if len(report.chosen) == 1:
            blocks.append(_HELD_AGAINST)
        blocks.append(report.verdicts.strip())
    return "\n\n".join(blocks) + "\n"


def as_text(report: SweepReport) -> str:
    """The best settings first, aligned for a terminal; the others are left to sweep.md."""
    ranked = sorted(report.settings, key=lambda setting: _descending(setting.mean(report.metric)))
    kept = {setting.name for setting in [*ranked[:_LINES], *report.chosen]}
    rows = _rows(report, [setting for setting in ranked if setting.name in kept])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if len(kept) < len(ranked):
        lines.append(f"… and {len(ranked) - len(kept)} more settings, all of them in sweep.md")
    return "\n".join(lines)


def _rows(report: SweepReport, settings: Sequence[Setting]) -> list[list[str]]:
    """A header and a row a setting: what it sets, its seeds, both directions, a mark."""
    axes = [axis for axis in axes_of(report.settings) if axis.varies]
    titles = [metric.replace("/", " ") for metric in report.directions]
    rows = [[*(axis.label for axis in axes), "seeds", *titles, ""]]
    for setting in settings:
        swept = [shown(value_of(setting, axis.fields[0])) for axis in axes]
        found = [interval(setting.values(metric), metric) for metric in report.directions]
        mark = "chosen" if report.is_chosen(setting) else ""
        rows.append([*swept, _seeds(setting), *found, mark])
    return rows


def _seeds(setting: Setting) -> str:
    """`3`, or `2 of 3 (1 failed)` where not all have finished."""
    states = [one.status for one in setting.outcomes]
    finished, failed = states.count("finished"), states.count("failed")
    if finished == len(states):
        return str(finished)
    told = f"{finished} of {len(states)}"
    return f"{told} ({failed} failed)" if failed else told


def interval(values: np.ndarray, metric: str) -> str:
    """Mean ± half of the 95 % t-interval: `33.6 ± 0.4`; of one value itself, of none a dash."""
    if not len(values):
        return "–"
    digits = 3 if metric.endswith("MRR") else 1
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {half_interval(values):.{digits}f}"


def _explanation(report: SweepReport) -> str:
    metric = report.metric.replace("/", " ")
    chosen = "" if report.per is None else f" for each `{report.per}`"
    return (
        "Validation, each run at its best checkpoint: mean over the finished seeds ± half of the "
        f"95 % t-interval. Chosen is the highest mean {metric}{chosen}, among settings whose seeds "
        "have all finished. The best of many looks better here than it is."
    )


def _test_table(report: SweepReport) -> str:
    lines = [
        _markdown_row(["", "seeds", *(name.replace("/", " ") for name in _TEST_COLUMNS)]),
        "|---|" + "---:|" * (1 + len(_TEST_COLUMNS)),
    ]
    for name, results in report.test.items():
        cells = []
        for column in _TEST_COLUMNS:
            way, metric = column.split("/")
            cells.append(interval(np.array([one[way][metric] for one in results]), column))
        lines.append(_markdown_row([f"`{name}`", str(len(results)), *cells]))
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _without_seed(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name != "seed"}


def _known(content: Any) -> Any:
    """The content with None for what JSON has no number for."""
    if isinstance(content, Mapping):
        return {name: _known(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _descending(mean: float) -> float:
    return math.inf if math.isnan(mean) else -mean
