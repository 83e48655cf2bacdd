"""Planted pairs: the truth that they promise."""

import hashlib

import numpy as np
import pytest

from vmr.data.building.build import source_of
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches
from vmr.data.schema import Text
from vmr.data.sources import planted_features
from vmr.data.sources.planted import planted, planted_splits
from vmr.data.sources.planted_features import (
    QUALITIES,
    RandomMap,
    random_map,
    sequences,
    shared_qualities,
    vectors,
)
from vmr.errors import UserError

SLOW, FAST = {"glacial", "lingering", "slow", "unhurried"}, {"fast", "brisk", "racing", "frantic"}
SIZES = {"videos": 240, "tracks": 160, "seed": 3}


@pytest.fixture(scope="module")
def splits():
    return planted_splits(videos=1200, tracks=800, seed=0)


@pytest.fixture(scope="module")
def unfolded():
    return planted_splits(videos=300, tracks=200, seed=0, clips=20, text_absent=0.3)


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


def test_the_bytes_of_the_defaults_stay_what_they_were():
    digest = hashlib.sha256()
    for split in planted_splits(**SIZES).values():
        numbers = (part.astype(np.int64) for part in (split.track, split.group))
        for array in (split.video, split.music, *numbers):
            digest.update(array.tobytes())
    expected = "ddda09d8999c2c0d4e8b1c9f6f57fc23501393944b2562118fd344b219f4f96b"
    assert digest.hexdigest() == expected


def test_the_size_of_blocks_does_not_change_the_draws(monkeypatch):
    rng = np.random.default_rng(0)
    mapping, shared = random_map(rng, 7), shared_qualities(rng, 100)
    whole = vectors(np.random.default_rng(1), mapping, shared)
    monkeypatch.setattr(planted_features, "_BLOCK", 33)
    np.testing.assert_allclose(
        vectors(np.random.default_rng(1), mapping, shared), whole, rtol=1e-5, atol=1e-6
    )


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
    for option, expected in [
        ({"clips": 9}, "--clips=9: expected at least 10, or 0 for vectors"),
        ({"clips": -1}, "--clips=-1: expected at least 10"),
        ({"text_absent": 1.5}, "--text_absent=1.5: expected a share from 0 to 1"),
        ({"text_absent": float("nan")}, "--text_absent=nan: expected a share"),
        ({"group_tracks": -2}, "--group_tracks=-2: expected 1 to 60, the tracks of the training"),
        ({"group_tracks": 61}, "--group_tracks=61: expected 1 to 60"),
    ]:
        with pytest.raises(UserError, match=expected):
            planted(videos=90, tracks=80, **option)


def test_sequences_have_lengths_of_their_own(unfolded):
    for side, width in (("video", 192), ("music", 96)):
        items = [item for split in unfolded.values() for item in getattr(split, side)]
        assert {len(item) for item in items} == set(range(10, 41))
        assert all(item.shape[1] == width and item.dtype == np.float32 for item in items)


def test_a_quality_shows_in_its_act_and_the_order_is_the_items_own(monkeypatch):
    """Seen without jitter and noise, through a map that hardly bends what it shows."""
    monkeypatch.setattr(planted_features, "_JITTER", 0.0)
    monkeypatch.setattr(planted_features, "_NOISE", 0.0)
    rng = np.random.default_rng(0)
    shared = shared_qualities(rng, 50)
    plain = RandomMap(1e-4 * np.eye(12), np.zeros(12), 1e4 * np.eye(12))
    items = sequences(rng, plain, shared, clips=20)
    acts = set()
    for item, intensity in zip(items, shared.intensity, strict=True):
        shown = np.abs(item[:, :QUALITIES]) / intensity
        assert np.allclose(np.sort(shown, axis=1), [0.15] * 4 + [1.0], atol=1e-4)
        act = shown.argmax(axis=1)
        assert np.count_nonzero(np.diff(act)) == QUALITIES - 1
        assert np.ptp(np.bincount(act, minlength=QUALITIES)) <= 1
        assert np.ptp(np.sign(item[:, :QUALITIES]), axis=0).max() == 0
        assert np.ptp(item[:, QUALITIES:], axis=0).max() < 1e-4
        acts.add(tuple(act[np.r_[True, np.diff(act) != 0]]))
    assert len(acts) > 20


def test_every_clip_has_noise_of_its_own(unfolded):
    for item in unfolded["test"].music[:5]:
        assert len(np.unique(item[:, 0])) == len(item)


def test_text_tells_what_the_group_shares(unfolded):
    train = unfolded["train"]
    absent = np.mean([not text for text in train.text])
    assert 0.2 < absent < 0.4
    words = [set(text.split()) for text in train.text]
    genre, intensity = train.shared_by_videos.genre, train.shared_by_videos.intensity
    strings = {int(genre[row].argmax()) for row in range(len(words)) if "strings" in words[row]}
    assert len(strings) == 1
    fast = [intensity[row, 0] for row in range(len(words)) if words[row] & FAST]
    slow = [intensity[row, 0] for row in range(len(words)) if words[row] & SLOW]
    assert max(slow) < 0.6745 < min(fast)
    assert 0.7 < np.mean([bool(told & (SLOW | FAST)) for told in words if told]) < 0.9


def test_options_leave_each_other_alone(unfolded):
    silent = planted_splits(videos=300, tracks=200, seed=0, clips=20)
    plain = planted_splits(videos=300, tracks=200, seed=0, text_absent=0.0)
    for name, split in unfolded.items():
        np.testing.assert_array_equal(
            np.concatenate(split.video), np.concatenate(silent[name].video)
        )
        np.testing.assert_array_equal(split.group, plain[name].group)
        assert not silent[name].text
        pairs_of_text = zip(split.text, plain[name].text, strict=True)
        assert all(text in ("", whole) for text, whole in pairs_of_text)
        assert all(plain[name].text)


def test_training_groups_have_the_size_asked_for_and_held_out_splits_stay(splits):
    chosen = planted_splits(videos=1200, tracks=800, seed=0, group_tracks=7)
    sizes = np.unique(chosen["train"].group, return_counts=True)[1]
    assert sizes.tolist() == [7] * 85 + [5]
    for name in ("validation", "test"):
        for field in ("video", "music", "track"):
            np.testing.assert_array_equal(
                getattr(chosen[name], field), getattr(splits[name], field)
            )
        assert np.ptp(chosen[name].group - splits[name].group) == 0
    groups = [set(split.group.tolist()) for split in chosen.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_the_source_says_what_was_switched_on():
    plain = planted(**SIZES)
    assert (plain.schema.video, plain.schema.text) == (Modality(192), None)
    assert not any(word in plain.description for word in ("clips", "Text", "training"))
    full = planted(**SIZES, clips=12, text=True, text_absent=0.25, group_tracks=4)
    assert full.schema.music == Modality(96, sequence=True)
    assert full.schema.text == Text()
    for said in ("sequences of 6 to 24 clips", "25% of the videos have none", "4 tracks each"):
        assert said in full.description
    texts = [pair.text for pair in full.splits["train"]()]
    assert "" in texts
    assert any(texts)


def test_options_of_the_command_reach_the_source():
    options = SIZES | {"clips": 12, "text": True, "text_absent": 0.5, "group_tracks": 4}
    said = source_of("planted", options, given=["text_absent"]).description
    assert all(part in said for part in ("50%", "6 to 24", "4 tracks each"))
    with pytest.raises(UserError, match="--text_absent: expected with --text only"):
        source_of("planted", options | {"text": False}, given=["text_absent"])
