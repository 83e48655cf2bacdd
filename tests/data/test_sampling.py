"""Which clips of a sequence are shown: cases small enough to check by hand, and the draws."""

import numpy as np
import pytest

from vmr.data.sampling import contiguous, global_sparse, segment_offsets

LAST = np.nextafter(1.0, 0.0)


@pytest.mark.parametrize(
    ("length", "offset", "expected"),
    [
        (10, 0.0, [0, 2, 5, 7]),  # segments 0-1, 2-4, 5-6, 7-9
        (10, 0.25, [0, 2, 5, 7]),
        (10, 0.5, [1, 3, 6, 8]),
        (10, 0.75, [1, 4, 6, 9]),
        (10, LAST, [1, 4, 6, 9]),
        (8, 0.5, [1, 3, 5, 7]),
        (5, 0.5, [0, 1, 2, 4]),  # segments 0, 1, 2, 3-4
        (4, LAST, [0, 1, 2, 3]),
        (3, 0.5, [0, 1, 2]),
        (1, 0.5, [0]),
        (0, 0.5, []),
    ],
)
def test_one_clip_of_each_of_four_segments(length, offset, expected):
    assert global_sparse(length, np.full(4, offset)).tolist() == expected


def test_each_segment_has_an_offset_of_its_own():
    assert global_sparse(10, np.array([LAST, 0.0, 0.5, 0.4])).tolist() == [1, 2, 6, 8]


@pytest.mark.parametrize(
    ("length", "offset", "expected"),
    [
        (10, 0.0, [0, 1, 2, 3]),
        (10, 0.5, [3, 4, 5, 6]),
        (10, LAST, [6, 7, 8, 9]),
        (5, 0.5, [1, 2, 3, 4]),
        (4, LAST, [0, 1, 2, 3]),
        (2, 0.5, [0, 1]),
        (0, 0.5, []),
    ],
)
def test_an_excerpt_of_four_clips(length, offset, expected):
    assert contiguous(length, np.array([offset, 9, 9, 9])).tolist() == expected


@pytest.mark.parametrize("length", [5, 8, 23, 300])
@pytest.mark.parametrize("choose", [global_sparse, contiguous])
def test_random_clips_are_in_bounds_and_ascend(choose, length):
    rng = np.random.default_rng(length)
    for _ in range(200):
        found = choose(length, rng.random(4))
        assert found[0] >= 0
        assert found[-1] < length
        assert (np.diff(found) > 0).all()


def test_every_clip_of_a_segment_comes_as_often():
    rng = np.random.default_rng(0)
    found = np.stack([global_sparse(12, rng.random(4)) for _ in range(6000)])
    shares = np.bincount(found.ravel(), minlength=12) / len(found)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


def test_every_start_of_an_excerpt_comes_as_often():
    rng = np.random.default_rng(0)
    starts = [contiguous(9, rng.random(4))[0] for _ in range(6000)]
    np.testing.assert_allclose(np.bincount(starts, minlength=6) / 6000, 1 / 6, atol=0.03)


def offsets(first=0, count=5, seed=3, samples=1, method="global_sparse"):
    return segment_offsets(range(first, first + count), 4, seed, samples, method)


@pytest.mark.parametrize("samples", [1, 2])
def test_draws_depend_on_the_seed_and_the_number_of_the_item_alone(samples):
    whole = offsets(count=20, samples=samples)
    assert whole.shape == (samples, 20, 4)
    pieces = [offsets(first, 4, samples=samples) for first in range(0, 20, 4)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
    assert len(np.unique(whole)) == whole.size
    assert not np.isin(offsets(count=20, seed=4, samples=samples), whole).any()
    assert (whole >= 0).all()
    assert (whole < 1).all()


@pytest.mark.parametrize("method", ["global_sparse", "contiguous"])
def test_offsets_of_evaluation_are_fixed(method):
    np.testing.assert_array_equal(offsets(seed=None, method=method), np.full((1, 5, 4), 0.5))
    two = offsets(seed=None, samples=2, method=method)
    assert two.shape == (2, 5, 4)
    assert len(np.unique(two)) == 2


@pytest.mark.parametrize("length", range(2, 40))
@pytest.mark.parametrize("choose", [global_sparse, contiguous])
def test_two_samples_of_evaluation_are_disjoint(choose, length):
    clips = min(4, length // 2)
    one, other = offsets(count=1, seed=None, samples=2, method=choose.__name__)[:, 0, :clips]
    assert not set(choose(length, one)) & set(choose(length, other))
