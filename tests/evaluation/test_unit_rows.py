"""Rows that are not of unit length: refused, normalised where asked, or kept for products."""

import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation import SegmentedItems, evaluate, group_ranks, pair_ranks, recalls

N = 40
UNIT = unit_rows(np.random.default_rng(0), N)
# Longer rows win every inner product: a perfect model looks like a bad one.
LONG = UNIT * np.geomspace(1, 1e3, N, dtype=np.float32)[:, None]
INDEX = np.arange(N)
RANKINGS = {
    "evaluate": lambda *rows, **options: evaluate(*rows, INDEX, split="test", **options),
    "recalls": lambda *rows, **options: recalls(*rows, INDEX, **options),
    "pair_ranks": lambda *rows, **options: pair_ranks(*rows, INDEX, **options),
    "group_ranks": lambda *rows, **options: group_ranks(*rows, INDEX, INDEX, **options),
}


@pytest.mark.parametrize("ranking", RANKINGS)
def test_long_rows_are_refused_on_either_side(ranking):
    rank = RANKINGS[ranking]
    with pytest.raises(UserError, match=r"video_emb: row 1 has length 1\.19\d; expected 1$"):
        rank(LONG, UNIT)
    with pytest.raises(UserError, match=r"music_emb: row 1 has length"):
        rank(UNIT, LONG)
    with pytest.raises(UserError, match="not_unit='scale': expected refuse or normalize or keep"):
        rank(UNIT, UNIT, not_unit="scale")


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalised_rows_rank_as_unit_rows_do(scale):
    found = recalls(LONG * np.float32(scale), LONG, INDEX, not_unit="normalize")
    assert found == recalls(UNIT, UNIT, INDEX)
    assert found["v2m/R@1"] == 100
    assert recalls(UNIT, LONG, INDEX, not_unit="keep")["v2m/R@1"] <= 20


def test_products_that_would_be_infinite_are_refused():
    with pytest.raises(UserError, match=r"video_emb: row 0 has length 1e\+30; expected at most"):
        recalls(UNIT * np.float32(1e30), UNIT, INDEX, not_unit="keep")


def test_rows_too_short_for_single_precision_are_no_zero_rows():
    with pytest.raises(UserError, match=r"video_emb: row 0 has length 1e-50; expected 1"):
        recalls(UNIT.astype(np.float64) * 1e-50, UNIT, INDEX)


def test_zero_rows_and_half_precision_are_of_unit_length():
    rows = UNIT.copy()
    rows[3] = 0
    assert np.isfinite(list(recalls(rows, rows, INDEX).values())).all()
    assert np.isfinite(list(recalls(rows, rows, INDEX, not_unit="normalize").values())).all()
    assert recalls(UNIT.astype(np.float16), UNIT, INDEX)["v2m/R@1"] == 100


def test_segments_are_looked_at_without_their_padding():
    rows = np.stack([UNIT, UNIT, np.full_like(UNIT, 7)], axis=1)
    items = SegmentedItems(rows, np.full(N, 2))
    v2m, _ = pair_ranks(items, items, INDEX)
    scaled = SegmentedItems(rows * 3, items.segments)
    with pytest.raises(UserError, match=r"video_emb: item 0, segment 0 has length 3; expected 1"):
        pair_ranks(scaled, items, INDEX)
    again, _ = pair_ranks(scaled, items, INDEX, not_unit="normalize")
    np.testing.assert_array_equal(v2m.above, again.above)
