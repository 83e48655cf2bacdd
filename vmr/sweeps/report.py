"""Results of a sweep as files, sweep.json, sweep.csv, sweep.md, and as text for a terminal."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vmr import tables
from vmr.disk import write_text
from vmr.sweeps.results import Results, Row, Setting, half_interval, in_short

_MOST_LINES = 15  # settings in the terminal's table
_HELD_AGAINST = (
    "One setting was chosen. It is held against the config as it is where the sweep has that as a "
    "setting, otherwise against the runner-up on validation."
)
_TEST_COLUMNS = ("v2m/R@1", "v2m/R@10", "v2m/MedR", "m2v/R@1", "m2v/R@10", "m2v/MedR")


@dataclass(frozen=True)
class EnsembleResult:
    """Ensemble that was chosen greedily among the finished runs of a sweep.

    Attributes:
      coefficients: name of a point -> its coefficient; those that were left out are not there.
      metric: validation metric that chose.
      validation: its value for the ensemble.
      test: result on the test split, as `results/test.json` holds it; empty where there is none.
      failure: reason why there is no ensemble; empty if there is one.
    """

    coefficients: Mapping[str, float] = field(default_factory=dict)
    metric: str = ""
    validation: float = math.nan
    test: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class Report:
    """Results of a sweep with all that was concluded from them.

    Attributes:
      title: title of the sweep.
      results: results on validation.
      chosen: settings that were chosen by validation.
      per: field for each of whose values one setting was chosen; None if one of all.
      test: name of a chosen setting -> a result a seed, each as `results/test.json` holds it.
      comparison: comparison of the chosen settings on test, JSON-ready; None if there is none.
      verdicts: the comparison as Markdown, or a sentence that says why there is none.
      ensemble: ensemble of the sweep's runs; None where none was asked for.
    """

    title: str
    results: Results
    chosen: Sequence[Setting] = ()
    per: str | None = None
    test: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    verdicts: str = ""
    ensemble: EnsembleResult | None = None

    @property
    def directions(self) -> tuple[str, str]:
        """Metric that chooses, and the same of the other direction."""
        direction, name = self.results.metric.split("/")
        return self.results.metric, f"{'m2v' if direction == 'v2m' else 'v2m'}/{name}"

    def is_chosen(self, setting: Setting) -> bool:
        """True if this setting was chosen."""
        return any(setting.name == chosen.name for chosen in self.chosen)


def write_tables(folder: pathlib.Path, report: Report) -> list[pathlib.Path]:
    """Writes the three files, each whole or not at all; returns their paths.

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


def as_json(report: Report) -> dict[str, Any]:
    """JSON-ready content of the report; None stands for a number that is not known."""
    content = {
        "title": report.title,
        "selection": report.results.metric,
        "per": report.per,
        "chosen": [setting.name for setting in report.chosen],
        "settings": [_setting_json(setting) for setting in report.results.settings],
        "points": [_row_json(row) for row in report.results.by_setting()],
        "test": {name: list(results) for name, results in report.test.items()},
        "comparison": report.comparison,
    }
    if report.ensemble:
        content["ensemble"] = dataclasses.asdict(report.ensemble)
    return _known(content)


def _setting_json(setting: Setting) -> dict[str, Any]:
    metrics = dict.fromkeys(name for row in setting.rows for name in row.validation)
    values = {metric: setting.values(metric) for metric in metrics}
    return {
        "name": setting.name,
        "changes": setting.changes,
        "seeds": len(setting.rows),
        "finished_seeds": sum(row.status == "finished" for row in setting.rows),
        "validation": {
            metric: {
                "mean": setting.mean(metric),
                "standard_deviation": float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None,
                "half_interval": half_interval(of_seeds),
            }
            for metric, of_seeds in values.items()
        },
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.point.name,
        "setting": row.point.setting,
        "seed": row.seed,
        "changes": dict(row.point.changes),
        "status": row.status,
        "failure": row.failure,
        "best_step": row.best_step,
        "validation": dict(row.validation),
    }


def as_csv(report: Report) -> str:
    """Table with a row a run: the swept fields, its status, its best validation."""
    rows = list(report.results.by_setting())
    fields = [name for axis in report.results.axes for name in axis.fields]
    metrics = dict.fromkeys(name for row in rows for name in row.validation)
    chosen = {setting.name for setting in report.chosen}
    head = ["name", "setting", "chosen", "seed", *fields, "status", "best_step", *metrics]
    text = io.StringIO()
    lines = csv.DictWriter(
        text, [*head, "failure"], restval="", extrasaction="ignore", lineterminator="\n"
    )
    lines.writeheader()
    for row in rows:
        # A field has its value from the config: the changes lack it where a point leaves it out.
        values = {name: row.value(name) for name in fields}
        is_chosen = {"chosen": str(row.point.setting in chosen).lower()}
        lines.writerow({**_row_json(row), **is_chosen, **values, **row.validation})
    return text.getvalue()


def as_markdown(report: Report) -> str:
    """Table with a row a setting, then failures, and the test split of the chosen settings."""
    results = report.results
    numeric = ["r" if axis.numeric else "l" for axis in results.axes if axis.varies]
    settings = tables.markdown(_rows(report, results.settings), "".join(numeric) + "rrrl")
    blocks = [f"# {_escaped(report.title)}", _explanation(report), settings]
    if constants := [axis for axis in results.axes if not axis.varies]:
        fixed = (f"`{axis.label}` is {_escaped(in_short(axis.values[0]))}" for axis in constants)
        blocks.append(f"In every setting {'; '.join(fixed)}.")
    if results.failed:
        failures = [f"- `{row.point.name}`: {_escaped(row.failure)}" for row in results.failed]
        blocks.append("\n".join(["Failed:", "", *failures]))
    if report.test:
        test = tables.markdown(_test_rows(report.test))
        blocks += ["## Test, the chosen settings alone", test]
    if report.comparison and len(report.chosen) == 1:
        blocks.append(_HELD_AGAINST)
    if report.verdicts:
        blocks.append(report.verdicts.strip())
    if report.ensemble:
        blocks += ["## Ensemble", *_ensemble(report, report.ensemble)]
    return "\n\n".join(blocks) + "\n"


def as_text(report: Report) -> str:
    """Table of the best settings, the best first, for a terminal; sweep.md has all of them."""
    results = report.results
    means = {setting.name: setting.mean(results.metric) for setting in results.settings}
    # NaN, of a setting without a finished run, has no order: such settings come last.
    ranked = sorted(
        results.settings,
        key=lambda setting: (math.isnan(means[setting.name]), -means[setting.name]),
    )
    # A chosen setting is never cut off, however low it ranks.
    rows = [
        setting
        for rank, setting in enumerate(ranked)
        if rank < _MOST_LINES or report.is_chosen(setting)
    ]
    lines = [tables.text(_rows(report, rows), "l")]
    if len(rows) < len(ranked):
        lines.append(f"… and {len(ranked) - len(rows)} more settings, all of them in sweep.md")
    if report.ensemble and report.ensemble.failure:
        lines.append(f"\nno ensemble: {report.ensemble.failure}")
    elif report.ensemble:
        value = interval(np.array([report.ensemble.validation]), report.ensemble.metric)
        members = len(report.ensemble.coefficients)
        lines.append(
            f"\nensemble of {members}: validation {report.ensemble.metric} {value}; its members, "
            "weights and test results are in sweep.md"
        )
    return "\n".join(lines)


def _rows(report: Report, settings: Sequence[Setting]) -> list[list[str]]:
    """Header and a row a setting: its values, its seeds, both directions, a mark if chosen."""
    axes = [axis for axis in report.results.axes if axis.varies]
    titles = [metric.replace("/", " ") for metric in report.directions]
    rows = [[*(axis.label for axis in axes), "seeds", *titles, ""]]
    for setting in settings:
        values = [in_short(setting.value(axis.fields[0])) for axis in axes]
        means = [interval(setting.values(metric), metric) for metric in report.directions]
        mark = "chosen" if report.is_chosen(setting) else ""
        rows.append([*values, _seeds(setting), *means, mark])
    return rows


def _ensemble(report: Report, ensemble: EnsembleResult) -> list[str]:
    """Blocks on the ensemble: members, validation, test beside the chosen settings'."""
    if ensemble.failure:
        return [f"None: {_escaped(ensemble.failure)}"]
    rows = [["member", "coefficient"]]
    rows += [[f"`{name}`", f"{share:.4f}"] for name, share in ensemble.coefficients.items()]
    value = interval(np.array([ensemble.validation]), ensemble.metric)
    metric = ensemble.metric.replace("/", " ")
    told = (
        f"Chosen greedily among the finished runs by validation {metric}, {value}, which is "
        "therefore better than it is elsewhere; in the folder `ensemble`."
    )
    if not ensemble.test:
        return [tables.markdown(rows), told]
    told += " Test, beside the chosen settings alone:"
    test = {"ensemble": [ensemble.test], **report.test}
    return [tables.markdown(rows), told, tables.markdown(_test_rows(test))]


def _test_rows(test: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Header and a row a chosen setting: its test metrics, mean over the seeds."""
    rows = [["", "seeds", *(column.replace("/", " ") for column in _TEST_COLUMNS)]]
    for name, results in test.items():
        cells = []
        for column in _TEST_COLUMNS:
            direction, metric = column.split("/")
            values = np.array([result[direction][metric] for result in results])
            cells.append(interval(values, column))
        rows.append([f"`{name}`", str(len(results)), *cells])
    return rows


def _seeds(setting: Setting) -> str:
    """`3`, or `2 of 3 (1 failed)` where not all have finished."""
    states = [row.status for row in setting.rows]
    finished, failed = states.count("finished"), states.count("failed")
    if finished == len(states):
        return str(finished)
    return f"{finished} of {len(states)}" + (f" ({failed} failed)" if failed else "")


def interval(values: np.ndarray, metric: str) -> str:
    """Mean ± half of the 95 % t-interval: `33.6 ± 0.4`; of one value itself, of none a dash."""
    if not len(values):
        return "–"
    digits = 3 if metric.endswith("MRR") else 1  # MRR is a share, the others percent or ranks
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {half_interval(values):.{digits}f}"


def _explanation(report: Report) -> str:
    metric = report.results.metric.replace("/", " ")
    chosen = "" if report.per is None else f" for each `{report.per}`"
    return (
        "Validation, each run at its best checkpoint: mean over the finished seeds ± half of the "
        f"95 % t-interval. Chosen is the highest mean {metric}{chosen}, among settings whose seeds "
        "have all finished. The best of many looks better here than it is."
    )


def _escaped(text: str) -> str:
    return tables.spell(text, "markdown")


def _known(content: Any) -> Any:
    """Content with None for NaN and infinity, for which JSON has no number."""
    if isinstance(content, Mapping):
        return {name: _known(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
