"""Files of records that cannot be opened are told plainly, without TensorFlow's internals."""

import gzip
from pathlib import Path

import pytest
import tensorflow as tf
from made_records import shard, video_level

from vmr.data.pipeline import eval_batches
from vmr.data.sources.youtube import youtube8m
from vmr.data.tfrecords import read_records
from vmr.errors import UserError

NOISE = "{{function_node __wrapped__IteratorGetNext}} Permission denied [Op:IteratorGetNext]"


def test_an_absent_file_and_a_folder_are_told_plainly(tmp_path):
    with pytest.raises(UserError, match=r"absent: does not exist, expected a TFRecord file$"):
        next(read_records(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"is a folder, expected a TFRecord file$"):
        next(read_records(tmp_path))


def test_forbidden_shards_are_told_plainly(small_planted, monkeypatch):
    def deny(_):
        raise tf.errors.PermissionDeniedError(None, None, NOISE)
        yield

    # A superuser may read everything, so the refusal is made up.
    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", deny)
    with pytest.raises(UserError, match=r"00000-of-00001: may not be read: permission denied$"):
        next(eval_batches(small_planted, "train", 8))


def whole(path):
    return Path(shard(path, video_level(b"abcd"), video_level(b"efgh"))).read_bytes()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: b"", "is empty, expected TFRecords"),
        (lambda content: b"Not Found\n", "record 0 is truncated: 10 of the 12 bytes of its head"),
        (lambda content: content + content[:1], "record 2 is truncated: 1 of the 12 bytes"),
        (lambda content: content + content[:11], "record 2 is truncated: 11 of the 12 bytes"),
        (lambda content: content + content[:12], "record 2 is truncated"),
        (lambda content: content[:-1], "record 1 is truncated"),
        (lambda content: gzip.compress(content), "is compressed with gzip: unpack it first"),
        (
            lambda content: b"<!DOCTYPE html><html>" + b" " * 99,
            "is HTML or XML, perhaps the answer",
        ),
        (lambda content: b"\n <Error/>", "is HTML or XML"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (lambda content: b"PK\x03\x04" + content, "is a zip archive"),
        (lambda content: b"BZh91AY" + content, "is compressed with bzip2"),
        (lambda content: b"\xfd7zXZ" + content, "is compressed with xz"),
        (lambda content: b"<\x13" + content[2:], r"record 0 is corrupt \(its checksum differs\)"),
    ],
)
def test_a_shard_that_is_not_whole_is_named_beside_good_ones(tmp_path, damage, expected):
    content = whole(tmp_path / "a")
    (tmp_path / "b").write_bytes(damage(content))
    splits = youtube8m({"train": [f"{tmp_path}/?"]}).splits
    with pytest.raises(UserError, match=rf"/b: {expected}"):
        list(splits["train"]())


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content + content[:5]])
def test_a_stored_shard_that_is_not_whole_is_named(small_planted, tmp_path, damage):
    """Where the records that are missing were counted, and where nothing but a tail is wrong."""
    shard_path = small_planted.shards["train"][0].path
    copy = tmp_path / shard_path.name
    copy.write_bytes(damage(shard_path.read_bytes()))
    with pytest.raises(UserError, match=rf"{copy.name}: (is empty|record \d+ is truncated)"):
        list(read_records(copy))


def test_a_path_that_exists_is_no_glob(tmp_path):
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a1").mkdir()  # which the glob would match
    shard(tmp_path / "a1" / "x.tfrecord", video_level(b"efgh"))
    path = shard(tmp_path / "a[1]" / "x.tfrecord", video_level(b"abcd"))
    for pattern in (path, path.replace("x.tf", "*.tf")):
        pairs = youtube8m({"train": [pattern]}).splits["train"]()
        assert [pair.video_id for pair in pairs] == ["abcd"]


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("labels", {"float_list": tf.train.FloatList(value=[1.0])}, "has labels stored as float"),
        ("labels", {"bytes_list": tf.train.BytesList(value=[b"1"])}, "has labels stored as bytes"),
        ("id", {"bytes_list": tf.train.BytesList(value=[b""])}, "has 1 values of id, expected one"),
        ("id", {"bytes_list": tf.train.BytesList(value=[b"a", b"b"])}, "has 2 values of id, exp"),
        ("id", {"int64_list": tf.train.Int64List(value=[1])}, "has id stored as int64_list, exp"),
        ("mean_rgb", {"bytes_list": tf.train.BytesList(value=[b""])}, "has mean_rgb stored as b"),
    ],
)
def test_a_feature_of_another_type_is_not_taken_for_an_absent_one(
    tmp_path, field, values, expected
):
    record = video_level(b"abcd")
    record.features.feature[field].CopyFrom(tf.train.Feature(**values))
    splits = youtube8m({"train": [shard(tmp_path / "a", record)]}, frozenset([1])).splits
    with pytest.raises(UserError, match=f"record 0 {expected}"):
        list(splits["train"]())
