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
