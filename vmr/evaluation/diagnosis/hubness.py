"""Hubness: whether a few items stand in the lists of very many queries, and others in none.

Radovanović, Nanopoulos, Ivanović, "Hubs in Space: Popular Nearest Neighbors in High-Dimensional
Data", JMLR 2010. N_k(x) is the number of queries that have item x among their k nearest; its
skewness over the gallery tells how uneven the lists are.
"""

import numpy as np
from scipy import stats

from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import ROUNDING, row_blocks, scores


def hubness(video_emb: np.ndarray, music_emb: np.ndarray, k: int = 10) -> dict:
    """Measures the hubs of both directions: (N,D),(M,D)->{"k", "v2m", "m2v"}, see `summary`.

    Raises:
        UserError: NaN or infinity, rows that are not of unit length, or widths that differ.
    """
    video_emb = checks.check_embeddings("video_emb", video_emb, not_unit="refuse")
    music_emb = checks.check_embeddings("music_emb", music_emb, not_unit="refuse")
    checks.check_widths("video_emb", video_emb, "music_emb", music_emb)
    return {
        "k": k,
        "v2m": summary(occurrences(video_emb, music_emb, k), len(video_emb)),
        "m2v": summary(occurrences(music_emb, video_emb, k), len(music_emb)),
    }


def occurrences(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """N_k of each item of the gallery: (Q,D),(G,D)->(G,); they sum to Q·min(k, G).

    Items that tie for the last places of a list share them in equal parts, which is the expectation
    over random orders: a model that maps everything onto one point makes no hubs.
    """
    k = min(k, len(gallery))
    counts = np.zeros(len(gallery))
    for rows in row_blocks(len(queries), len(gallery)):
        found = scores(queries[rows], gallery)
        last = np.partition(found, len(gallery) - k, axis=1)[:, len(gallery) - k, None]
        within = found > last + ROUNDING
        tied = (found >= last - ROUNDING) & ~within
        left = k - within.sum(axis=1, keepdims=True)
        counts += within.sum(axis=0) + np.sum(tied * (left / tied.sum(axis=1, keepdims=True)), 0)
    return counts


def summary(counts: np.ndarray, queries: int) -> dict[str, float]:
    """Summarises occurrences: (G,), Q -> JSON-ready dict.

    Keys: `skew`, the skewness of N_k (0 where all are equal); `antihubs`, the share of the gallery
    that stands in no list; `largest_hub`, the share of the queries whose lists hold the item that
    stands in most. `skew_by_chance` and `antihubs_by_chance` are those of lists drawn at random,
    where N_k is binomial.
    """
    share = min(1.0, float(counts.sum()) / (queries * len(counts)))
    spread = np.sqrt(queries * share * (1.0 - share))
    uneven = np.ptp(counts) > ROUNDING * queries
    return {
        "skew": float(stats.skew(counts)) if uneven else 0.0,
        "skew_by_chance": float((1.0 - 2.0 * share) / spread) if spread > ROUNDING else 0.0,
        "antihubs": float(np.mean(counts <= 0.0)),
        "antihubs_by_chance": float((1.0 - share) ** queries),
        "largest_hub": float(counts.max()) / queries,
    }
