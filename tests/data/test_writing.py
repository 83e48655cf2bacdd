"""A dataset folder is whole or absent, and its fingerprint follows its content."""

import errno
import json

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vmr.data.building import write as writing
from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.sources.planted import planted
from vmr.data.tfrecords import read_records
from vmr.errors import UserError


def build(folder, seed=0, **options):
    write_dataset(planted(videos=90, tracks=80, seed=seed), folder, "the command", **options)
    return open_dataset(folder)


def test_fingerprint_follows_content_and_not_the_rebuild(tmp_path):
    first, again, other = (
        build(tmp_path / "a"),
        build(tmp_path / "b"),
        build(tmp_path / "c", seed=1),
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(first.fingerprint) == 64


def test_fields_of_records_are_in_the_order_of_their_names(tmp_path):
    """Else each process would write them in an order, and with a fingerprint, of its own."""
    (shard,) = build(tmp_path / "a").shards["train"]
    for _, record in read_records(shard.path):
        example = tf.train.Example.FromString(record)
        assert record == example.SerializeToString(deterministic=True)


def test_folder_holds_card_facts_and_what_tfds_reads(tmp_path):
    dataset = build(tmp_path / "a")
    card = (tmp_path / "a" / "README.md").read_text()
    for fact in ("the command", dataset.fingerprint, "Licence", "| train | 68 | 60 | 1.67 / 16.67"):
        assert fact in card
    facts = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert facts["splits"]["train"] == {"examples": 68, "tracks": 60}
    assert tfds.builder_from_directory(tmp_path / "a").info.splits["train"].num_examples == 68


def test_existing_output_stays_unless_overwritten(tmp_path):
    before = build(tmp_path / "a").fingerprint
    with pytest.raises(UserError, match="exists already; pass --overwrite"):
        build(tmp_path / "a", seed=1)
    assert open_dataset(tmp_path / "a").fingerprint == before
    assert build(tmp_path / "a", seed=1, overwrite=True).fingerprint != before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_overwrite_spares_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no dataset"):
        build(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


FULL = OSError(errno.ENOSPC, "No space left on device")
DENIED = OSError(errno.EACCES, "Permission denied")
WRAPPED = RuntimeError("as TFDS tells it")
WRAPPED.__cause__ = tf.errors.ResourceExhaustedError(None, None, "No space left on device")


@pytest.mark.parametrize(
    ("error", "expected"),
    [(FULL, "the disk is full"), (WRAPPED, "the disk is full"), (DENIED, "Permission denied")],
)
def test_failed_writing_leaves_the_earlier_dataset_whole(tmp_path, monkeypatch, error, expected):
    before = build(tmp_path / "a").fingerprint

    def fail(*_):
        raise error

    monkeypatch.setattr(writing, "_describe", fail)
    with pytest.raises(UserError, match=f"{expected}; nothing was written"):
        build(tmp_path / "a", seed=1, overwrite=True)
    assert open_dataset(tmp_path / "a").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_empty_split_is_named(write, vectors, vector_schema):
    with pytest.raises(UserError, match="validation: holds no pair"):
        write(vector_schema, train=vectors(3), validation=[])
    assert not write.folder.exists()


def test_opening_what_is_no_dataset_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such dataset folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(UserError, match=r"is no TFDS folder, expected a file dataset_info\.json"):
        open_dataset(tmp_path)
    build(tmp_path / "a")
    for content in (b"{}", b"[]", b'{"name": "\xff"}'):
        (tmp_path / "a" / "dataset.json").write_bytes(content)
        with pytest.raises(UserError, match=r"dataset\.json: expected JSON with name") as told:
            open_dataset(tmp_path / "a")
        assert "\n" not in str(told.value)
    (tmp_path / "a" / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"dataset\.json: missing"):
        open_dataset(tmp_path / "a")


def test_splits_are_those_that_tfds_tells_of(tmp_path):
    before = build(tmp_path / "a")
    file = tmp_path / "a" / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"splits": {}}))
    assert open_dataset(tmp_path / "a") == before


def test_unreadable_metadata_is_told_in_one_line(tmp_path):
    build(tmp_path / "a")
    (tmp_path / "a" / "features.json").write_text("{")
    with pytest.raises(UserError, match="its TFDS metadata cannot be read"):
        open_dataset(tmp_path / "a")
