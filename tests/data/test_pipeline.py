"""Batches: what they hold, the order they come in, and where a broken record lies."""

from itertools import islice

import numpy as np
import pytest

from vmr.data.dataset import open_dataset
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches, train_batches
from vmr.data.schema import Pair, Schema
from vmr.errors import UserError

BATCH = 32


def ids(batches):
    return [name for batch in batches for name in batch["video_id"]]


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


@pytest.fixture(scope="module")
def uninterrupted(small_planted):
    """Sixteen batches: three epochs of five, and the first of a fourth."""
    return list(islice(train_batches(small_planted, "train", BATCH, seed=1), 16))


def test_batch_holds_what_was_written(write, vectors, vector_schema):
    pairs = {pair.video_id: pair for pair in vectors(7, videos_per_track=2)}
    dataset = write(vector_schema, train=list(pairs.values()))
    batches = list(eval_batches(dataset, "train", 4))
    assert [len(batch["track"]) for batch in batches] == [4, 3]
    for batch in batches:
        assert set(batch) == {"video", "music", "track", "video_id", "music_id"}
        assert [batch[name].dtype for name in ("video", "music", "track")] == ["f4", "f4", "i4"]
        for row, name in enumerate(batch["video_id"]):
            assert isinstance(name, str)
            np.testing.assert_array_equal(batch["video"][row], pairs[name].video)
            np.testing.assert_array_equal(batch["music"][row], pairs[name].music)
            assert batch["music_id"][row] == pairs[name].music_id
    assert sorted(ids(batches)) == sorted(pairs)


def test_every_epoch_holds_each_example_at_most_once_in_a_new_order(small_planted, uninterrupted):
    examples = small_planted.splits["train"]
    steps = examples // BATCH
    assert examples % BATCH  # so that something is dropped
    epochs = [ids(uninterrupted[epoch * steps : (epoch + 1) * steps]) for epoch in range(3)]
    assert all(len(set(epoch)) == steps * BATCH for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len({frozenset(epoch) for epoch in epochs}) == 3
    stored = ids(eval_batches(small_planted, "train", BATCH))
    moved = np.abs([stored.index(name) - place for place, name in enumerate(epochs[0])])
    assert moved.mean() > examples / 5  # a whole shuffle moves a record by a third


def test_another_seed_gives_another_order(small_planted, uninterrupted):
    other = islice(train_batches(small_planted, "train", BATCH, seed=2), 3)
    assert ids(uninterrupted[:3]) != ids(other)


@pytest.mark.parametrize("start", [0, 4, 5, 13])
def test_resumed_batches_are_those_of_an_uninterrupted_run(small_planted, uninterrupted, start):
    resumed = train_batches(small_planted, "train", BATCH, seed=1, start_step=start)
    assert_same(uninterrupted[start:], list(islice(resumed, 16 - start)))


@pytest.mark.parametrize("rows", [slice(0, 8), slice(8, 32)])
def test_rows_of_a_process_are_those_of_the_batches_of_one(small_planted, uninterrupted, rows):
    batches = train_batches(small_planted, "train", BATCH, seed=1, start_step=3, rows=rows)
    cut = [{name: array[rows] for name, array in batch.items()} for batch in uninterrupted[3:]]
    assert_same(cut, list(islice(batches, 13)))


def test_sequences_are_pooled_to_the_mean_of_their_frames(write):
    rng = np.random.default_rng(0)
    lengths = [1, 256, 257, 300]
    pairs = [
        Pair(
            f"v{t}",
            f"m{t}",
            rng.integers(250, 256, size=(t, 8), dtype=np.uint8),
            rng.normal(size=(t + 1, 3)).astype(np.float32),
        )
        for t in lengths
    ]
    dataset = write(Schema(Modality(8, True, True), Modality(3, True)), train=pairs)
    (batch,) = eval_batches(dataset, "train", 10)
    by_id = {pair.video_id: pair for pair in pairs}
    for row, name in enumerate(batch["video_id"]):
        video = by_id[name].video * (4 / 255) + (4 / 512 - 2)
        np.testing.assert_allclose(batch["video"][row], video.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(batch["music"][row], by_id[name].music.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("batch_size", [0, 1000])
def test_a_batch_that_no_epoch_can_fill_is_refused(small_planted, batch_size):
    expected = small_planted.splits["train"]
    with pytest.raises(UserError, match=f"batch_size={batch_size}: expected 1 to {expected}"):
        train_batches(small_planted, "train", batch_size, seed=0)


def test_a_missing_split_is_named_with_those_there_are(small_planted):
    expected = r"no split 'dev', expected one of: train \(180\)"
    with pytest.raises(UserError, match=expected):
        train_batches(small_planted, "dev", 8, seed=0)
    with pytest.raises(UserError, match=expected):
        eval_batches(small_planted, "dev", 8)


def damage(dataset, kind):
    (shard,) = dataset.shards["train"]
    content = bytearray(shard.path.read_bytes())
    size = len(content) // shard.examples  # all records of `vectors(9)` are equally long
    if kind == "truncated":
        content = content[:-3]
    elif kind == "corrupt":
        content[8 * size + 40] ^= 1
    elif kind == "holds 8 records":
        content = content[:-size]
    shard.path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "kind", ["record 8 is truncated", "record 8 is corrupt", "holds 8 records"]
)
@pytest.mark.parametrize("reader", ["train", "eval"])
def test_damaged_shards_are_told_by_file_and_record(write, vectors, vector_schema, kind, reader):
    dataset = write(vector_schema, train=vectors(9))
    damage(dataset, kind.removeprefix("record 8 is "))
    batches = (
        train_batches(dataset, "train", 9, seed=0)
        if reader == "train"
        else eval_batches(dataset, "train", 2)
    )
    with pytest.raises(UserError, match=rf"tfrecord-00000-of-00001: {kind}"):
        list(islice(batches, 9))


def test_a_record_of_another_width_is_told_by_number(write, vectors, vector_schema, tmp_path):
    dataset = write(vector_schema, train=vectors(3))
    other = type(write)(tmp_path / "other")
    wide = other(
        Schema(Modality(5), Modality(3)),
        train=[Pair("w", "w", np.zeros(5, "f4"), np.ones(3, "f4"))],
    )
    (shard,), (wide_shard,) = dataset.shards["train"], wide.shards["train"]
    shard.path.write_bytes(shard.path.read_bytes() + wide_shard.path.read_bytes())
    expected = r"record 3 video has 20 bytes, expected 16 \(4 float32 numbers\)"
    with pytest.raises(UserError, match=expected):
        list(eval_batches(open_dataset(dataset.data_dir), "train", 10))
