"""Queries of a split and what a run retrieves for each: ranks, lists, suspected false negatives."""

from dataclasses import dataclass

import numpy as np

from vmr.evaluation import Ranks, metrics
from vmr.evaluation.diagnosis.false_negatives import Items, pair_deviations
from vmr.evaluation.diagnosis.similarity import ROUNDING, Rule
from vmr.evaluation.lists import Direction, ranked_lists


@dataclass(frozen=True)
class Outcomes:
    """Q queries of one direction, worst rank first, and the K items that score best for each.

    Attributes:
      choice: how the Q were chosen of all queries, in words.
      summary: rows of the retrieval table over all queries, by name.
      top: rank up to which a query is a hit.
      query: (Q,) rows of the asking modality.
      rank: (Q,) expected rank of the best-ranked partner.
      tied: (Q,) items that are no partners at that partner's score.
      gallery: (Q,) effective size of the gallery.
      earlier: (Q,) rank in another run, or None.
      partners: (Q,) number of partners.
      partner: (Q,) row of the partner that scores best.
      partner_score: (Q,) its cosine.
      items: (Q, K) rows of the other modality.
      scores: (Q, K) cosines, descending.
      paired: (Q, K) bool, true for partners.
      by_video, by_music: (Q, K) deviations of `pair_deviations`.
      suspected: (Q, K) bool, suspected false negatives.
      compatible: (Q, K) bool, of the query's group; None where there are no groups.
    """

    choice: str
    summary: dict[str, dict[str, float]]
    top: int
    query: np.ndarray
    rank: np.ndarray
    tied: np.ndarray
    gallery: np.ndarray
    earlier: np.ndarray | None
    partners: np.ndarray
    partner: np.ndarray
    partner_score: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    paired: np.ndarray
    by_video: np.ndarray
    by_music: np.ndarray
    suspected: np.ndarray
    compatible: np.ndarray | None


def outcomes(
    way: Direction,
    items: Items,
    rule: Rule,
    ranks: Ranks,
    earlier: Ranks | None,
    *,
    top: int,
    most: int,
) -> Outcomes:
    """Outcomes of one direction.

    Args:
      way: `v2m` or `m2v`.
      items: items of a split.
      rule: when inputs are alike.
      ranks: ranks of this direction.
      earlier: ranks of the same queries in another run, or None.
      top: K, fewer where the gallery is smaller.
      most: queries to show, at most.
    """
    values = metrics.table_values(ranks)
    before = None if earlier is None else metrics.table_values(earlier)
    rank, rank_before = values["MeanR"], None if before is None else before["MeanR"]
    chosen, choice = chosen_queries(rank, rank_before, most)
    query = ranks.query[chosen]
    partner, partner_score, partners = _best_partners(way, items, query)
    retrieved, scores = _lists(way, items, query, top)
    video, track = np.repeat(query[:, None], retrieved.shape[1], axis=1), retrieved
    if way == "m2v":
        video, track = track, video
    likeness = pair_deviations(items, rule, video.ravel(), track.ravel())
    by_video, by_music = (deviations.reshape(video.shape) for deviations in likeness)
    paired = items.gt_music_index[video] == track
    # As in a diagnosis: what ties with the partner is not above it.
    above = ~paired & (scores > partner_score[:, None] + ROUNDING)
    compatible = None
    if items.video_group is not None and items.music_group is not None:
        compatible = items.video_group[video] == items.music_group[track]
    summary = {"this run": values} | ({} if before is None else {"the other run": before})
    summary["chance"] = metrics.table_values(metrics.at_chance(ranks))
    return Outcomes(
        choice=choice,
        summary={name: metrics.summarise(row) for name, row in summary.items()},
        top=top,
        query=query,
        rank=rank[chosen],
        tied=ranks.tied[chosen, 0],
        gallery=ranks.gallery[chosen],
        earlier=None if rank_before is None else rank_before[chosen],
        partners=partners,
        partner=partner,
        partner_score=partner_score,
        items=retrieved,
        scores=scores,
        paired=paired,
        by_video=by_video,
        by_music=by_music,
        suspected=above & (np.maximum(by_video, by_music) > rule.deviations),
        compatible=compatible,
    )


def chosen_queries(
    rank: np.ndarray, earlier: np.ndarray | None, most: int
) -> tuple[np.ndarray, str]:
    """Queries to show, worst rank first, and how they were chosen: (Q,),(Q,)->(q,), in words.

    Where not all can be shown: the worst, those whose rank changed most, and others of every rank,
    so that hits are among them.
    """
    worst = np.argsort(-rank, kind="stable")
    if len(worst) <= most:
        return worst, f"all {len(worst):,} queries"
    orders = {"the {} worst": worst}
    if earlier is not None:
        orders["the {} whose rank changed most"] = np.argsort(-abs(rank - earlier), kind="stable")
    each = most // (len(orders) + 1)
    chosen = np.unique(np.concatenate([order[:each] for order in orders.values()]))
    others = worst[~np.isin(worst, chosen)]
    evenly = others[np.arange(most - len(chosen)) * len(others) // (most - len(chosen))]
    chosen = np.concatenate([chosen, evenly])
    parts = [words.format(each) for words in orders]
    told = ", ".join([*parts, f"{len(evenly)} spread over the other ranks"])
    worst_first = chosen[np.argsort(-rank[chosen], kind="stable")]
    return worst_first, f"{len(chosen):,} of {len(worst):,} queries: {told}"


def _best_partners(
    way: Direction, items: Items, query: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Partner of each query that scores best, its score, and the number of partners: three (Q,)."""
    index = items.gt_music_index
    partner = np.empty(len(query), np.int64)
    score, count = np.empty(len(query), np.float32), np.empty(len(query), np.int64)
    for n, row in enumerate(query):
        if way == "v2m":
            partners = index[[row]]
            scores = items.music_emb[partners] @ items.video_emb[row]
        else:
            partners = np.flatnonzero(index == row)
            scores = items.video_emb[partners] @ items.music_emb[row]
        partner[n], score[n] = partners[np.argmax(scores)], scores.max()
        count[n] = len(partners)
    return partner, score, count


def _lists(
    way: Direction, items: Items, query: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    asking, gallery = items.video_emb, items.music_emb
    if way == "m2v":
        asking, gallery = gallery, asking
    lists = list(ranked_lists(asking[query], gallery, way, top))
    rows, scores = zip(*lists, strict=True)
    return np.concatenate(rows), np.concatenate(scores)
