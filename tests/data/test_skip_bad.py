"""Items that cannot be read are left out up to a number, and the card names them."""

from pathlib import Path

import numpy as np
import pytest
from made_records import clip, frame_level, shard, video_level

from vmr.data.building.build import build, source_of
from vmr.data.dataset import open_dataset
from vmr.data.items import pair_ids
from vmr.data.sources.feature_files import feature_files
from vmr.data.sources.source import LeftOut
from vmr.data.sources.youtube import audioset, youtube8m
from vmr.errors import UserError


def flipped(path, number):
    """Flips a bit in the middle of a record of a file of equal records."""
    content = bytearray(Path(path).read_bytes())
    content[len(content) * (2 * number + 1) // 10] ^= 1
    Path(path).write_bytes(content)


@pytest.fixture
def records(tmp_path):
    """Five videos, the third without sound, the fifth corrupt, and before it what has no id."""
    videos = [video_level(b"v%d" % i) for i in range(5)]
    videos[2] = video_level(b"v2", key="id", audio=127)
    path = shard(tmp_path / "a", *videos[:4], b"\xff\xff\xff", videos[4])
    content = bytearray(Path(path).read_bytes())
    content[-100] ^= 1
    Path(path).write_bytes(content)
    return path


def ids(folder, split="train"):
    return {video for video, _ in pair_ids(open_dataset(folder), split)}


def test_what_cannot_be_read_is_left_out_and_named(records, tmp_path):
    source = youtube8m({"train": [records]}, skip_bad=3)
    build(source, tmp_path / "built", "the command")
    assert ids(tmp_path / "built") == {"v0", "v1", "v3"}
    card = (tmp_path / "built" / "README.md").read_text()
    for line in (
        "Left out, since they cannot be read (--skip_bad=3):",
        f"- v2: {records}: record 2 has 127 numbers in mean_audio, expected 128",
        f"- record 4 of {records}: {records}: record 4 is no tf.train.Example or SequenceExample",
        f"- record 5 of {records}: {records}: record 5 is corrupt (its checksum differs), expected "
        "whole TFRecords",
    ):
        assert line in card.splitlines()
    assert str(source.left_out) == (
        "3 unreadable items are left out, named in the card: "
        f"v2, record 4 of {records}, record 5 of {records}"
    )


def test_items_of_one_id_count_each(tmp_path):
    bad = video_level(b"v", audio=127)
    train = shard(tmp_path / "a", video_level(b"v0"), bad, bad)
    with pytest.raises(UserError, match=r"record 2 has 127 .*as many as --skip_bad=1 allows"):
        list(youtube8m({"train": [train]}, skip_bad=1).splits["train"]())
    source = youtube8m({"train": [train]}, skip_bad=2)
    assert [pair.video_id for pair in source.splits["train"]()] == ["v0"]
    assert list(source.left_out.names.values()) == ["v", "v"]


@pytest.mark.parametrize("skip_bad", [0, 1, 2])
def test_one_more_than_the_number_is_an_error(records, tmp_path, skip_bad):
    source = youtube8m({"train": [records]}, skip_bad=skip_bad)
    expected = ("record 2 has 127", "record 4 is no", "record 5 is corrupt")[skip_bad]
    with pytest.raises(UserError, match=f"a: {expected}") as told:
        build(source, tmp_path / "built", "the command")
    assert ("--skip_bad" in str(told.value)) == (skip_bad > 0)
    assert not (tmp_path / "built").exists()


def test_nothing_is_said_where_all_is_read(tmp_path):
    train = shard(tmp_path / "a", video_level(b"v0"), video_level(b"v1"))
    build(youtube8m({"train": [train]}, skip_bad=5), tmp_path / "built", "the command")
    assert "Left out" not in (tmp_path / "built" / "README.md").read_text()


def test_the_first_record_that_is_read_tells_the_level(tmp_path):
    train = shard(tmp_path / "a", b"\xff\xff\xff", frame_level(b"x")[0])
    source = youtube8m({"train": [train]}, skip_bad=1)
    assert source.schema.video.sequence
    assert [pair.video_id for pair in source.splits["train"]()] == ["x"]
    with pytest.raises(UserError, match=r"record 1 is no .*; as many as --skip_bad=1 allows"):
        youtube8m({"train": [shard(tmp_path / "b", b"\xff", b"\xff")]}, skip_bad=1)


def test_a_record_counts_once_however_often_its_file_is_read(tmp_path):
    """Three splits of one file: each meets the record whose id cannot be told."""
    names = (f"id{number}".encode() for number in range(60))
    file = shard(tmp_path / "a", *(clip(name, 1)[0] for name in names), b"\xff\xff\xff")
    source = audioset({"train": [file]}, held_out=0.2, skip_bad=1)
    assert sum(len(list(read())) for read in source.splits.values()) == 60
    assert list(source.left_out.reasons) == [f"record 60 of {file}"]


@pytest.mark.parametrize("head", [False, True])
def test_a_file_of_which_the_rest_is_lost_is_an_error(tmp_path, head):
    path = Path(shard(tmp_path / "a", *(video_level(b"v%d" % i) for i in range(4))))
    content = bytearray(path.read_bytes())
    if head:
        content[len(content) // 4 * 2 + 3] ^= 1
    path.write_bytes(content if head else content[:-7])
    source = youtube8m({"train": [str(path)]}, skip_bad=9)
    expected = f"a: record {2 if head else 3} is truncated, or corrupt at its head"
    with pytest.raises(UserError, match=expected):
        list(source.splits["train"]())


def test_other_files_than_records_are_told_as_without(tmp_path):
    (tmp_path / "a").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(UserError, match="is compressed with gzip: unpack it first"):
        youtube8m({"train": [str(tmp_path / "a")]}, skip_bad=9)
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(UserError, match="b: is empty, expected TFRecords"):
        youtube8m({"train": [str(tmp_path / "b")]}, skip_bad=9)


@pytest.fixture
def folder(tmp_path):
    """Six pairs: the first video is no npy file, the sound of the third is absent."""
    root = tmp_path / "features"
    for side, width in (("video", 4), ("music", 3)):
        (root / side).mkdir(parents=True)
        for row in range(6):
            np.save(root / side / f"{side[0]}{row}.npy", np.full(width, row, np.float32))
    lines = ["video_id,music_id", *(f"v{row},m{row}" for row in range(6))]
    (root / "train.csv").write_text("\n".join(lines))
    (root / "video" / "v0.npy").write_bytes(b"nothing")
    (root / "music" / "m2.npy").unlink()
    return root


def test_pairs_of_feature_files_are_left_out(folder, tmp_path):
    source = feature_files(folder, skip_bad=2)
    build(source, tmp_path / "built", "the command")
    assert ids(tmp_path / "built") == {"v1", "v3", "v4", "v5"}
    card = (tmp_path / "built" / "README.md").read_text()
    assert f"- v0: {folder / 'video' / 'v0.npy'}: is no npy file" in card
    assert f"- v2: {folder / 'music' / 'm2.npy'}: cannot be read: No such file" in card


@pytest.mark.parametrize(
    ("skip_bad", "expected"),
    [(0, "line 4 names music id 'm2', but there is no"), (1, r"m2\.npy: cannot be read: No such")],
)
def test_one_more_pair_is_an_error(folder, tmp_path, skip_bad, expected):
    with pytest.raises(UserError, match=expected):
        build(feature_files(folder, skip_bad=skip_bad), tmp_path / "built", "the command")
    assert not (tmp_path / "built").exists()


def test_a_pair_without_both_files_is_one(folder):
    (folder / "video" / "v2.npy").unlink()
    source = feature_files(folder, skip_bad=2)
    assert [pair.video_id for pair in source.splits["train"]()] == ["v1", "v3", "v4", "v5"]
    (folder / "music" / "m4.npy").unlink()
    (folder / "music" / "m5.npy").unlink()
    with pytest.raises(UserError, match=r"--skip_bad=2, but 3 pairs lack files"):
        feature_files(folder, skip_bad=2)


def test_a_folder_of_which_nothing_can_be_read_is_an_error(folder):
    for file in (folder / "video").iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"train\.csv: no pair can be read, expected some"):
        feature_files(folder, skip_bad=6)


def test_the_option_reaches_its_sources(folder, records):
    options = {"input": str(folder), "skip_bad": 2, "train": [records]}
    options |= dict.fromkeys(("validation", "test", "labels"))
    for name in ("feature_files", "youtube8m", "audioset"):
        source = source_of(name, options, given=["skip_bad"])
        assert source.left_out.most == 2
    with pytest.raises(UserError, match=r"--skip_bad: belongs to .*, not to --source=planted"):
        source_of("planted", options, given=["skip_bad"])
    with pytest.raises(UserError, match="--skip_bad=-1: expected 0 or more items"):
        source_of("feature_files", options | {"skip_bad": -1}, given=["skip_bad"])
    with pytest.raises(UserError, match="--skip_bad: expected without --beam"):
        build(source, folder / "built", "the command", beam="some options")


def test_a_long_list_ends_in_an_ellipsis():
    left_out = LeftOut(9)
    for item in "abcd":
        left_out.add(item, UserError("no item"))
    assert str(left_out).endswith("4 unreadable items are left out, named in the card: a, b, c, …")
