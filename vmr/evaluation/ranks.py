"""Exact ranks of the relevant items, both directions from one pass over tiles of scores.

An item is relevant to a query if their labels are equal. For video-track pairs a track's label is
its row and a video's label the row of its track, so a video has one relevant track and a track
has as many relevant videos as use it.

Both modalities are sorted by label. Relevant pairs then lie in a narrow band of tiles, which is
scored first, for the scores of the relevant items; a second pass over all tiles counts the items
above them. The product of a tile serves both directions. Memory is O(N + M) beside the embeddings:
no N x M matrix exists at any time.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vmr.errors import UserError
from vmr.evaluation import checks, tiles
from vmr.evaluation.checks import Embedded, NotUnit, SegmentedItems
from vmr.evaluation.lists import Direction

Progress = Callable[[int, int], None]

# Video tiles in memory during one pass over the music tiles; fewer where items have segments.
_BLOCK = 8


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
    tracks = np.arange(len(music_emb))
    return _both_directions(video_emb, music_emb, index, tracks, classes, progress)


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
    return _both_directions(video_emb, music_emb, video_group, music_group, classes, progress)


def offset_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_label: np.ndarray,
    gallery_label: np.ndarray,
    offsets: np.ndarray,
    direction: Direction,
    *,
    classes: int = 1,
    not_unit: NotUnit = "refuse",
) -> list[Ranks]:
    """Ranks by score plus an offset of the item: (Q,D),(G,D),(Q,),(G,),(S,G)->`Ranks` of each of S.

    One direction, and one pass over the scores for all S settings. With offsets of 0 these are the
    ranks of `group_ranks`. Keys are sums in float32; equal items with equal offsets tie.

    Args:
        queries: (Q,D) videos for v2m, tracks for m2v.
        gallery: (G,D) the other side.
        query_label: (Q,) integers or strings; equal labels are relevant.
        gallery_label: (G,) likewise.
        offsets: (S,G) finite.
        direction: `v2m` or `m2v`.
        classes: as of `pair_ranks`.
        not_unit: as of `pair_ranks`.

    Raises:
        UserError: as `group_ranks`, or offsets are of another shape or not finite.
    """
    queries = checks.check_embeddings("queries", queries, not_unit=not_unit)
    gallery = checks.check_embeddings("gallery", gallery, not_unit=not_unit)
    checks.check_widths("queries", queries, "gallery", gallery)
    query_label = checks.check_labels("query_label", query_label, len(queries))
    gallery_label = checks.check_labels("gallery_label", gallery_label, len(gallery))
    offsets = np.asarray(offsets, np.float32)
    if offsets.ndim != 2 or offsets.shape[1] != len(gallery) or not np.isfinite(offsets).all():
        raise UserError(
            f"offsets: expected finite numbers (settings, {len(gallery)}), found {offsets.shape}"
        )
    if not np.isin(query_label, gallery_label).any():
        raise UserError("no query and item share a label; expected at least one pair")
    groups, label = np.unique(np.concatenate([query_label, gallery_label]), return_inverse=True)
    query_label, gallery_label = np.split(label.astype(np.int32), [len(queries)])
    counts = (np.bincount(each, minlength=len(groups)) for each in (gallery_label, query_label))
    items_of, queries_of = counts
    asked = _Side(
        queries, query_label, items_of[query_label], classes=classes, padding=tiles.VIDEO_PADDING
    )
    items = _Side(
        gallery, gallery_label, queries_of[gallery_label], classes=1, padding=tiles.MUSIC_PADDING
    )
    return _offset_ranks(asked, items, offsets, direction)


def _offset_ranks(
    asked: "_Side", items: "_Side", offsets: np.ndarray, direction: Direction
) -> list[Ranks]:
    shifts = np.zeros((len(offsets), items.tiles * tiles.TILE), np.float32)
    shifts[:, : len(items.order)] = offsets[:, items.order]
    load_item = functools.lru_cache(_BLOCK)(items.load)

    def scored(i: int, j: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Scores (T,T) with queries as rows, labels of both, offsets (S,T)."""
        (query, query_label), (item, item_label) = asked.load(i), load_item(j)
        # The product takes videos first: the other way round its last bits might differ.
        scores = _score(query, item) if direction == "v2m" else _score(item, query).T
        span = slice(j * tiles.TILE, (j + 1) * tiles.TILE)
        return scores, query_label, item_label, jnp.asarray(shifts[:, span])

    found = []
    shape = len(offsets), *asked.best[0].shape
    for i in range(asked.tiles):
        best = jnp.full(shape, -jnp.inf, jnp.float32)
        for j in range(items.tiles):
            if asked.meets(i, items, j):
                best = tiles.merge_shifted(*scored(i, j), best)
        best = jnp.where(jnp.isneginf(best), jnp.inf, best)  # as in `_find_relevant`
        counts = [np.zeros(shape, np.int64) for _ in range(3)]
        for j in range(items.tiles):
            for total, part in zip(counts, tiles.count_shifted(*scored(i, j), best), strict=True):
                total += np.asarray(part)
        found.append(counts)
    above, tied, peers = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    query = np.flatnonzero(asked.relevant > 0)
    relevant = asked.relevant[query]
    return [
        Ranks(
            query=query,
            relevant=relevant,
            gallery=len(items.embeddings) - relevant + 1,
            above=asked.in_given_order([above[setting]])[query],
            tied=asked.in_given_order([tied[setting]])[query],
            peers=asked.in_given_order([peers[setting]])[query],
        )
        for setting in range(len(offsets))
    ]


class _Side:
    """Embeddings of one modality, sorted by relevance label and cut into tiles; accumulates counts.

    N items with C relevant score classes each; the lists have one (T,C) array per tile.

    Args:
        embeddings: (N,D) or segmented, in the caller's order and type; only the tile in use is
            copied and cast to float32.
        label: (N,) int32, from 0.
        relevant: (N,) number of items of the other modality with the same label.
        classes: score classes requested; C is smaller if no item has so many relevant ones.
        padding: negative label of the rows that fill up the last tile.
    """

    def __init__(
        self,
        embeddings: Embedded,
        label: np.ndarray,
        relevant: np.ndarray,
        *,
        classes: int,
        padding: int,
    ) -> None:
        self.embeddings = embeddings
        self.order = np.argsort(label, kind="stable")
        self.label = label[self.order]
        self.relevant = relevant  # in the caller's order, not sorted
        self.padding = padding
        self.tiles = -(-len(label) // tiles.TILE)
        shape = (tiles.TILE, max(1, min(classes, int(relevant.max()))))
        self.best = [jnp.full(shape, -jnp.inf, jnp.float32)] * self.tiles
        self.peers = [jnp.zeros(shape, jnp.int32)] * self.tiles
        self.above = [jnp.zeros(shape, jnp.int32)] * self.tiles
        self.tied = [jnp.zeros(shape, jnp.int32)] * self.tiles

    def load(self, tile: int) -> tuple[jax.Array, jax.Array]:
        """Loads a tile, padded to full size: embeddings (T,D) or (S,T,D) float32, labels (T,)."""
        # Every tile is of the full size: one shape is one compiled product, and ties are exact.
        rows = self.order[tile * tiles.TILE : (tile + 1) * tiles.TILE]
        label = np.full(tiles.TILE, self.padding, np.int32)
        label[: len(rows)] = self.label[tile * tiles.TILE : (tile + 1) * tiles.TILE]
        return jnp.asarray(self._values(rows)), jnp.asarray(label)

    def _values(self, rows: np.ndarray) -> np.ndarray:
        items, width = self.embeddings, self.embeddings.shape[-1]
        if isinstance(items, SegmentedItems):
            values = np.zeros((items.longest, tiles.TILE, width), np.float32)
            for position in range(items.longest):
                values[position, : len(rows)] = items.segment(rows, position)
        else:
            values = np.zeros((tiles.TILE, width), np.float32)
            values[: len(rows)] = items[rows]
        return values

    @property
    def segments(self) -> int:
        """Number of rows that a tile has for each of its items."""
        return self.embeddings.longest if isinstance(self.embeddings, SegmentedItems) else 1

    def full(self, tile: int) -> bool:
        """Returns True if a tile has no padding."""
        return (tile + 1) * tiles.TILE <= len(self.label)

    def meets(self, tile: int, other: "_Side", other_tile: int) -> bool:
        """Returns True if two tiles may share a label: the ranges of their labels overlap."""
        low, high = self._span(tile)
        other_low, other_high = other._span(other_tile)
        return low <= other_high and other_low <= high

    def _span(self, tile: int) -> tuple[int, int]:
        return int(self.label[tile * tiles.TILE]), int(self.label[: (tile + 1) * tiles.TILE][-1])

    def in_given_order(self, parts: list[jax.Array]) -> np.ndarray:
        """Undoes the sorting: one (T,C) array per tile -> (N,C) int64, in the caller's order."""
        values = np.concatenate([np.asarray(part) for part in parts])[: len(self.order)]
        given = np.empty(values.shape, np.int64)
        given[self.order] = values
        return given


def _both_directions(
    video_emb: Embedded,
    music_emb: Embedded,
    video_group: np.ndarray,
    music_group: np.ndarray,
    classes: int,
    progress: Progress | None,
) -> tuple[Ranks, Ranks]:
    # One numbering of the labels of both modalities: equal integers are relevant to each other.
    groups, label = np.unique(np.concatenate([video_group, music_group]), return_inverse=True)
    video_label, music_label = np.split(label.astype(np.int32), [len(video_emb)])
    videos_of = np.bincount(video_label, minlength=len(groups))
    tracks_of = np.bincount(music_label, minlength=len(groups))
    videos = _Side(
        video_emb,
        video_label,
        tracks_of[video_label],
        classes=classes,
        padding=tiles.VIDEO_PADDING,
    )
    tracks = _Side(
        music_emb,
        music_label,
        videos_of[music_label],
        classes=classes,
        padding=tiles.MUSIC_PADDING,
    )
    # Two passes: rivals can be counted only when the scores of the relevant items are known.
    _find_relevant(videos, tracks)
    _count_rivals(videos, tracks, progress)
    return _ranks(videos, tracks), _ranks(tracks, videos)


def _ranks(side: _Side, other: _Side) -> Ranks:
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


def _block(videos: _Side) -> int:
    return max(1, _BLOCK // videos.segments)


def _walk(videos: _Side, tracks: _Side) -> Iterator[tuple[int, int]]:
    """Yields tile pairs (i, j) in an order that loads a music tile once for a block of videos."""
    block = _block(videos)
    for start in range(0, videos.tiles, block):
        for j in range(tracks.tiles):
            for i in range(start, min(start + block, videos.tiles)):
                yield i, j


def _score(video: jax.Array, music: jax.Array) -> jax.Array:
    scores = tiles.score(video, music)
    if video.ndim == 3:
        # JAX returns before the work is done: tiles of many segments would queue up in memory.
        scores.block_until_ready()
    return scores


def _find_relevant(videos: _Side, tracks: _Side) -> None:
    """Fills `best` with each item's distinct relevant scores, and `peers` with their counts."""
    # `_walk` returns to the tiles of its block of videos, and keeps to one music tile at a time.
    load_video = functools.lru_cache(_block(videos))(videos.load)
    load_music = functools.lru_cache(1)(tracks.load)
    band = [(i, j) for i, j in _walk(videos, tracks) if videos.meets(i, tracks, j)]
    for i, j in band:
        (video, video_label), (music, music_label) = load_video(i), load_music(j)
        videos.best[i], tracks.best[j] = tiles.merge_relevant(
            _score(video, music), video_label, music_label, videos.best[i], tracks.best[j]
        )
    for side in (videos, tracks):
        # Unused classes move from -inf, which every item exceeds, to +inf, which none reaches.
        side.best = [jnp.where(jnp.isneginf(best), jnp.inf, best) for best in side.best]
    for i, j in band:
        (video, video_label), (music, music_label) = load_video(i), load_music(j)
        video_peers, music_peers = tiles.count_peers(
            _score(video, music), video_label, music_label, videos.best[i], tracks.best[j]
        )
        videos.peers[i] = videos.peers[i] + video_peers
        tracks.peers[j] = tracks.peers[j] + music_peers


def _count_rivals(videos: _Side, tracks: _Side, progress: Progress | None) -> None:
    """Fills `above` and `tied` with counts of irrelevant items, in one pass over all tiles."""
    load_video = functools.lru_cache(_block(videos))(videos.load)
    load_music = functools.lru_cache(1)(tracks.load)
    for done, (i, j) in enumerate(_walk(videos, tracks), start=1):
        (video, video_label), (music, music_label) = load_video(i), load_music(j)
        scores = _score(video, music)
        padded = not (videos.full(i) and tracks.full(j))
        if padded or videos.meets(i, tracks, j):
            # Elsewhere no pair is relevant, and the pass over the tile that hides them is saved.
            scores = tiles.hide(scores, video_label, music_label)
        (videos.above[i], videos.tied[i]), (tracks.above[j], tracks.tied[j]) = tiles.add_counts(
            scores,
            (videos.best[i], tracks.best[j]),
            (videos.above[i], videos.tied[i]),
            (tracks.above[j], tracks.tied[j]),
        )
        if progress is not None:
            progress(done, videos.tiles * tracks.tiles)
