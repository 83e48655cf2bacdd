"""Clips: where they begin and end, and which rows are theirs."""

import numpy as np
import pytest

from vmr.media.clips import clip_bounds, clip_means


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, [[0, 2]]),
        (2.9, [[0, 2.9]]),
        (3.0, [[0, 2], [2, 3]]),
        (4.0, [[0, 2], [2, 4]]),
        (4.9, [[0, 2], [2, 4.9]]),
    ],
)
def test_a_rest_of_half_a_clip_is_a_clip(seconds, expected):
    expected[-1][1] = seconds
    np.testing.assert_array_equal(clip_bounds(seconds, 2), expected)


def test_a_row_at_the_start_of_a_clip_is_of_that_clip_for_any_length():
    for clip_seconds in np.arange(1, 40) / 10:
        times = np.arange(100.0)
        means = clip_means(times[:, None], times, clip_bounds(100, clip_seconds))[:, 0]
        starts = [round(10 * clip_seconds) * clip / 10 for clip in range(len(means))]
        for start, stop, mean in zip(starts, [*starts[1:], 100], means, strict=True):
            rows = [row for row in range(100) if start <= row < stop]
            assert mean == pytest.approx(np.mean(rows) if rows else np.ceil(start) - 1)
