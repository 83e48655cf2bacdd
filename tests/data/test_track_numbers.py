"""Numbers of tracks by the hashes of their ids: those that a dictionary of the ids would give."""

import numpy as np
import pytest

from vmr.data.building.numbers import HashNumbers, TrackNumbers
from vmr.errors import UserError


@pytest.mark.parametrize("spread", [1, 2**20, 2**56])
def test_hashes_are_numbered_in_the_order_in_which_they_come(spread):
    """Also where many of them belong to one slot of the table."""
    hashes = (np.random.default_rng(0).integers(-400, 400, size=3000) * spread).tolist()
    numbers, expected = HashNumbers(), {}
    for content in hashes:
        assert numbers.of(content) == expected.setdefault(content, len(expected))
    assert len(numbers) == len(expected)


def test_tracks_are_numbered_across_splits():
    numbers = TrackNumbers()
    assert [numbers.of_pair("train", f"v{i}", f"m{i // 2}") for i in range(5)] == [0, 0, 1, 1, 2]
    assert [numbers.of_pair("test", f"v{i}", f"m{i}") for i in (1, 7)] == [1, 3]
    numbers.refuse_empty("train")
    counts = {split: counts.tolist() for split, counts in numbers.videos_per_track.items()}
    assert counts == {"train": [2, 2, 1], "test": [1, 1]}


def test_a_video_comes_once_and_a_split_is_not_empty():
    numbers = TrackNumbers()
    for video in ("a", "b"):
        numbers.of_pair("train", video, "m")
    for video in ("a", "b"):
        with pytest.raises(UserError, match=f"train: video id '{video}' comes twice, expected"):
            numbers.of_pair("train", video, "n")
    with pytest.raises(UserError, match="test: holds no pair, expected at least one"):
        numbers.refuse_empty("test")
