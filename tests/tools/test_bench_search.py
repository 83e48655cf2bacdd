"""The benchmark of search: its catalogue is what it says, its contenders find."""

import pathlib

import numpy as np
import pytest

from tools.bench import search as bench
from vmr import embeddings
from vmr.arrays import unit_rows

ROWS = unit_rows(np.random.default_rng(0).standard_normal((40, 16)))


def test_rows_are_repeated_with_noise(tmp_path: pathlib.Path) -> None:
    bench.repeated_with_noise(ROWS, 100, 0.5, tmp_path / "made.npy")
    made = np.load(tmp_path / "made.npy")
    np.testing.assert_array_equal(made[:40], ROWS)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    nearness = np.sum(made[40:80] * ROWS, axis=1)
    assert 0.85 < np.mean(nearness) < 0.93
    assert nearness.max() < 1
    assert not np.array_equal(made[40:60], made[80:])


@pytest.mark.parametrize("name", ["exact", "ivf"])
def test_a_contender_is_prepared(name: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("faiss")
    bench.repeated_with_noise(ROWS, 100, 0.3, tmp_path / "made.npy")
    embeddings.save(tmp_path / "test.npz", ROWS[:9], ROWS[:9], np.arange(9))
    prepared = bench.prepare(name, tmp_path, str(tmp_path / "test.npz"), 3)
    prepared.step()
    assert prepared.facts.keys() >= ({"recall@10", "nprobe"} if name == "ivf" else set())
