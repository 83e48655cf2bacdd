"""Runs and embeddings side by side on the same queries: is the difference between them real?"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vmr import tables
from vmr.data.dataset import Dataset, open_dataset
from vmr.errors import UserError
from vmr.evaluation import comparison, significance, table
from vmr.evaluation.comparison import METRICS
from vmr.evaluation.metrics import DIRECTIONS
from vmr.progress_bar import progress_bar
from vmr.training.disk import write_text
from vmr.training.reading import dataset_of
from vmr.training.scored_runs import Scored, require_same_queries, score_run
from vmr.training.scoring import score_cca
from vmr.training.workdir import saved_config

FORMATS = (*tables.FORMS, "json")
LAYOUTS = ("full", "narrow")
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".json": "json"}

Systems = Mapping[str, Sequence[pathlib.Path]]


def compare_runs(
    systems: Systems,
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    baseline: str = "none",
    samples: int = significance.SAMPLES,
    seed: int = 0,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Differences between systems, both directions, JSON-ready; see `vmr.evaluation.comparison`.

    Keys: those of `vmr.evaluation.comparison.compare_values`, `split`, and of each system `paths`
    and `steps` too, of each direction `gallery` and `chance`.

    Args:
      systems: by name, the folders of runs or npz files that are its seeds.
      split: of the dataset.
      metrics: columns of the retrieval table.
      against: `all` pairs, each system against those before it; `first`, all against the first.
      correct_over: what p-values are corrected over: `systems`; or `all`, metrics and directions
        too.
      baseline: `cca` is fitted on the training split, and stands in narrow tables; or `none`.
      samples: resamples.
      seed: of the resamples.
      data_dir: where the dataset lies now; None where it lay in training.

    Raises:
      UserError: fewer than two systems, a path twice, an unknown metric, no such run, one without a
        validated checkpoint, or runs over different queries.
    """
    _require_sound(systems, metrics, against, correct_over)
    dataset = _dataset_of_baseline(systems, data_dir) if baseline == "cca" else None
    scored = _score_all(systems, split, data_dir)
    found = compare_scored(
        scored,
        split,
        metrics=metrics,
        against=against,
        correct_over=correct_over,
        samples=samples,
        seed=seed,
    )
    if dataset is not None:
        _require_same_data(dataset, scored)
        found["baseline"] = {"name": "CCA", **score_cca(dataset, split)}
    return found


def compare_scored(
    scored: Mapping[str, Sequence[Scored]],
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    samples: int = significance.SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """As `compare_runs`, of runs that have been scored; see there.

    Raises:
      UserError: runs over different queries.
    """
    first, *others = [run for seeds in scored.values() for run in seeds]
    for run in others:
        require_same_queries(first, run)
    draws = 2 * samples * len(DIRECTIONS)
    with progress_bar(total=draws, desc="resampling") as bar:
        found = comparison.compare_values(
            {
                name: [(run.values["v2m"], run.values["m2v"]) for run in seeds]
                for name, seeds in scored.items()
            },
            {"v2m": first.videos[:, 1], "m2v": first.asked},
            metric_names=metrics,
            against=against,
            correct_over=correct_over,
            samples=samples,
            seed=seed,
            progress=bar.update,
        )
    for name, seeds in scored.items():
        found["systems"][name] = {
            "paths": [str(run.path) for run in seeds],
            "seeds": len(seeds),
            "steps": [run.step for run in seeds],
        }
    for direction, gallery in (("v2m", first.tracks), ("m2v", first.videos)):
        found[direction] |= {"gallery": len(gallery), "chance": first.chance[direction]}
    return {"split": split, **found}


def report(found: dict[str, Any], form: str, layout: str = "full") -> str:
    """The comparison as `text`, `markdown`, `latex` or `json`, `full` or a `narrow` table."""
    if form == "json":
        return json.dumps(found, indent=2)
    if layout == "narrow":
        return table.render_narrow(found, form)
    return table.render_comparison(found, form)


def write_report(
    path: pathlib.Path, found: dict[str, Any], form: str | None, layout: str = "full"
) -> None:
    """Writes the report, the whole file or nothing; by default in the form its name ends in.

    Raises:
      UserError: the file cannot be written.
    """
    form = form or _SUFFIXES.get(path.suffix, "text")
    write_text(path, report(found, form, layout) + "\n")


def _require_sound(
    systems: Systems, metrics: Sequence[str], against: str, correct_over: str
) -> None:
    """What can be told before anything is read."""
    if len(systems) < 2:
        raise UserError(
            f"--runs: a comparison needs at least two systems, found {len(systems)}; several paths "
            "joined by + or found by one glob are the seeds of one system"
        )
    comparison.require_known(metrics, against, correct_over)
    seen: dict[pathlib.Path, str] = {}
    for name, paths in systems.items():
        if not paths:
            raise UserError(f"--runs: {name} has no path, expected at least one run")
        for path in paths:
            if path.resolve() in seen:
                raise UserError(
                    f"--runs: {path} is there twice, in {seen[path.resolve()]} and in {name}"
                )
            seen[path.resolve()] = name
            if path.is_dir():
                saved_config(path)  # raises where it is no run
            elif not path.exists():
                raise UserError(f"{path} does not exist; expected a run's folder or an npz file")


def _dataset_of_baseline(systems: Systems, data_dir: str | None) -> Dataset:
    runs = [path for paths in systems.values() for path in paths if path.is_dir()]
    if runs:  # of which it sees as many training pairs as they did
        return dataset_of(saved_config(runs[0]), data_dir)
    if data_dir:
        return open_dataset(data_dir)
    raise UserError("--baseline=cca of embeddings needs --data_dir, the dataset to fit it on")


def _require_same_data(dataset: Dataset, scored: Mapping[str, Sequence[Scored]]) -> None:
    for run in (run for runs in scored.values() for run in runs):
        if run.fingerprint not in (None, dataset.fingerprint):
            raise UserError(
                f"--baseline=cca: {dataset.data_dir} holds other data than {run.path} is of, "
                f"fingerprint {dataset.fingerprint[:12]} and {str(run.fingerprint)[:12]}"
            )


def _score_all(systems: Systems, split: str, data_dir: str | None) -> dict[str, list[Scored]]:
    scored: dict[str, list[Scored]] = {name: [] for name in systems}
    runs = [(name, path) for name, paths in systems.items() for path in paths]
    for name, path in progress_bar(runs, desc="runs"):
        scored[name].append(score_run(path, split, data_dir))
    return scored
