"""Resampling and its medians, against both written out."""

import numpy as np
import pytest

from vmr.evaluation import bootstrap


def test_intervals_match_resampling_written_out():
    generator = np.random.default_rng(1)
    cluster = generator.integers(30, size=100)
    values = {"R@10": generator.random(100), "MedR": generator.integers(1, 50, 100).astype(float)}
    found = bootstrap.intervals(values, cluster, samples=2000, seed=3)
    names = np.unique(cluster)
    means, medians = [], []
    for _ in range(2000):
        drawn = np.concatenate([np.flatnonzero(cluster == c) for c in generator.choice(names, 30)])
        means.append(values["R@10"][drawn].mean())
        medians.append(np.median(values["MedR"][drawn]))
    np.testing.assert_allclose(found["R@10"], np.percentile(means, [2.5, 97.5]), atol=0.01)
    np.testing.assert_allclose(found["MedR"], np.percentile(medians, [2.5, 97.5]), atol=1.5)


def test_one_seed_one_answer_however_it_is_chunked(monkeypatch):
    values = {"MRR": np.linspace(0, 1, 50), "MedR": np.arange(50.0)}
    whole = bootstrap.intervals(values, np.arange(50), samples=100, seed=7)
    assert bootstrap.intervals(values, np.arange(50), samples=100, seed=7) == whole
    assert bootstrap.intervals(values, np.arange(50), samples=100, seed=8) != whole
    monkeypatch.setattr(bootstrap, "_BUDGET", 1)
    chunked = bootstrap.intervals(values, np.arange(50), samples=100, seed=7)
    for name in values:
        assert chunked[name] == pytest.approx(whole[name])


def test_order_of_metrics_is_kept():
    values = {"MedR": np.arange(9.0), "R@1": np.ones(9)}
    assert list(bootstrap.intervals(values, np.arange(9), samples=10)) == ["MedR", "R@1"]


def drawn(queries: int, clusters: int, top: int) -> tuple[np.random.Generator, np.ndarray, int]:
    """A generator, the cluster of each query, and how many clusters there are."""
    generator = np.random.default_rng(queries + top)
    _, cluster = np.unique(generator.integers(clusters, size=queries), return_inverse=True)
    return generator, cluster, int(cluster.max()) + 1


@pytest.mark.parametrize(
    ("queries", "clusters", "top"), [(15, 5, 20), (300, 200, 40), (900, 600, 1400), (50, 2, 6)]
)
def test_copied_and_exchanged_values_have_their_own_medians(
    queries: int, clusters: int, top: int
) -> None:
    generator, cluster, clusters = drawn(queries, clusters, top)

    values = generator.integers(2, top, size=queries) / 2
    counts = bootstrap.draw(generator, 40, clusters)
    written_out = [np.median(np.repeat(values, row[cluster].astype(int))) for row in counts]
    found = bootstrap.copied(values, cluster, clusters).medians(np.ascontiguousarray(counts.T))
    np.testing.assert_array_equal(found, written_out)

    first = generator.integers(2, top, size=(3, queries)) / 2
    second = generator.integers(4, top + 4, size=(2, queries)) / 2
    coins = 2.0 * generator.integers(2, size=(40, clusters)) - 1.0
    # Two seeds weigh as much as three: each copied up to six rows.
    as_six = np.repeat(first, 2, axis=0), np.repeat(second, 3, axis=0)
    written_out = [np.median(np.where(coin[cluster] > 0, *as_six)) for coin in coins]
    both = bootstrap.exchanged(first, second, cluster, clusters)
    np.testing.assert_array_equal(both.medians(np.ascontiguousarray(coins.T)), written_out)


def test_a_median_far_from_the_usual_is_found() -> None:
    # One cluster of two carries every high value: the median jumps between the two ends.
    values = np.array([1.0] * 10 + [100.0] * 11)
    cluster = (values > 1).astype(int)
    counts = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = bootstrap.copied(values, cluster, 2).medians(np.ascontiguousarray(counts.T))
    assert found.tolist() == [1.0, 100.0, 100.0]
