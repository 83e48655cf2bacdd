"""Suspected false negatives: items that training pushes apart although their inputs are alike.

A pair (video n, track m') that the data do not pair is suspected where the inputs say "alike":
m' and the track of n are, or n and one of the videos of m' are (`similarity.Rule`). It stands in
the way where it ranks above the partner. v2m: m' scores above the track of n. m2v: for the query
m', n scores above the best of its own videos.

A video's track and a track's videos are positives, however many, and never suspected.

`batch_negatives` asks the same of the negatives of a training batch, whatever the model makes of
them, and `compatible_share` estimates how many of all pairs that the data do not know are
compatible all the same.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from vmr.arrays import unit_rows
from vmr.errors import UserError
from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import ROUNDING, Rule, row_blocks, scores

# Deviations at which suspects are counted beside the rule's own.
_LEVELS = (2.0, 2.5, 3.0, 4.0, 6.0, 10.0)

# Known pairs: that there must be, and that must lie above a similarity for its share to count.
_KNOWN = 50
_ABOVE = 10
# Standard deviations of a Poisson count below it: 95 %, one-sided.
_CONFIDENCE = 1.645
# Similarities that are tried.
_TRIED = 50


@dataclass(frozen=True)
class Items:
    """N videos and M tracks, as embedded and as they were before.

    Attributes:
        video_emb: (N,D) unit rows.
        music_emb: (M,D) unit rows, one per unique track.
        video_inputs: (N,P) features before the encoder.
        music_inputs: (M,Q) features before the encoder.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        video_group: (N,) or None; with music_group, items of equal group are truly compatible.
        music_group: (M,) or None.
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
        for side in ("video", "music"):
            found, expected = (len(getattr(self, f"{side}_{form}")) for form in ("inputs", "emb"))
            if found != expected:
                raise UserError(f"{side}_inputs has {found} rows, expected {expected}, one an item")
        checks.check_pairs(self.gt_music_index, len(self.video_emb), len(self.music_emb))
        if (self.video_group is None) != (self.music_group is None):
            raise UserError("video_group and music_group come together; found only one of them")


@dataclass(frozen=True)
class Suspect:
    """A suspected pair above the partner: `video` and `track` rows, and why.

    Attributes:
        video: the row of the video.
        track: the row of the track that the data do not pair with it.
        video_deviations: of the video from the nearest video of the track, above the median; None
            where the track has no video.
        music_deviations: deviations of the track from the video's own track, above the median.
        compatible: whether they truly are; None where no group tells.
    """

    video: int
    track: int
    video_deviations: float | None
    music_deviations: float
    compatible: bool | None


class _Block(NamedTuple):
    """b videos against all M tracks; `rows` are the videos, all arrays (b,M).

    Deviations of `by_video` and `by_music` are those of `Suspect`; -inf where a track has no video.
    """

    rows: slice
    scores: np.ndarray
    by_video: np.ndarray
    by_music: np.ndarray
    unpaired: np.ndarray
    compatible: np.ndarray | None


class _Direction:
    """Counts of one direction, accumulated while blocks of videos pass by.

    Args:
        levels: (L,) deviations above which a pair is suspected, the rule's own first.
        queries: how many there are.
        items: items of the querying side.
    """

    def __init__(self, levels: np.ndarray, queries: int, items: int) -> None:
        self.levels = levels
        self.queries = queries
        self.suspects_of = np.zeros(items, np.int64)
        self.above = self.compatible = 0
        self.suspected = np.zeros(len(levels), np.int64)
        self.confirmed = np.zeros(len(levels), np.int64)

    def add(self, above: np.ndarray, strength: np.ndarray, block: _Block) -> None:
        """Adds a block: what stands above the partner (b,M) bool, and its deviations (b,M)."""
        self.above += int(above.sum())
        self.suspected += _beyond(self.levels, strength[above])
        if block.compatible is not None:
            true = above & block.compatible
            self.compatible += int(true.sum())
            self.confirmed += _beyond(self.levels, strength[true])

    def summary(self, known: bool) -> dict:
        """JSON-ready summary of this direction."""
        counts = self.suspected.tolist(), self.confirmed.tolist()
        levels = zip(self.levels.tolist(), *counts, strict=True)
        own, *others = (self._at(*level, known) for level in levels)
        found = {
            "queries": self.queries,
            "queries_with_suspects": int(np.count_nonzero(self.suspects_of)),
            "above": self.above,
            "suspected": own["suspected"],
            "suspected_per_query": own["suspected"] / self.queries,
            "by_deviations": others,
        }
        return found | ({"truth": self._truth(own)} if known else {})

    def _at(self, level: float, suspected: int, confirmed: int, known: bool) -> dict:
        found = {"deviations": level, "suspected": suspected}
        if not known:
            return found
        return found | {
            "confirmed": confirmed,
            "precision": _share(confirmed, suspected),
            "recall": _share(confirmed, self.compatible),
        }

    def _truth(self, own: dict) -> dict:
        base = _share(self.compatible, self.above)
        return {
            "compatible_above": self.compatible,
            **{name: own[name] for name in ("confirmed", "precision", "recall")},
            "base_rate": base,
            "lift": own["precision"] / base if own["precision"] is not None and base else None,
        }


def false_negatives(items: Items, rule: Rule, *, examples: int = 10) -> dict:
    """Counts suspects that rank above the partner, in both directions; JSON-ready.

    Keys: `v2m` and `m2v`, each with `queries`, `queries_with_suspects`, `above` (unpaired items
    above the partner, over all queries), `suspected` (of these), `suspected_per_query` and
    `by_deviations`, what other thresholds suspect; where groups are known, `truth` with
    `compatible_above` (of `above`, what is truly compatible), `confirmed` (of these, the
    suspected), `precision`, `recall`, `base_rate` (the precision of suspecting all that is above)
    and `lift` (precision / base rate). A share of nothing is None. `examples`: a `Suspect` each,
    the most alike of v2m first.

    What ties with the partner is not above it. Blocks of videos pass by: O(N·P + M·Q) memory,
    O(N·(N + M)) time.

    Args:
        items: items of a split.
        rule: when inputs are alike.
        examples: how many to name, at most.
    """
    own = _own_scores(items)
    best = np.full(len(items.music_emb), -np.inf, np.float32)
    np.maximum.at(best, items.gt_music_index, own)
    # A track without a video is no query: nothing scores above infinity.
    asks = np.isfinite(best)
    best[~asks] = np.inf
    levels = np.array([rule.deviations, *_LEVELS])
    v2m = _Direction(levels, len(own), len(own))
    m2v = _Direction(levels, int(asks.sum()), len(best))
    shown: list[Suspect] = []
    for block in _blocks(items, rule):
        strength = np.maximum(block.by_video, block.by_music)
        alike = block.unpaired & (strength > rule.deviations)
        above = block.unpaired & (block.scores > own[block.rows, None] + ROUNDING)
        v2m.add(above, strength, block)
        v2m.suspects_of[block.rows] = np.sum(above & alike, axis=1)
        shown = sorted(shown + _most_alike(above & alike, strength, block, examples), key=_doubt)
        above = block.unpaired & (block.scores > best[None, :] + ROUNDING)
        m2v.add(above, strength, block)
        m2v.suspects_of += np.sum(above & alike, axis=0)
    known = items.video_group is not None
    named = [asdict(suspect) for suspect in shown[:examples]]
    return {"v2m": v2m.summary(known), "m2v": m2v.summary(known), "examples": named}


def batch_negatives(
    video_inputs: np.ndarray,
    music_inputs: np.ndarray,
    track: np.ndarray,
    rule: Rule,
    batch_size: int,
    *,
    group: np.ndarray | None = None,
) -> dict:
    """Share of a batch's negatives whose inputs are alike: (n,P),(n,Q),(n,)->JSON-ready dict.

    Estimated on n pairs drawn like a batch, each against all that are no positives of it. Keys:
    `pairs` (n), `batch_size`, `suspected_share`, in [0, 1], `suspected_per_anchor`, in a batch,
    `by_chance`, the share that normal similarities would give, and, where enough videos share a
    track, `compatible_at_most` and `compatible_at_most_per_anchor`, an upper estimate of the truly
    compatible (`compatible_share`). With groups, `truth`: `compatible_share`,
    `compatible_per_anchor`, and `precision` and `recall` of the suspicion over all negatives, not
    only those that rank high. A share of nothing is None.

    Args:
        video_inputs: (n,P) features before the encoder.
        music_inputs: (n,Q) features before the encoder.
        track: (n,) pairs of equal track are positives of each other.
        rule: when inputs are alike.
        batch_size: pairs of a batch.
        group: (n,) pairs of equal group are truly compatible.
    """
    video, music = unit_rows(video_inputs), unit_rows(music_inputs)
    negatives = suspected = compatible = confirmed = 0
    for rows in row_blocks(len(track), len(track)):
        negative = track[rows, None] != track[None, :]
        by_video = rule.video.deviations(scores(video[rows], video))
        by_music = rule.music.deviations(scores(music[rows], music))
        alike = negative & (np.maximum(by_video, by_music) > rule.deviations)
        negatives += int(negative.sum())
        suspected += int(alike.sum())
        if group is not None:
            true = negative & (group[rows, None] == group[None, :])
            compatible += int(true.sum())
            confirmed += int(np.sum(true & alike))
    others = batch_size - 1
    share = suspected / max(negatives, 1)
    found: dict = {
        "pairs": len(track),
        "batch_size": batch_size,
        "suspected_share": share,
        "suspected_per_anchor": share * others,
        "by_chance": rule.by_chance,
    }
    at_most = compatible_share(video_inputs, track)
    if at_most is not None:
        found["compatible_at_most"] = at_most
        found["compatible_at_most_per_anchor"] = at_most * others
    if group is not None:
        true_share = compatible / max(negatives, 1)
        found["truth"] = {
            "compatible_share": true_share,
            "compatible_per_anchor": true_share * others,
            "precision": confirmed / suspected if suspected else None,
            "recall": confirmed / compatible if compatible else None,
        }
    return found


def compatible_share(video_inputs: np.ndarray, track: np.ndarray) -> float | None:
    """Upper estimate of the share of compatible pairs among unlike tracks: (n,P),(n,)->[0, 1].

    Where several videos share a track, some compatible videos are known, and tell how alike
    compatible videos are. Unpaired videos are a mixture of compatible ones, their share π, and
    others. So above any similarity s, π can be no more than the share of the unpaired pairs there,
    over the share of the known ones there; the least over s is the estimate. It is the mixture
    proportion of Blanchard, Lee and Scott ("Semi-supervised novelty detection", JMLR 2010); as
    there the share of the known ones is taken at its lower bound, lest the least of many noisy
    quotients fall short: k known pairs count as k − 1.645 √k. That compatible videos are as alike
    as those of one track is assumed; if they are less so, π may be larger.

    None where fewer than 50 pairs of videos share a track.

    Args:
        video_inputs: (n,P) features before the encoder.
        track: (n,) videos of equal track are known to be compatible.
    """
    video = unit_rows(video_inputs)
    known = -np.sort(-_of_one_track(video, track))
    if len(known) < _KNOWN:
        return None
    counts = np.unique(np.geomspace(_ABOVE, len(known), _TRIED).astype(int))
    # Ascending, so that a similarity's place tells how many of them it reaches.
    tried = known[counts - 1][::-1]
    reached = np.zeros(len(tried) + 1, np.int64)
    for rows in row_blocks(len(track), len(track)):
        unpaired = track[rows, None] != track[None, :]
        found = scores(video[rows], video)[unpaired]
        reached += np.bincount(
            np.searchsorted(tried, found, side="right"), minlength=len(tried) + 1
        )
    if not reached.sum():
        return None
    above = np.cumsum(reached[::-1])[:-1]
    surely = (counts - _CONFIDENCE * np.sqrt(counts)) / len(known)
    return min(1.0, float(np.min(above / reached.sum() / surely)))


def pair_deviations(
    items: Items, rule: Rule, video: np.ndarray, track: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of chosen pairs by their videos and by their tracks: (n,),(n,)->(n,),(n,).

    As `video_deviations` and `music_deviations` of `Suspect`; by video -inf where the track has no
    video. O(N·(N + M)) time, however few the pairs.

    Args:
        items: items of a split.
        rule: when inputs are alike.
        video: (n,) rows of videos.
        track: (n,) rows of tracks.
    """
    by_video, by_music = np.empty((2, len(video)), np.float32)
    order = np.argsort(video, kind="stable")
    for block in _blocks(items, rule):
        first, end = np.searchsorted(video[order], (block.rows.start, block.rows.stop))
        pairs = order[first:end]
        place = video[pairs] - block.rows.start, track[pairs]
        by_video[pairs], by_music[pairs] = block.by_video[place], block.by_music[place]
    return by_video, by_music


def _own_scores(items: Items) -> np.ndarray:
    """Score of each video with its track, in float32: (N,)."""
    own = np.empty(len(items.video_emb), np.float32)
    for rows in row_blocks(len(own), items.video_emb.shape[1]):
        partner = items.music_emb[items.gt_music_index[rows]].astype(np.float32)
        own[rows] = np.sum(items.video_emb[rows].astype(np.float32) * partner, axis=1)
    return own


def _blocks(items: Items, rule: Rule) -> Iterator[_Block]:
    video, music = unit_rows(items.video_inputs), unit_rows(items.music_inputs)
    index, tracks = items.gt_music_index, np.arange(len(music))
    # Videos in the order of their tracks: those of one track stand side by side.
    order = np.argsort(index, kind="stable")
    present, first = np.unique(index[order], return_index=True)
    for rows in row_blocks(len(video), max(len(video), len(music))):
        by_video = np.full((rows.stop - rows.start, len(music)), -np.inf, np.float32)
        nearest = np.maximum.reduceat(scores(video[rows], video[order]), first, axis=1)
        by_video[:, present] = rule.video.deviations(nearest)
        compatible = None
        if items.video_group is not None and items.music_group is not None:
            compatible = items.video_group[rows, None] == items.music_group[None, :]
        yield _Block(
            rows=rows,
            scores=scores(items.video_emb[rows], items.music_emb),
            by_video=by_video,
            by_music=rule.music.deviations(scores(music[index[rows]], music)),
            unpaired=index[rows, None] != tracks[None, :],
            compatible=compatible,
        )


def _beyond(levels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Counts of what exceeds each level: (L,), (n,) -> (L,)."""
    return np.array([np.count_nonzero(strength > level) for level in levels])


def _most_alike(
    suspected: np.ndarray, strength: np.ndarray, block: _Block, examples: int
) -> list[Suspect]:
    video, track = np.nonzero(suspected)
    chosen = np.argsort(-strength[video, track], kind="stable")[:examples]
    return [_suspect(block, *place) for place in zip(video[chosen], track[chosen], strict=True)]


def _suspect(block: _Block, video: int, track: int) -> Suspect:
    by_video = float(block.by_video[video, track])
    compatible = None if block.compatible is None else bool(block.compatible[video, track])
    return Suspect(
        video=block.rows.start + int(video),
        track=int(track),
        video_deviations=by_video if np.isfinite(by_video) else None,
        music_deviations=float(block.by_music[video, track]),
        compatible=compatible,
    )


def _doubt(suspect: Suspect) -> float:
    """Sorting key, less for a pair that is more alike."""
    by_video = suspect.video_deviations
    return -max(suspect.music_deviations, -np.inf if by_video is None else by_video)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _of_one_track(video: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Cosines of the pairs of two videos of one track, each pair once."""
    order = np.argsort(track, kind="stable")
    starts = np.flatnonzero(np.diff(track[order])) + 1
    found = [np.zeros(0, np.float32)]
    for rows in np.split(order, starts):
        if len(rows) > 1:
            found.append(scores(video[rows], video[rows])[np.triu_indices(len(rows), 1)])
    return np.concatenate(found)
