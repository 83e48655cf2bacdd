"""Scores of a block of rows against a whole gallery at a time, in bounded memory.

For what needs all scores of a query at once and no exact ties; ranks come from `tiles`.
"""

from collections.abc import Iterator

import numpy as np

# Scores of a block: 32 MB of float32, however large the gallery.
_SCORES = 1 << 23

# Cosines nearer than this are one and the same: the last bits depend on where a row stands.
ROUNDING = 1e-6


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices that cover `rows` rows, each of so many that rows of `width` values stay small."""
    step = max(1, _SCORES // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def scores(rows: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Inner products in float32: (b,D),(G,D)->(b,G)."""
    return rows.astype(np.float32, copy=False) @ gallery.astype(np.float32, copy=False).T


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float32: (N,P)->(N,P); a zero row stays zero."""
    rows = rows.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
