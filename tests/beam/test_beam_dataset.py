"""Workers of Apache Beam write the bytes that a build without them writes, and tell its faults."""

import json
import shutil
from functools import partial

import front_doors
import numpy as np
import pytest
from data.made_records import clip, frame_level, shard, video_level

from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema
from vmr.data.sources import feature_files as files_source
from vmr.data.sources.feature_files import feature_files
from vmr.data.sources.labels import Vocabulary
from vmr.data.sources.planted import planted
from vmr.data.sources.source import InParts, Source
from vmr.data.sources.youtube import audioset, youtube8m
from vmr.errors import UserError

beam = pytest.importorskip("apache_beam", reason="needs the environment of `make test-beam`")


from tensorflow_datasets.core.utils.shard_utils import ShardConfig  # noqa: E402

from vmr.beam import as_raised, beam_options  # noqa: E402
from vmr.data.building.beam import prepared_under_beam  # noqa: E402

# The older protobuf of this environment, of which TFDS calls what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:label.. is deprecated:DeprecationWarning")


def of_planted(folder):
    return planted(videos=90, tracks=80, seed=1, text=True)


def of_feature_files(folder):
    """Several videos a track, tracks in two splits, text of some; five pairs a part."""
    rng = np.random.default_rng(0)
    for side in ("video", "music"):
        (folder / side).mkdir(parents=True)
    for split, start, stop in (("train", 0, 23), ("test", 23, 30)):
        lines = [f"v{video},m{video * 7 % 11}" for video in range(start, stop)]
        (folder / f"{split}.csv").write_text("video_id,music_id\n" + "\n".join(lines))
    for video in range(30):
        np.save(folder / "video" / f"v{video}.npy", rng.normal(size=(1 + video % 4, 6)))
    for track in range(11):
        np.save(folder / "music" / f"m{track}.npy", rng.normal(size=5))
    (folder / "text.csv").write_text("video_id,text\nv3,a brisk tune\nv25,strings")
    return feature_files(folder)


def of_frames(folder):
    """Three files, of which one has no video with the label."""
    ids = iter(range(100))
    for name, labels in (("a", (1, 2)), ("b", (2,)), ("c", (1,)), ("d", (1,))):
        videos = [(f"id{next(ids)}".encode(), 2 + count) for count in range(4)]
        shard(folder / name, *(frame_level(video, frames, labels)[0] for video, frames in videos))
    names = Vocabulary(folder / "names.csv", {1: "Concert", 2: "Guitar"})
    patterns = {"train": [str(folder / "[abc]")], "validation": [str(folder / "d")]}
    return youtube8m(patterns, frozenset([1]), names)


def of_videos_held_out(folder):
    for name in "ab":
        videos = [video_level(f"{name}{number}".encode()) for number in range(12)]
        shard(folder / name, *videos)
    return youtube8m({"train": [str(folder / "*")]}, held_out=0.3)


def of_audioset(folder):
    for name in "ab":
        clips = [clip(f"{name}{number}".encode(), 10 + number)[0] for number in range(5)]
        shard(folder / name, *clips)
    return audioset({"train": [str(folder / "a")], "test": [str(folder / "b")]})


SOURCES = [of_planted, of_feature_files, of_frames, of_videos_held_out, of_audioset]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Function that makes a source in a folder of its own."""
    monkeypatch.setattr(files_source, "_PART", 5)
    (tmp_path / "source").mkdir()
    return lambda make: make(tmp_path / "source")


def built(source, folder, options=None):
    prepared = {"prepared": partial(prepared_under_beam, options)} if options else {}
    write_dataset(source, folder, "the command", **prepared)
    return folder


def contents(folder):
    """Files of a dataset by name; of TFDS's own facts, what is not a time."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    facts = json.loads(files.pop("dataset_info.json"))
    facts.pop("dataSourceAccesses", None)
    return files | {"facts": facts}


@pytest.mark.parametrize("make", SOURCES)
def test_every_byte_is_that_of_a_build_without_beam(make, made, tmp_path, monkeypatch):
    # Else all that a test can write would fit one shard.
    monkeypatch.setattr(ShardConfig, "min_shard_size", 1500)
    source = made(make)
    plain = built(source, tmp_path / "plain")
    under_beam = built(source, tmp_path / "beam", beam_options())
    assert max(map(len, open_dataset(plain).shards.values())) > 1
    assert contents(under_beam) == contents(plain)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "plain", "beam"}


def test_a_worker_in_another_process_writes_the_same_bytes(made, tmp_path):
    source = made(of_feature_files)
    options = beam_options("--direct_num_workers=1 --direct_running_mode=multi_processing")
    plain = built(source, tmp_path / "plain")
    assert contents(built(source, tmp_path / "beam", options)) == contents(plain)


def repeats_a_video(folder):
    shard(folder / "a", *(video_level(name) for name in (b"x", b"y")))
    shard(folder / "b", *(video_level(name) for name in (b"z", b"y")))


def has_two_faults(folder):
    """The first fault of the source is told, whichever part a worker reads first."""
    shard(folder / "a", video_level(b"x"), video_level(b"y", rgb=5))
    shard(folder / "b", video_level(b"z", audio=5))


def has_a_broken_record(folder):
    shard(folder / "a", video_level(b"x"))
    shard(folder / "b", video_level(b"y"))
    (folder / "b").write_bytes((folder / "b").read_bytes()[:-5])


def has_no_such_label(folder):
    shard(folder / "a", video_level(b"x"))
    (folder / "labels.txt").write_text("77")


@pytest.mark.parametrize(
    ("make", "flags", "told"),
    [
        (repeats_a_video, (), "train: video id 'y' comes twice"),
        (has_two_faults, (), "record 1 has 5 numbers in mean_rgb"),
        (has_a_broken_record, (), "is truncated"),
        (has_no_such_label, ("--labels={}/labels.txt",), "hold no video with any of the 1 labels"),
    ],
)
def test_a_fault_of_the_source_is_told_as_without_beam(tmp_path, make, flags, told):
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    door = (
        "tools.build_dataset", "--source=youtube8m", f"--train={source}/[ab]",
        f"--output={tmp_path / 'out'}", *(flag.format(source) for flag in flags),
    )  # fmt: skip
    plain, under_beam = front_doors.run(*door), front_doors.run(*door, "--beam")
    assert under_beam.returncode == plain.returncode == 1
    assert told in plain.stderr
    assert under_beam.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_command_builds_under_beam(tmp_path):
    output = tmp_path / "out"
    shown = front_doors.succeed(
        "tools.build_dataset", "--source=planted", "--videos=90", "--tracks=80",
        f"--output={output}", "--beam",
    )  # fmt: skip
    assert open_dataset(output).fingerprint in shown
    assert "--beam" in (output / "README.md").read_text()


def dwindling(folder):
    """A source that has a pair fewer each time that it is read."""
    left = sorted(folder.iterdir())
    for path in left:
        yield Pair(path.name, "m", np.zeros(2, np.float32), np.zeros(2, np.float32))
    left[-1].unlink()


def test_a_source_that_changes_meanwhile_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    for name in "abc":
        (tmp_path / "source" / name).touch()
    splits = {"train": InParts(dwindling, [tmp_path / "source"], "none")}
    source = Source("tiny", "made by a test", "none", Schema(Modality(2), Modality(2)), splits)
    with pytest.raises(UserError) as told:
        built(source, tmp_path / "out", beam_options())
    assert str(told.value) == "train: the source changed while it was read, start again"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_output_that_workers_do_not_reach_is_told(tmp_path, monkeypatch, made):
    from vmr.data.building import beam as building

    note_ids = building._note_ids

    def elsewhere(counts, notes, options):
        shutil.rmtree(notes)
        note_ids(counts, notes, options)

    monkeypatch.setattr(building, "_note_ids", elsewhere)
    with pytest.raises(UserError, match="a worker cannot read it, expected --output where all"):
        built(made(of_audioset), tmp_path / "out", beam_options())


def test_mistakes_are_told_as_workers_raised_them():
    """Of another process Beam knows the traceback as text."""
    text = (
        'Traceback (most recent call last):\n  File "x.py", line 1\n'
        "vmr.errors.UserError: a.npy: is empty\n\nDuring handling of the above:\n"
        "vmr.errors.UserError: a.npy: is empty [while running 'train/FlatMap(f)-ptransform-7']\n"
    )
    for error in (RuntimeError(text), UserError("a.npy: is empty [while running 'x']")):
        with pytest.raises(UserError) as told, as_raised():
            raise error
        assert str(told.value) == "a.npy: is empty"
    with pytest.raises(OSError, match="No space left"), as_raised():
        raise RuntimeError("…\nOSError: [Errno 28] No space left on device [while running 'x']")
    with pytest.raises(RuntimeError, match="unheard of"), as_raised():
        raise RuntimeError("unheard of")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--runer=FlinkRunner", "Beam has no option --runer"),
        ("runner", "'runner' is not --name or --name=value"),
        ("--direct_num_workers=many", "invalid int value: 'many'"),
        ("--runner=Flonk", "Unexpected pipeline runner: Flonk"),
        ("--runner='Flink", "No closing quotation"),
    ],
)
def test_options_that_beam_does_not_know_are_refused(words, expected, capfd):
    with pytest.raises(UserError, match=expected):
        beam_options(words)
    assert capfd.readouterr().err == ""
