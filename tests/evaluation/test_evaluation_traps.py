"""The traps of retrieval evaluation, each seen in a public system, each held shut here.

Two concern training and are tested there: trap 5, false negatives masked in one direction only, in
tests/losses/test_objective.py; and of trap 6 the test split watched during training, in
tests/training/test_traps.py.
"""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from naive_ranking import grid, unit_rows

from vmr.evaluation import bootstrap, evaluate, metrics, pair_ranks, recalls, tiles
from vmr.evaluation.tiles import TILE

# Rows of small integers, whose inner products are exact and tie: not of unit length.
pair_ranks = functools.partial(pair_ranks, not_unit="keep")
evaluate = functools.partial(evaluate, not_unit="keep")


def noisy_pairs(items, width=32, noise=2.0, seed=0):
    generator = np.random.default_rng(seed)
    video = unit_rows(generator, items, width)
    music = video + noise * unit_rows(generator, items, width)
    return video, music / np.linalg.norm(music, axis=1, keepdims=True)


def test_trap_1_recall_is_over_the_whole_split_not_inside_a_batch():
    video, music = noisy_pairs(2 * TILE)
    whole = recalls(video, music, np.arange(len(video)))["v2m/R@10"]
    starts = range(0, len(video), 64)
    inside = [
        recalls(video[i : i + 64], music[i : i + 64], np.arange(64))["v2m/R@10"] for i in starts
    ]
    scores = video @ music.T
    rank = (scores > np.diagonal(scores)[:, None]).sum(axis=1)
    assert whole == pytest.approx(100 * np.mean(rank < 10), abs=0.1)
    assert np.mean(inside) > whole + 20


def test_trap_2_a_miss_counts_in_the_median_rank():
    # 140 videos find their track first, 160 find it last of 300: the median is a miss.
    video = np.eye(300, dtype=np.float32)
    music = np.diag(np.where(np.arange(300) < 140, 1.0, -1.0))
    found = recalls(video, music, np.arange(300))
    assert found["v2m/MedR"] == 300
    assert found["v2m/R@100"] == pytest.approx(100 * 140 / 300)


@pytest.mark.parametrize(("videos", "tracks"), [(7, 3), (300, 300), (TILE + 200, TILE + 50)])
def test_trap_3_one_point_for_everything_scores_exactly_chance(videos, tracks):
    point = unit_rows(np.random.default_rng(0), 1, width=48)
    index = np.arange(videos) * 7 % tracks
    result = evaluate(
        np.repeat(point, videos, axis=0),
        np.repeat(point, tracks, axis=0),
        index,
        split="test",
        bootstrap_samples=0,
    )
    assert result["v2m"] == result["chance"]
    assert result["m2v"] == result["m2v_chance"]
    for k in metrics.CUTOFFS:
        assert result["v2m"][f"R@{k}"] == pytest.approx(100 * min(k, tracks) / tracks)
    assert result["v2m"]["MedR"] == (tracks + 1) / 2


def test_trap_4_the_gallery_holds_each_track_once_and_chance_follows():
    generator = np.random.default_rng(0)
    index = np.repeat(np.arange(20), 5)
    result = evaluate(
        unit_rows(generator, 100),
        unit_rows(generator, 20),
        index,
        split="test",
        bootstrap_samples=0,
    )
    assert (result["queries"], result["gallery"]) == (100, 20)
    assert (result["m2v_queries"], result["m2v_gallery"]) == (20, 100)
    assert result["chance"]["R@5"] == pytest.approx(25.0)
    # One of a track's five videos among the first of 100: 1 − 95/100.
    assert result["m2v_chance"]["R@1"] == pytest.approx(5.0)


def test_trap_4_other_videos_of_a_track_leave_its_gallery():
    # The track's two videos stand first and second; the second is no rival of the first.
    video = np.array([[3], [2], [1]], np.float32)
    _, m2v = pair_ranks(video, np.array([[1.0], [-1.0]]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(m2v.gallery, [2, 3])
    np.testing.assert_array_equal(m2v.above[:, 0], [0, 0])


@pytest.mark.parametrize("items", [1, 2, TILE - 1, TILE, TILE + 1])
def test_trap_6_the_last_partial_tile_is_kept(items):
    rows = unit_rows(np.random.default_rng(0), items, width=8)
    v2m, m2v = pair_ranks(rows, rows[::-1], np.arange(items)[::-1])
    assert len(v2m.query) == len(m2v.query) == items
    assert not v2m.above.any()
    assert not m2v.above.any()
    # The last item is everybody's rival too: against all others turned away, it stands above.
    turned = -rows
    turned[-1] = rows[-1]
    expected = (rows @ turned.T > -1 + 1e-3).sum(axis=1)[:-1]
    v2m, _ = pair_ranks(rows, turned, np.arange(items))
    np.testing.assert_array_equal(v2m.above[:-1, 0], expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_trap_7_scores_are_float32_whatever_the_embeddings_are(dtype):
    video, music = (rows.astype(dtype) for rows in noisy_pairs(400))
    half = pair_ranks(video, music, np.arange(400))
    full = pair_ranks(video.astype(np.float32), music.astype(np.float32), np.arange(400))
    for narrow, wide in zip(half, full, strict=True):
        np.testing.assert_array_equal(narrow.above, wide.above)
        assert not narrow.tied.any()


def test_trap_8_average_precision_is_divided_by_what_can_be_reached():
    # Two of four videos belong to the track, at ranks 1 and 3.
    video = np.array([[4], [3], [2], [1]], np.float32)
    music = np.array([[1.0], [0.5]], np.float32)
    _, m2v = pair_ranks(video, music, np.array([0, 1, 0, 1]), classes=10)
    average = metrics.average_precision
    assert average(m2v, 10)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert average(m2v, 1)[0] == pytest.approx(1.0)
    assert average(m2v, 2)[0] == pytest.approx(1 / 2)
    ideal = 1 + 1 / np.log2(3)
    assert metrics.discounted_gain(m2v, 10)[0] == pytest.approx((1 + 1 / np.log2(4)) / ideal)


def test_trap_9_no_matrix_of_all_scores():
    items = 6 * TILE
    rows = unit_rows(np.random.default_rng(0), items, width=8)
    on_device = []

    def watch(done, total):
        on_device.append(sum(array.nbytes for array in jax.live_arrays()))

    pair_ranks(rows[:10], rows[:10], np.arange(10))
    before = sum(array.nbytes for array in jax.live_arrays())
    tracemalloc.start()
    pair_ranks(rows, rows, np.arange(items), progress=watch)
    on_host = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert on_host < items * items / 10
    assert max(on_device) - before < 3 * 4 * TILE * TILE


def test_trap_9_the_compiled_tile_needs_memory_for_one_tile_only():
    tile = jax.ShapeDtypeStruct((TILE, 512), jnp.float32)
    memory = tiles.score.lower(tile, tile).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * TILE * TILE
    assert memory.temp_size_in_bytes <= 4 * TILE * TILE


def test_trap_10_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = 0
    for draw in range(200):
        rank = np.random.default_rng(draw).integers(1, 41, size=150)
        values = {"R@10": 100.0 * (rank <= 10), "MedR": rank.astype(float)}
        low, high = bootstrap.intervals(values, np.arange(150), samples=200, seed=draw)["R@10"]
        covered += low <= 25.0 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_trap_10_intervals_are_wider_when_videos_share_tracks():
    generator = np.random.default_rng(0)
    cluster = np.repeat(np.arange(60), 10)
    hit = np.repeat(generator.random(60) < 0.3, 10)
    values = {"R@10": 100.0 * hit, "MedR": np.where(hit, 1.0, 50.0)}
    low, high = bootstrap.intervals(values, cluster)["R@10"]
    naive_low, naive_high = bootstrap.intervals(values, np.arange(600))["R@10"]
    assert high - low > 2.5 * (naive_high - naive_low)


def test_trap_10_copies_of_a_video_bring_no_evidence():
    video, music = noisy_pairs(60)
    once = evaluate(video, music, np.arange(60), split="test")
    tenfold = evaluate(
        np.repeat(video, 10, axis=0), music, np.repeat(np.arange(60), 10), split="test"
    )
    for name, interval in once["ci95"]["v2m"].items():
        assert tenfold["ci95"]["v2m"][name] == pytest.approx(interval)


def test_trap_10_results_carry_an_interval_for_every_metric_in_both_directions():
    generator = np.random.default_rng(0)
    index = generator.integers(40, size=90)
    video, music = grid(generator, 90, width=8), grid(generator, 40, width=8)
    result = evaluate(video, music, index, split="test", bootstrap_samples=200)
    for direction in ("v2m", "m2v"):
        assert result["ci95"][direction].keys() == result[direction].keys()
        for name, (low, high) in result["ci95"][direction].items():
            assert low <= result[direction][name] <= high


def two_runs(gain, queries=1000, seed=0):
    """Recall@10 in percent of two runs, 30 and 30 + gain by their making; they mostly agree."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(queries)
    hits = []
    for rate in (0.30, 0.30 + gain / 100):
        own = np.where(generator.random(queries) < 0.05, generator.random(queries), difficulty)
        hits.append(100.0 * (own < rate))
    return hits


def test_trap_10_two_runs_are_compared_query_by_query():
    first, second = two_runs(gain=4.0)
    queries = np.arange(len(first))
    separate = bootstrap.intervals({"first": first, "second": second}, queries)
    width = np.hypot(*(high - low for low, high in separate.values()))
    low, high = bootstrap.intervals({"R@10": second - first}, queries)["R@10"]
    assert high - low < 0.6 * width
    assert 0 < low < 4.0 < high
    # Apart, the same two runs would show nothing.
    assert separate["second"][0] < separate["first"][1]


def test_trap_10_runs_of_equal_worth_are_told_apart_as_rarely_as_promised():
    queries = np.arange(300)
    apart = 0
    for draw in range(200):
        first, second = two_runs(gain=0.0, queries=300, seed=draw)
        difference = {"R@10": second - first}
        low, high = bootstrap.intervals(difference, queries, samples=200, seed=draw)["R@10"]
        apart += not low <= 0 <= high
    assert 0.01 <= apart / 200 <= 0.10


def test_trap_10_intervals_are_seeded():
    first, second = two_runs(gain=4.0)
    difference = {"R@10": second - first}
    queries = np.arange(len(first))
    once = bootstrap.intervals(difference, queries, seed=1)
    assert bootstrap.intervals(difference, queries, seed=1) == once
    assert bootstrap.intervals(difference, queries, seed=2) != once
