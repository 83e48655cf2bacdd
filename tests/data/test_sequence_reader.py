"""Records of sequences by their numbers: order, content, every way a shard can be broken."""

from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from vmr.data import pipeline
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches, train_batches
from vmr.data.schema import Pair, Schema
from vmr.data.sequences import masked_checksum, split_example
from vmr.data.tfrecords import read_records
from vmr.errors import UserError

BYTES = Schema(Modality(64, True, True), Modality(3, True))


def pairs(count):
    rng = np.random.default_rng(0)
    return [
        Pair(
            f"video {row}",
            f"m{row}",
            rng.integers(256, size=(row % 7 + 1, 64), dtype=np.uint8),
            rng.normal(size=(row % 5 + 1, 3)).astype(np.float32),
        )
        for row in range(count)
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_an_epoch_has_the_order_of_a_shuffle_of_the_records_themselves(write, shards):
    dataset = write(BYTES, train=pairs(40))
    if shards > 1:  # the file three times over, as three shards
        train = dataset.shards["train"] * shards
        dataset = type(dataset)(
            **{
                **vars(dataset),
                "shards": {"train": train},
                "splits": {"train": 40 * shards},
            }
        )
    for epoch in range(2):
        whole = pipeline._shuffled_records(dataset, "train", 5, tf.constant(epoch, tf.int64))
        names = [
            tf.train.Example.FromString(record).features.feature["video_id"].bytes_list.value[0]
            for record in whole.as_numpy_iterator()
        ]
        batches = islice(
            train_batches(dataset, "train", 40, seed=5, start_step=epoch * shards), shards
        )
        assert [name.decode() for name in names] == [
            name for batch in batches for name in batch["video_id"]
        ]


def test_records_fall_apart_into_views_of_the_frames_and_the_other_fields(write):
    dataset = write(BYTES, train=pairs(9))
    (shard,) = dataset.shards["train"]
    for _, record in read_records(shard.path):
        small, contents = split_example(memoryview(record), {"video", "music"})
        expected = tf.train.Example.FromString(record)
        for name in ("video", "music"):
            (value,) = expected.features.feature[name].bytes_list.value
            assert bytes(contents[name]) == value
            del expected.features.feature[name]
        assert tf.train.Example.FromString(small) == expected


def test_checksums_are_those_that_tensorflow_writes(write):
    dataset = write(BYTES, train=pairs(1))
    content = dataset.shards["train"][0].path.read_bytes()
    assert int.from_bytes(content[8:12], "little") == masked_checksum(content[:8])
    assert int.from_bytes(content[-4:], "little") == masked_checksum(content[12:-4])


def broken(content, places, kind):
    """A shard of nine records, its last record broken."""
    content, start = bytearray(content), places[8]
    if kind == "content":
        content[start + 30] ^= 1
    elif kind == "length":
        content[start] ^= 1
    elif kind == "checksum of the length":
        content[start + 9] ^= 1
    elif kind == "checksum":
        content[-1] ^= 1
    elif kind == "cut":
        content = content[:-3]
    elif kind == "cut in the head":
        content = content[: start + 7]
    elif kind == "one fewer":
        content = content[:start]
    elif kind == "one more":
        content += content[start:]
    return bytes(content)


FAULTS = {
    "content": "record 8 is corrupt",
    "length": "record 8 is corrupt",
    "checksum of the length": "record 8 is corrupt",
    "checksum": "record 8 is corrupt",
    "cut": "record 8 is truncated",
    "cut in the head": "record 8 is truncated",
    "one fewer": "holds 8 records, expected 9",
    "one more": "holds 10 records, expected 9",
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("reader", ["train", "eval"])
def test_a_broken_shard_is_told_by_file_and_record(write, kind, reader):
    dataset = write(BYTES, train=pairs(9))
    (shard,) = dataset.shards["train"]
    content, places = shard.path.read_bytes(), [0]
    for _, record in read_records(shard.path):
        places.append(places[-1] + 16 + len(record))
    shard.path.write_bytes(broken(content, places, kind))
    batches = (
        train_batches(dataset, "train", 9, seed=0)
        if reader == "train"
        else eval_batches(dataset, "train", 2)
    )
    with pytest.raises(UserError, match=rf"tfrecord-00000-of-00001: {FAULTS[kind]}"):
        list(islice(batches, 9))


def test_a_shard_that_is_gone_is_named(write):
    dataset = write(BYTES, train=pairs(3))
    dataset.shards["train"][0].path.unlink()
    with pytest.raises(UserError, match="tfrecord-00000-of-00001: does not exist"):
        next(eval_batches(dataset, "train", 2))


def test_a_share_reads_the_first_records_alone(write):
    dataset = write(BYTES, train=pairs(9))
    names = [name for batch in eval_batches(dataset, "train", 9) for name in batch["video_id"]]
    part = dataset.with_share("train", 0.5)
    assert [n for batch in eval_batches(part, "train", 2) for n in batch["video_id"]] == names[:5]


def test_a_record_without_its_sequence_is_told_by_number(write):
    dataset = write(BYTES, train=pairs(2))
    (shard,) = dataset.shards["train"]
    records = [record for _, record in read_records(shard.path)]
    example = tf.train.Example.FromString(records[1])
    del example.features.feature["music"]
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        writer.write(records[0])
        writer.write(example.SerializeToString(deterministic=True))
    with pytest.raises(UserError, match="record 1 has no music, expected one bytes value"):
        list(eval_batches(dataset, "train", 2))
