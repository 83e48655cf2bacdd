"""Suspected false negatives: items that training pushes apart although their inputs are alike.

Take a video n and a track m' that the data do not pair. The pair is suspected where, by
`similarity.Rule`, m' is like the track of n, or n is like one of the videos of m'. It counts where
it ranks above the partner: in v2m, m' scores above the track of n; in m2v, with m' as the query, n
scores above the best of the videos of m'.

A video's track and all of a track's videos are positives, and never suspected.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vmr.arrays import unit_rows
from vmr.errors import UserError
from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import (
    ROUNDING,
    SAMPLED,
    Rule,
    row_blocks,
    sample_size,
    sampled,
    scores,
)
from vmr.evaluation.lists import Direction

# Further thresholds at which suspects are counted, in deviations.
_LEVELS = (2.0, 2.5, 3.0, 4.0, 6.0, 10.0)

Example = tuple[float, dict]  # deviations of a suspected pair, and its JSON-ready description


@dataclass(frozen=True)
class Items:
    """Embeddings and inputs of N videos and M tracks.

    Attributes:
        video_emb: (N,D) unit rows.
        music_emb: (M,D) unit rows, one per unique track.
        video_inputs: (N,P) features before the encoder.
        music_inputs: (M,Q) features before the encoder.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        video_group: (N,) or None; with music_group, items of equal group are truly compatible.
        music_group: (M,) or None, with video_group.
    """

    video_emb: np.ndarray
    music_emb: np.ndarray
    video_inputs: np.ndarray
    music_inputs: np.ndarray
    gt_music_index: np.ndarray
    video_group: np.ndarray | None = None
    music_group: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raises UserError for NaN, widths or lengths that differ, or an index outside."""
        for name in ("video_emb", "music_emb", "video_inputs", "music_inputs"):
            checks.check_embeddings(name, getattr(self, name))
        checks.check_widths("video_emb", self.video_emb, "music_emb", self.music_emb)
        for name, inputs, emb in (
            ("video_inputs", self.video_inputs, self.video_emb),
            ("music_inputs", self.music_inputs, self.music_emb),
        ):
            if len(inputs) != len(emb):
                raise UserError(f"{name} has {len(inputs)} rows, expected {len(emb)}, one an item")
        checks.check_pairs(self.gt_music_index, len(self.video_emb), len(self.music_emb))
        if (self.video_group is None) != (self.music_group is None):
            raise UserError("video_group and music_group come together; found only one of them")


class _Block(NamedTuple):
    """b videos against m tracks; arrays (b,m).

    Attributes:
        videos: (b,) rows of the videos, ascending.
        tracks: (m,) rows of the tracks, ascending.
        scores: scores of the embeddings.
        by_video: deviations, above the median, of the video from the nearest video of the track;
            -inf where a track has no video.
        by_music: deviations, above the median, of the track from the video's own track.
        unpaired: True for pairs that the data do not know.
        compatible: True for truly compatible pairs; None without groups.
    """

    videos: np.ndarray
    tracks: np.ndarray
    scores: np.ndarray
    by_video: np.ndarray
    by_music: np.ndarray
    unpaired: np.ndarray
    compatible: np.ndarray | None


class _Direction:
    """Counts of one direction, accumulated over blocks of videos.

    Args:
        levels: (L,) deviations above which a pair is suspected, the rule's own first.
        asked: number of queries that are looked at.
        queries: number of queries in all.
        items: number of items of the querying modality, of which some may be no query.
    """

    def __init__(self, levels: np.ndarray, asked: int, queries: int, items: int) -> None:
        self.levels = levels
        self.asked = asked
        self.queries = queries
        self.has_suspect = np.zeros(items, bool)
        self.above = self.compatible = 0
        self.suspected = np.zeros(len(levels), np.int64)
        self.confirmed = np.zeros(len(levels), np.int64)

    def add(self, above: np.ndarray, deviations: np.ndarray, block: _Block) -> None:
        """Adds a block: True for pairs above the partner (b,m), and the pairs' deviations (b,m)."""
        self.above += int(above.sum())
        self.suspected += _count_beyond(self.levels, deviations[above])
        if block.compatible is not None:
            true = above & block.compatible
            self.compatible += int(true.sum())
            self.confirmed += _count_beyond(self.levels, deviations[true])

    def summary(self, known: bool) -> dict:
        """JSON-ready summary of this direction, with the truth where it is known."""
        counts = self.suspected.tolist(), self.confirmed.tolist()
        levels = zip(self.levels.tolist(), *counts, strict=True)
        own, *others = (self._at(*level, known) for level in levels)
        result = {
            "queries": self.asked,
            **sample_size(self.asked, self.queries),
            "queries_with_suspects": int(np.count_nonzero(self.has_suspect)),
            "above": self.above,
            "suspected": own["suspected"],
            "suspected_per_query": own["suspected"] / self.asked,
            "by_deviations": others,
        }
        return result | ({"truth": self._truth(own)} if known else {})

    def _at(self, level: float, suspected: int, confirmed: int, known: bool) -> dict:
        """Counts at one threshold, and how good its suspicion is where the truth is known."""
        counts = {"deviations": level, "suspected": suspected}
        if not known:
            return counts
        return counts | {
            "confirmed": confirmed,
            "precision": share_of(confirmed, suspected),
            "recall": share_of(confirmed, self.compatible),
        }

    def _truth(self, own: dict) -> dict:
        base = share_of(self.compatible, self.above)
        return {
            "compatible_above": self.compatible,
            **{name: own[name] for name in ("confirmed", "precision", "recall")},
            "base_rate": base,
            "lift": own["precision"] / base if own["precision"] is not None and base else None,
        }


def false_negatives(items: Items, rule: Rule, *, examples: int = 10, seed: int = 0) -> dict:
    """Counts suspects that rank above the partner, in both directions; JSON-ready.

    Keys: `v2m` and `m2v`, each with `queries`, `queries_with_suspects`, `above` (unpaired items
    above the partner, over all queries), `suspected` (of these), `suspected_per_query` and
    `by_deviations` (counts at other thresholds). Where groups are known, `truth` has
    `compatible_above` (truly compatible items of `above`), `confirmed` (suspected ones of these),
    `precision`, `recall`, `base_rate` (the precision of suspecting all of `above`) and `lift`
    (precision / base rate). A share of nothing is None.

    Of more than 20,000 queries of a direction, 20,000 are drawn by the seed, against all items of
    the other modality: `queries` counts those drawn, `sampled_from` all.

    `examples` lists suspects of v2m, the most alike first: `video` and `track`, their rows;
    `video_deviations`, of the video from the nearest video of the track, above the median, None
    where the track has no video; `music_deviations`, of the track from the video's own; and
    `compatible`, None without groups.

    An item that ties with the partner is not above it. Takes O(N·P + M·Q) memory, since videos come
    in blocks, and O(Q·(N + M)) time for Q queries that are looked at.

    Args:
        items: items of a split.
        rule: rule by which inputs are alike.
        examples: number of examples, at most.
        seed: seed of the queries drawn.
    """
    own = _own_scores(items)
    best = np.full(len(items.music_emb), -np.inf, np.float32)
    np.maximum.at(best, items.gt_music_index, own)
    # A track without a video is no query: nothing scores above infinity.
    queries = np.flatnonzero(np.isfinite(best))
    best[~np.isfinite(best)] = np.inf
    videos, tracks = sampled(np.arange(len(own)), seed), sampled(queries, seed)
    levels = np.array([rule.deviations, *_LEVELS])
    v2m = _Direction(levels, len(videos), len(own), len(own))
    m2v = _Direction(levels, len(tracks), len(queries), len(best))
    listed: list[Example] = []
    all_ask = len(videos) == len(own) and len(tracks) == len(queries)
    for block, directions in _asked(items, rule, None if all_ask else (videos, tracks)):
        deviations = np.maximum(block.by_video, block.by_music)
        alike = block.unpaired & (deviations > rule.deviations)
        if "v2m" in directions:
            above = block.unpaired & (block.scores > own[block.videos, None] + ROUNDING)
            v2m.add(above, deviations, block)
            v2m.has_suspect[block.videos] = np.any(above & alike, axis=1)
            listed += _examples(above & alike, deviations, block, examples)
            # Cut in every block, so that no more are held; the sort is stable: ties keep order.
            listed = sorted(listed, key=lambda example: -example[0])[:examples]
        if "m2v" in directions:
            above = block.unpaired & (block.scores > best[None, block.tracks] + ROUNDING)
            m2v.add(above, deviations, block)
            m2v.has_suspect[block.tracks] |= np.any(above & alike, axis=0)
    known = items.video_group is not None
    return {
        "v2m": v2m.summary(known),
        "m2v": m2v.summary(known),
        "examples": [described for _, described in listed],
    }


def _asked(
    items: Items, rule: Rule, chosen: tuple[np.ndarray, np.ndarray] | None
) -> Iterator[tuple[_Block, Sequence[Direction]]]:
    """Blocks of pairs, and the directions to count each in.

    Where all items ask, one pass serves both directions. Of some, the videos that ask need all
    tracks, and the tracks all videos.

    Args:
        items: items of a split.
        rule: rule by which inputs are alike.
        chosen: rows of the videos and of the tracks that ask; None for all.
    """
    if chosen is None:
        yield from ((block, ("v2m", "m2v")) for block in _blocks(items, rule))
        return
    videos, tracks = chosen
    yield from ((block, ("v2m",)) for block in _blocks(items, rule, videos=videos))
    yield from ((block, ("m2v",)) for block in _blocks(items, rule, tracks=tracks))


def pair_deviations(
    items: Items, rule: Rule, video: np.ndarray, track: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of chosen pairs by their videos and by their tracks: (n,),(n,)->(n,),(n,).

    As `video_deviations` and `music_deviations` of the examples of `false_negatives`; by video -inf
    where the track has no video. O(N·(N + M)) time, however few the pairs.

    Args:
        items: items of a split.
        rule: when inputs are alike.
        video: (n,) rows of videos.
        track: (n,) rows of tracks.
    """
    by_video, by_music = np.empty((2, len(video)), np.float32)
    order = np.argsort(video, kind="stable")
    asked = np.unique(video) if len(items.video_emb) > SAMPLED else None
    for block in _blocks(items, rule, videos=asked):
        first = np.searchsorted(video[order], block.videos[0], side="left")
        end = np.searchsorted(video[order], block.videos[-1], side="right")
        pairs = order[first:end]
        place = np.searchsorted(block.videos, video[pairs]), track[pairs]
        by_video[pairs], by_music[pairs] = block.by_video[place], block.by_music[place]
    return by_video, by_music


def _own_scores(items: Items) -> np.ndarray:
    """Score of each video with its track, (N,) float32, in bounded memory."""
    own = np.empty(len(items.video_emb), np.float32)
    for rows in row_blocks(len(own), items.video_emb.shape[1]):
        partner = items.music_emb[items.gt_music_index[rows]].astype(np.float32)
        own[rows] = np.sum(items.video_emb[rows].astype(np.float32) * partner, axis=1)
    return own


def _blocks(
    items: Items,
    rule: Rule,
    *,
    videos: np.ndarray | None = None,
    tracks: np.ndarray | None = None,
) -> Iterator[_Block]:
    """Blocks of chosen videos against chosen tracks, rows in ascending order; None takes all."""
    video, music = unit_rows(items.video_inputs), unit_rows(items.music_inputs)
    index, music_emb, gallery = items.gt_music_index, items.music_emb, music
    # Videos sorted by track, so that the nearest video of a track is a maximum over one segment of
    # the row (`reduceat`), whose segments start at `first`.
    order = np.argsort(index, kind="stable")
    if videos is None:
        videos = np.arange(len(video))
    if tracks is None:
        tracks = np.arange(len(music))
    else:
        music_emb, gallery = music_emb[tracks], music[tracks]
        order = order[np.isin(index[order], tracks)]
    present, first = np.unique(index[order], return_index=True)
    columns, videos_of = np.searchsorted(tracks, present), video[order]
    for part in row_blocks(len(videos), max(len(order), len(tracks))):
        rows = videos[part]
        by_video = np.full((len(rows), len(tracks)), -np.inf, np.float32)
        nearest = np.maximum.reduceat(scores(video[rows], videos_of), first, axis=1)
        by_video[:, columns] = rule.video.deviations(nearest)
        compatible = None
        if items.video_group is not None and items.music_group is not None:
            compatible = items.video_group[rows, None] == items.music_group[None, tracks]
        yield _Block(
            videos=rows,
            tracks=tracks,
            scores=scores(items.video_emb[rows], music_emb),
            by_video=by_video,
            by_music=rule.music.deviations(scores(music[index[rows]], gallery)),
            unpaired=index[rows, None] != tracks[None, :],
            compatible=compatible,
        )


def _count_beyond(levels: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Counts of the deviations above each level: (L,),(n,)->(L,)."""
    return np.array([np.count_nonzero(deviations > level) for level in levels])


def _examples(
    suspected: np.ndarray, deviations: np.ndarray, block: _Block, count: int
) -> list[Example]:
    """Suspected pairs of a block with the most deviations, at most `count`."""
    rows, tracks = np.nonzero(suspected)
    chosen = np.argsort(-deviations[rows, tracks], kind="stable")[:count]
    listed = []
    for row, track in zip(rows[chosen].tolist(), tracks[chosen].tolist(), strict=True):
        by_video = float(block.by_video[row, track])
        described = {
            "video": int(block.videos[row]),
            "track": int(block.tracks[track]),
            # JSON has no infinity.
            "video_deviations": by_video if np.isfinite(by_video) else None,
            "music_deviations": float(block.by_music[row, track]),
            "compatible": None if block.compatible is None else bool(block.compatible[row, track]),
        }
        listed.append((float(deviations[row, track]), described))
    return listed


def share_of(part: int, whole: int) -> float | None:
    """Quotient of two counts; None of nothing."""
    return part / whole if whole else None
