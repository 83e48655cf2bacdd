"""Evaluation of embeddings as plain data, for `results/{split}.json`, and metrics for logs."""

import functools

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import bootstrap, checks, metrics
from vmr.evaluation.checks import Embedded, NotUnit
from vmr.evaluation.judged import judged_ranks
from vmr.evaluation.ranks import Progress, Ranks, group_ranks, pair_ranks


def evaluate(
    video_emb: Embedded,
    music_emb: Embedded,
    gt_music_index: np.ndarray,
    *,
    split: str,
    step: int | None = None,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    video_group: np.ndarray | None = None,
    music_group: np.ndarray | None = None,
    music_cluster: np.ndarray | None = None,
    compatible: np.ndarray | None = None,
    not_unit: NotUnit = "refuse",
    progress: Progress | None = None,
) -> dict:
    """Scores embeddings in both directions: (N,D),(M,D),(N,)->JSON-ready dict.

    Keys: `split`, `step`, `queries` (videos), `gallery` (unique tracks), `v2m`, `m2v`, `chance`
    (v2m's), `ci95`, and for the other direction `m2v_queries` (tracks that have a video),
    `m2v_gallery` (videos) and `m2v_chance`. Recalls in percent, ranks 1-based, MRR, mAP@10 and
    nDCG@10 in [0, 1]. With groups, `truth` holds the same keys scored by "same group is relevant";
    with compatible pairs, `judged` holds them scored by "paired or judged compatible is relevant".

    Args:
        video_emb: (N,D) unit rows, one per video, or N `SegmentedItems`.
        music_emb: (M,D) unit rows, one per unique track, or M `SegmentedItems`.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        split: name of the split, for the record.
        step: training step of the embeddings, for the record.
        bootstrap_samples: number of resamples for the intervals; 0 leaves `ci95` empty.
        seed: seed of the resamples.
        video_group: (N,) true relevance groups, with music_group.
        music_group: (M,) true relevance groups, with video_group.
        music_cluster: (M,) integers or strings: rows that the bootstrap draws together, each with
            the videos that point at it; by default every row of music_emb stands alone.
        compatible: (K,2) rows of a video and of a track that were judged compatible, see
            `judged_ranks`.
        not_unit: what is done about rows that are not of unit length: see `pair_ranks`.
        progress: called with (tiles done, tiles in all), once through for pairs, once for truth.

    Raises:
        UserError: NaN or infinity, a row that is not of unit length, widths that differ, an index
            outside the gallery, groups for one side only, clusters of another length, or compatible
            pairs outside the gallery or of segments.
    """
    if (video_group is None) != (music_group is None):
        raise UserError("video_group and music_group come together; found only one of them")

    scores = functools.partial(summaries, bootstrap_samples=bootstrap_samples, seed=seed)
    v2m, m2v = pair_ranks(
        video_emb,
        music_emb,
        gt_music_index,
        classes=metrics.DEPTH,
        not_unit=not_unit,
        progress=progress,
    )
    if music_cluster is None:
        music_cluster = np.arange(len(music_emb))
    music_cluster = checks.check_labels("music_cluster", music_cluster, len(music_emb))
    # A video is in the cluster of its track, so that both directions resample the same clusters.
    # The index has been checked by `pair_ranks`.
    video_cluster = music_cluster[np.asarray(gt_music_index)]
    result: dict = {
        "split": split,
        "step": step,
        "seed": seed,
        "bootstrap_samples": bootstrap_samples,
    }
    result |= scores(v2m, m2v, video_cluster, music_cluster)
    if compatible is not None:
        judged = judged_ranks(
            video_emb,
            music_emb,
            gt_music_index,
            compatible,
            (v2m, m2v),
            classes=metrics.DEPTH,
            not_unit=not_unit,
        )
        result["judged"] = scores(*judged, video_cluster, music_cluster)
    if video_group is not None and music_group is not None:
        v2m, m2v = group_ranks(
            video_emb,
            music_emb,
            video_group,
            music_group,
            classes=metrics.DEPTH,
            not_unit=not_unit,
            progress=progress,
        )
        result["truth"] = scores(v2m, m2v, video_cluster, music_cluster)
    return result


def recalls(
    video_emb: np.ndarray,
    music_emb: np.ndarray,
    gt_music_index: np.ndarray,
    *,
    not_unit: NotUnit = "refuse",
) -> dict[str, float]:
    """Computes the table without intervals, for logs: (N,D),(M,D),(N,)->{"v2m/R@10": percent, …}.

    Keys are direction/column for all columns of the table; callers prepend the split.

    Raises:
        UserError: as `evaluate`.
    """
    v2m, m2v = pair_ranks(video_emb, music_emb, gt_music_index, not_unit=not_unit)
    return {
        f"{direction}/{name}": value
        for direction, ranks in (("v2m", v2m), ("m2v", m2v))
        for name, value in metrics.summarise(metrics.table_values(ranks)).items()
    }


def summaries(
    v2m: Ranks,
    m2v: Ranks,
    video_cluster: np.ndarray,
    music_cluster: np.ndarray,
    *,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Summaries of both directions with intervals, of the form of `evaluate`.

    Args:
        v2m: ranks of the videos' queries.
        m2v: ranks of the tracks' queries.
        video_cluster: (N,) cluster of each video, for the bootstrap.
        music_cluster: (M,) cluster of each track.
        bootstrap_samples: as of `evaluate`.
        seed: as of `evaluate`.
    """

    def intervals(ranks: Ranks, cluster: np.ndarray) -> dict[str, list[float]]:
        if not bootstrap_samples:
            return {}
        values = metrics.all_values(ranks)
        return bootstrap.intervals(values, cluster, samples=bootstrap_samples, seed=seed)

    return {
        "queries": len(v2m.query),
        "gallery": len(music_cluster),
        "m2v_queries": len(m2v.query),
        "m2v_gallery": len(video_cluster),
        "v2m": _summary(v2m),
        "m2v": _summary(m2v),
        "chance": _summary(metrics.at_chance(v2m)),
        "m2v_chance": _summary(metrics.at_chance(m2v)),
        "ci95": {
            "v2m": intervals(v2m, video_cluster[v2m.query]),
            "m2v": intervals(m2v, music_cluster[m2v.query]),
        },
    }


def _summary(ranks: Ranks) -> dict[str, float]:
    return metrics.summarise(metrics.all_values(ranks))
