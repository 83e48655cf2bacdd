import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ranking import grid, tie_orders

from vmr.evaluation import group_ranks, metrics, pair_ranks

# Rows of small integers, whose inner products are exact and tie: not of unit length.
pair_ranks = functools.partial(pair_ranks, not_unit="keep")
group_ranks = functools.partial(group_ranks, not_unit="keep")


def several(*numbers):
    return [np.array([number]) for number in numbers]


def test_hand_checked_ties():
    # One rival above, three tied: the rank is 2, 3, 4 or 5, each with probability 1/4.
    query = several(1, 3, 1)
    assert metrics.recall(*query, k=1)[0] == 0
    assert metrics.recall(*query, k=3)[0] == 0.5
    assert metrics.recall(*query, k=10)[0] == 1
    assert metrics.expected_rank(*query)[0] == 3.5
    expected = (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4
    np.testing.assert_allclose(metrics.reciprocal_rank(*query)[0], expected, rtol=1e-12)


def test_hand_checked_table_values():
    video = np.eye(3, dtype=np.float32)
    music = np.array([[3, 1, 2], [2, 2, 2], [1, 3, 2]], np.float32)
    # Videos 0, 1, 2 rank their own track 1st; 2nd; and tied among all three.
    v2m, _ = pair_ranks(video, music, np.arange(3))
    np.testing.assert_array_equal(v2m.above[:, 0], [0, 1, 0])
    np.testing.assert_array_equal(v2m.tied[:, 0], [0, 0, 2])
    summary = metrics.summarise(metrics.table_values(v2m))
    assert summary["R@1"] == pytest.approx(100 * (1 + 0 + 1 / 3) / 3)
    assert summary["R@5"] == 100
    assert summary["MedR"] == 2
    assert summary["MeanR"] == pytest.approx((1 + 2 + 2) / 3)
    assert summary["MRR"] == pytest.approx((1 + 1 / 2 + (1 + 1 / 2 + 1 / 3) / 3) / 3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_expectations_equal_the_mean_over_all_orders_of_ties(videos, seed):
    """One track against few videos, any of them relevant: every order is written out."""
    generator = np.random.default_rng(seed)
    video, music = grid(generator, videos, levels=1), grid(generator, 1, levels=1)
    group = generator.integers(2, size=videos)
    group[0] = 0
    _, ranks = group_ranks(video, music, group, np.array([0]), classes=3)
    relevant = group == 0
    orders = list(tie_orders((video @ music.T)[:, 0], relevant))
    first = np.array([np.argmax(order) for order in orders])
    # The other relevant items leave the gallery: all that stand before the first are rivals.
    values = metrics.table_values(ranks)
    assert values["R@1"][0] == pytest.approx(100 * np.mean(first < 1))
    assert values["R@5"][0] == pytest.approx(100 * np.mean(first < 5))
    assert values["MeanR"][0] == pytest.approx(np.mean(first + 1))
    assert values["MRR"][0] == pytest.approx(np.mean(1 / (first + 1)))
    k, best = 3, min(3, relevant.sum())
    discount = 1 / np.log2(np.arange(2, 2 + videos))
    hits = np.array(orders)
    level = np.cumsum(hits, axis=1) / np.arange(1, videos + 1)
    average = (hits * level)[:, :k].sum(axis=1) / best
    gain = (hits * discount)[:, :k].sum(axis=1) / discount[:best].sum()
    assert metrics.average_precision(ranks, k)[0] == pytest.approx(average.mean())
    assert metrics.discounted_gain(ranks, k)[0] == pytest.approx(gain.mean())


def test_chance_is_what_random_scores_reach():
    """Videos with one relevant track, tracks with one to four videos, many random models."""
    generator = np.random.default_rng(0)
    index = np.repeat(np.arange(16), [1, 2, 3, 4] * 4)
    found: dict[str, list] = {"v2m": [], "m2v": []}
    for _ in range(60):
        video = generator.standard_normal((40, 24)).astype(np.float32)
        music = generator.standard_normal((16, 24)).astype(np.float32)
        for name, ranks in zip(found, pair_ranks(video, music, index, classes=10), strict=True):
            found[name].append(metrics.all_values(ranks))
    chance = {
        name: metrics.summarise(metrics.all_values(metrics.at_chance(ranks)))
        for name, ranks in zip(found, pair_ranks(video, music, index), strict=True)
    }
    for name, draws in found.items():
        for metric in ("R@1", "R@5", "R@10", "MeanR", "MRR", "mAP@10", "nDCG@10"):
            values = np.array([draw[metric].mean() for draw in draws])
            error = values.std() / np.sqrt(len(values))
            assert abs(values.mean() - chance[name][metric]) < 4 * error, (name, metric)


def test_too_few_classes_for_k_are_refused():
    video = np.arange(6, dtype=np.float32)[:, None]
    _, m2v = pair_ranks(video, np.ones((1, 1)), np.zeros(6, int), classes=2)
    with pytest.raises(ValueError, match="rank with classes=5"):
        metrics.average_precision(m2v, 5)


def test_reciprocal_ranks_of_one_shape_are_taken_once_for_each_number_above(monkeypatch):
    """Each row was searched for each number, which is quadratic in the queries."""
    taken = []
    once = metrics._mean_reciprocal

    def counted(ahead, first):
        taken.append(first)
        return once(ahead, first)

    monkeypatch.setattr(metrics, "_mean_reciprocal", counted)
    above = np.arange(1000) % 7
    found = metrics.reciprocal_rank(above, np.full(1000, 4), np.full(1000, 2))
    assert sorted(taken) == list(range(7))
    # Two peers among four rivals: P(i) = (5 - i) / 15.
    expected = [sum((5 - i) / 15 / (first + i + 1) for i in range(5)) for first in above]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
