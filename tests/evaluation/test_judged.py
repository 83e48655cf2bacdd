import numpy as np
import pytest
from naive_ranking import grid, tie_orders, unit_rows

from vmr.errors import UserError
from vmr.evaluation import SegmentedItems, evaluate, judged_ranks, metrics, pair_ranks, tiles
from vmr.evaluation.ranks import Ranks


def classes_of(scores, relevant, classes):
    """(above, tied, peers) of each distinct relevant score of one query, filled with zeros."""
    found = np.zeros((3, classes), int)
    for place, level in enumerate(np.unique(scores[relevant])[::-1][:classes]):
        rivals, own = scores[~relevant], scores[relevant]
        found[:, place] = (rivals > level).sum(), (rivals == level).sum(), (own == level).sum()
    return found


def naive(scores, relevant, queries, classes):
    found = [classes_of(scores[query], relevant[query], classes) for query in queries]
    above, tied, peers = np.swapaxes(found, 0, 1)
    counts = relevant[queries].sum(axis=1)
    return Ranks(queries, counts, scores.shape[1] - counts + 1, above, tied, peers)


def assert_equal(found, expected):
    for name in ("query", "relevant", "gallery", "above", "tied", "peers"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def judged_twice(video, music, index, compatible, classes, **options):
    """The ranks found, and the naive ones; classes are as many as there are at most."""
    strict = pair_ranks(video, music, index, classes=classes, **options)
    found = judged_ranks(video, music, index, compatible, strict, classes=classes, **options)
    relevant = index[:, None] == np.arange(len(music))
    relevant[tuple(np.asarray(compatible).T)] = True
    scores = video @ music.T
    width = [ranks.peers.shape[1] for ranks in found]
    expected = (
        naive(scores, relevant, np.arange(len(video)), width[0]),
        naive(scores.T, relevant.T, np.unique(index), width[1]),
    )
    return found, expected


@pytest.mark.parametrize("seed", range(6))
def test_judged_ranks_are_those_of_a_naive_ranking_with_ties(seed):
    generator = np.random.default_rng(seed)
    video, music = grid(generator, 40), grid(generator, 25)
    index = generator.integers(18, size=40)  # several videos a track, and tracks without one
    compatible = np.stack([generator.integers(40, size=30), generator.integers(25, size=30)], 1)
    found, expected = judged_twice(video, music, index, compatible, 10, not_unit="keep")
    for direction in range(2):
        assert_equal(found[direction], expected[direction])


def test_galleries_and_judgements_of_several_tiles(monkeypatch):
    """Judged items lie in any tile, and more queries are touched than a tile holds."""
    monkeypatch.setattr(tiles, "TILE", 8)
    generator = np.random.default_rng(0)
    video, music, index = grid(generator, 50), grid(generator, 37), generator.integers(37, size=50)
    compatible = np.stack([np.arange(50), generator.integers(37, size=50)], 1)
    found, expected = judged_twice(video, music, index, compatible, 3, not_unit="keep")
    for direction in range(2):
        assert_equal(found[direction], expected[direction])


def test_every_metric_is_the_mean_over_all_orders_of_ties():
    """Relevance that no labels give: both videos go with track 0, and not with one another's."""
    video = np.array([[2.0, 1.0], [1.0, 1.0]], np.float32)
    music = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], np.float32)
    index, compatible = np.array([1, 2]), np.array([[0, 0], [1, 0]])
    strict = pair_ranks(video, music, index, classes=10, not_unit="keep")
    v2m, _ = judged_ranks(video, music, index, compatible, strict, classes=10, not_unit="keep")
    values = metrics.all_values(v2m)
    for query, relevant in enumerate([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0]]):
        orders = list(tie_orders(video[query] @ music.T, np.array(relevant, bool)))
        first = [1 + np.argmax(order) for order in orders]
        assert values["MRR"][query] == pytest.approx(np.mean(1 / np.array(first)))
        assert values["MeanR"][query] == pytest.approx(np.mean(first))
        assert values["R@1"][query] == pytest.approx(100 * np.mean(np.array(first) == 1))
        hits = [np.flatnonzero(order) + 1 for order in orders]
        precision = [np.mean([(k + 1) / rank for k, rank in enumerate(at)]) for at in hits]
        assert values["mAP@10"][query] == pytest.approx(np.mean(precision))


def test_judged_results_stand_beside_the_strict_ones():
    generator = np.random.default_rng(1)
    video, music = unit_rows(generator, 40), unit_rows(generator, 12)
    index = generator.integers(10, size=40)
    plain = evaluate(video, music, index, split="test", bootstrap_samples=50)
    best = np.argmax(video @ music.T, axis=1)
    all_first = np.stack([np.arange(40), best], axis=1)
    options = {"split": "test", "bootstrap_samples": 50}
    result = evaluate(video, music, index, compatible=all_first, **options)
    judged = result.pop("judged")
    assert result == plain
    assert judged.keys() == plain.keys() - {"split", "step", "seed", "bootstrap_samples"}
    assert judged["v2m"]["R@1"] == 100.0
    assert judged["ci95"]["v2m"]["R@1"] == [100.0, 100.0]
    assert judged["chance"]["R@1"] > plain["chance"]["R@1"]
    for key in ("queries", "gallery", "m2v_queries", "m2v_gallery"):
        assert judged[key] == plain[key]
    # A pair of the data, or none at all, changes nothing.
    for compatible in (np.array([[0, index[0]]] * 2), np.empty((0, 2), int)):
        judged = evaluate(video, music, index, compatible=compatible, **options)["judged"]
        assert plain | judged == plain


def test_a_track_without_a_video_is_no_query_though_it_is_judged():
    generator = np.random.default_rng(2)
    video, music = unit_rows(generator, 6), unit_rows(generator, 5)
    strict = pair_ranks(video, music, np.zeros(6, int))
    v2m, m2v = judged_ranks(video, music, np.zeros(6, int), np.array([[3, 4]]), strict)
    assert m2v.query.tolist() == [0]
    assert v2m.relevant.tolist() == [1, 1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("compatible", "message"),
    [
        ([[0, 5]], r"pair \[0, 5\] is outside 6 videos, 5 tracks"),
        ([[-1, 0]], r"pair \[-1, 0\] is outside"),
        ([0, 1], r"expected integers \(K, 2\)"),
        ([[0.0, 1.0]], r"expected integers \(K, 2\)"),
    ],
)
def test_pairs_that_are_none_are_refused(compatible, message):
    generator = np.random.default_rng(2)
    video, music = unit_rows(generator, 6), unit_rows(generator, 5)
    with pytest.raises(UserError, match=message):
        evaluate(video, music, np.zeros(6, int), split="x", compatible=np.array(compatible))


def test_segments_are_not_judged():
    rows = SegmentedItems(unit_rows(np.random.default_rng(0), 6).reshape(3, 2, -1), np.full(3, 2))
    with pytest.raises(UserError, match="whole items; found embeddings of segments"):
        evaluate(rows, rows, np.arange(3), split="x", compatible=np.array([[0, 1]]))
