"""Planted pairs: the truth that they promise."""

import numpy as np
import pytest

from vmr.data.pipeline import eval_batches
from vmr.data.planted import planted, planted_splits
from vmr.errors import UserError


@pytest.fixture(scope="module")
def splits():
    return planted_splits(videos=1200, tracks=800, seed=0)


def test_sizes_are_those_asked_for(splits):
    assert sum(len(split.track) for split in splits.values()) == 1200
    assert [len(split.music) for split in splits.values()] == [600, 100, 100]
    assert all(set(split.track) == set(range(len(split.music))) for split in splits.values())


def test_splits_share_neither_tracks_nor_groups(splits):
    music_ids = [{pair.music_id for pair in split.pairs()} for split in splits.values()]
    groups = [set(split.group.tolist()) for split in splits.values()]
    for parts in (music_ids, groups):
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_some_tracks_have_several_videos_and_some_groups_several_tracks(splits):
    train = splits["train"]
    assert np.bincount(train.track).max() > 1
    assert 1.2 < np.bincount(train.group).mean() < 2.0


def test_the_seed_decides_everything():
    one, same, other = (planted_splits(240, 160, seed)["test"].video for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_features_say_nothing_linear_about_the_shared_intensities(splits):
    """Same group or not, a video's features are as far from linear in the music as can be."""
    train = splits["train"]
    video = train.video - train.video.mean(axis=0)
    music = train.music[train.track] - train.music[train.track].mean(axis=0)
    held_out = len(video) // 2
    weights = np.linalg.lstsq(music[:held_out], video[:held_out], rcond=None)[0]
    unexplained = np.square(video[held_out:] - music[held_out:] @ weights).sum()
    assert unexplained > 0.9 * np.square(video[held_out:]).sum()


def test_groups_reach_the_batches(small_planted):
    batch = next(eval_batches(small_planted, "train", 64))
    assert batch["group"].dtype == np.int32
    pairs = {(pair.video_id, pair.group) for pair in planted(240, 160, 3).splits["train"]()}
    assert set(zip(batch["video_id"], batch["group"].tolist(), strict=True)) <= pairs


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="--tracks=10: expected at least 80"):
        planted(videos=100, tracks=10)
    with pytest.raises(UserError, match=r"--videos=90: .*--tracks=100"):
        planted(videos=90, tracks=100)
    with pytest.raises(UserError, match="--seed=-1: expected 0 or more"):
        planted(videos=90, tracks=80, seed=-1)
