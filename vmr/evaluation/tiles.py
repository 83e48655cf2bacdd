"""Compiled functions of one tile of scores: T videos by T tracks, in float32 at full precision.

Every score of an evaluation comes from one compiled function, `score`, at one shape. Therefore the
same two vectors have the same score to the last bit in any row and column, duplicates tie exactly,
and a relevant item keeps one score in all comparisons. (Scored by a product of another shape, it
would differ in the last bits and lose to itself.) Items of several segments score by the maximum
of such products, one for each pair of segments, all of this shape.

Padding rows carry negative labels, other ones for videos than for tracks, so they match nothing.

Letters: T items of a tile; C score classes and S segments of a video, C' and R of a track; of
`merge_shifted` and `count_shifted`, S settings.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Numbers of items above each class and tied with it, both (T,C) int32.
Counts = tuple[jax.Array, jax.Array]

# Rows and columns of a tile, T. A multiple of every vector width, so that no row or column of the
# product falls to a remainder kernel with another order of summation; 4 MB of scores stay in cache.
TILE = 1024
VIDEO_PADDING = -1
MUSIC_PADDING = -2

# While a tile is summed, the upper 16 bits of an integer count the tied items and the lower
# bits the items above, so that one reduction yields both: each is at most TILE < 2**16.
_TIED = 16


@jax.jit
def score(video: jax.Array, music: jax.Array) -> jax.Array:
    """Inner products (T,D),(T,D)->(T,T), or best ones over segments (S,T,D),(R,T,D)->(T,T)."""
    if video.ndim == 2:
        return _product(video, music)

    def against_all(best: jax.Array, segment: jax.Array) -> tuple[jax.Array, None]:
        def against(best: jax.Array, other: jax.Array) -> tuple[jax.Array, None]:
            return jnp.maximum(best, _product(segment, other)), None

        return jax.lax.scan(against, best, music)

    # A running maximum takes the memory of one pair of segments, for any number of pairs.
    lowest = jnp.full((video.shape[1], music.shape[1]), -jnp.inf, video.dtype)
    return jax.lax.scan(against_all, lowest, video)[0]


def padded(rows: np.ndarray) -> jax.Array:
    """Rows filled up with zeros to a tile, in float32: (n,D)->(T,D)."""
    values = np.zeros((TILE, rows.shape[-1]), np.float32)
    values[: len(rows)] = rows
    return jnp.asarray(values)


def _product(video: jax.Array, music: jax.Array) -> jax.Array:
    # At the default precision, accelerators would round the factors to bfloat16 or TF32.
    return jax.lax.dot_general(
        video, music, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )


@jax.jit
def merge_relevant(
    scores: jax.Array,
    video_label: jax.Array,
    music_label: jax.Array,
    video_best: jax.Array,
    music_best: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Merges relevant scores into the best: (T,T),(T,),(T,),(T,C),(T,C')->(T,C),(T,C'), descending.

    Only distinct scores: items of equal score are one class. Unused places are -inf.
    """
    relevant = video_label[:, None] == music_label[None, :]
    pool = jnp.where(relevant, scores, -jnp.inf)
    return _distinct_best(pool, video_best, axis=1), _distinct_best(pool, music_best, axis=0)


def _distinct_best(pool: jax.Array, best: jax.Array, axis: int) -> jax.Array:
    # The next best score is the maximum below the last one: one pass for each of the C classes,
    # instead of a sort of the whole tile.
    def below(ceiling: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        fresh = jnp.where(pool < jnp.expand_dims(ceiling, axis), pool, -jnp.inf).max(axis=axis)
        known = jnp.where(best < ceiling[:, None], best, -jnp.inf).max(axis=1)
        highest = jnp.maximum(fresh, known)
        return highest, highest

    start = jnp.full(best.shape[0], jnp.inf, best.dtype)
    return jax.lax.scan(below, start, length=best.shape[1])[1].T


@jax.jit
def count_peers(
    scores: jax.Array,
    video_label: jax.Array,
    music_label: jax.Array,
    video_class: jax.Array,
    music_class: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Counts relevant items at each class's score: (T,T),(T,),(T,),(T,C),(T,C')->(T,C),(T,C')."""
    relevant = video_label[:, None] == music_label[None, :]
    pool = jnp.where(relevant, scores, -jnp.inf)
    return (
        _each_class(video_class, lambda level: jnp.sum(pool == level[:, None], axis=1)),
        _each_class(music_class, lambda level: jnp.sum(pool == level[None, :], axis=0)),
    )


@jax.jit
def hide(scores: jax.Array, video_label: jax.Array, music_label: jax.Array) -> jax.Array:
    """Sets relevant pairs and padding to -inf, below every class, where they are not counted."""
    relevant = video_label[:, None] == music_label[None, :]
    padding = (video_label < 0)[:, None] | (music_label < 0)[None, :]
    return jnp.where(relevant | padding, -jnp.inf, scores)


@jax.jit
def add_counts(
    scores: jax.Array, classes: tuple[jax.Array, jax.Array], video: Counts, music: Counts
) -> tuple[Counts, Counts]:
    """Adds counts of the items above and at each class: (T,T),((T,C),(T,C')),counts,counts->counts.

    Rows of the scores are videos, columns tracks.
    """

    def packed(level: jax.Array, axis: int) -> jax.Array:
        level = jnp.expand_dims(level, axis)
        above = (scores > level).astype(jnp.int32)
        tied = (scores == level).astype(jnp.int32)
        return jnp.sum(above + (tied << _TIED), axis=axis)

    video_class, music_class = classes
    added_video = _each_class(video_class, lambda level: packed(level, axis=1))
    added_music = _each_class(music_class, lambda level: packed(level, axis=0))
    return _add(video, added_video), _add(music, added_music)


@jax.jit
def merge_shifted(
    scores: jax.Array,
    query_label: jax.Array,
    item_label: jax.Array,
    offsets: jax.Array,
    best: jax.Array,
) -> jax.Array:
    """`merge_relevant` of keys, for queries: (T,T),(T,),(T,),(S,T),(S,T,C)->(S,T,C).

    A key is a score plus the item's offset, of which there is one for each of S settings. Rows of
    the scores are queries.
    """
    relevant = query_label[:, None] == item_label[None, :]

    def merge(setting: tuple[jax.Array, jax.Array]) -> jax.Array:
        offset, known = setting
        return _distinct_best(
            jnp.where(relevant, scores + offset[None, :], -jnp.inf), known, axis=1
        )

    return jax.lax.map(merge, (offsets, best))


@jax.jit
def count_shifted(
    scores: jax.Array,
    query_label: jax.Array,
    item_label: jax.Array,
    offsets: jax.Array,
    classes: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Counts at each class of keys: (T,T),(T,),(T,),(S,T),(S,T,C)->above, tied, peers (S,T,C).

    Keys are score plus the item's offset; rows of the scores are queries.
    """
    relevant = query_label[:, None] == item_label[None, :]
    rival = ~relevant & (item_label >= 0)[None, :]

    def count(setting: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        offset, levels = setting
        keys = scores + offset[None, :]
        rivals, own = jnp.where(rival, keys, -jnp.inf), jnp.where(relevant, keys, -jnp.inf)
        return (
            _each_class(levels, lambda level: jnp.sum(rivals > level[:, None], axis=1)),
            _each_class(levels, lambda level: jnp.sum(rivals == level[:, None], axis=1)),
            _each_class(levels, lambda level: jnp.sum(own == level[:, None], axis=1)),
        )

    return jax.lax.map(count, (offsets, classes))


def _add(counts: Counts, packed: jax.Array) -> Counts:
    above, tied = counts
    return above + (packed & ((1 << _TIED) - 1)), tied + (packed >> _TIED)


def _each_class(classes: jax.Array, statistic: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Applies a statistic to each class: (T,C)->(T,C)."""
    # A loop and no `vmap`: on several classes at once XLA for CPU loses its fast reductions.
    return jax.lax.map(statistic, classes.T).T
