"""Comparison of systems as plain data, from their embeddings or their values per query.

Runs the tests of `vmr.evaluation.significance` for both directions and adds corrected p-values and
verdicts. The result goes to JSON files as it is, and `vmr.evaluation.table` renders it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import metrics, significance
from vmr.evaluation.bootstrap import Drawn
from vmr.evaluation.metrics import DIRECTIONS
from vmr.evaluation.ranks import Ranks, pair_ranks

METRICS = ("R@1", "R@5", "R@10", "MedR", "MRR")
KNOWN_METRICS = (*metrics.RECALLS, *metrics.RANKS)
AGAINST = ("all", "first")
CORRECT_OVER = ("systems", "all")

Rows = tuple[np.ndarray, np.ndarray]  # (N, D) of videos, (M, D) of tracks


def compare(
    systems: Mapping[str, Sequence[Rows]],
    gt_music_index: np.ndarray,
    *,
    split: str = "",
    metric_names: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    samples: int = significance.SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares embeddings of the same items, both directions; JSON-ready, see `compare_values`.

    Args:
      systems: name -> (video_emb (N, D), music_emb (M, D)), unit rows, of each seed.
      gt_music_index: (N,) the row of music_emb that belongs to each video, the same for all.
      split: name of the split, for the record.
      metric_names: columns of the retrieval table.
      against: `all` pairs, each system against those before it; `first`, all against the first.
      correct_over: family of tests for Holm's correction, see `compare_values`.
      samples: number of resamples.
      seed: seed of the resamples.

    Raises:
      UserError: fewer than two systems, one without a seed or over other items, an unknown
        metric, or rows that `pair_ranks` refuses.
    """
    require_known(metric_names, against, correct_over)
    if len(systems) < 2:
        raise UserError(f"a comparison needs at least two systems, found {len(systems)}")
    _require_one_gallery(systems)
    ranked = {
        name: [pair_ranks(video, music, gt_music_index) for video, music in seeds]
        for name, seeds in systems.items()
    }
    # Queries and galleries are the same in all systems, so those of any run will do.
    v2m, m2v = next(iter(ranked.values()))[0]
    comparison = compare_values(
        {
            name: [tuple(map(metrics.table_values, both)) for both in seeds]
            for name, seeds in ranked.items()
        },
        {"v2m": np.asarray(gt_music_index)[v2m.query], "m2v": m2v.query},
        metric_names=metric_names,
        against=against,
        correct_over=correct_over,
        samples=samples,
        seed=seed,
    )
    video, music = next(iter(systems.values()))[0]
    comparison["v2m"] |= {"gallery": len(music), "chance": chance(v2m)}
    comparison["m2v"] |= {"gallery": len(video), "chance": chance(m2v)}
    return {"split": split, **comparison}


def _require_one_gallery(systems: Mapping[str, Sequence[Rows]]) -> None:
    """Raises UserError where a system has no seed, or not as many items as the first."""
    first = None
    for name, seeds in systems.items():
        if not len(seeds):
            raise UserError(f"{name} has no embeddings, expected those of at least one seed")
        for video, music in seeds:
            sizes = len(video), len(music)
            first = first or sizes
            if sizes != first:
                raise UserError(
                    f"{name} has {sizes[0]} videos and {sizes[1]} tracks, expected {first[0]} and "
                    f"{first[1]} as the first system has"
                )


def compare_values(
    values: Mapping[str, Sequence[tuple[Mapping[str, np.ndarray], ...]]],
    clusters: Mapping[str, np.ndarray],
    *,
    metric_names: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    samples: int = significance.SAMPLES,
    seed: int = 0,
    progress: Drawn | None = None,
) -> dict[str, Any]:
    """Compares systems from their values per query; JSON-ready.

    Keys: `metrics`, `samples`, `seed`, `against`, `correction`, `systems` (by name: `seeds`), and
    `v2m` and `m2v`, each with `queries`, `clusters`, `systems` (name -> metric -> `mean`,
    `seed_sd`) and `pairs`: `system`, `baseline`, `scope` (a caution where a system has one seed)
    and `metrics` (name -> `difference` of system less baseline, `ci95`, `p`, `p_holm`, `verdict`).
    p_holm is corrected over all pairs, for each metric and direction by itself, or with
    `correct_over="all"` over metrics and directions too; intervals are not corrected.

    Args:
      values: name of a system -> (values of v2m, values of m2v) of each seed, metric -> (Q,).
      clusters: direction -> (Q,), the track of each query.
      metric_names: metrics to compare.
      against: `all` or `first`, see `compare`.
      correct_over: `systems` or `all`.
      samples: number of resamples.
      seed: seed of the resamples.
      progress: function called with draws added, see `vmr.evaluation.significance.differences`.

    Raises:
      UserError: as `vmr.evaluation.significance.differences`.
    """
    names = list(values)
    # The later system is compared to the earlier one, since users name baselines first.
    pairs = [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    if against == "first":
        pairs = [pair for pair in pairs if pair[1] == names[0]]
    seeds = {name: len(runs) for name, runs in values.items()}
    comparison: dict[str, Any] = {
        "metrics": list(metric_names),
        "samples": samples,
        "seed": seed,
        "against": against,
        "correction": _correction(len(pairs), len(metric_names), correct_over),
        "systems": {name: {"seeds": count} for name, count in seeds.items()},
    }
    # The same seed serves both directions: each is a test of its own, and may share its draws.
    for place, direction in enumerate(DIRECTIONS):
        by_system = {
            name: {
                metric: np.stack([both[place][metric] for both in runs]) for metric in metric_names
            }
            for name, runs in values.items()
        }
        cluster = clusters[direction]
        compared = significance.differences(
            by_system, cluster, pairs, samples=samples, seed=seed, progress=progress
        )
        comparison[direction] = {
            "queries": len(cluster),
            "clusters": compared.clusters,
            "systems": _summaries(compared),
            "pairs": _pairs(compared, pairs, seeds),
        }
    _correct(comparison, correct_over)
    return comparison


def chance(ranks: Ranks) -> dict[str, float]:
    """Chance levels over these queries: metric -> expectation for a model without knowledge."""
    return metrics.summarise(metrics.table_values(metrics.at_chance(ranks)))


def require_known(metric_names: Sequence[str], against: str, correct_over: str) -> None:
    """Raises UserError for an unknown metric or choice, or a metric twice or none."""
    for metric in metric_names:
        if metric not in KNOWN_METRICS:
            raise UserError(
                f"--metrics: unknown {metric!r}; expected some of {', '.join(KNOWN_METRICS)}"
            )
    if not metric_names or len(set(metric_names)) < len(metric_names):
        raise UserError(f"--metrics={','.join(metric_names)}: expected at least one, each once")
    if against not in AGAINST:
        raise UserError(f"--against={against}: expected {' or '.join(AGAINST)}")
    if correct_over not in CORRECT_OVER:
        raise UserError(f"--correct_over={correct_over}: expected {' or '.join(CORRECT_OVER)}")


def _correction(pairs: int, metric_names: int, correct_over: str) -> str:
    if correct_over == "all":
        return (
            f"Holm-corrected over {2 * pairs * metric_names} tests, of all pairs, metrics and "
            "directions (intervals are not corrected)"
        )
    if pairs == 1:
        return "one pair, not corrected, nor over metrics and directions"
    return (
        f"Holm-corrected over {pairs} pairs, for each metric and direction by itself, not over "
        "metrics (intervals are not corrected)"
    )


def _summaries(compared: significance.Compared) -> dict[str, Any]:
    return {
        name: {
            metric: {
                "mean": float(by_seed.mean()),
                "seed_sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
            }
            for metric, by_seed in summaries.items()
        }
        for name, summaries in compared.summaries.items()
    }


def _pairs(
    compared: significance.Compared, pairs: Sequence[tuple[str, str]], seeds: Mapping[str, int]
) -> list[dict[str, Any]]:
    return [
        {
            "system": system,
            "baseline": baseline,
            "scope": significance.scope(system, baseline, [seeds[system], seeds[baseline]]),
            "metrics": {
                metric: {"difference": test.difference, "ci95": [test.low, test.high], "p": test.p}
                for metric, test in tests.items()
            },
        }
        for (system, baseline), tests in zip(pairs, compared.differences, strict=True)
    ]


def _correct(comparison: dict[str, Any], correct_over: str) -> None:
    """Adds `p_holm` and `verdict` to every difference, in place."""
    families: dict[Any, list[tuple[str, dict[str, Any]]]] = {}
    for direction in DIRECTIONS:
        for pair in comparison[direction]["pairs"]:
            for metric, test in pair["metrics"].items():
                # Holm's correction is within a family: one for all tests, or one per column.
                family = None if correct_over == "all" else (direction, metric)
                families.setdefault(family, []).append((metric, test))
    for tests in families.values():
        corrected = significance.holm([test["p"] for _, test in tests])
        for (metric, test), p in zip(tests, corrected, strict=True):
            test["p_holm"] = p
            test["verdict"] = significance.verdict(metric, test["difference"], p)
