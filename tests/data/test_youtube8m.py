"""YouTube-8M records of both levels and both releases, made by hand."""

import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from made_records import frame_level, shard, video_level

from vmr.data.batch_spec import BatchSpec
from vmr.data.building.build import source_of
from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.pipeline import eval_batches, train_batches
from vmr.data.schema import Text
from vmr.data.sources.labels import read_label_filter, read_vocabulary
from vmr.data.sources.youtube import youtube8m
from vmr.data.validation.report import format_report, validate
from vmr.errors import UserError
from vmr.quantization import dequantize

SHARDS = Path(os.environ.get("VMR_DATA", "")) / "youtube8m_music"


def built(tmp_path, labels=None, vocabulary=None, held_out=0.0, **globs):
    patterns = {split: [pattern] for split, pattern in globs.items()}
    source = youtube8m(patterns, labels, vocabulary, held_out)
    write_dataset(source, tmp_path / "built", "a test")
    return open_dataset(tmp_path / "built")


def by_id(dataset, split="train", spec=None):
    (batch,) = eval_batches(dataset, split, 100, spec)
    return {name: row for row, name in enumerate(batch["video_id"])}, batch


@pytest.mark.parametrize("key", ["id", "video_id"])
def test_video_level_records_keep_ids_and_numbers(tmp_path, key):
    train = shard(tmp_path / "a", video_level(b"abcd", key=key), video_level(b"efgh", key=key))
    dataset = built(tmp_path, train=train)
    rows, batch = by_id(dataset)
    assert set(rows) == {"abcd", "efgh"}
    np.testing.assert_array_equal(batch["video"][rows["abcd"]], np.float32(np.arange(1024) / 7))
    np.testing.assert_array_equal(batch["music"][rows["abcd"]], np.float32(np.arange(128) / 3))
    assert batch["music_id"].tolist() == batch["video_id"].tolist()
    assert not dataset.has_sequences


@pytest.mark.parametrize("key", ["id", "video_id"])
def test_frame_level_records_keep_every_frame_as_bytes(tmp_path, key):
    record, content = frame_level(b"abcd", frames=300, key=key)
    short, short_content = frame_level(b"efgh", frames=2, key=key)
    dataset = built(tmp_path, train=shard(tmp_path / "a", record, short))
    assert dataset.schema.video.quantized
    rows, batch = by_id(dataset)
    for name, expected in (("abcd", content), ("efgh", short_content)):
        for side, source in (("video", "rgb"), ("music", "audio")):
            mean = dequantize(expected[source]).mean(axis=0)
            np.testing.assert_allclose(batch[side][rows[name]], mean, atol=2e-6)
    report = validate(dataset.data_dir)
    assert report.ok
    assert report.splits["train"]["video"]["frames"] == {"min": 2, "median": 300, "max": 300}


def test_frame_level_training_batches_are_dequantised_means(tmp_path):
    lengths = {f"v{frames}": frames for frames in (1, 2, 9, 130, 299, 300)}
    made = {name: frame_level(name.encode(), frames) for name, frames in lengths.items()}
    dataset = built(tmp_path, train=shard(tmp_path / "a", *(record for record, _ in made.values())))
    seen = set()
    for batch in islice(train_batches(dataset, "train", 2, seed=0), 3):
        seen.update(batch["video_id"])
        for row, name in enumerate(batch["video_id"]):
            for side, source in (("video", "rgb"), ("music", "audio")):
                mean = dequantize(made[name][1][source]).astype(np.float64).mean(axis=0)
                np.testing.assert_allclose(batch[side][row], mean, rtol=1e-5, atol=1e-6)
    assert seen == set(made)


def test_frames_of_rgb_without_their_audio_are_named(tmp_path):
    record, _ = frame_level(b"x", frames=3)
    del record.feature_lists.feature_list["audio"].feature[-1]
    with pytest.raises(UserError, match="record 0 has 3 frames of rgb but 2 of audio"):
        built(tmp_path, train=shard(tmp_path / "a", record))


@pytest.mark.parametrize("frames", [False, True])
def test_the_first_record_tells_the_level(tmp_path, frames):
    shard(tmp_path / "train00", frame_level(b"x")[0] if frames else video_level(b"x"))
    assert built(tmp_path, train=str(tmp_path / "train*")).has_sequences == frames


def test_sequences_of_no_frames_and_of_too_many_are_errors(tmp_path):
    records = [frame_level(b"none", frames=0)[0], frame_level(b"long", frames=301)[0]]
    dataset = built(tmp_path, train=shard(tmp_path / "a", frame_level(b"good")[0], *records))
    errors = "\n".join(validate(dataset.data_dir).errors)
    assert "1 (none) video sequences are empty" in errors
    assert "1 (long) music sequences are longer than 300 frames" in errors


@pytest.mark.parametrize(
    "text", ["3\n5\n", "[3, 5]", '["3", 5]', '{"3": "Concert", "5": "Guitar"}']
)
def test_label_filter_keeps_videos_with_any_of_the_labels(tmp_path, text):
    file = tmp_path / "labels"
    file.write_text(text)
    train = shard(
        tmp_path / "a",
        video_level(b"both", [3, 5]),
        video_level(b"one", [5, 8]),
        video_level(b"other", [8]),
        video_level(b"bare", []),
    )
    rows, _ = by_id(built(tmp_path, read_label_filter(file), train=train))
    assert set(rows) == {"both", "one"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("[]", "is empty"),
        *((text, "label indices") for text in ("guitar", "{3", "[3.7]", "[true]", "[-1]", "-1")),
        pytest.param("[" * 100_000, "label indices", id="deep"),
    ],
)
def test_unusable_label_files_are_named(tmp_path, text, expected):
    file = tmp_path / "labels.json"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"labels\.json.*{expected}"):
        read_label_filter(file)


def test_no_video_with_the_labels_is_an_error_that_leaves_nothing(tmp_path):
    train = shard(tmp_path / "a", video_level(b"abcd", [1]))
    with pytest.raises(UserError, match="hold no video with any of the 1 labels"):
        built(tmp_path, frozenset([99]), train=train)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (video_level(b"x", rgb=1000), "record 1 has 1000 numbers in mean_rgb, expected 1024"),
        (video_level(b"x", audio=1), "record 1 has 1 numbers in mean_audio, expected 128"),
        (video_level(b"x", key="name"), "record 1 has neither id nor video_id"),
        (frame_level(b"x")[0], "record 1 has no mean_rgb"),
        (b"\xff\xff\xff", "record 1 is no tf.train.Example"),
        (video_level(b"first"), "video id 'first' comes twice"),
    ],
)
def test_wrong_records_are_named_by_file_and_number(tmp_path, record, expected):
    train = shard(tmp_path / "shard7", video_level(b"first"), record)
    with pytest.raises(UserError, match=expected) as error:
        built(tmp_path, train=train)
    assert "shard7" in str(error.value) or "twice" in expected
    assert not (tmp_path / "built").exists()


def test_wrong_frame_width_is_named(tmp_path):
    train = shard(tmp_path / "a", frame_level(b"x", width=1000)[0])
    with pytest.raises(UserError, match="record 0 has 1000 bytes in frame 0 of rgb, expected 1024"):
        built(tmp_path, train=train)


@pytest.mark.parametrize(("damage", "expected"), [("cut", "truncated"), ("flip", "corrupt")])
def test_damaged_source_files_are_named(tmp_path, damage, expected):
    path = Path(shard(tmp_path / "a", *(video_level(b"v%d" % i) for i in range(4))))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-10]
    else:
        content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"a: record 3 is {expected}"):
        built(tmp_path, train=str(path))


def test_a_glob_that_matches_nothing_is_named(tmp_path):
    options = {"train": [str(tmp_path / "none*")], "validation": None, "test": None, "labels": None}
    with pytest.raises(UserError, match=r"--train=.*none\*: matches no file"):
        source_of("youtube8m", options)
    with pytest.raises(UserError, match="--train: missing"):
        source_of("youtube8m", options | {"train": None})


@pytest.fixture
def vocabulary(tmp_path):
    file = tmp_path / "vocabulary.csv"
    file.write_text('Index,Count,Name\n3,9,Concert\n5,7,"Guitar, electric"\n8,1,\n')
    return read_vocabulary(file)


def test_names_of_all_labels_become_the_text(tmp_path, vocabulary):
    train = shard(
        tmp_path / "a",
        video_level(b"both", [3, 8, 5]),
        video_level(b"nameless", [8]),
        video_level(b"bare", []),
    )
    dataset = built(tmp_path, vocabulary=vocabulary, train=train)
    assert dataset.schema.text == Text()
    stored = {pair.video_id: pair.text for pair in _pairs(train, vocabulary)}
    assert stored == {"both": "Concert, Guitar, electric", "nameless": "", "bare": ""}
    rows, batch = by_id(dataset, spec=BatchSpec(tokens=4, vocabulary=1000))
    tokens = {name: int(batch["text_mask"][row].sum()) for name, row in rows.items()}
    assert tokens == {"both": 3, "nameless": 0, "bare": 0}
    card = (dataset.data_dir / "README.md").read_text()
    assert "annotations given as tags, not what a user typed" in card
    report = validate(dataset.data_dir)
    assert report.splits["train"]["text"] == {"present": 1, "width": 0, "tokens": None}
    assert "  text: strings; 1 of 3 videos have it" in format_report(report)


def _pairs(train, vocabulary):
    return list(youtube8m({"train": [train]}, vocabulary=vocabulary).splits["train"]())


def test_labels_that_the_filter_ignores_are_in_the_text_too(tmp_path, vocabulary):
    train = shard(tmp_path / "a", video_level(b"both", [3, 5]), video_level(b"one", [3]))
    source = youtube8m({"train": [train]}, frozenset([5]), vocabulary)
    assert [pair.text for pair in source.splits["train"]()] == ["Concert, Guitar, electric"]


def test_without_a_vocabulary_there_is_no_text(tmp_path):
    dataset = built(tmp_path, train=shard(tmp_path / "a", video_level(b"abcd")))
    assert dataset.schema.text is None
    assert "Text:" not in (dataset.data_dir / "README.md").read_text()


def test_a_label_that_the_vocabulary_lacks_is_named(tmp_path, vocabulary):
    train = shard(tmp_path / "a", video_level(b"good", [3]), video_level(b"x", [3, 77]))
    expected = r"a: record 1 carries label 77, which --vocabulary=.*vocabulary\.csv lacks$"
    with pytest.raises(UserError, match=expected):
        built(tmp_path, vocabulary=vocabulary, train=train)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Id,Name\n1,Rock\n", "lacks column Index; its first line is 'Id,Name', expected Index,"),
        ("Index,Name\nrock,1\n", "line 2 has index 'rock', expected a label index"),
        ("Index,Name\n1,Rock\n1,Pop\n", "line 3 repeats index 1, expected each label once"),
        ("Index,Name\n", "lists no label"),
        (None, "cannot be read as CSV: .*No such file"),
        (b"Index,Name\n1,\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_unusable_vocabularies_are_named(tmp_path, content, expected):
    file = tmp_path / "names.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"names\.csv: {expected}"):
        read_vocabulary(file)


def test_the_command_reads_vocabulary_and_share(tmp_path):
    (tmp_path / "names.csv").write_text("Index,Name\n1,Rock\n")
    train = shard(tmp_path / "a", *(video_level(b"v%d" % i) for i in range(40)))
    options = {"train": [train], "validation": None, "test": None, "labels": None}
    options |= {"vocabulary": str(tmp_path / "names.csv"), "held_out": 0.25}
    source = source_of("youtube8m", options, given=["train", "vocabulary", "held_out"])
    pairs = {split: list(read()) for split, read in source.splits.items()}
    assert sum(map(len, pairs.values())) == 40
    assert {pair.text for part in pairs.values() for pair in part} == {"Rock"}


@pytest.mark.skipif(
    "VMR_DATA" not in os.environ, reason="VMR_DATA names no folder with youtube8m_music/"
)
def test_real_shards_become_a_valid_dataset(tmp_path):
    dataset = built(
        tmp_path,
        read_label_filter(SHARDS / "music_labels.json"),
        train=str(SHARDS / "train00.tfrecord"),
        validation=str(SHARDS / "validate00.tfrecord"),
    )
    assert dataset.splits["validation"] == 1441
    widths = [modality.width for modality in dataset.schema.modalities.values()]
    assert widths == [1024, 128]
    report = validate(dataset.data_dir)
    assert report.ok, report.errors
    assert json.loads((dataset.data_dir / "validation.json").read_text())["ok"]
