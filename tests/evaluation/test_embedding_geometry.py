import json

import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation.diagnosis import geometry, similarity
from vmr.evaluation.diagnosis.geometry import (
    alignment,
    collapse,
    effective_rank,
    modality_gap,
    uniformity,
)


def test_hand_checked_pairs():
    video, music = np.eye(2), np.array([[1.0, 0.0], [-1.0, 0.0]])
    # Video 0 coincides with track 0; video 1 stands at a right angle to track 1.
    assert alignment(video, music, np.array([0, 1])) == pytest.approx((0 + 2) / 2)
    assert alignment(video, music, np.array([1, 1])) == pytest.approx((4 + 2) / 2)
    # Centroids (1/2, 1/2) and (0, 0).
    assert modality_gap(video, music) == pytest.approx(np.sqrt(0.5))


def test_hand_checked_uniformity():
    # Pairs of squared distance 2, 2 and 4.
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert uniformity(rows) == pytest.approx(np.log((2 * np.exp(-4) + np.exp(-8)) / 3), rel=1e-5)
    assert uniformity(np.tile(rows[:1], (5, 1))) == 0.0
    assert uniformity(rows[:1]) == 0.0


def test_hand_checked_effective_rank():
    assert effective_rank(np.eye(4)) == pytest.approx(4)
    assert effective_rank(np.tile([[0.6, 0.8]], (7, 1))) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 2))) == 1
    # Singular values 3 and 1: shares 3/4 and 1/4.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(np.exp(entropy))


def test_blocks_of_rows_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    video, music = unit_rows(generator, 37, 5), unit_rows(generator, 23, 5)
    index = generator.integers(23, size=37)
    whole = geometry.geometry(video, music, index)
    monkeypatch.setattr(similarity, "_SCORES", 200)
    found = geometry.geometry(video, music, index)
    for name in ("alignment", "modality_gap"):
        assert found[name] == pytest.approx(whole[name])
    for side, rows in (("video", video), ("music", music)):
        apart = np.square(rows[:, None] - rows[None, :]).sum(axis=2)[~np.eye(len(rows), dtype=bool)]
        assert found[side]["uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * apart))), 1e-4)
        values = np.linalg.svd(rows.astype(float), compute_uv=False)
        share = values / values.sum()
        expected = np.exp(-np.sum(share * np.log(share)))
        assert found[side]["effective_rank"] == pytest.approx(expected)


def test_many_rows_are_drawn_by_seed(monkeypatch):
    rows = unit_rows(np.random.default_rng(1), 400, 8)
    whole = uniformity(rows)
    monkeypatch.setattr(geometry, "_MOST_ROWS", 200)
    assert uniformity(rows, seed=3) == uniformity(rows, seed=3) != uniformity(rows, seed=4)
    assert uniformity(rows) == pytest.approx(whole, abs=0.1)


def test_only_the_modality_that_collapsed_is_named():
    generator = np.random.default_rng(2)
    spread = unit_rows(generator, 100, 40)
    point = np.tile(spread[:1], (100, 1)) + 1e-3 * generator.normal(size=spread.shape)
    point /= np.linalg.norm(point, axis=1, keepdims=True)
    found = geometry.geometry(spread, point, np.arange(100))
    assert found["video"]["collapse"] == []
    crowded, narrow = found["music"]["collapse"]
    assert crowded.startswith("crowded around one point: uniformity")
    assert narrow.startswith("few directions: effective rank 1.")
    json.dumps(found)


def test_few_directions_are_a_collapse_though_rows_lie_far_apart():
    rows = np.zeros((100, 64))
    rows[np.arange(100), np.arange(100) % 2] = np.where(np.arange(100) % 4 < 2, 1.0, -1.0)
    found = geometry.geometry(rows, unit_rows(np.random.default_rng(3), 100, 64), np.arange(100))
    assert found["video"]["collapse"] == ["few directions: effective rank 2.0 of at most 64"]
    assert found["music"]["collapse"] == []


def test_the_rule_of_collapse_at_its_bounds():
    assert collapse(-1.0, 5.0, 100) == []
    assert len(collapse(-0.99, 4.9, 100)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_emb": np.array([[1, np.nan]])}, "video_emb: row 0 holds NaN"),
        ({"music_emb": np.eye(3)}, "video_emb has width 2 and music_emb 3"),
        ({"gt_music_index": np.array([2])}, "video 0 points at track 2"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    good = {
        "video_emb": np.eye(2)[:1],
        "music_emb": np.eye(2),
        "gt_music_index": np.array([0]),
    }
    with pytest.raises(UserError, match=message) as raised:
        geometry.geometry(**(good | change))
    assert "\n" not in str(raised.value)
