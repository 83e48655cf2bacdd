"""A share held out of the training files: stable, nested, disjoint, whole."""

from collections import Counter

import pytest
import tensorflow as tf
from made_records import clip, shard, video_level

from vmr.data.sources import youtube
from vmr.data.sources.records import context_of, labels_of, parse, video_id_of
from vmr.data.sources.source import require_share, split_of
from vmr.data.sources.youtube import audioset
from vmr.errors import UserError

IDS = [f"id{number}" for number in range(4000)]


def test_the_split_of_an_id_never_changes():
    """Of four quarters of CRC-32, the first is validation (efgh: 08337bb5), the last test."""
    found = {name: split_of(name, 0.25) for name in ("efgh", "id2", "id0", "naïve")}
    assert found == {"efgh": "validation", "id2": "train", "id0": "train", "naïve": "test"}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.49])
def test_validation_and_test_take_the_share_each(share):
    counts = Counter(split_of(name, share) for name in IDS)
    for split in ("validation", "test"):
        assert counts[split] / len(IDS) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_larger_share_of_a_split_takes_in_the_smaller_one(split):
    """So what was a test item at one share never selects a model at another."""
    held = [{name for name in IDS if split_of(name, s) == split} for s in (0.05, 0.1, 0.2, 0.45)]
    assert set() < held[0] < held[1] < held[2] < held[3]


def test_one_file_makes_a_whole_dataset(tmp_path):
    file = shard(tmp_path / "a", *(clip(name.encode(), 1)[0] for name in IDS[:60]))
    source = audioset({"train": [file]}, held_out=0.2)
    found = {split: [pair.video_id for pair in read()] for split, read in source.splits.items()}
    assert list(found) == ["train", "validation", "test"]
    assert sorted(name for part in found.values() for name in part) == sorted(IDS[:60])
    for split, names in found.items():
        assert {split_of(name, 0.2) for name in names} == {split}
    assert "validation and test each hold a share of 0.2" in source.description


def test_features_are_decoded_of_a_splits_own_videos_alone(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(youtube, "parse", lambda record: parsed.append(record) or parse(record))
    file = shard(tmp_path / "a", *(clip(name.encode(), 1)[0] for name in IDS[:60]))
    source = audioset({"train": [file]}, held_out=0.2)
    for read in source.splits.values():
        before = len(parsed)
        assert len(list(read())) == len(parsed) - before
    assert len(parsed) == 60


@pytest.mark.parametrize("record", [clip(b"abcd")[0], video_level(b"abcd", [3, 5], key="id")])
def test_the_context_of_a_record_is_that_of_the_whole(record):
    content = record.SerializeToString()
    context = context_of(content)
    assert video_id_of(context) == "abcd"
    assert labels_of(context) == labels_of(parse(content).context.feature)
    # Fields may lie in any order and in several parts, and others may lie between them.
    other = tf.train.SequenceExample()
    other.context.feature["more"].int64_list.value.append(1)
    parts = context_of(bytes([0x50, 7]) + content + other.SerializeToString())
    assert set(parts) == {*context, "more"}
    with pytest.raises(ValueError, match=r"is no tf\.train\.Example or SequenceExample"):
        context_of(content[:-1])


def test_a_split_that_gets_nothing_is_an_error(tmp_path):
    source = audioset({"train": [shard(tmp_path / "a", clip(b"abcd")[0])]}, held_out=0.01)
    assert len(list(source.splits["train"]())) == 1
    with pytest.raises(UserError, match="hold no video for validation"):
        list(source.splits["validation"]())


@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0, float("nan")])
def test_impossible_shares_are_refused(share):
    with pytest.raises(
        UserError, match=r"--held_out=.*: expected a share from 0 to less than 0\.5"
    ):
        require_share(share, [])


def test_a_share_and_files_of_other_splits_do_not_go_together():
    expected = r"out of train, so --validation and --test cannot be given too$"
    with pytest.raises(UserError, match=expected):
        require_share(0.1, ["--validation", "--test"])
    with pytest.raises(UserError, match=r"out of train, so test\.csv cannot be given too$"):
        require_share(0.1, ["test.csv"])
    require_share(0, ["--validation", "--test"])
    require_share(0.1, [])
