"""AudioSet records: music alone, bytes a second, and what else may be wrong with them."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_records import clip, frame_level, shard

from vmr.data.batch_spec import BatchSpec
from vmr.data.building.build import source_of
from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches
from vmr.data.schema import Schema
from vmr.data.sources.youtube import audioset
from vmr.data.validation.report import format_report, validate
from vmr.errors import UserError

MUSIC = BatchSpec(sampling="global_sparse", clips=10, pairing="music")
SHARD = Path(os.environ.get("VMR_DATA", "")) / "audioset_vggish" / "bal_train_music.tfrecord"


def built(tmp_path, train, labels=None, held_out=0.0):
    write_dataset(audioset({"train": [train]}, labels, held_out), tmp_path / "built", "a test")
    return open_dataset(tmp_path / "built")


def test_clips_are_music_alone_as_bytes(tmp_path):
    records = {name: clip(name.encode(), frames) for name, frames in (("abcd", 10), ("efgh", 4))}
    dataset = built(tmp_path, shard(tmp_path / "a", *(record for record, _ in records.values())))
    assert dataset.name == "audioset"
    assert dataset.schema == Schema(None, Modality(128, True, True), has_labels=True)
    stored = {pair.video_id: pair for pair in _pairs(tmp_path / "a")}
    assert stored.keys() == records.keys()
    for name, (_, content) in records.items():
        assert stored[name].music_id == name
        assert stored[name].video is None
        assert stored[name].labels == (137,)
        np.testing.assert_array_equal(stored[name].music, content)
    report = validate(dataset.data_dir)
    assert report.ok
    assert "  music: 128 numbers × 4–10 frames (median 10)" in format_report(report)
    assert "video" not in report.splits["train"]


def _pairs(file, labels=None):
    return audioset({"train": [str(file)]}, labels).splits["train"]()


def test_what_needs_video_is_refused_in_one_line(tmp_path):
    dataset = built(tmp_path, shard(tmp_path / "a", clip(b"abcd")[0]))
    with pytest.raises(UserError, match="has no video, only music; config"):
        eval_batches(dataset, "train", 2)
    (batch,) = eval_batches(dataset, "train", 2, MUSIC)
    assert batch["video"].shape == batch["music"].shape == (1, 10, 128)
    assert batch["video"].dtype == np.uint8


def test_clips_of_other_labels_are_left_out(tmp_path):
    shard(tmp_path / "a", clip(b"kept", labels=[0, 7])[0], clip(b"other", labels=[3])[0])
    assert [pair.video_id for pair in _pairs(tmp_path / "a", frozenset([7, 9]))] == ["kept"]
    with pytest.raises(UserError, match="hold no video with any of the 1 labels of --labels"):
        list(_pairs(tmp_path / "a", frozenset([5])))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (frame_level(b"x")[0], "has no audio_embedding, expected frames of 128 bytes"),
        (clip(b"x", width=64)[0], "has 64 bytes in frame 0 of audio_embedding, expected 128"),
        (b"\xff\xff\xff", "is no tf.train.Example or SequenceExample"),
    ],
)
def test_wrong_records_are_named_by_file_and_number(tmp_path, record, expected):
    shard(tmp_path / "a", clip(b"good")[0], record)
    with pytest.raises(UserError, match=f"a: record 1 {expected}"):
        list(_pairs(tmp_path / "a"))


def test_more_than_ten_seconds_are_an_error(tmp_path):
    dataset = built(tmp_path, shard(tmp_path / "a", clip(b"good")[0], clip(b"long", 11)[0]))
    errors = validate(dataset.data_dir).errors
    assert errors == ["train: 1 (long) music sequences are longer than 10 frames"]


def test_a_copy_in_another_split_is_suspect_and_no_proof(tmp_path):
    """Two uploads of one sound are no whole pair, as a music dataset has none."""
    for name, split, other in ((b"one", "train", 3), (b"two", "validation", 4)):
        shard(tmp_path / split, clip(name)[0], clip(name + b"'", other)[0])
    files = {split: [str(tmp_path / split)] for split in ("train", "validation")}
    write_dataset(audioset(files), tmp_path / "built", "a test")
    report = validate(tmp_path / "built")
    assert report.ok
    assert report.warnings == [
        "train and validation share music features under other ids: 1 (one = two)"
    ]


def test_the_command_takes_the_flags_of_records(tmp_path):
    shard(tmp_path / "a", clip(b"kept", labels=[0, 7])[0], clip(b"other", labels=[3])[0])
    (tmp_path / "labels").write_text("7\n")
    options = {"train": [str(tmp_path / "a")], "validation": None, "test": None}
    options |= {"labels": str(tmp_path / "labels"), "held_out": 0.0}
    source = source_of("audioset", options, given=["train", "labels", "held_out"])
    assert [pair.video_id for pair in source.splits["train"]()] == ["kept"]
    with pytest.raises(UserError, match="--train: missing, expected a glob of TFRecord files of a"):
        source_of("audioset", options | {"train": None})


@pytest.mark.skipif(
    "VMR_DATA" not in os.environ, reason="VMR_DATA names no folder with audioset_vggish/"
)
def test_a_real_file_becomes_a_whole_dataset(tmp_path):
    dataset = built(tmp_path, str(SHARD), held_out=0.1)
    assert dict(dataset.splits) == {"train": 4946, "validation": 654, "test": 644}
    assert validate(dataset.data_dir).ok
