"""Suspected false negatives in the order in which a person's judgement tells most.

Compatibility is of a pair, whichever item asks, so that a pair suspected in both directions is
asked about once. First comes what would move the table most: the pair whose `yes` raises its
query's reciprocal rank most, from that of the partner to its own. As in the pools of TREC, only the
head of each list is looked at.
"""

from typing import NamedTuple

import numpy as np

from vmr.evaluation import metrics
from vmr.evaluation.diagnosis.false_negatives import Items, pair_deviations
from vmr.evaluation.diagnosis.similarity import ROUNDING, Rule
from vmr.evaluation.lists import Direction, ranked_lists
from vmr.evaluation.ranks import Ranks, pair_ranks

# Items of each list that are looked at: the deepest recall of the table.
DEPTH = max(metrics.CUTOFFS)


class Queue(NamedTuple):
    """n suspected pairs, what to judge first coming first; all arrays (n,).

    Attributes:
        direction: `v2m` where the video asks, `m2v` where the track does.
        video: rows of videos.
        track: rows of tracks.
        partner: row of the query's own item; of several videos of a track the best-ranked.
        score: cosine of the pair.
        partner_score: cosine of the query with its partner.
        rank: of the pair's item in the query's list, 1-based, the first of what ties.
        partner_rank: expected rank of the partner, as the table counts it.
        video_deviations: as of `pair_deviations`, -inf where the track has no video.
        music_deviations: the same.
    """

    direction: np.ndarray
    video: np.ndarray
    track: np.ndarray
    partner: np.ndarray
    score: np.ndarray
    partner_score: np.ndarray
    rank: np.ndarray
    partner_rank: np.ndarray
    video_deviations: np.ndarray
    music_deviations: np.ndarray

    def chosen(self, rows: np.ndarray) -> "Queue":
        """Chosen pairs, in the order of `rows`."""
        return Queue(*(values[rows] for values in self))


def label_queue(items: Items, rule: Rule, depth: int = DEPTH) -> Queue:
    """Suspected pairs of both directions among the first `depth` of each list, each pair once.

    Args:
        items: items of a split.
        rule: when inputs are alike.
        depth: items of each list that are looked at.
    """
    index = items.gt_music_index
    own = np.einsum("nd,nd->n", items.video_emb, items.music_emb[index], dtype=np.float32)
    # A later assignment overwrites an earlier one: what stays is the best of a track's videos.
    ascending = np.argsort(own, kind="stable")
    best = np.full(len(items.music_emb), -1)
    best[index[ascending]] = ascending
    ranks = dict(
        zip(("v2m", "m2v"), pair_ranks(items.video_emb, items.music_emb, index), strict=True)
    )
    found = [
        _above(items, "v2m", ranks["v2m"], index, own, depth),
        _above(items, "m2v", ranks["m2v"], best, own[best], depth),
    ]
    queue = Queue(*map(np.concatenate, zip(*found, strict=True)))
    by_video, by_music = pair_deviations(items, rule, queue.video, queue.track)
    queue = queue._replace(video_deviations=by_video, music_deviations=by_music)
    alike = np.maximum(by_video, by_music)
    gain = 1.0 / queue.rank - 1.0 / queue.partner_rank
    order = np.lexsort((queue.track, queue.video, -alike, -gain))
    order = order[alike[order] > rule.deviations]
    pairs = np.stack([queue.video[order], queue.track[order]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    return queue.chosen(order[np.sort(first)])


def _above(
    items: Items,
    direction: Direction,
    ranks: Ranks,
    partner: np.ndarray,
    partner_score: np.ndarray,
    depth: int,
) -> Queue:
    """Items above the partner in the lists of one direction; partners are by row of the query."""
    expected = metrics.expected_rank(ranks.above[:, 0], ranks.tied[:, 0], ranks.peers[:, 0])
    sides = items.video_emb, items.music_emb
    asking, gallery = sides if direction == "v2m" else sides[::-1]
    parts, start = [], 0
    for rows, scores in ranked_lists(asking[ranks.query], gallery, direction, depth):
        queries = ranks.query[start : start + len(rows)]
        above = scores > partner_score[queries, None] + ROUNDING
        place, position = np.nonzero(above)
        # Equal scores share the place of their first.
        changed = np.diff(scores, axis=1, prepend=np.inf) != 0
        first = np.maximum.accumulate(np.where(changed, np.arange(scores.shape[1]), 0), axis=1)
        query, item = queries[place], rows[place, position]
        unknown = np.zeros(len(query), np.float32)
        parts.append(
            Queue(
                direction=np.full(len(query), direction),
                video=query if direction == "v2m" else item,
                track=item if direction == "v2m" else query,
                partner=partner[query],
                score=scores[place, position],
                partner_score=partner_score[query],
                rank=first[place, position] + 1,
                partner_rank=expected[start + place],
                video_deviations=unknown,
                music_deviations=unknown,
            )
        )
        start += len(rows)
    return Queue(*map(np.concatenate, zip(*parts, strict=True)))
