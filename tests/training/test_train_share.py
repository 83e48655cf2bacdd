"""Training on a share of the pairs: nothing else is seen, validation stays whole."""

import pathlib

import jax
import ml_collections
import numpy as np
import pytest
from runs import ONE

from vmr.data.dataset import open_dataset
from vmr.data.pipeline import eval_batches
from vmr.data.standardization import statistics
from vmr.errors import UserError
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.feed import Feed
from vmr.training.reading import dataset_of


def test_a_share_trains_on_its_own_pairs_and_statistics(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.dataset.train_share = 0.3
    whole = open_dataset(config.dataset.data_dir)
    share = whole.with_share("train", 0.3)
    (batch,) = eval_batches(share, "train", 1000)
    expected = set(batch["video_id"])
    assert len(expected) == share.examples("train") < 0.4 * whole.examples("train")

    seen = []
    steps = Feed.steps

    def noted(*arguments):  # type: ignore[no-untyped-def]
        for shards, (batch,) in steps(*arguments):
            seen.append(set(batch["video_id"]))
            yield shards, (batch,)

    monkeypatch.setattr(Feed, "steps", noted)
    loop.train(config, workdir, ONE)
    assert set().union(*seen) == expected  # eight epochs of one batch and a remainder

    run = restore_run(workdir)
    assert run.dataset.examples("train") == len(expected)
    measured = statistics(share, "train")
    jax.tree.map(np.testing.assert_array_equal, run.trained.standardization, measured)
    assert np.any(measured["video"]["mean"] != statistics(whole, "train")["video"]["mean"])
    for split in ("validation", "test"):
        ids = [name for batch in run.embed(split) for name in batch["video_id"]]
        stored = [name for batch in eval_batches(whole, split, 50) for name in batch["video_id"]]
        assert ids == stored


def test_the_share_is_the_same_each_time_whatever_the_seed(
    config: ml_collections.ConfigDict,
) -> None:
    config.dataset.train_share = 0.2
    found = []
    for seed in (0, 1):
        config.seed = seed
        (batch,) = eval_batches(dataset_of(config), "train", 1000)
        found.append(batch["video_id"].tolist())
    assert found[0] == found[1]


def test_a_batch_must_fit_into_the_share(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    config.dataset.train_share = 0.1
    expected = r"config\.batch_size is 32, expected at most 15, the videos of the training split"
    with pytest.raises(UserError, match=expected):
        loop.train(config, workdir, ONE)
