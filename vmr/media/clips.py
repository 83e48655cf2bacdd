"""Clips: stretches of equal length into which a medium is cut, each one row of its features."""

import numpy as np

_ROUNDING = 1e-6  # seconds; 10 · 1.1 is a little more than 11, where a picture begins


def clip_bounds(seconds: float, clip_seconds: float) -> np.ndarray:
    """Start and end of each clip of a medium, in seconds: (T, 2) float64, T ≥ 1.

    Clip r starts at r · clip_seconds. A rest of half a clip or more is a clip of its own; a shorter
    one goes with the clip before it, so that nothing of a medium is left out.

    Args:
      seconds: length of the medium.
      clip_seconds: length of a clip.
    """
    count = max(1, int(np.floor(seconds / clip_seconds + 0.5)))
    starts = np.arange(count) * clip_seconds
    return np.stack([starts, [*starts[1:], max(seconds, starts[-1])]], axis=1)


def first_rows(times: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Number of the first row that begins in each clip or after it: (n,), (T, 2) -> (T,) int."""
    return np.searchsorted(times, bounds[:, 0] - _ROUNDING, side="left")


def clip_means(rows: np.ndarray, times: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Means of the rows of each clip: (n, D), (n,), (T, 2) -> (T, D) float32.

    A clip in which no row begins has the last row before it: a picture stays until the next.

    Args:
      rows: features, n ≥ 1, in the order of time.
      times: seconds at which each row begins, ascending.
      bounds: of the clips, see `clip_bounds`.
    """
    first = first_rows(times, bounds)
    last = np.append(first[1:], len(rows))
    means = [
        rows[start:stop].mean(axis=0, dtype=np.float64) if stop > start else rows[max(start - 1, 0)]
        for start, stop in zip(first, last, strict=True)
    ]
    return np.stack(means).astype(np.float32)
