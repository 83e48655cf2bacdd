"""Exact search: the top k of a collection by inner product, its rows read where they lie.

BLAS scores each block of rows in float32, which settles the few that could be among the best; those
are scored again in float64, one arithmetic for every row. So two equal vectors tie to the last bit
wherever they stand, ties go by the order of rows, and hits are the same whatever the blocks, the
parts and the threads.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vmr.errors import UserError
from vmr.progress_bar import progress_bar

NEIGHBOURS = 10  # of CSLS, as published

_SCORES = 1 << 22  # of a block of queries with a block of rows, 16 MB
_QUERIES = 256  # of a block
_ROWS = 1 << 18  # of a block: with few queries, threads that meet often lose more than they share
_VALUES = 1 << 22  # of the rows that are scored again at a time, 32 MB in float64
_NO_ROW = -1


class Hits(NamedTuple):
    """Best k rows of each of Q queries, best first.

    Attributes:
      rows: (Q, k) int64, rows of the collection; -1 behind the last, where there are fewer than k.
      scores: (Q, k) float32, inner products; -inf where there is no row.
    """

    rows: np.ndarray
    scores: np.ndarray


def search(
    queries: np.ndarray,
    parts: Sequence[np.ndarray],
    top: int,
    *,
    offsets: np.ndarray | None = None,
    min_score: float = -np.inf,
    excluded: np.ndarray | None = None,
) -> Hits:
    """Best `top` rows for each query: (Q, D), parts (m_i, D) of M rows -> Hits of min(top, M).

    Memory beyond the arrays given is about 100 MB, whatever M; memory maps are read and not copied.

    Args:
      queries: unit rows.
      parts: unit rows, float32; read once in their order, whatever the number of queries.
      top: rows asked for; more than there are is allowed.
      offsets: (M,) added to each row's scores where they are compared, and nowhere else.
      min_score: hits of a lower inner product are left out.
      excluded: (M,) bool, rows that are no hits.

    Raises:
      UserError: the widths differ, or a row or a query holds NaN or infinity.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    _require_finite(queries, "queries", 0)
    best = _Best(len(queries), min(top, sum(map(len, parts))), min_score)
    step = min(_ROWS, _SCORES // min(max(len(queries), 1), _QUERIES))
    for start, rows in row_blocks(parts, step):
        if rows.shape[1] != queries.shape[1]:
            raise UserError(
                f"queries have width {queries.shape[1]}, and the collection {rows.shape[1]}"
            )
        span = slice(start, start + len(rows))
        left_out = None if excluded is None else excluded[span]
        added = None if offsets is None else offsets[span].astype(np.float32, copy=False)
        for first in range(0, len(queries), _QUERIES):
            scores = queries[first : first + _QUERIES] @ rows.T
            if not np.isfinite(scores.sum(dtype=np.float64)):
                _require_finite(rows, "the collection", start)
            keys = scores if added is None else scores + added
            if left_out is not None:
                keys[:, left_out] = -np.inf
            best.add(queries, rows, keys, first, start, added)
    return Hits(best.rows, best.scores)


def inner_products(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores of queries with a row each, as in `Hits`: (n, D), (n, D) -> (n,) float32."""
    # Summed in float64 and rounded once: the order of summation, which is the processor's, is gone.
    return np.einsum("nd,nd->n", queries, rows, dtype=np.float64).astype(np.float32)


def row_blocks(parts: Sequence[np.ndarray], step: int) -> Iterator[tuple[int, np.ndarray]]:
    """First row and rows of each block of at most `step` rows, views of the parts."""
    start = 0
    for part in parts:
        rows = np.asarray(part)  # a memory map's pages all the same, without its Python wrapper
        for first in range(0, len(rows), step):
            yield start + first, rows[first : first + step]
        start += len(rows)


def neighbourhood(
    items: Sequence[np.ndarray], bank: Sequence[np.ndarray], k: int = NEIGHBOURS
) -> np.ndarray:
    """Mean score of each item with the k nearest of a bank: parts of (M, D), of (B, D) -> (M,).

    This is r of cross-domain similarity local scaling, CSLS(q, g) = 2·s(q, g) − r(q) − r(g), which
    lowers the hubs (Lample, Conneau, Ranzato, Denoyer, Jégou, "Word Translation Without Parallel
    Data", ICLR 2018). `search` ranks by it with `offsets` of −r(g)/2.
    """
    means = np.empty(sum(map(len, items)), np.float32)
    with progress_bar(total=len(means), unit=" items", desc="hubs") as bar:
        for start, rows in row_blocks(items, 1 << 13):
            nearest = search(rows, bank, k).scores
            means[start : start + len(rows)] = nearest.mean(axis=1, dtype=np.float64)
            bar.update(len(rows))
    return means


class _Best:
    """Best k rows of each query so far, in the order of their keys, score plus offset."""

    def __init__(self, queries: int, k: int, min_score: float) -> None:
        self.rows = np.full((queries, k), _NO_ROW, np.int64)
        self.scores = np.full((queries, k), -np.inf, np.float32)
        self._keys = self.scores.copy()
        self._min_score = np.float32(min_score)

    def add(
        self,
        queries: np.ndarray,
        rows: np.ndarray,
        keys: np.ndarray,
        first: int,
        start: int,
        offsets: np.ndarray | None,
    ) -> None:
        """Adds the rows from `start` for the queries from `first`, by keys (q, m) of BLAS."""
        k = self.rows.shape[1]
        # The error of a sum of D float32 products of unit rows is at most D/2^24 of it, here and
        # in the key that it is compared with; some more for the offset and for rows of float16.
        slack = np.float32((2.1 * rows.shape[1] + 16) * 2.0**-24)
        floor = self._keys[first : first + len(keys), -1] - slack if k else np.inf
        near = keys >= np.maximum(floor, np.finfo(np.float32).min)[:, None]
        if keys.shape[1] > k and np.count_nonzero(near) > 4 * k * len(keys):
            # So many at the beginning, or where rows stand in the order of their scores.
            kth = np.partition(keys, keys.shape[1] - k, axis=1)[:, -k]
            near &= keys >= (kth - slack)[:, None]
        query, row = np.nonzero(near)
        step = max(1, _VALUES // rows.shape[1])
        for part in range(0, len(query), step):
            q, r = query[part : part + step] + first, row[part : part + step]
            scores = inner_products(queries[q], rows[r])
            exact = scores if offsets is None else scores + offsets[r]
            kept = scores >= self._min_score
            self._merge(q[kept], start + r[kept], scores[kept], exact[kept])

    def _merge(
        self, query: np.ndarray, row: np.ndarray, score: np.ndarray, key: np.ndarray
    ) -> None:
        """Takes in new rows (n,), each of some query; of equal keys the earlier row goes first."""
        touched, group = np.unique(query, return_inverse=True)
        k = self.rows.shape[1]
        group = np.concatenate([np.repeat(np.arange(len(touched)), k), group])
        row = np.concatenate([self.rows[touched].ravel(), row])
        score = np.concatenate([self.scores[touched].ravel(), score])
        key = np.concatenate([self._keys[touched].ravel(), key])
        order = np.lexsort((row, -key, group))
        sizes = np.bincount(group, minlength=len(touched))
        firsts = np.cumsum(sizes) - sizes
        best = order[firsts[:, None] + np.arange(k)]  # every group has its earlier k at least
        self.rows[touched], self.scores[touched] = row[best], score[best]
        self._keys[touched] = key[best]


def _require_finite(rows: np.ndarray, name: str, start: int) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = start + int(np.argmin(finite))
        raise UserError(f"{name}: row {row} holds NaN or infinity; expected unit rows")
