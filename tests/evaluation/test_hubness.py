import json

import numpy as np
import pytest
from naive_ranking import unit_rows
from scipy import stats

from vmr.errors import UserError
from vmr.evaluation.diagnosis import similarity
from vmr.evaluation.diagnosis.hubness import hubness, occurrences, summary


def test_hand_checked_occurrences():
    queries = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    gallery = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    # Nearest: item 0; item 1 (0.96 against 0.8); item 1.
    np.testing.assert_allclose(occurrences(queries, gallery, 1), [1, 2, 0])
    np.testing.assert_allclose(occurrences(queries, gallery, 9), [3, 3, 3])
    # Of two: the last query has 0.8 of item 1, then 0 of both others, who share the place.
    np.testing.assert_allclose(occurrences(queries, gallery, 2), [2.5, 3, 0.5])


def test_hand_checked_summary():
    found = summary(np.array([0.0, 0.0, 0.0, 4.0]), queries=4)
    assert found["antihubs"] == 0.75
    assert found["largest_hub"] == 1.0
    # Deviations −1, −1, −1, 3: third moment 6, second 3.
    assert found["skew"] == pytest.approx(6 / 3**1.5)
    # Random lists of one item: N_1 is binomial of 4 queries at 1/4.
    assert found["skew_by_chance"] == pytest.approx(0.5 / np.sqrt(0.75))
    assert found["antihubs_by_chance"] == pytest.approx(0.75**4)


def test_occurrences_are_those_of_sorted_lists_in_blocks_of_any_size(monkeypatch):
    generator = np.random.default_rng(0)
    queries, gallery = unit_rows(generator, 40, 6), unit_rows(generator, 31, 6)
    monkeypatch.setattr(similarity, "_SCORES", 31 * 7)
    nearest = np.argsort(-(queries @ gallery.T), axis=1)[:, :5]
    expected = np.bincount(nearest.ravel(), minlength=31)
    np.testing.assert_allclose(occurrences(queries, gallery, 5), expected, atol=1e-9)


def test_one_point_for_all_makes_no_hubs():
    row = unit_rows(np.random.default_rng(1), 1, 64)
    found = hubness(np.tile(row, (90, 1)), np.tile(row, (70, 1)))
    for way, queries, items in (("v2m", 90, 70), ("m2v", 70, 90)):
        assert found[way]["skew"] == 0
        assert found[way]["antihubs"] == 0
        assert found[way]["largest_hub"] == pytest.approx(10 / items), queries


def test_random_lists_are_at_chance():
    """Queries that know nothing of the gallery, whose lists are all alike likely."""
    generator = np.random.default_rng(2)
    found = hubness(unit_rows(generator, 4000, 400), unit_rows(generator, 300, 400))["v2m"]
    assert found["skew_by_chance"] == pytest.approx(stats.binom(4000, 1 / 30).stats("s"))
    assert abs(found["skew"] - found["skew_by_chance"]) < 0.4
    assert found["antihubs"] == 0


def test_a_planted_hub_is_found_in_its_direction_alone():
    generator = np.random.default_rng(3)
    video, music = unit_rows(generator, 200, 50), unit_rows(generator, 200, 50)
    video[:, 0] += 1.0  # all videos lean one way, and one track stands there
    video /= np.linalg.norm(video, axis=1, keepdims=True)
    music[0] = np.eye(50)[0]
    found = hubness(video, music)
    assert found["k"] == 10
    assert found["v2m"]["largest_hub"] == 1.0
    assert found["v2m"]["skew"] > 3 > found["m2v"]["skew"]
    json.dumps(found)


def test_of_many_queries_some_are_drawn_and_counted(monkeypatch):
    generator = np.random.default_rng(4)
    video, music = unit_rows(generator, 60, 8), unit_rows(generator, 40, 8)
    whole = hubness(video, music)
    assert "queries" not in whole["v2m"] | whole["m2v"]
    monkeypatch.setattr(similarity, "SAMPLED", 50)
    some = hubness(video, music, seed=3)
    drawn = similarity.sampled(np.arange(60), 3)
    assert (some["v2m"]["queries"], some["v2m"]["sampled_from"]) == (50, 60)
    assert some["v2m"].items() > summary(occurrences(video[drawn], music, 10), 50).items()
    assert some["m2v"] == whole["m2v"]
    assert hubness(video, music, seed=3) == some != hubness(video, music, seed=4)


@pytest.mark.parametrize("width", [1, 1 << 20, 5_600_000])
def test_blocks_of_rows_have_several_for_a_gallery_of_any_size(width):
    blocks = list(similarity.row_blocks(10_007, width))
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, 10_007)
    assert all(block.stop - block.start >= 16 for block in blocks[:-1])


def test_widths_that_differ_are_refused():
    with pytest.raises(UserError, match="video_emb has width 2 and music_emb 3"):
        hubness(np.eye(2), np.eye(3))
