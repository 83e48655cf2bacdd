"""Hubness: a few items are among the nearest of very many queries, and others of none.

Radovanović, Nanopoulos, Ivanović, "Hubs in Space: Popular Nearest Neighbors in High-Dimensional
Data", JMLR 2010. N_k(x) is the number of queries that have item x among their k nearest; its
skewness over the gallery measures how uneven the lists are.
"""

import numpy as np
from scipy import stats

from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import (
    ROUNDING,
    row_blocks,
    sample_size,
    sampled,
    scores,
)


def hubness(video_emb: np.ndarray, music_emb: np.ndarray, k: int = 10, *, seed: int = 0) -> dict:
    """Measures the hubs of both directions: (N,D),(M,D)->{"k", "v2m", "m2v"}, see `summary`.

    Of more than 20,000 queries, 20,000 are drawn by the seed, against the whole gallery; the
    direction then has `queries`, the number drawn, and `sampled_from`, that of all. Skew and
    antihubs are those of the lists drawn, to be held against chance and against as many elsewhere:
    all lists together would have fewer antihubs and another skew.

    Args:
        video_emb: (N,D) unit rows.
        music_emb: (M,D) unit rows.
        k: length of the lists.
        seed: seed of the queries drawn.

    Raises:
        UserError: NaN or infinity, rows that are not of unit length, or widths that differ.
    """
    video_emb = checks.check_embeddings("video_emb", video_emb, not_unit="refuse")
    music_emb = checks.check_embeddings("music_emb", music_emb, not_unit="refuse")
    checks.check_widths("video_emb", video_emb, "music_emb", music_emb)
    return {
        "k": k,
        "v2m": _of_direction(video_emb, music_emb, k, seed),
        "m2v": _of_direction(music_emb, video_emb, k, seed),
    }


def _of_direction(queries: np.ndarray, gallery: np.ndarray, k: int, seed: int) -> dict:
    asked = sampled(np.arange(len(queries)), seed)
    counts = occurrences(queries[asked] if len(asked) < len(queries) else queries, gallery, k)
    return summary(counts, len(asked)) | sample_size(len(asked), len(queries))


def occurrences(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """N_k of each item of the gallery: (Q,D),(G,D)->(G,), with the sum Q·min(k, G).

    Items that tie for the last places of a list share them in equal parts, the expectation over
    random orders. So a model that maps everything onto one point has no hubs.
    """
    k = min(k, len(gallery))
    counts = np.zeros(len(gallery))
    for rows in row_blocks(len(queries), len(gallery)):
        cosines = scores(queries[rows], gallery)
        # Score of the k-th nearest item. Items within rounding of it are tied, not above it.
        last = np.partition(cosines, len(gallery) - k, axis=1)[:, len(gallery) - k, None]
        above = cosines > last + ROUNDING
        tied = (cosines >= last - ROUNDING) & ~above
        free = k - above.sum(axis=1, keepdims=True)
        counts += above.sum(axis=0) + np.sum(tied * (free / tied.sum(axis=1, keepdims=True)), 0)
    return counts


def summary(counts: np.ndarray, queries: int) -> dict[str, float]:
    """Summarises occurrences: (G,), Q -> JSON-ready dict.

    Keys: `skew`, the skewness of N_k (0 where all are equal); `antihubs`, the share of the gallery
    that is in no list; `largest_hub`, the share of the lists that hold the most frequent item.
    `skew_by_chance` and `antihubs_by_chance` are the same for lists drawn at random.
    """
    # By chance an item is in each of Q lists with the same probability: N_k is binomial.
    share = min(1.0, float(counts.sum()) / (queries * len(counts)))
    spread = np.sqrt(queries * share * (1.0 - share))
    # Equal counts differ by the rounding of shared places, and the skewness of noise is arbitrary.
    uneven = np.ptp(counts) > ROUNDING * queries
    return {
        "skew": float(stats.skew(counts)) if uneven else 0.0,
        "skew_by_chance": float((1.0 - 2.0 * share) / spread) if spread > ROUNDING else 0.0,
        "antihubs": float(np.mean(counts <= 0.0)),
        "antihubs_by_chance": float((1.0 - share) ** queries),
        "largest_hub": float(counts.max()) / queries,
    }
