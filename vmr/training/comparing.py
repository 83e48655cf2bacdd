"""Runs and embeddings side by side on the same queries: is the difference between them real?"""

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import comparison, table, verdicts
from vmr.progress_bar import progress_bar
from vmr.training.disk import write_text
from vmr.training.scored_runs import Scored, require_same_queries, score_run
from vmr.training.workdir import saved_config

METRICS = ("R@1", "R@5", "R@10", "MedR", "MRR")
AGAINST = ("all", "first")
FORMATS = (*verdicts.RENDERED, "json")
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".json": "json"}
_KNOWN = (*table.RECALLS, *table.RANKS)

Systems = Mapping[str, Sequence[pathlib.Path]]


def compare_runs(
    systems: Systems,
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    against: str = "all",
    samples: int = comparison.SAMPLES,
    seed: int = 0,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Differences between systems, both directions, JSON-ready; see `vmr.evaluation.comparison`.

    Keys: `split`, `metrics`, `samples`, `seed`, `against`, `correction`, `systems` (by name:
    `paths`, `seeds`, `steps`), and `v2m` and `m2v`, each with `queries`, `gallery`, `clusters`,
    `systems` (name -> metric -> `mean`, `seed_sd`) and `pairs`: `system`, `baseline`, `scope` (what
    the pair's intervals speak of, where one seed limits it) and `metrics` (name -> `difference`
    of system less baseline, `ci95`, `p`, `p_holm`, `verdict`). p_holm is corrected over all pairs,
    for each metric and direction by itself; intervals are not corrected.

    Args:
      systems: by name, the folders of runs or npz files that are its seeds.
      split: of the dataset.
      metrics: columns of the retrieval table.
      against: `all` pairs, each system against those before it; `first`, all against the first.
      samples: resamples.
      seed: of the resamples.
      data_dir: where the dataset lies now; None where it lay in training.

    Raises:
      UserError: fewer than two systems, a path twice, an unknown metric, no such run, one without a
        validated checkpoint, or runs over different queries.
    """
    _require_sound(systems, metrics, against)
    scored = _score_all(systems, split, data_dir)
    names = list(systems)
    pairs = [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    if against == "first":
        pairs = [pair for pair in pairs if pair[1] == names[0]]
    found: dict[str, Any] = {
        "split": split,
        "metrics": list(metrics),
        "samples": samples,
        "seed": seed,
        "against": against,
        "correction": _correction(len(pairs)),
        "systems": {
            name: {
                "paths": [str(run.path) for run in runs],
                "seeds": len(runs),
                "steps": [run.step for run in runs],
            }
            for name, runs in scored.items()
        },
    }
    draws = 2 * samples * len(verdicts.DIRECTIONS)
    with progress_bar(total=draws, desc="resampling") as bar:
        for direction in verdicts.DIRECTIONS:
            values = {
                name: {
                    metric: np.stack([run.values[direction][metric] for run in runs])
                    for metric in metrics
                }
                for name, runs in scored.items()
            }
            first = scored[names[0]][0]
            cluster = first.videos[:, 1] if direction == "v2m" else first.asked
            compared = comparison.compare(
                values, cluster, pairs, samples=samples, seed=seed, progress=bar.update
            )
            gallery = first.tracks if direction == "v2m" else first.videos
            found[direction] = {
                "queries": len(cluster),
                "gallery": len(gallery),
                "clusters": compared.clusters,
                **_described(compared, pairs),
            }
    return found


def report(found: dict[str, Any], form: str) -> str:
    """The comparison as `text`, `markdown`, `latex` or `json`."""
    return json.dumps(found, indent=2) if form == "json" else verdicts.RENDERED[form](found)


def write_report(path: pathlib.Path, found: dict[str, Any], form: str | None) -> None:
    """Writes the report, the whole file or nothing; by default in the form its name ends in.

    Raises:
      UserError: the file cannot be written.
    """
    write_text(path, report(found, form or _SUFFIXES.get(path.suffix, "text")) + "\n")


def _require_sound(systems: Systems, metrics: Sequence[str], against: str) -> None:
    """What can be told before anything is read."""
    if len(systems) < 2:
        raise UserError(
            f"--runs: a comparison needs at least two systems, found {len(systems)}; several paths "
            "joined by + or found by one glob are the seeds of one system"
        )
    for metric in metrics:
        if metric not in _KNOWN:
            raise UserError(f"--metrics: unknown {metric!r}; expected some of {', '.join(_KNOWN)}")
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(f"--metrics={','.join(metrics)}: expected at least one, each once")
    if against not in AGAINST:
        raise UserError(f"--against={against}: expected {' or '.join(AGAINST)}")
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


def _score_all(systems: Systems, split: str, data_dir: str | None) -> dict[str, list[Scored]]:
    reference = None
    scored: dict[str, list[Scored]] = {name: [] for name in systems}
    runs = [(name, path) for name, paths in systems.items() for path in paths]
    for name, path in progress_bar(runs, desc="runs"):
        run = score_run(path, split, data_dir)
        reference = reference or run
        require_same_queries(reference, run)
        scored[name].append(run)
    return scored


def _correction(pairs: int) -> str:
    if pairs == 1:
        return "one pair, not corrected"
    return (
        f"Holm-corrected over {pairs} pairs, for each metric and direction by itself (intervals "
        "are not corrected)"
    )


def _described(
    compared: comparison.Compared, pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    systems: dict[str, Any] = {
        name: {
            metric: {
                "mean": float(reached.mean()),
                "seed_sd": float(reached.std(ddof=1)) if len(reached) > 1 else None,
            }
            for metric, reached in summaries.items()
        }
        for name, summaries in compared.summaries.items()
    }
    corrected = {
        metric: comparison.holm([each[metric].p for each in compared.differences])
        for metric in compared.differences[0]
    }
    described = []
    for number, (system, baseline) in enumerate(pairs):
        seeds = [len(next(iter(compared.summaries[name].values()))) for name in (system, baseline)]
        described.append(
            {
                "system": system,
                "baseline": baseline,
                "scope": verdicts.scope(system, baseline, seeds),
                "metrics": {
                    metric: _in_plain(metric, one, corrected[metric][number])
                    for metric, one in compared.differences[number].items()
                },
            }
        )
    return {"systems": systems, "pairs": described}


def _in_plain(metric: str, one: comparison.Difference, corrected: float) -> dict[str, Any]:
    return {
        "difference": one.difference,
        "ci95": [one.low, one.high],
        "p": one.p,
        "p_holm": corrected,
        "verdict": verdicts.verdict(metric, one.difference, corrected),
    }
