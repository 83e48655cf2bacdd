"""Ranked lists of the gallery, a query at a time, from the scores that the ranks are counted on.

Scores come from the one compiled product of `vmr.evaluation.tiles`. So a list orders items as
`vmr.evaluation.ranks` does, to the last bit, and what ties there ties here.
"""

import functools
from collections.abc import Iterator
from typing import Literal

import jax
import numpy as np

from vmr.evaluation import tiles

Direction = Literal["v2m", "m2v"]

# Items of the gallery that are sorted together: 32 MB of scores on CPU, 128 MB elsewhere.
_COLUMNS = 8192


def ranked_lists(
    queries: np.ndarray, gallery: np.ndarray, direction: Direction, depth: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Best items of every query, a block of queries at a time: (Q,D),(G,D) -> (q,K) rows, scores.

    K is the depth, or G if that is less. Scores descend; equal ones stand in the order of the
    gallery. O(K) memory a query of the block.

    Args:
        queries: (Q,D) videos for v2m, tracks for m2v, already checked.
        gallery: (G,D) the other side.
        direction: `v2m` or `m2v`.
        depth: items to a list, at least 1.
    """
    depth = min(depth, len(gallery))
    for start in range(0, len(queries), tiles.size()):
        block = queries[start : start + tiles.size()]
        rows, scores = np.empty((len(block), 0), np.int64), np.empty((len(block), 0), np.float32)
        for first, fresh in _bands(block, gallery, direction):
            # What was found stands before what comes, so that of equal scores the first rows stay.
            pool = np.concatenate([scores, fresh], axis=1)
            places = np.broadcast_to(first + np.arange(fresh.shape[1]), fresh.shape)
            places = np.concatenate([rows, places], axis=1)
            best, chosen = _top(pool, min(depth, pool.shape[1]))
            scores, rows = np.asarray(best), np.take_along_axis(places, np.asarray(chosen), axis=1)
        yield rows, scores


def score_rows(
    queries: np.ndarray, gallery: np.ndarray, direction: Direction
) -> Iterator[tuple[int, np.ndarray]]:
    """Scores of the queries of a tile, a tile of the gallery at a time: yields (first row, (q,g)).

    Args:
        queries: (q,D) videos for v2m, tracks for m2v; at most `tiles.size()`.
        gallery: (G,D) the other side.
        direction: `v2m` or `m2v`.
    """
    asked = tiles.padded(queries)
    for first in range(0, len(gallery), tiles.size()):
        items = gallery[first : first + tiles.size()]
        # The product takes videos first: the other way round its last bits might differ.
        if direction == "v2m":
            scores = tiles.score(asked, tiles.padded(items))
        else:
            scores = tiles.score(tiles.padded(items), asked).T
        yield first, np.asarray(scores)[: len(queries), : len(items)]


def _bands(
    queries: np.ndarray, gallery: np.ndarray, direction: Direction
) -> Iterator[tuple[int, np.ndarray]]:
    """Tiles of `score_rows`, several side by side."""
    size = max(1, _COLUMNS // tiles.size()) * tiles.size()
    for first in range(0, len(gallery), size):
        band = score_rows(queries, gallery[first : first + size], direction)
        yield first, np.concatenate([scores for _, scores in band], axis=1)


@functools.partial(jax.jit, static_argnames="depth")
def _top(scores: jax.Array, depth: int) -> tuple[jax.Array, jax.Array]:
    best, chosen = jax.lax.top_k(scores, depth)
    return best, chosen
