"""Exact ranks of the relevant items, both directions from one pass over tiles of scores.

An item is relevant to a query if their labels are equal. For video-track pairs a track's label is
its row and a video's label the row of its track, so a video has one relevant track and a track
has as many relevant videos as use it.

Both modalities are sorted by label. Relevant pairs then lie in a narrow band of tiles, which is
scored first, for the scores of the relevant items; a second pass over all tiles counts the items
above them, a tile of videos against all tracks at hand in one program. The product of a tile
serves both directions. Memory is O(N + M) beside the embeddings: no N x M matrix exists at any
time. On accelerators as many tracks are at hand as fit.
"""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vmr.errors import UserError
from vmr.evaluation import checks, sides, tiles
from vmr.evaluation.checks import Embedded, NotUnit
from vmr.evaluation.sides import Side

Progress = Callable[[int, int], None]
TileCounts = tuple[int, tiles.Counts]  # number of a tile of videos, counts of its videos

# Share of the free memory of an accelerator for the tracks at hand.
_SHARE = 0.25
# Tiles of the band whose scores are kept from the first pass for the second: 16 MB on CPU. Of small
# galleries these are all.
_KEPT = 4
# Tiles of videos that wait for the device: the next is loaded while one is counted.
_AHEAD = 2


@dataclass(frozen=True)
class Ranks:
    """Ranks of the relevant items of each of Q queries, as C classes of equal score.

    The classes of a query descend by score; unused ones at the end have no peers. The first class
    contains the best-ranked relevant item, and Recall, MedR, MeanR and MRR use it alone.

    Attributes:
        query: (Q,) row of each query among the videos (v2m) or the tracks (m2v).
        relevant: (Q,) number of relevant items in the gallery; at least 1.
        gallery: (Q,) effective gallery size: one relevant item and all irrelevant ones.
        above: (Q,C) number of irrelevant items that score strictly above the class.
        tied: (Q,C) number of irrelevant items at exactly the class's score.
        peers: (Q,C) number of relevant items at the class's score; 0 in unused classes.
    """

    query: np.ndarray
    relevant: np.ndarray
    gallery: np.ndarray
    above: np.ndarray
    tied: np.ndarray
    peers: np.ndarray


def pair_ranks(
    video_emb: Embedded,
    music_emb: Embedded,
    gt_music_index: np.ndarray,
    *,
    classes: int = 1,
    not_unit: NotUnit = "refuse",
    progress: Progress | None = None,
) -> tuple[Ranks, Ranks]:
    """Ranks of the paired items: (N,D),(M,D),(N,)->(v2m, m2v).

    Scores are inner products in float32, for embeddings of any type: cosines, as rows are of unit
    length. Tracks without a video are in the gallery of every video, but are no queries themselves.
    Items of several segments score by their best pair of segments.

    Args:
        video_emb: (N,D) one row per video, or N `SegmentedItems`.
        music_emb: (M,D) one row per unique track, or M `SegmentedItems` if videos are such too.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        classes: relevant score classes to rank for each query; K suffices for mAP@K, nDCG@K.
        not_unit: treatment of rows that are not of unit length: `refuse`; `normalize` (a copy);
            `keep`, to rank by inner products. Zero rows are accepted and stay zero.
        progress: function called with (tiles done, tiles in all).

    Raises:
        UserError: NaN or infinity, a row that is not of unit length, widths that differ, or an
            index outside the gallery.
    """
    video_emb, music_emb = checks.check_space(video_emb, music_emb, not_unit)
    index = checks.check_pairs(gt_music_index, len(video_emb), len(music_emb))
    labels = index.astype(np.int32), np.arange(len(music_emb), dtype=np.int32)
    return _both_directions(video_emb, music_emb, labels, classes, progress)


def group_ranks(
    video_emb: Embedded,
    music_emb: Embedded,
    video_group: np.ndarray,
    music_group: np.ndarray,
    *,
    classes: int = 1,
    not_unit: NotUnit = "refuse",
    progress: Progress | None = None,
) -> tuple[Ranks, Ranks]:
    """Ranks where equal groups are relevant: (N,D),(M,D),(N,),(M,)->(v2m, m2v).

    Groups are integers or strings. An item is no query if its group has no item of the other
    modality. All else is as in `pair_ranks`.

    Raises:
        UserError: as `pair_ranks`, and where no video and track share a group.
    """
    video_emb, music_emb = checks.check_space(video_emb, music_emb, not_unit)
    video_group = checks.check_labels("video_group", video_group, len(video_emb))
    music_group = checks.check_labels("music_group", music_group, len(music_emb))
    if not np.isin(video_group, music_group).any():
        raise UserError("no video and track share a group; expected at least one pair")
    labels = sides.numbered(video_group, music_group)
    return _both_directions(video_emb, music_emb, labels, classes, progress)


def _both_directions(
    video_emb: Embedded,
    music_emb: Embedded,
    labels: tuple[np.ndarray, np.ndarray],
    classes: int,
    progress: Progress | None,
) -> tuple[Ranks, Ranks]:
    videos = Side(video_emb, *labels, classes=classes, padding=tiles.VIDEO_PADDING)
    tracks = Side(music_emb, *labels[::-1], classes=classes, padding=tiles.MUSIC_PADDING)
    # Two passes: rivals can be counted only when the scores of the relevant items are known.
    near = sides.band(videos.spans, tracks.spans)
    kept = _find_relevant(videos, tracks, near)
    _count_rivals(videos, tracks, near, kept, progress)
    return _ranks(videos, tracks), _ranks(tracks, videos)


def _ranks(side: Side, other: Side) -> Ranks:
    query = np.flatnonzero(side.relevant > 0)
    relevant = side.relevant[query]
    return Ranks(
        query=query,
        relevant=relevant,
        gallery=len(other.embeddings) - relevant + 1,
        above=side.in_given_order(side.above)[query],
        tied=side.in_given_order(side.tied)[query],
        peers=side.in_given_order(side.peers)[query],
    )


def _block(side: Side) -> int:
    return max(1, sides.BLOCK // side.segments)


Kept = dict[tuple[int, int], jax.Array]  # scores (T,T) of tile pairs (i, j)


def _walk(near: np.ndarray, block: int) -> Iterator[tuple[int, int]]:
    """Yields tile pairs of the band (i, j), a tile j once for a block of tiles i."""
    for start in range(0, len(near), block):
        part = near[start : start + block]
        for j in range(part[:, 0].min(), part[:, 1].max()):
            for i in np.flatnonzero((part[:, 0] <= j) & (j < part[:, 1])):
                yield start + int(i), j


def _find_relevant(videos: Side, tracks: Side, near: np.ndarray) -> Kept:
    """Fills `best` with each item's distinct relevant scores, and `peers` with their counts."""
    # `_walk` returns to the tiles of its block of videos, and keeps to one music tile at a time.
    load_video = functools.lru_cache(_block(videos))(videos.load)
    load_music = functools.lru_cache(1)(tracks.load)
    found: list[dict[int, tiles.Classes]] = [{}, {}]
    kept: Kept = {}
    for i, j in _walk(near, _block(videos)):
        (video, video_label), (music, music_label) = load_video(i), load_music(j)
        known = (
            classes.get(tile) or _no_classes(side)
            for side, classes, tile in zip((videos, tracks), found, (i, j), strict=True)
        )
        scores = sides.score(video, music)
        if len(kept) < _KEPT:
            kept[i, j] = scores
        found[0][i], found[1][j] = tiles.merge_relevant(scores, video_label, music_label, *known)
    for side, classes in zip((videos, tracks), found, strict=True):
        for tile, (best, peers) in classes.items():
            # Unused classes move from -inf, which every item exceeds, to +inf, which none reaches.
            side.best[tile] = np.where(np.isneginf(best), np.inf, best)
            side.peers[tile] = peers
    return kept


def _no_classes(side: Side) -> tiles.Classes:
    shape = side.size, side.classes
    return jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)


def _count_rivals(
    videos: Side, tracks: Side, near: np.ndarray, kept: Kept, progress: Progress | None
) -> None:
    """Fills `above` and `tied` with counts of irrelevant items, in one pass over all tiles."""
    step, total = _tracks_at_hand(tracks), videos.tiles * tracks.tiles
    for first in range(0, tracks.tiles, step):
        span = slice(first, min(first + step, tracks.tiles))
        # Of few sizes, so that galleries of many sizes take the same few programs.
        gallery = tracks.load_gallery(span, min(step, 1 << (tracks.tiles - 1).bit_length()))
        for i, (above, tied) in _later(_counts(videos, tracks, gallery, span, near, kept)):
            videos.above[i] += np.asarray(above)
            videos.tied[i] += np.asarray(tied)
            if progress is not None:
                progress(first * videos.tiles + (i + 1) * (span.stop - first), total)


def _tracks_at_hand(tracks: Side) -> int:
    """Number of music tiles on the device at a time, by the memory that the device says is free."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return _block(tracks)
    memory = device.memory_stats() or {}
    free = memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)
    width = tracks.segments * tracks.embeddings.shape[-1] + 1 + 3 * tracks.classes
    return max(_block(tracks), int(_SHARE * free) // (4 * tracks.size * width))


def _counts(
    videos: Side, tracks: Side, gallery: tiles.Gallery, span: slice, near: np.ndarray, kept: Kept
) -> Iterator[TileCounts]:
    """Counts the tracks of some tiles as rivals; yields (i, counts of the videos of tile i)."""
    of_tracks = _no_counts(gallery.best)
    for i in range(videos.tiles):
        video, label = videos.load(i)
        best = jnp.asarray(videos.best[i])
        counts = _no_counts(best), of_tracks
        for start, stop, hidden in _runs(videos, tracks, i, span, near):
            if not hidden:
                counts = tiles.count_rivals(video, best, gallery, counts, start, stop)
                continue
            for j in range(start, stop):
                scores = kept.pop((i, span.start + j), None)
                if scores is None:
                    scores = sides.bounded(tiles.score_at(video, gallery, j), video)
                counts = tiles.count_hidden(scores, label, best, gallery, counts, j)
        of_video, of_tracks = counts
        yield i, of_video
    for total, part in zip((tracks.above, tracks.tied), of_tracks, strict=True):
        total[span] += np.asarray(part)[: span.stop - span.start]


def _no_counts(best: jax.Array) -> tiles.Counts:
    return jnp.zeros(best.shape, jnp.int32), jnp.zeros(best.shape, jnp.int32)


def _runs(
    videos: Side, tracks: Side, i: int, span: slice, near: np.ndarray
) -> Iterator[tuple[int, int, bool]]:
    """Runs of music tiles of a span, counted from its start; True where pairs are to be hidden."""
    # Outside the band and before padding no pair is hidden: a pass over the tile is saved.
    low, high = near[i].tolist() if i < videos.full else (0, tracks.tiles)
    edges = 0, min(low, tracks.full), high, max(high, tracks.full), tracks.tiles
    within = [min(max(edge, span.start), span.stop) - span.start for edge in edges]
    for (start, stop), hidden in zip(
        itertools.pairwise(within), (False, True, False, True), strict=True
    ):
        if start < stop:
            yield start, stop, hidden


def _later(counts: Iterable[TileCounts]) -> Iterator[TileCounts]:
    """Yields counts some tiles after they were asked of the device, which is not awaited before."""
    waiting: deque[TileCounts] = deque()
    for tile in counts:
        waiting.append(tile)
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting
