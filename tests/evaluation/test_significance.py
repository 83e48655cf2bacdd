"""Differences between systems, against SciPy, against resampling written out, and by hand."""

import numpy as np
import pytest
from scipy import stats

from vmr.errors import UserError
from vmr.evaluation import bootstrap, significance
from vmr.evaluation.significance import Difference, Values, holm
from vmr.evaluation.significance import differences as compare

PAIR = [("A", "B")]
STATISTIC = {"MRR": np.mean, "MedR": np.median}


def ranks(generator: np.random.Generator, seeds: int, queries: int, better: float) -> np.ndarray:
    scores = generator.normal(3.0 - better, 1.0, size=(seeds, queries))
    return np.ceil(np.exp(scores))


def of_ranks(rank: np.ndarray) -> dict[str, np.ndarray]:
    return {"MRR": 1 / rank, "MedR": rank}


def difference(
    first: Values, second: Values, cluster: np.ndarray, *, samples: int = 10_000, seed: int = 0
) -> dict[str, Difference]:
    systems = {"A": first, "B": second}
    return compare(systems, cluster, PAIR, samples=samples, seed=seed).differences[0]


@pytest.mark.parametrize("metric", ["MRR", "MedR"])
def test_one_seed_and_queries_apart_is_scipys_paired_bootstrap_and_permutation_test(
    metric: str,
) -> None:
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 1, size=300)
    one, other = (np.ceil(ranks(generator, 1, 300, b) * np.exp(shared)) for b in (0.25, 0.0))
    found = difference(of_ranks(one), of_ranks(other), np.arange(300))[metric]

    def apart(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        return STATISTIC[metric](first, axis=axis) - STATISTIC[metric](second, axis=axis)

    data = of_ranks(one)[metric][0], of_ranks(other)[metric][0]
    expected = stats.bootstrap(
        data, apart, paired=True, n_resamples=10_000, method="percentile", rng=generator
    )
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.difference == pytest.approx(apart(*data))
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.04 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.04 * width)
    test = stats.permutation_test(
        data, apart, permutation_type="samples", n_resamples=10_000, rng=generator
    )
    assert 0.001 < test.pvalue < 0.5  # where a wrong test would show
    error = np.sqrt(2 * test.pvalue / 10_000)
    # Two-sided, SciPy's is twice the smaller tail, ours is what lies as far away on either side.
    assert found.p == pytest.approx(test.pvalue, abs=5 * error + 0.01)


def test_clusters_are_drawn_whole_and_seeds_averaged() -> None:
    generator = np.random.default_rng(1)
    cluster = generator.integers(25, size=90)
    names = np.unique(cluster)
    hard = generator.normal(0, 1, size=25)[cluster]
    # All seeds of a system alike, so that only the queries count.
    one, other = (
        np.repeat(np.ceil(ranks(generator, 1, 90, b) * np.exp(hard)), 2, axis=0) for b in (0.3, 0)
    )
    found = difference(of_ranks(one), of_ranks(other), cluster)
    for metric, statistic in STATISTIC.items():
        drawn = []
        for _ in range(4000):
            chosen = generator.choice(names, len(names))
            rows = np.concatenate([np.flatnonzero(cluster == name) for name in chosen])
            values = of_ranks(one)[metric][0, rows], of_ranks(other)[metric][0, rows]
            drawn.append(statistic(values[0]) - statistic(values[1]))
        expected = np.percentile(drawn, [2.5, 97.5])
        ends = found[metric].low, found[metric].high
        np.testing.assert_allclose(ends, expected, atol=0.08 * np.ptp(expected))


def test_where_seeds_are_everything_it_is_welchs_t_test() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.normal(0.6, 0.1, size=3), generator.normal(0.45, 0.2, size=5)
    cluster = np.arange(400)
    one, other = (np.repeat(reached[:, None], 400, axis=1) for reached in (first, second))
    found = difference({"MRR": one}, {"MRR": other}, cluster)["MRR"]
    welch = stats.ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval()
    np.testing.assert_allclose((found.low, found.high), (low, high), atol=0.05 * (high - low))
    assert found.p == pytest.approx(welch.pvalue, abs=0.02)


def test_medr_is_the_difference_of_medians_averaged_over_seeds() -> None:
    one = np.array([[1.0, 2.0, 9.0], [3.0, 5.0, 4.0]])
    other = np.array([[1.0, 7.0, 8.0]])
    found = difference({"MedR": one}, {"MedR": other}, np.arange(3), samples=100)["MedR"]
    assert found.difference == (2.0 + 4.0) / 2 - 7.0


def test_p_of_medr_over_seeds_goes_with_its_interval() -> None:
    generator = np.random.default_rng(5)
    shared = generator.normal(0, 1, size=400)
    # Many queries at the medians, where an exchange of labels would hardly move them.
    for better in (0.0, 0.02, 0.05, 0.3):
        one, other = (np.ceil(ranks(generator, 5, 400, b) * np.exp(shared)) for b in (better, 0.0))
        found = difference({"MedR": one}, {"MedR": other}, np.arange(400))["MedR"]
        if found.p < 0.04:
            assert not found.low <= 0 <= found.high
        if found.p > 0.06:
            assert found.low <= 0 <= found.high


def test_summaries_are_what_each_seed_reaches() -> None:
    rank = np.array([[1.0, 2.0, 9.0], [3.0, 5.0, 4.0]])
    systems = {"A": of_ranks(rank), "B": of_ranks(rank[:1])}
    found = compare(systems, np.array(["x", "y", "y"]), PAIR, samples=100)
    assert found.clusters == 2
    assert found.summaries["A"]["MedR"].tolist() == [2.0, 4.0]
    assert found.summaries["A"]["MRR"] == pytest.approx((1 / rank).mean(axis=1))
    assert found.summaries["B"]["MedR"].tolist() == [2.0]


def test_the_same_values_are_no_difference() -> None:
    generator = np.random.default_rng(3)
    values = of_ranks(ranks(generator, 3, 60, 0.0))
    for found in difference(values, values, np.arange(60), samples=500).values():
        assert found.difference == 0
        assert found.low <= 0 <= found.high
        assert found.p == 1


def test_p_is_never_zero_and_resamples_bound_it() -> None:
    rank = np.tile(np.arange(1.0, 101.0), (2, 1))
    found = difference(of_ranks(rank), of_ranks(rank + 500), np.arange(100), samples=999)
    assert found["MRR"].p == pytest.approx(1 / 1000)
    assert found["MedR"].high < -400


def test_scatter_of_seeds_widens_the_interval_and_raises_p() -> None:
    generator = np.random.default_rng(4)
    one, other = ranks(generator, 3, 500, 0.15), ranks(generator, 3, 500, 0.0)
    calm = difference({"MedR": one}, {"MedR": other}, np.arange(500))["MedR"]
    # The same means over seeds, but each seed far from them.
    moved = np.array([[-6.0], [0.0], [6.0]])
    wild = difference({"MedR": one + moved}, {"MedR": other + moved}, np.arange(500))["MedR"]
    assert wild.difference == calm.difference
    assert wild.high - wild.low > 3 * (calm.high - calm.low)
    assert calm.p < 0.05 < wild.p


def test_p_and_interval_agree() -> None:
    agree = []
    for repeat in range(30):
        generator = np.random.default_rng([5, repeat])
        values = [of_ranks(ranks(generator, 3, 150, better)) for better in (0.12, 0.0)]
        for found in difference(*values, np.arange(150), samples=1000).values():
            agree.append((found.p < 0.05) == (not found.low <= 0 <= found.high))
    assert np.mean(agree) > 0.95


def test_order_of_pairs_seeds_systems_and_metrics_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(6)
    systems: dict[str, Values] = {
        name: of_ranks(ranks(generator, 3, 80, better))
        for name, better in (("A", 0.2), ("B", 0.0), ("C", 0.1))
    }
    cluster = generator.integers(50, size=80)
    found = compare(systems, cluster, [("A", "B"), ("B", "A")], samples=2000, seed=1)
    forth, back = found.differences
    for name, one in forth.items():
        assert back[name].difference == -one.difference
        width = one.high - one.low
        assert (back[name].low, back[name].high) == pytest.approx(
            (-one.high, -one.low), abs=0.07 * width
        )
        assert back[name].p == pytest.approx(one.p, abs=0.03)
    for moved in (
        {name: {m: v[[2, 0, 1]] for m, v in values.items()} for name, values in systems.items()},
        {name: dict(reversed(values.items())) for name, values in systems.items()},
        {"A": systems["A"], "B": systems["B"]},
    ):
        again = compare(moved, cluster, PAIR, samples=2000, seed=1).differences[0]
        assert_alike(again, forth)
    monkeypatch.setattr(bootstrap, "_BUDGET", 50 * 300)
    assert_alike(compare(systems, cluster, PAIR, samples=2000, seed=1).differences[0], forth)
    other = compare(systems, cluster, PAIR, samples=2000, seed=2).differences[0]
    assert other["MRR"].low != forth["MRR"].low


def assert_alike(one: dict[str, Difference], other: dict[str, Difference]) -> None:
    assert one.keys() == other.keys()
    for name, found in one.items():
        numbers = found.difference, found.low, found.high, found.p
        expected = other[name]
        assert numbers == pytest.approx(
            (expected.difference, expected.low, expected.high, expected.p), abs=1e-9
        )


def test_another_system_of_more_seeds_changes_nothing_between_two() -> None:
    generator = np.random.default_rng(8)
    systems = {
        name: of_ranks(ranks(generator, 1, 80, better)) for name, better in (("A", 0.3), ("B", 0))
    }
    two = compare(systems, np.arange(80), PAIR, samples=1000).differences[0]
    systems["C"] = of_ranks(ranks(generator, 3, 80, 0.1))
    assert_alike(compare(systems, np.arange(80), PAIR, samples=1000).differences[0], two)


def test_progress_reaches_all_draws() -> None:
    told: list[int] = []
    values = of_ranks(ranks(np.random.default_rng(7), 1, 20, 0.0))
    systems = {"A": values, "B": values}
    compare(systems, np.arange(20), PAIR, samples=300, progress=told.append)
    assert sum(told) == 600


def test_holm_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04, which may not fall below what is before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("systems", "cluster", "samples", "message"),
    [
        ({"A": (2, 9)}, 9, 100, "at least two systems, found 1"),
        ({"A": (2, 9), "B": (2, 8)}, 9, 100, r"B: values of shape \(2, 8\), expected \(seeds, 9\)"),
        ({"A": (2, 9), "B": (0, 9)}, 9, 100, r"B: values of shape \(0, 9\)"),
        ({"A": (2, 9), "B": (2, 9)}, 9, 99, "99 resamples, expected at least 100"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    systems: dict[str, tuple[int, int]], cluster: int, samples: int, message: str
) -> None:
    values = {name: {"MRR": np.ones(shape)} for name, shape in systems.items()}
    with pytest.raises(UserError, match=message):
        compare(values, np.arange(cluster), PAIR, samples=samples)


def test_other_metrics_and_a_single_track_are_refused() -> None:
    ones = np.ones((1, 5))
    with pytest.raises(UserError, match="B has the metrics MedR, not MRR"):
        compare({"A": {"MRR": ones}, "B": {"MedR": ones}}, np.arange(5), PAIR)
    with pytest.raises(UserError, match="all queries are of one track"):
        compare({"A": {"MRR": ones}, "B": {"MRR": ones}}, np.zeros(5), PAIR)


def test_defaults_give_p_room_for_many_pairs() -> None:
    smallest = 1 / (1 + significance.SAMPLES)
    assert max(holm([smallest] * 28)) < 0.005  # all pairs of eight systems


@pytest.mark.parametrize(
    ("metric", "difference", "p", "expected"),
    [
        ("R@10", 2.0, 0.049, "better"),
        ("R@10", -2.0, 0.049, "worse"),
        ("MRR", 0.1, 0.01, "better"),
        ("MedR", -3.0, 0.01, "better"),
        ("MeanR", 3.0, 0.01, "worse"),
        ("R@10", 2.0, 0.05, "not distinguishable"),
        ("MedR", 0.0, 0.001, "not distinguishable"),
    ],
)
def test_verdict_is_of_the_first_and_knows_what_is_good(
    metric: str, difference: float, p: float, expected: str
) -> None:
    assert significance.verdict(metric, difference, p) == expected


def test_scope_says_what_one_seed_cannot() -> None:
    assert significance.scope("A", "B", [3, 2]) == ""
    assert "not of the methods" in significance.scope("A", "B", [1, 1])
    assert significance.scope("A", "B", [1, 3]).startswith("one seed of A")
    assert significance.scope("A", "B", [3, 1]).startswith("one seed of B")
