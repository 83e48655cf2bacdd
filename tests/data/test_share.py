"""A share of a split: nested samples, and everything downstream sees them alone."""

from itertools import islice, pairwise

import numpy as np
import pytest

from vmr.data.pipeline import eval_batches, train_batches
from vmr.data.standardization import statistics
from vmr.errors import UserError


def ids(dataset, split="train"):
    return [name for batch in eval_batches(dataset, split, 7) for name in batch["video_id"]]


def test_a_whole_share_is_the_dataset_itself(small_planted):
    assert small_planted.with_share("train", 1.0) is small_planted


@pytest.mark.parametrize(("share", "count"), [(0.5, 90), (0.25, 45), (0.1, 18), (0.001, 1)])
def test_counts_follow_the_share_rounded_up(small_planted, share, count):
    part = small_planted.with_share("train", share)
    assert part.examples("train") == part.splits["train"] == count
    assert len(ids(part)) == count
    assert part.splits["validation"] == small_planted.splits["validation"]
    assert part.fingerprint == small_planted.fingerprint
    assert part.bytes["train"] == pytest.approx(small_planted.bytes["train"] * count / 180, rel=0.1)


def test_a_larger_share_holds_the_smaller_ones(small_planted):
    shares = [ids(small_planted.with_share("train", share)) for share in (0.1, 0.3, 0.7, 1.0)]
    for smaller, larger in pairwise(shares):
        assert set(smaller) < set(larger)
    # A share of a share is that share of the whole.
    again = small_planted.with_share("train", 0.7).with_share("train", 0.1)
    assert ids(again) == shares[0]


def test_other_splits_are_whole(small_planted):
    part = small_planted.with_share("train", 0.1)
    assert ids(part, "validation") == ids(small_planted, "validation")


def test_training_draws_from_the_share_alone(small_planted):
    part = small_planted.with_share("train", 0.1)
    batches = list(islice(train_batches(part, "train", 6, seed=0), 9))
    for epoch in range(3):
        seen = [name for batch in batches[3 * epoch : 3 * epoch + 3] for name in batch["video_id"]]
        assert sorted(seen) == sorted(ids(part))


def test_statistics_are_those_of_the_share(small_planted):
    part = small_planted.with_share("train", 0.2)
    video = np.concatenate([batch["video"] for batch in eval_batches(part, "train", 50)])
    found = statistics(part)["video"]
    np.testing.assert_allclose(found["mean"], video.mean(axis=0, dtype=np.float64), atol=1e-5)
    np.testing.assert_allclose(found["scale"], 1 / video.std(axis=0, dtype=np.float64), rtol=1e-4)


def test_a_missing_split_is_named(small_planted):
    with pytest.raises(UserError, match="no split 'dev'"):
        small_planted.with_share("dev", 0.5)
