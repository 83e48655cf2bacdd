"""Ranks where pairs that people judged compatible are relevant beside the pairs of the data.

Judged relevance has no labels: video a may be compatible with the track of b without b's other
tracks being so. But judgements are few. So ranks by the pairs of the data are taken as they are,
and only the queries that a judgement touches are ranked again, on the same scores to the last bit
(`lists.score_rows`), with all their relevant items in view.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from vmr.errors import UserError
from vmr.evaluation import checks, tiles
from vmr.evaluation.checks import Embedded, NotUnit, SegmentedItems
from vmr.evaluation.lists import Direction, score_rows
from vmr.evaluation.ranks import Ranks


def judged_ranks(
    video_emb: Embedded,
    music_emb: Embedded,
    gt_music_index: np.ndarray,
    compatible: np.ndarray,
    strict: tuple[Ranks, Ranks],
    *,
    classes: int = 1,
    not_unit: NotUnit = "refuse",
) -> tuple[Ranks, Ranks]:
    """Ranks with judged pairs relevant too: (N,D),(M,D),(N,),(K,2),strict->(v2m, m2v).

    A pair counts in both directions. Queries stay those of `strict`: a track without a video is
    none, whatever is judged of it. Items that are not judged are not relevant, as in TREC.

    Args:
        video_emb: (N,D) one row per video.
        music_emb: (M,D) one row per unique track.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        compatible: (K,2) integers, rows of a video and of a track; a pair may stand there twice, or
            be one of the data's.
        strict: (v2m, m2v) of `pair_ranks`.
        classes: as of `pair_ranks`, and of `strict`.
        not_unit: as of `pair_ranks`.

    Raises:
        UserError: embeddings are segmented, or a pair has no such rows.
    """
    video_emb, music_emb = checks.check_space(video_emb, music_emb, not_unit)
    if isinstance(video_emb, SegmentedItems) or isinstance(music_emb, SegmentedItems):
        raise UserError("judgements are of whole items; found embeddings of segments")
    shape = len(video_emb), len(music_emb)
    compatible = _check_rows(compatible, shape)
    own = _pairs(np.arange(len(video_emb)), np.asarray(gt_music_index), shape)
    relevant = (own + _pairs(compatible[:, 0], compatible[:, 1], shape)).astype(bool).tocsr()
    added = (relevant.astype(int) - own.astype(int)).tocoo()
    video, track = (rows[added.data > 0] for rows in added.coords)
    v2m = _ranked_again(strict[0], video_emb, music_emb, "v2m", relevant, video, classes)
    m2v = _ranked_again(strict[1], music_emb, video_emb, "m2v", relevant.T.tocsr(), track, classes)
    return v2m, m2v


def _check_rows(compatible: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows = np.asarray(compatible)
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "iu":
        raise UserError(
            f"compatible: expected integers (K, 2), a video and a track a row, found {rows.dtype} "
            f"of shape {rows.shape}"
        )
    outside = np.any((rows < 0) | (rows >= np.array([shape])), axis=1)
    if outside.any():
        pair = rows[np.argmax(outside)].tolist()
        raise UserError(f"compatible: pair {pair} is outside {shape[0]} videos, {shape[1]} tracks")
    return rows.astype(np.int64)


def _pairs(video: np.ndarray, track: np.ndarray, shape: tuple[int, int]) -> sparse.coo_array:
    return sparse.coo_array((np.ones(len(video), bool), (video, track)), shape=shape)


def _ranked_again(
    strict: Ranks,
    queries: np.ndarray,
    gallery: np.ndarray,
    direction: Direction,
    relevant: sparse.csr_array,
    touched: np.ndarray,
    classes: int,
) -> Ranks:
    """`strict` with the rows of touched queries replaced: relevant (Q,G), touched rows of Q."""
    touched = np.intersect1d(touched, strict.query)
    counts = np.diff(relevant.indptr)
    width = max(strict.peers.shape[1], min(classes, max(counts[touched], default=1)))
    fields = {name: _widened(getattr(strict, name), width) for name in ("above", "tied", "peers")}
    fields |= {"relevant": strict.relevant.copy(), "gallery": strict.gallery.copy()}
    for start in range(0, len(touched), tiles.size()):
        rows = touched[start : start + tiles.size()]
        places = np.searchsorted(strict.query, rows)
        found = _counted(queries[rows], gallery, direction, relevant[rows], width)
        for name, values in zip(("above", "tied", "peers"), found, strict=True):
            fields[name][places] = values
        fields["relevant"][places] = counts[rows]
        fields["gallery"][places] = len(gallery) - counts[rows] + 1
    return replace(strict, **fields)


def _widened(values: np.ndarray, classes: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, classes - values.shape[1])))


def _counted(
    queries: np.ndarray,
    gallery: np.ndarray,
    direction: Direction,
    relevant: sparse.csr_array,
    classes: int,
) -> Sequence[np.ndarray]:
    """Items above, tied and relevant at each class of q queries: three (q,classes)."""
    query, item = np.repeat(np.arange(len(queries)), np.diff(relevant.indptr)), relevant.indices
    scores = np.empty(len(item), np.float32)
    for first, part in score_rows(queries, gallery, direction):
        here = (first <= item) & (item < first + part.shape[1])
        scores[here] = part[query[here], item[here] - first]
    # Nothing stands above or at +inf, so places without a class count nothing.
    level = np.full((len(queries), classes), np.inf, np.float32)
    above, tied, peers = (np.zeros(level.shape, np.int64) for _ in range(3))
    for row, own in enumerate(np.split(scores, relevant.indptr[1:-1])):
        distinct, count = np.unique(own, return_counts=True)
        best = distinct[::-1][:classes]
        level[row, : len(best)], peers[row, : len(best)] = best, count[::-1][:classes]
    for first, part in score_rows(queries, gallery, direction):
        here = (first <= item) & (item < first + part.shape[1])
        rivals = part.copy()
        rivals[query[here], item[here] - first] = -np.inf
        for place in range(classes):
            above[:, place] += np.sum(rivals > level[:, place, None], axis=1)
            tied[:, place] += np.sum(rivals == level[:, place, None], axis=1)
    return above, tied, peers
