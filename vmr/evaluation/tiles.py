"""Compiled functions of tiles of scores: T videos by T tracks, in float32 at full precision.

Every score of an evaluation comes from one product, `score`, at one shape. Therefore the
same two vectors have the same score to the last bit in any row and column, duplicates tie exactly,
and a relevant item keeps one score in all comparisons. (Scored by a product of another shape, it
would differ in the last bits and lose to itself.) Items of several segments score by the maximum
of such products, one for each pair of segments, all of this shape.

Padding rows carry negative labels, other ones for videos than for tracks, so they match nothing.

Letters: T items of a tile, J tiles of a gallery; C score classes and S segments of a video, C' and
R of a track; of `merge_shifted` and `count_shifted`, S settings.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Scores of the best classes of relevant items, descending, and numbers of relevant items at each,
# (T,C) float32 and int32; unused places are -inf and 0.
Classes = tuple[jax.Array, jax.Array]
# Numbers of items above each class and tied with it, both (T,C) int32.
Counts = tuple[jax.Array, jax.Array]

# Rows and columns of a tile on CPU. A multiple of every vector width, so that no row or column of
# the product falls to a remainder kernel with another order of summation; 4 MB of scores stay in
# cache.
TILE = 1024
# The same on accelerators, whose many cores a product of the size above would leave idle.
ACCELERATOR_TILE = 4096
VIDEO_PADDING = -1
MUSIC_PADDING = -2

# While a tile is summed, the upper 16 bits of an integer count the tied items and the lower
# bits the items above, so that one reduction yields both: each is at most T < 2**15.
_TIED = 16
# The same within a part of so many items, in 8 bits each.
_PART, _PART_TIED = 128, 8


class Gallery(NamedTuple):
    """J tiles of tracks on the device.

    Attributes:
        embeddings: (J,T,D) or (J,R,T,D) float32.
        label: (J,T) int32.
        best: (J,T,C') float32, scores of the classes to count at; +inf in unused places.
    """

    embeddings: jax.Array
    label: jax.Array
    best: jax.Array


def size() -> int:
    """Rows and columns of a tile, T, on this process's devices."""
    return TILE if jax.default_backend() == "cpu" else ACCELERATOR_TILE


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
    values = np.zeros((size(), rows.shape[-1]), np.float32)
    values[: len(rows)] = rows
    return jnp.asarray(values)


def _product(video: jax.Array, music: jax.Array) -> jax.Array:
    # Fused with what stands around it, a product might sum in another order in every program.
    video, music = jax.lax.optimization_barrier((video, music))
    # At the default precision, accelerators would round the factors to bfloat16 or TF32.
    scores = jax.lax.dot_general(
        video, music, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    return jax.lax.optimization_barrier(scores)


@jax.jit
def merge_relevant(
    scores: jax.Array,
    video_label: jax.Array,
    music_label: jax.Array,
    video: Classes,
    music: Classes,
) -> tuple[Classes, Classes]:
    """Merges relevant scores into the best: (T,T),(T,),(T,),classes,classes->classes,classes.

    Only distinct scores: items of equal score are one class.
    """
    relevant = video_label[:, None] == music_label[None, :]
    pool = jnp.where(relevant, scores, -jnp.inf)
    return _merged(pool, video, axis=1), _merged(pool, music, axis=0)


def _merged(pool: jax.Array, classes: Classes, axis: int) -> Classes:
    # The next best score is the maximum below the last one: two passes for each of the C classes,
    # instead of a sort of the whole tile. A class among the best of all tiles is among the best of
    # every tile that it is in, so that its peers are counted from the first one on.
    best, peers = classes

    def below(ceiling: jax.Array, _: None) -> tuple[jax.Array, Classes]:
        highest = _highest_below(ceiling, pool, best, axis)
        fresh = jnp.sum(pool == jnp.expand_dims(highest, axis), axis=axis)
        known = jnp.sum(jnp.where(best == highest[:, None], peers, 0), axis=1)
        return highest, (highest, jnp.where(jnp.isneginf(highest), 0, fresh + known))

    start = jnp.full(best.shape[0], jnp.inf, best.dtype)
    highest, count = jax.lax.scan(below, start, length=best.shape[1])[1]
    return highest.T, count.T


def _highest_below(ceiling: jax.Array, pool: jax.Array, best: jax.Array, axis: int) -> jax.Array:
    fresh = jnp.where(pool < jnp.expand_dims(ceiling, axis), pool, -jnp.inf).max(axis=axis)
    known = jnp.where(best < ceiling[:, None], best, -jnp.inf).max(axis=1)
    return jnp.maximum(fresh, known)


@jax.jit
def hide(scores: jax.Array, video_label: jax.Array, music_label: jax.Array) -> jax.Array:
    """Sets relevant pairs and padding to -inf, below every class, where they are not counted."""
    relevant = video_label[:, None] == music_label[None, :]
    padding = (video_label < 0)[:, None] | (music_label < 0)[None, :]
    return jnp.where(relevant | padding, -jnp.inf, scores)


@jax.jit
def score_at(video: jax.Array, gallery: Gallery, tile: jax.Array) -> jax.Array:
    """`score` of a tile of videos and one of a gallery: (T,D) or (S,T,D), J tiles, ()->(T,T)."""
    return score(video, gallery.embeddings[tile])


@jax.jit
def count_rivals(
    video: jax.Array,
    video_best: jax.Array,
    gallery: Gallery,
    counts: tuple[Counts, Counts],
    start: jax.Array,
    stop: jax.Array,
) -> tuple[Counts, Counts]:
    """Counts a tile of videos against tiles of a gallery, all pairs rivals, in one program.

    Args:
        video: (T,D) or (S,T,D).
        video_best: (T,C) scores of the classes to count at.
        gallery: J tiles.
        counts: of the videos (T,C), and of the gallery (J,T,C'); what is counted is added to both.
        start: first tile of the gallery.
        stop: the tile after the last.
    """

    def add_tile(tile: jax.Array, counts: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
        scores = score_at(video, gallery, tile)
        return _add_tile(scores, video_best, gallery.best, counts, tile)

    return jax.lax.fori_loop(start, stop, add_tile, counts)


@jax.jit
def count_hidden(
    scores: jax.Array,
    video_label: jax.Array,
    video_best: jax.Array,
    gallery: Gallery,
    counts: tuple[Counts, Counts],
    tile: jax.Array,
) -> tuple[Counts, Counts]:
    """`count_rivals` of one tile by its scores (T,T), with relevant pairs and padding hidden."""
    scores = hide(scores, video_label, gallery.label[tile])
    return _add_tile(scores, video_best, gallery.best, counts, tile)


def _add_tile(
    scores: jax.Array,
    video_best: jax.Array,
    gallery_best: jax.Array,
    counts: tuple[Counts, Counts],
    tile: jax.Array,
) -> tuple[Counts, Counts]:
    of_video, of_gallery = counts
    here = (of_gallery[0][tile], of_gallery[1][tile])
    of_video, here = add_counts(scores, (video_best, gallery_best[tile]), of_video, here)
    above, tied = (
        jax.lax.dynamic_update_index_in_dim(every, one, tile, axis=0)
        for every, one in zip(of_gallery, here, strict=True)
    )
    return of_video, (above, tied)


@functools.partial(jax.jit, donate_argnums=0)
def put(gallery: jax.Array, tile: jax.Array, position: jax.Array) -> jax.Array:
    """Writes a tile to its place in a gallery, in place: (J,...),(...),()->(J,...)."""
    return jax.lax.dynamic_update_index_in_dim(gallery, tile, position, axis=0)


@jax.jit
def add_counts(
    scores: jax.Array, classes: tuple[jax.Array, jax.Array], video: Counts, music: Counts
) -> tuple[Counts, Counts]:
    """Adds counts of the items above and at each class: (T,T),((T,C),(T,C')),counts,counts->counts.

    Rows of the scores are videos, columns tracks.
    """

    def packed(level: jax.Array, axis: int) -> jax.Array:
        level = jnp.expand_dims(level, axis)
        above = (scores > level).astype(jnp.uint16)
        tied = (scores == level).astype(jnp.uint16)
        return _sum_packed(above + (tied << _PART_TIED), axis)

    video_class, music_class = classes
    added_video = _each_class(video_class, lambda level: packed(level, axis=1))
    added_music = _each_class(music_class, lambda level: packed(level, axis=0))
    return _add(video, added_video), _add(music, added_music)


def _sum_packed(counts: jax.Array, axis: int) -> jax.Array:
    """Sums of items above and tied, along an axis: (T,T) uint16, packed in 8 bits -> (T,) int32."""
    # XLA for CPU writes what it sums: half as much in 16 bits, which hold sums of a part.
    count = counts.shape[0]
    part = math.gcd(count, _PART)
    shape = (count, part, count // part) if axis == 1 else (count // part, part, count)
    parts = jnp.sum(counts.reshape(shape), axis=1, dtype=jnp.uint16).astype(jnp.int32)
    above, tied = parts & ((1 << _PART_TIED) - 1), parts >> _PART_TIED
    return jnp.sum(above + (tied << _TIED), axis=axis)


@jax.jit
def merge_shifted(
    scores: jax.Array,
    query_label: jax.Array,
    item_label: jax.Array,
    offsets: jax.Array,
    best: jax.Array,
) -> jax.Array:
    """The scores of `merge_relevant` of keys, for queries: (T,T),(T,),(T,),(S,T),(S,T,C)->(S,T,C).

    A key is a score plus the item's offset, of which there is one for each of S settings. Rows of
    the scores are queries.
    """
    relevant = query_label[:, None] == item_label[None, :]

    def merge(setting: tuple[jax.Array, jax.Array]) -> jax.Array:
        offset, known = setting
        pool = jnp.where(relevant, scores + offset[None, :], -jnp.inf)

        def below(ceiling: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            highest = _highest_below(ceiling, pool, known, axis=1)
            return highest, highest

        start = jnp.full(known.shape[0], jnp.inf, known.dtype)
        return jax.lax.scan(below, start, length=known.shape[1])[1].T

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
