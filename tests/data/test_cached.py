"""A split in memory gives the batches that reading it gives: order, content, broken records."""

import shutil
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from vmr.data import pipeline
from vmr.data.batch_spec import BatchSpec
from vmr.data.cached import cached, cached_bytes, is_cacheable
from vmr.data.dataset import Dataset
from vmr.data.label_classes import label_counts
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches, train_batches, train_numbers
from vmr.data.schema import Pair, Schema, Text
from vmr.data.standardization import statistics
from vmr.errors import UserError

FRAMES = Modality(8, True, True), Modality(3, True)
SPECS = {
    "mean": BatchSpec(),
    "words": BatchSpec(tokens=3, vocabulary=50),
    "embeddings": BatchSpec(tokens=3),
}


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name, rows in left.items():
            assert rows.dtype == right[name].dtype
            np.testing.assert_array_equal(rows, right[name], err_msg=name)


def pairs(count, words=True):
    """Pairs of sequences with text, labels and groups, two videos a track."""
    rng = np.random.default_rng(1)

    def text():
        many = int(rng.integers(0, 5))
        return " ".join(["Ångström", "b", "c", "d"][:many]) if words else np.ones((many, 2), "f4")

    return [
        Pair(
            f"v{row}" * (1 + row % 9),
            f"m{row // 2}",
            rng.integers(256, size=(row % 7 + 1, 8), dtype=np.uint8),
            rng.normal(size=(row // 2 % 5 + 1, 3)).astype(np.float32),
            text=text(),
            labels=tuple(range(row % 3)),
            group=row // 4,
        )
        for row in range(count)
    ]


def rich(write, count, words=True):
    text = Text() if words else Text(2)
    schema = Schema(*FRAMES, text=text, has_labels=True, has_groups=True)
    return write(schema, train=pairs(count, words))


def in_shards(dataset, times):
    """The same file several times over, as so many shards."""
    shards = dataset.shards["train"] * times
    count = sum(shard.examples for shard in shards)
    return replace(dataset, shards={"train": shards}, splits={"train": count})


def taken(dataset, spec, batch_size, seed, start=0):
    """Batches of `train_batches`, without end, from memory."""
    held = cached(dataset, "train", spec)
    for numbers in train_numbers(dataset, "train", batch_size, seed, start):
        yield dict(held.batch(numbers))


@pytest.mark.parametrize("shards", [1, 3, 11])
@pytest.mark.parametrize("start", [0, 3, 7])
def test_vectors_come_in_the_order_of_their_records(
    write, vectors, vector_schema, monkeypatch, shards, start
):
    monkeypatch.setattr(pipeline, "SHUFFLE_BYTES", 1)
    monkeypatch.setattr(pipeline, "_MIN_SHUFFLE_RECORDS", 5)  # fewer than an epoch has
    dataset = in_shards(write(vector_schema, train=vectors(37)), shards).with_share("train", 0.7)
    batch = 8 * shards  # three batches an epoch and a remainder
    read = train_batches(dataset, "train", batch, seed=4, start_step=start)
    assert_same(islice(read, 8), islice(taken(dataset, BatchSpec(), batch, 4, start), 8))


@pytest.mark.parametrize("name", SPECS)
def test_a_batch_of_means_holds_what_is_read(write, name):
    dataset = rich(write, 30, words=name != "embeddings")
    spec = replace(SPECS[name], label_counts=label_counts(dataset))
    read = train_batches(dataset, "train", 7, seed=2, spec=spec)
    assert_same(islice(read, 9), islice(taken(dataset, spec, 7, 2), 9))
    held = cached(dataset, "train", spec)
    for size in (7, 30, 100):
        assert_same(held.batches(size), eval_batches(dataset, "train", size, spec))


@pytest.mark.parametrize("name", SPECS)
def test_the_size_is_known_before(write, name):
    dataset = rich(write, 30, words=name != "embeddings")
    held = cached(dataset, "train", SPECS[name])
    found = sum(rows.nbytes for rows in held.arrays.values())
    assert 0.8 * found <= cached_bytes(dataset, "train", SPECS[name]) <= 1.6 * found


def test_statistics_from_memory_are_those_of_the_records_to_the_bit(
    write, vectors, vector_schema, monkeypatch
):
    monkeypatch.setattr("vmr.data.standardization._BATCH", 7)
    dataset = write(vector_schema, train=vectors(40))
    held = cached(dataset, "train", BatchSpec())
    expected = statistics(dataset)
    shutil.rmtree(dataset.data_dir / "measured")  # else they would be read from there
    found = statistics(dataset, held=held)
    for side, each in expected.items():
        for name, values in each.items():
            np.testing.assert_array_equal(found[side][name], values)


def test_sampled_clips_are_drawn_anew(ladder: Dataset, small_planted: Dataset):
    sparse = BatchSpec(sampling="global_sparse", clips=2)
    assert is_cacheable(ladder, BatchSpec())
    assert not is_cacheable(ladder, sparse)
    assert not is_cacheable(ladder, replace(sparse, pairing="music"))
    assert is_cacheable(small_planted, sparse)  # vectors, of which nothing is sampled


def test_rows_are_taken_without_those_left_out(small_planted: Dataset):
    held = cached(small_planted, "validation", BatchSpec())
    small = held.without(["video", "music"])
    assert small.arrays.keys() == held.arrays.keys() - {"video", "music"}
    batch = small.batch(np.array([0, 3, 0, 3])).cut(slice(1, None))
    (whole,) = held.batches(1000)
    np.testing.assert_array_equal(batch["track"], whole["track"][[3, 0, 3]])
    assert batch["video_id"].tolist() == whole["video_id"][[3, 0, 3]].tolist()
    square = held.rows("video", np.array([[1, 2], [3, 0]]))
    np.testing.assert_array_equal(square, whole["video"][[1, 2, 3, 0]].reshape(2, 2, -1))
    with pytest.raises(ValueError, match="read-only"):
        whole["video"][0] = 0  # a view, which nothing may write to


def test_numbers_are_an_epoch_of_every_record_once(small_planted: Dataset):
    examples = small_planted.splits["train"]
    epochs = list(islice(train_numbers(small_planted, "train", examples, seed=0), 3))
    assert all(sorted(epoch) == list(range(examples)) for epoch in epochs)
    assert all(np.any(one != other) for one, other in pairwise(epochs))
    with pytest.raises(UserError, match="batch_size=0: expected 1 to 180, the videos of split"):
        train_numbers(small_planted, "train", 0, seed=0)


@pytest.mark.parametrize("kind", ["truncated", "corrupt"])
def test_a_broken_record_is_told_as_where_it_is_read(write, vectors, vector_schema, kind):
    dataset = write(vector_schema, train=vectors(9))
    (shard,) = dataset.shards["train"]
    content = bytearray(shard.path.read_bytes())
    if kind == "corrupt":
        content[8 * len(content) // 9 + 40] ^= 1
    shard.path.write_bytes(content[:-3] if kind == "truncated" else content)
    told = []
    for read in (
        lambda: list(eval_batches(dataset, "train", 2)),
        lambda: cached(dataset, "train", BatchSpec()),
    ):
        with pytest.raises(UserError, match=f"record 8 is {kind}") as raised:
            read()
        told.append(str(raised.value))
    assert told[0] == told[1]
