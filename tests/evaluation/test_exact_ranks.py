import functools
import types

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ranking import assert_matches, grid, unit_rows

from vmr.errors import UserError
from vmr.evaluation import evaluate, group_ranks, metrics, pair_ranks, ranks, sides, tiles
from vmr.evaluation.tiles import TILE

# Rows of small integers, whose inner products are exact and tie: not of unit length.
pair_ranks = functools.partial(pair_ranks, not_unit="keep")
group_ranks = functools.partial(group_ranks, not_unit="keep")
evaluate = functools.partial(evaluate, not_unit="keep")


def test_hand_checked_pairs():
    video = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    music = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    # Scores by video: [1, 0, .6], [0, 1, .8], [1, 0, .6]; videos 0 and 1 use track 0, video 2
    # uses track 2; nobody uses track 1.
    v2m, m2v = pair_ranks(video, music, np.array([0, 0, 2]))
    np.testing.assert_array_equal(v2m.above[:, 0], [0, 2, 1])
    np.testing.assert_array_equal(v2m.tied[:, 0], [0, 0, 0])
    np.testing.assert_array_equal(v2m.gallery, [3, 3, 3])
    np.testing.assert_array_equal(m2v.query, [0, 2])
    # Track 0: its best video scores 1, and so does video 2. Track 2: .6 below .8, tied with .6.
    np.testing.assert_array_equal(m2v.above[:, 0], [0, 1])
    np.testing.assert_array_equal(m2v.tied[:, 0], [1, 1])
    np.testing.assert_array_equal(m2v.gallery, [2, 3])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_pairs_match_the_naive_reference_with_ties_and_many_to_one(videos, tracks, seed):
    generator = np.random.default_rng(seed)
    video, music = grid(generator, videos), grid(generator, tracks)
    index = generator.integers(tracks, size=videos)
    scores, relevant = video @ music.T, index[:, None] == np.arange(tracks)
    v2m, m2v = pair_ranks(video, music, index)
    assert_matches(v2m, scores, relevant)
    assert_matches(m2v, scores.T, relevant.T)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_groups_match_the_naive_reference(videos, tracks, groups, seed):
    generator = np.random.default_rng(seed)
    video, music = grid(generator, videos), grid(generator, tracks)
    video_group, music_group = generator.integers(groups, size=videos), np.arange(tracks) % groups
    relevant = video_group[:, None] == music_group[None, :]
    if not relevant.any():
        return
    v2m, m2v = group_ranks(video, music, video_group, music_group)
    assert_matches(v2m, video @ music.T, relevant)
    assert_matches(m2v, (video @ music.T).T, relevant.T)


def test_several_tiles_match_the_naive_reference():
    generator = np.random.default_rng(0)
    videos, tracks = 2 * TILE + 37, TILE + 5
    video, music = grid(generator, videos), grid(generator, tracks)
    index = generator.integers(tracks, size=videos)
    scores, relevant = video @ music.T, index[:, None] == np.arange(tracks)
    v2m, m2v = pair_ranks(video, music, index)
    assert_matches(v2m, scores, relevant)
    assert_matches(m2v, scores.T, relevant.T)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 8 items, of which two are at hand: many tiles of few items."""
    monkeypatch.setattr(tiles, "TILE", 8)
    monkeypatch.setattr(sides, "BLOCK", 2)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("videos", "tracks"), [(1, 40), (40, 1), (7, 9), (16, 16), (17, 40), (48, 33), (50, 50)]
)
@pytest.mark.parametrize("groups", [1, 3, 30])
def test_many_tiles_in_parts_match_the_naive_reference(videos, tracks, groups):
    generator = np.random.default_rng(videos + groups)
    video, music = grid(generator, videos), grid(generator, tracks)
    # Labels that the other modality lacks, low, high and in between, and runs over several tiles.
    video_group = 2 * generator.integers(groups, size=videos)
    music_group = generator.choice([0, *range(groups, 2 * groups)], size=tracks)
    music_group[0] = video_group[0]
    relevant = video_group[:, None] == music_group[None, :]
    v2m, m2v = group_ranks(video, music, video_group, music_group)
    assert_matches(v2m, video @ music.T, relevant)
    assert_matches(m2v, (video @ music.T).T, relevant.T)


@pytest.mark.usefixtures("small_tiles")
def test_classes_are_the_same_in_tiles_of_any_size(monkeypatch):
    """Peers of a class come from several tiles, better classes after worse ones."""
    generator = np.random.default_rng(5)
    video, music = grid(generator, 60), grid(generator, 44)
    groups = generator.integers(3, size=60), generator.integers(3, size=44)
    in_parts = group_ranks(video, music, *groups, classes=4)
    monkeypatch.setattr(tiles, "TILE", 64)
    for part, whole in zip(in_parts, group_ranks(video, music, *groups, classes=4), strict=True):
        for name in ("above", "tied", "peers"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


@pytest.mark.usefixtures("small_tiles")
def test_programs_are_called_for_rows_of_tiles_not_for_tiles(monkeypatch):
    monkeypatch.setattr(ranks, "_tracks_at_hand", lambda tracks: 100)
    calls = dict.fromkeys(("merge_relevant", "count_hidden", "count_rivals"), 0)

    def counted(name, function):
        def call(*args, **keywords):
            calls[name] += 1
            return function(*args, **keywords)

        return call

    for name in calls:
        monkeypatch.setattr(tiles, name, counted(name, getattr(tiles, name)))
    rows = grid(np.random.default_rng(0), 40 * 8)
    pair_ranks(rows, rows, np.arange(len(rows)))
    assert calls == {"merge_relevant": 40, "count_hidden": 40, "count_rivals": 2 * 40 - 2}


def test_accelerators_take_large_tiles_and_as_many_tracks_as_fit(monkeypatch):
    rows = grid(np.random.default_rng(0), 10)
    assert tiles.size() == TILE
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    label = np.arange(10, dtype=np.int32)
    side = sides.Side(rows, label, label, classes=1, padding=tiles.MUSIC_PADDING)
    assert side.size == tiles.size() == 4096
    memory = {"bytes_limit": 10 * 2**30, "bytes_in_use": 2 * 2**30}
    device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: memory)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    # Of 8 GB free a quarter; three floats of embeddings an item, its label, class and two counts.
    assert ranks._tracks_at_hand(side) == 2 * 2**30 // (4 * 4096 * (3 + 1 + 3))


def test_the_band_is_where_labels_overlap():
    generator = np.random.default_rng(0)
    for _ in range(200):
        spans = []
        for count in generator.integers(1, 9, size=2):
            edges = np.sort(generator.integers(12, size=2 * count))
            spans.append(edges.reshape(count, 2).T)
        (low, high), (other_low, other_high) = spans
        overlap = (low[:, None] <= other_high) & (other_low <= high[:, None])
        for row, (start, stop) in zip(overlap, sides.band(*spans), strict=True):
            np.testing.assert_array_equal(np.flatnonzero(row), np.arange(start, stop))


def test_every_class_of_equal_relevant_scores_is_ranked():
    music = np.array([[1.0]], np.float32)
    video = np.array([[3], [3], [2], [2], [1], [5], [0]], np.float32)
    # Of the track's scores, 3, 3, 2, 1 are relevant and 2, 5, 0 are not.
    group = np.array([0, 0, 0, 1, 0, 1, 1])
    _, m2v = group_ranks(video, music, group, np.array([0]), classes=10)
    np.testing.assert_array_equal(m2v.above[0, :3], [1, 1, 2])
    np.testing.assert_array_equal(m2v.tied[0, :3], [0, 1, 0])
    np.testing.assert_array_equal(m2v.peers[0], [2, 1, 1, 0])
    _, first = group_ranks(video, music, group, np.array([0]), classes=2)
    np.testing.assert_array_equal(first.peers[0], [2, 1])


def test_groups_may_be_strings():
    generator = np.random.default_rng(3)
    video, music = unit_rows(generator, 4), unit_rows(generator, 3)
    named = group_ranks(video, music, np.array(list("abba")), np.array(list("bac")))
    numbered = group_ranks(video, music, np.array([0, 1, 1, 0]), np.array([1, 0, 2]))
    for by_name, by_number in zip(named, numbered, strict=True):
        np.testing.assert_array_equal(by_name.query, by_number.query)
        np.testing.assert_array_equal(by_name.above, by_number.above)


def test_duplicates_tie_to_the_last_bit_wherever_they_stand():
    generator = np.random.default_rng(1)
    track = unit_rows(generator, 1, width=512)
    music = unit_rows(generator, 2 * TILE + 100, width=512)
    places = [0, 1, 500, TILE - 1, TILE, 2 * TILE, 2 * TILE + 99]
    music[places] = track
    video = unit_rows(generator, len(places), width=512)
    v2m, _ = pair_ranks(video, music, np.array(places))
    np.testing.assert_array_equal(v2m.tied[:, 0], len(places) - 1)


def test_a_positive_never_loses_to_itself():
    """Nothing scores above an item's own copy, so any rounding between products would show."""
    rows = unit_rows(np.random.default_rng(2), TILE + 300, width=512)
    v2m, m2v = pair_ranks(rows, rows, np.arange(len(rows)))
    for found in (v2m, m2v):
        assert not found.above.any()
        assert not found.tied.any()


def test_zero_rows_tie_with_every_score_of_zero():
    """An encoder may emit one: it is scored like any other row, and knows nothing."""
    generator = np.random.default_rng(3)
    video, music = grid(generator, 40, width=6), grid(generator, 30, width=6)
    video[0] = 0
    music[[4, 9]] = 0
    index = np.arange(40) % 30
    scores, relevant = video @ music.T, index[:, None] == np.arange(30)
    v2m, m2v = pair_ranks(video, music, index)
    assert_matches(v2m, scores, relevant)
    assert_matches(m2v, scores.T, relevant.T)
    assert (v2m.above[0, 0], v2m.tied[0, 0]) == (0, 29)
    values = metrics.table_values(v2m)
    chance = metrics.table_values(metrics.at_chance(v2m))
    for name, value in values.items():
        assert value[0] == chance[name][0]
    assert np.isfinite(list(evaluate(video, music, index, split="test")["m2v"].values())).all()


def test_progress_counts_every_tile():
    seen = []
    rows = grid(np.random.default_rng(0), TILE + 1)
    pair_ranks(
        rows,
        rows[:5],
        np.zeros(TILE + 1, int),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_emb": np.array([[1, 0], [np.nan, 1]])}, "video_emb: row 1 holds NaN or infinity"),
        ({"music_emb": np.full((2, 2), np.inf)}, "music_emb: row 0 holds NaN or infinity"),
        ({"video_emb": np.zeros((2, 3))}, "video_emb has width 3 and music_emb 2"),
        ({"video_emb": np.zeros(4)}, "video_emb: expected a non-empty matrix"),
        ({"music_emb": np.zeros((0, 2))}, "music_emb: expected a non-empty matrix"),
        ({"music_emb": np.array([["a", "b"]])}, "music_emb: expected real numbers"),
        ({"gt_music_index": np.array([0, 2])}, "video 1 points at track 2; expected 0 to 1"),
        ({"gt_music_index": np.array([-1, 0])}, "video 0 points at track -1"),
        ({"gt_music_index": np.array([0])}, r"expected shape \(2,\), one entry per video"),
        ({"gt_music_index": np.array([0.0, 1.0])}, "expected integers, found float64"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    good = {
        "video_emb": np.eye(2),
        "music_emb": np.eye(2),
        "gt_music_index": np.array([0, 1]),
    }
    with pytest.raises(UserError, match=message) as raised:
        pair_ranks(**(good | change))
    assert "\n" not in str(raised.value)


def test_groups_without_a_common_label_are_refused():
    with pytest.raises(UserError, match="no video and track share a group"):
        group_ranks(np.eye(2), np.eye(2), np.array([0, 1]), np.array([2, 3]))
    with pytest.raises(UserError, match=r"music_group: expected shape \(2,\)"):
        group_ranks(np.eye(2), np.eye(2), np.array([0, 1]), np.array([2]))
