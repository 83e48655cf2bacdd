import functools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from naive_ranking import all_ranks, assert_matches, unit_rows

from vmr.errors import UserError
from vmr.evaluation import (
    SegmentedItems,
    bootstrap,
    evaluate,
    evaluate_segments,
    metrics,
    pair_ranks,
    render,
    tiles,
)
from vmr.evaluation.segments import matching_segments
from vmr.evaluation.tiles import TILE

# Rows of small integers, whose inner products are exact and tie: not of unit length.
pair_ranks = functools.partial(pair_ranks, not_unit="keep")
evaluate = functools.partial(evaluate, not_unit="keep")
evaluate_segments = functools.partial(evaluate_segments, not_unit="keep")

UNITS = ("segment", "track_mean", "track_max")


def ragged(generator, items, segments=4, width=3, counts=(1, 2, 4)):
    """Small integers (items, segments, width) and counts of which means are exact in float32."""
    values = generator.integers(-2, 3, (items, segments, width)).astype(np.float32)
    return values, generator.choice(counts, items)


def example(seed, videos=14, tracks=9):
    """Ragged items with ties, shared tracks, tracks without a video, and two equal tracks."""
    generator = np.random.default_rng(seed)
    video, video_segments = ragged(generator, videos)
    music, music_segments = ragged(generator, tracks)
    music[1], music_segments[1] = music[0], music_segments[0]
    index = generator.integers(tracks - 1, size=videos)
    return video, video_segments, music, music_segments, index


def naive_pairs(video, video_segments, music, music_segments, index):
    """Scores of all segments, and which are relevant: (sum of segments,) * 2, one loop at a time.

    Also the item that each segment is of, on both sides.
    """
    ours = [(n, s) for n in range(len(video)) for s in range(video_segments[n])]
    theirs = [(m, t) for m in range(len(music)) for t in range(music_segments[m])]
    scores = np.array([[video[place] @ music[other] for other in theirs] for place in ours])
    relevant = np.zeros(scores.shape, bool)
    for row, (n, s) in enumerate(ours):
        share = (s + 0.5) / video_segments[n]
        relevant[row, theirs.index((index[n], int(share * music_segments[index[n]])))] = True
    return scores, relevant, np.array(ours)[:, 0], np.array(theirs)[:, 0]


def naive_tracks(reduce, scores, video_of, music_of):
    """Scores of items from those of their segments, by `reduce` over each block of pairs."""
    return np.array(
        [
            [reduce(scores[video_of == n][:, music_of == m]) for m in range(music_of.max() + 1)]
            for n in range(video_of.max() + 1)
        ]
    )


def naive_units(*arguments):
    """(scores, relevant) of each unit, videos in rows."""
    scores, relevant, video_of, music_of = naive_pairs(*arguments)
    paired = arguments[-1][:, None] == np.arange(music_of.max() + 1)
    return {
        "segment": (scores, relevant),
        "track_mean": (naive_tracks(np.mean, scores, video_of, music_of), paired),
        "track_max": (naive_tracks(np.max, scores, video_of, music_of), paired),
    }


def assert_table(found, expected):
    for name, value in metrics.summarise(metrics.table_values(expected)).items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("seed", range(3))
def test_all_three_match_the_naive_reference(seed):
    arguments = example(seed)
    results = evaluate_segments(*arguments, split="test", bootstrap_samples=0)
    assert tuple(results) == UNITS
    for unit, (scores, relevant) in naive_units(*arguments).items():
        found = results[unit]
        v2m, m2v = all_ranks(scores, relevant), all_ranks(scores.T, relevant.T)
        assert found["unit"] == unit
        assert (found["queries"], found["gallery"]) == scores.shape
        assert (found["m2v_queries"], found["m2v_gallery"]) == (len(m2v.query), len(scores))
        assert_table(found["v2m"], v2m)
        assert_table(found["m2v"], m2v)
        assert_table(found["chance"], metrics.at_chance(v2m))
        assert_table(found["m2v_chance"], metrics.at_chance(m2v))


def test_truth_is_scored_by_the_groups_of_the_items():
    arguments = example(0)
    group = np.array(list("abcabcabc"))
    groups = {"video_group": group[arguments[-1]], "music_group": group}
    results = evaluate_segments(*arguments, split="test", bootstrap_samples=0, **groups)
    segment_scores, _, video_of, music_of = naive_pairs(*arguments)
    for unit, (scores, _) in naive_units(*arguments).items():
        same = groups["video_group"][:, None] == group
        if unit == "segment":
            same = same[video_of][:, music_of]
        truth = results[unit]["truth"]
        assert_table(truth["v2m"], all_ranks(scores, same))
        assert_table(truth["m2v"], all_ranks(scores.T, same.T))
        assert_table(truth["chance"], metrics.at_chance(all_ranks(scores, same)))
    assert segment_scores.shape == (len(video_of), len(music_of))


def test_hand_checked_segments():
    # Video 0 has two segments, video 1 one; track 0 has one segment, track 1 two.
    video = np.array([[[1, 0], [0, 1]], [[0.6, 0.8], [np.nan, 7]]], np.float32)
    music = np.array([[[0, 1], [9, np.inf]], [[1, 0], [0.8, 0.6]]], np.float32)
    results = evaluate_segments(
        video, [2, 1], music, [1, 2], [0, 1], split="test", bootstrap_samples=0
    )
    # Scores by music segment: [0, 1, .8], [1, 0, .6], [.8, .6, .96]. Both segments of video 0
    # point at the first, at ranks 3 and 1; video 1's middle at the last, at rank 1.
    segment = results["segment"]
    assert segment["v2m"]["MeanR"] == pytest.approx(5 / 3)
    # The middle one is asked by none. The first finds 1 before .8, the last .96 before .8.
    assert (segment["m2v_queries"], segment["m2v_gallery"]) == (2, 3)
    assert segment["m2v"]["MeanR"] == 1
    # Means: [.5, .5] and [.6, .8] against [0, 1] and [.9, .3]: [.5, .6] and [.8, .78].
    assert results["track_mean"]["v2m"]["MeanR"] == 2
    assert results["track_mean"]["m2v"]["MeanR"] == 1.5
    # Maxima: [1, 1] and [.8, .96].
    assert results["track_max"]["v2m"]["MeanR"] == 1.25
    assert results["track_max"]["m2v"]["MeanR"] == 1.5


def test_segments_are_matched_at_the_same_share_of_the_length():
    def match(ours, theirs):
        return matching_segments(np.array([ours]), np.array([theirs]), np.array([0])).tolist()

    assert match(3, 3) == [0, 1, 2]
    assert match(3, 1) == [0, 0, 0]
    assert match(1, 3) == [1]
    assert match(2, 4) == [1, 3]
    # The middle of the second of three is at 1/2: exactly where the second of two begins.
    assert match(3, 2) == [0, 1, 1]
    several = matching_segments(np.array([1, 2]), np.array([2, 3]), np.array([1, 0]))
    assert several.tolist() == [3, 0, 1]


def test_one_segment_an_item_is_evaluate_exactly():
    generator = np.random.default_rng(0)
    video, music = unit_rows(generator, 60, 48), unit_rows(generator, 20, 48)
    index = generator.integers(20, size=60)
    groups = {"video_group": index % 4, "music_group": np.arange(20) % 4}
    settings = {"split": "test", "step": 3, "bootstrap_samples": 50, "seed": 1}
    whole = evaluate(video, music, index, **settings, **groups)
    one = np.ones(60, int)
    results = evaluate_segments(
        video[:, None], one, music[:, None], one[:20], index, **settings, **groups
    )
    for unit in UNITS:
        assert results[unit] == whole | {"unit": unit}
    assert json.loads(json.dumps(results)) == results


def test_one_point_for_every_segment_scores_exactly_chance():
    generator = np.random.default_rng(0)
    point = unit_rows(generator, 1, width=48)[0]
    arguments = (
        np.tile(point, (TILE + 30, 3, 1)),
        generator.integers(1, 4, TILE + 30),
        np.tile(point, (40, 5, 1)),
        generator.integers(1, 6, 40),
        generator.integers(40, size=TILE + 30),
    )
    results = evaluate_segments(*arguments, split="test", bootstrap_samples=0)
    for found in results.values():
        assert found["v2m"] == found["chance"]
        assert found["m2v"] == found["m2v_chance"]
        assert found["chance"]["R@5"] == pytest.approx(100 * 5 / found["gallery"])
    assert results["segment"]["gallery"] == arguments[3].sum()


def test_copies_of_a_vector_have_that_vector_as_their_mean_to_the_last_bit():
    row = unit_rows(np.random.default_rng(0), 1, width=48)
    # Summed in float32 this fails from three copies on.
    items = SegmentedItems(np.tile(row, (7, 7, 1)), np.arange(1, 8))
    np.testing.assert_array_equal(items.means(), np.repeat(row, 7, axis=0))


def test_the_bootstrap_draws_tracks_with_all_their_segments():
    arguments = example(2)
    result = evaluate_segments(*arguments, split="test", bootstrap_samples=80, seed=5)["segment"]
    scores, relevant, video_of, music_of = naive_pairs(*arguments)
    v2m, m2v = all_ranks(scores, relevant), all_ranks(scores.T, relevant.T)
    track = arguments[-1][video_of]
    for direction, ranks, cluster in (("v2m", v2m, track), ("m2v", m2v, music_of)):
        expected = bootstrap.intervals(
            metrics.table_values(ranks), cluster[ranks.query], samples=80, seed=5
        )
        for name, interval in expected.items():
            assert result["ci95"][direction][name] == pytest.approx(interval)


def test_more_copies_of_a_segment_bring_no_evidence():
    generator = np.random.default_rng(0)
    music = unit_rows(generator, 30)
    video = music + unit_rows(generator, 30)

    def width(copies):
        count = np.full(30, copies)
        repeated = [np.repeat(rows[:, None], copies, axis=1) for rows in (video, music)]
        result = evaluate_segments(
            repeated[0], count, repeated[1], count, np.arange(30), split="test", seed=1
        )["segment"]
        low, high = result["ci95"]["v2m"]["MRR"]
        return (high - low) / result["v2m"]["MRR"]

    # Copies tie, so the values change; as independent queries, 8 would narrow them to a third.
    assert width(8) > 0.7 * width(1)


def test_padding_is_not_read():
    video, video_segments, music, music_segments, index = example(1)
    dirty = []
    for values, segments in ((video, video_segments), (music, music_segments)):
        values = values.copy()
        values[np.arange(values.shape[1]) >= segments[:, None]] = np.nan
        dirty.append(values)
    clean = evaluate_segments(
        video, video_segments, music, music_segments, index, split="test", bootstrap_samples=20
    )
    found = evaluate_segments(
        dirty[0],
        video_segments,
        dirty[1],
        music_segments,
        index,
        split="test",
        bootstrap_samples=20,
    )
    assert found == clean


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int32])
def test_any_type_of_numbers_is_scored_in_float32(dtype):
    arguments = example(3)
    cast = [*arguments]
    cast[0], cast[2] = cast[0].astype(dtype), cast[2].astype(dtype)
    settings = {"split": "test", "bootstrap_samples": 0}
    assert evaluate_segments(*cast, **settings) == evaluate_segments(*arguments, **settings)


def test_best_pairs_in_several_tiles_match_the_naive_reference():
    generator = np.random.default_rng(0)
    video, video_segments = ragged(generator, TILE + 37, 3, counts=(1, 2, 3))
    music, music_segments = ragged(generator, TILE + 5, 2, counts=(1, 2))
    index = generator.integers(TILE + 5, size=TILE + 37)
    scores = np.full((TILE + 37, TILE + 5), -np.inf, np.float32)
    for s in range(3):
        for t in range(2):
            there = (video_segments > s)[:, None] & (music_segments > t)
            pair = np.where(there, video[:, s] @ music[:, t].T, -np.inf)
            scores = np.maximum(scores, pair)
    v2m, m2v = pair_ranks(
        SegmentedItems(video, video_segments), SegmentedItems(music, music_segments), index
    )
    relevant = index[:, None] == np.arange(TILE + 5)
    assert_matches(v2m, scores, relevant)
    assert_matches(m2v, scores.T, relevant.T)


def test_a_best_pair_scores_the_same_to_the_last_bit_wherever_its_segments_stand():
    generator = np.random.default_rng(1)
    items, width = TILE + 100, 512
    rows = unit_rows(generator, items, width)
    # Each item's one telling segment, at a random place among others that score below it.
    segments = generator.integers(1, 4, items)
    sides = []
    for _ in range(2):
        values = 0.1 * unit_rows(generator, items * 3, width).reshape(items, 3, width)
        values[np.arange(items), generator.integers(segments)] = rows
        sides.append(SegmentedItems(values, segments))
    v2m, m2v = pair_ranks(*sides, np.arange(items))
    for ranks in (v2m, m2v):
        assert not ranks.above.any()
        assert not ranks.tied.any()
    places = [0, 7, TILE - 1, TILE, TILE + 99]
    sides[1].embeddings[places] = sides[1].embeddings[:1]
    sides[1].segments[places] = segments[0]
    v2m, _ = pair_ranks(sides[0], sides[1], np.arange(items))
    np.testing.assert_array_equal(v2m.tied[places, 0], len(places) - 1)


def test_the_product_of_one_segment_each_is_that_of_whole_items():
    generator = np.random.default_rng(0)
    video, music = unit_rows(generator, TILE, 512), unit_rows(generator, TILE, 512)
    whole = tiles.score(jnp.asarray(video), jnp.asarray(music))
    best = tiles.score(jnp.asarray(video)[None], jnp.asarray(music)[None])
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(best))


def test_the_best_pair_needs_memory_for_a_few_tiles_however_many_segments():
    tile = jax.ShapeDtypeStruct((16, TILE, 64), jnp.float32)
    memory = tiles.score.lower(tile, tile).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * TILE * TILE
    assert memory.temp_size_in_bytes <= 3 * 4 * TILE * TILE


def test_titles_say_what_is_ranked():
    results = evaluate_segments(*example(0), split="test", bootstrap_samples=0)
    videos, segments = results["segment"]["queries"], results["segment"]["gallery"]
    titles = {
        unit: [block.splitlines()[0] for block in render([("model", result)]).split("\n\n")]
        for unit, result in results.items()
    }
    asked = results["segment"]["m2v_queries"]
    tracks = results["track_max"]["m2v_queries"]
    assert titles["segment"] == [
        f"video → music (v2m), test: {videos} video segments against {segments} segments of "
        "unique tracks",
        f"music → video (m2v), test: {asked} music segments against {videos} video segments",
    ]
    for score in ("mean", "max"):
        assert titles[f"track_{score}"] == [
            f"video → music (v2m), test: 14 videos against 9 unique tracks, {score} over pairs of "
            "segments",
            f"music → video (m2v), test: {tracks} tracks against 14 videos, {score} over pairs of "
            "segments",
        ]
    with pytest.raises(UserError, match="different galleries cannot share a table"):
        render([("mean", results["track_mean"]), ("max", results["track_max"])])


def with_nan():
    values = np.zeros((2, 3, 4))
    values[1, 1, 2] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": np.zeros((2, 4))}, r"video: expected a non-empty array of \(items, segments"),
        ({"music": np.zeros((2, 0, 4))}, r"music: expected a non-empty array .* \(2, 0, 4\)"),
        ({"music": np.zeros((2, 3, 5))}, "video has width 4 and music 5; expected one width"),
        ({"video": with_nan()}, "video: item 1, segment 1 holds NaN or infinity"),
        ({"music": np.array([[["a"]]])}, "music: expected real numbers, found <U1"),
        ({"music": np.array([[[None]]])}, "music: expected real numbers, found object"),
        ({"video_segments": [2, 0]}, "video_segments: item 1 has 0 segments; expected 1 to 3"),
        ({"music_segments": [4, 1]}, "music_segments: item 0 has 4 segments; expected 1 to 3"),
        ({"video_segments": [2]}, r"video_segments: expected shape \(2,\), one per item"),
        ({"video_segments": [2.0, 1.0]}, "video_segments: expected integers, found float64"),
        ({"gt_music_index": [0]}, r"gt_music_index: expected shape \(2,\)"),
        ({"gt_music_index": [0, 2]}, "video 1 points at track 2; expected 0 to 1"),
        ({"video_group": [0, 1]}, "video_group and music_group come together"),
        ({"video_group": [0], "music_group": [0, 1]}, r"video_group: expected shape \(2,\)"),
        ({"video_group": [0, 1], "music_group": [2, 3]}, "no video and track share a group"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    good = {
        "video": np.ones((2, 3, 4)),
        "video_segments": [2, 2],
        "music": np.ones((2, 3, 4)),
        "music_segments": [3, 1],
        "gt_music_index": [0, 1],
        "split": "test",
    }
    with pytest.raises(UserError, match=message) as raised:
        evaluate_segments(**(good | change))
    assert "\n" not in str(raised.value)


def test_segments_on_one_side_only_are_refused():
    items = SegmentedItems(np.ones((2, 1, 4)), np.array([1, 1]))
    with pytest.raises(UserError, match="expected both of one row an item or both of segments"):
        pair_ranks(items, np.ones((2, 4)), np.array([0, 1]))
    with pytest.raises(UserError, match=r"music_emb_segments: item 0 has 3 segments"):
        pair_ranks(items, SegmentedItems(np.ones((1, 2, 4)), np.array([3])), np.array([0, 0]))
