"""Exact search against whole matrices: blocks, parts, ties, bounds of score, hubs."""

import pathlib
import tracemalloc

import naive_search as naive
import numpy as np
import pytest

from vmr.errors import UserError
from vmr.retrieval import search as exact
from vmr.retrieval.search import neighbourhood, search

QUERIES, ROWS = naive.made_rows(0, 37), naive.made_rows(1, 500)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(exact, "_QUERIES", 8)
        monkeypatch.setattr(exact, "_SCORES", 8 * 64)
        monkeypatch.setattr(exact, "_VALUES", 24 * 7)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("top", [1, 10, 499, 500, 1000])
def test_hits_are_those_of_a_full_sort(top: int) -> None:
    hits = search(QUERIES, [ROWS[:3], ROWS[3:400], ROWS[400:]], top)
    expected = naive.scores(QUERIES, ROWS)
    rows = naive.best(expected, top)
    np.testing.assert_array_equal(hits.rows, rows)
    np.testing.assert_array_equal(hits.scores, np.take_along_axis(expected, rows, 1))


@pytest.mark.usefixtures("blocks")
def test_equal_rows_tie_and_stand_in_the_order_of_rows() -> None:
    """Wherever they stand: BLAS gives the last rows of a block another order of summation."""
    rows = np.concatenate([ROWS[:5], np.repeat(ROWS[7:9], 120, axis=0), ROWS[:5]])
    hits = search(QUERIES, [rows[:101], rows[101:]], 130)
    np.testing.assert_array_equal(hits.rows, naive.best(naive.scores(QUERIES, rows), 130))


@pytest.mark.usefixtures("blocks")
def test_rows_that_come_ever_nearer() -> None:
    """The worst order: each block replaces all that was best before."""
    rows = ROWS[np.argsort(ROWS @ QUERIES[0])]
    np.testing.assert_array_equal(search(QUERIES[:1], [rows], 4).rows, [[499, 498, 497, 496]])


def test_hits_do_not_depend_on_blocks_parts_and_other_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = search(QUERIES, [ROWS], 20)
    monkeypatch.setattr(exact, "_SCORES", 1000)
    apart = [search(QUERIES[n : n + 1], np.array_split(ROWS, 7), 20) for n in range(len(QUERIES))]
    np.testing.assert_array_equal(whole.rows, np.concatenate([hits.rows for hits in apart]))
    np.testing.assert_array_equal(whole.scores, np.concatenate([hits.scores for hits in apart]))


@pytest.mark.usefixtures("blocks")
def test_what_is_excluded_or_scores_too_low_is_no_hit() -> None:
    expected = naive.scores(QUERIES, ROWS)
    excluded = np.random.default_rng(2).random(500) < 0.3
    least = float(np.sort(expected[0])[-20])
    hits = search(QUERIES, [ROWS[:200], ROWS[200:]], 30, min_score=least, excluded=excluded)
    expected[:, excluded] = -np.inf
    rows = naive.best(expected, 30)
    kept = np.take_along_axis(expected, rows, 1) >= np.float32(least)
    assert 0 < kept[0].sum() < 20
    np.testing.assert_array_equal(hits.rows, np.where(kept, rows, -1))
    assert np.all(np.isneginf(hits.scores) == ~kept)


def test_nothing_is_left() -> None:
    hits = search(QUERIES, [ROWS], 3, excluded=np.ones(500, bool))
    assert np.all(hits.rows == -1)
    assert search(QUERIES, [ROWS[:0]], 3).rows.shape == (37, 0)


@pytest.mark.usefixtures("blocks")
def test_csls_is_that_of_its_definition() -> None:
    bank = naive.made_rows(2, 60)
    hubs = neighbourhood([ROWS[:90], ROWS[90:]], [bank[:7], bank[7:]])
    hits = search(QUERIES, [ROWS], 15, offsets=-hubs / 2)
    expected = naive.csls(QUERIES, ROWS, bank)
    np.testing.assert_array_equal(hits.rows, naive.best(expected, 15))
    of_queries = neighbourhood([QUERIES], [ROWS])
    found = 2 * hits.scores - of_queries[:, None] - hubs[hits.rows]
    np.testing.assert_allclose(found, np.take_along_axis(expected, hits.rows, 1), atol=1e-6)
    few = neighbourhood([ROWS[:4]], [bank[:3]])  # fewer than ten
    np.testing.assert_allclose(few, naive.scores(ROWS[:4], bank[:3]).mean(axis=1), atol=1e-6)


def test_csls_lowers_a_hub() -> None:
    """A row near to every query, and for each query a row of its own a little further off."""
    queries = np.eye(24, dtype=np.float32)[:12]
    hub = queries.sum(axis=0, keepdims=True) / np.sqrt(12).astype(np.float32)
    own = 0.28 * queries + np.sqrt(1 - 0.28**2) * np.eye(24, dtype=np.float32)[12:]
    rows = np.concatenate([hub, own]).astype(np.float32)
    assert set(search(queries, [rows], 1).rows.ravel()) == {0}
    lowered = search(queries, [rows], 1, offsets=-neighbourhood([rows], [queries]) / 2)
    assert lowered.rows.ravel().tolist() == list(range(1, 13))


def test_what_is_wrong_is_told_in_one_line() -> None:
    bad = ROWS.copy()
    bad[321, 3] = np.nan
    with pytest.raises(UserError, match="the collection: row 321 holds NaN or infinity"):
        search(QUERIES, [ROWS[:0], bad[:100], bad[100:]], 3)
    with pytest.raises(UserError, match="queries: row 2 holds NaN"):
        search(bad[319:], [ROWS], 3)
    with pytest.raises(UserError, match="queries have width 23, and the collection 24"):
        search(QUERIES[:, :-1], [ROWS], 3)


def test_memory_maps_are_not_copied(tmp_path: pathlib.Path) -> None:
    rows = naive.made_rows(3, 50_000, 64)  # 12.8 MB
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    query = rows[7:8].copy()
    tracemalloc.start()
    hits = search(query, [mapped], 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert hits.rows[0, 0] == 7
    assert peak < 3e6
