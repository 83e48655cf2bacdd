"""Items extracted one by one: files whole or absent, outcomes kept, what failed told."""

import csv
import errno
import json
import os

import numpy as np
import pytest
import stand_ins
from stand_ins import content, medium, request

from vmr.data.building.build import build
from vmr.data.dataset import open_dataset
from vmr.data.sources.feature_files import feature_files
from vmr.errors import UserError
from vmr.media import extraction
from vmr.media.extraction import extract_shard, load_accounts
from vmr.media.extractor import package_needed
from vmr.media.journal import Facts, Journal, Outcome, claimed
from vmr.media.plan import plan_of
from vmr.media.report import finish


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    stand_ins.install(monkeypatch.setitem)
    extraction._loaded.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Three videos; two tracks, one of two videos; both splits, groups."""
    for number, name in enumerate(("a", "deep/b b", "c")):
        medium(tmp_path / "videos" / f"{name}.mp4", 10 * number, 20, 30, packets_lost=number)
    for number, name in enumerate(("x", "é, y")):
        medium(tmp_path / "music" / f"{name}.ogg", 40 * number, 50)
    text = 'video_id,music_id,split,group\nc,x,train,4\na,x,train,4\ndeep/b b,"é, y",test,-1\n'
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    return tmp_path


def planned(wanted):
    return plan_of(wanted, lambda: load_accounts(wanted.recipes))


def extracted(folder, pairs="pairs.csv", **changed):
    """Summary of an extraction in this process, shard by shard."""
    plan = planned(request(folder, folder / pairs if pairs != "own_sound" else pairs, **changed))
    for shard in range(plan.request.shards):
        extract_shard(plan, shard)
    return finish(plan)


def report(folder):
    with (folder / "out" / "report.csv").open(newline="", encoding="utf-8") as file:
        return {(row["side"], row["id"]): row for row in csv.DictReader(file)}


def test_the_folder_is_what_a_dataset_is_built_of(folder):
    summary = extracted(folder, clips=2)
    assert summary.text.splitlines() == [
        "video: 3 extracted (2 of damaged files)",
        "music: 2 extracted",
        "pairs: 3 (train 2, test 1)",
        f"feature files in {folder / 'out'}, report: {folder / 'out' / 'report.csv'}",
    ]
    assert (summary.pairs, summary.waiting) == (3, 0)
    files = content(folder / "out")
    assert files["train.csv"] == b"video_id,music_id,group\nc,x,4\na,x,4\n"
    assert files["test.csv"].decode() == 'video_id,music_id,group\ndeep/b b,"é, y",-1\n'
    assert files["report.csv"].decode().splitlines() == [
        "side,id,file,status,seconds,rows,frames,packets_lost,frames_damaged,reason",
        f"video,a,{folder}/videos/a.mp4,ok,3.000,2,3,0,0,",
        f"video,c,{folder}/videos/c.mp4,ok,3.000,2,3,2,0,",
        f"video,deep/b b,{folder}/videos/deep/b b.mp4,ok,3.000,2,3,1,0,",
        f"music,x,{folder}/music/x.ogg,ok,2.000,1,,0,0,",
        f'music,"é, y","{folder}/music/é, y.ogg",ok,2.000,1,,0,0,',
    ]
    found = np.load(folder / "out" / "video" / "deep" / "b b.npy")
    np.testing.assert_allclose(found[:, 0] * 256, [15, 30])
    assert found.dtype == np.float32
    account = {"extractor": "stand_in", "version": "1", "licence": "CC0", "sha256": None}
    account |= {"width": 3, "clip_seconds": 2}
    assert json.loads(files["extraction.json"]) == {
        "schema_version": 1,
        "video": account | {"keyframes": False, "per_second": 1.0},
        "music": account,
    }

    build(feature_files(folder / "out"), folder / "dataset", "a test")
    dataset = open_dataset(folder / "dataset")
    assert dict(dataset.splits) == {"train": 2, "test": 1}
    assert dataset.schema.has_groups
    assert dataset.row_seconds("music") == 2
    card = (folder / "dataset" / "README.md").read_text()
    assert "| video | stand_in | 1 | CC0 | 2 s |" in card


def test_shards_give_the_same_bytes_in_any_number(folder):
    before = extracted(folder)
    whole = content(folder / "out")
    for shards in (2, 5):
        (folder / "out").rename(folder / f"before {shards}")
        assert extracted(folder, shards=shards) == before
        assert content(folder / "out") == whole
    # Another number of shards finds what is done.
    files = [*(folder / "out").glob("*/*.npy")]
    times = [file.stat().st_mtime_ns for file in files]
    extracted(folder, shards=3)
    assert [file.stat().st_mtime_ns for file in files] == times


def test_no_pairs_are_written_before_all_shards_are_done(folder):
    plan = planned(request(folder, folder / "pairs.csv", shards=2))
    rows = extract_shard(plan, 0)
    summary = finish(plan)
    assert 0 < summary.waiting == 5 - len(rows)
    assert "no pairs are written before all shards are done" in summary.text
    assert not (folder / "out" / "train.csv").exists()
    states = [row["status"] for row in report(folder).values()]
    assert states.count("waiting") == summary.waiting
    assert {row["status"] for row in rows} == {"ok"}
    extract_shard(plan, 1)
    assert finish(plan).pairs == 3


def test_a_bad_file_costs_its_line_and_its_pairs(folder):
    medium(folder / "videos" / "c.mp4", error="has no picture,\nonly sound")
    medium(folder / "videos" / "deep/b b.mp4", bug="a bug " * 100)
    medium(folder / "music" / "x.ogg", 99)
    (folder / "videos" / "a.mp4").write_bytes(b"")
    summary = extracted(folder)
    assert (summary.pairs, summary.waiting) == (0, 0)
    assert summary.text.splitlines() == [
        "video: 0 extracted, 3 failed",
        "music: 1 extracted, 1 failed",
        "failed: video a: is no media file",
        "failed: video c: has no picture, only sound",
        f"failed: video deep/b b: ZeroDivisionError: {('a bug ' * 100)[:200].strip()} …",
        f"failed: 1 more, see {folder / 'out' / 'report.csv'}",
        "pairs: 0; 3 lack a feature, and are left out",
        "train.csv is not written: no pair of this split has both its features",
        f"feature files in {folder / 'out'}, report: {folder / 'out' / 'report.csv'}",
    ]
    row = report(folder)["music", "x"]
    assert row["reason"] == "stand_in gives features that are not finite"
    assert row["status"] == "failed"
    assert not [name for name in content(folder / "out") if name in ("train.csv", "test.csv")]


def lines(folder):
    return [
        json.loads(line)[:2]
        for path in sorted(folder.glob("out/journal/*/items.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_a_track_that_fails_costs_the_pairs_of_all_its_videos(folder):
    (folder / "music" / "x.ogg").write_text("nothing of the kind")
    assert extracted(folder).pairs == 1
    assert not (folder / "out" / "train.csv").exists()
    assert len((folder / "out" / "test.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_what_has_failed_waits_for_a_change_or_retry(folder):
    file = medium(folder / "videos" / "c.mp4", error="is cut short")
    assert extracted(folder).pairs == 2
    assert len(lines(folder)) == 5
    extracted(folder)
    assert len(lines(folder)) == 5
    extracted(folder, retry=True)
    assert lines(folder)[5:] == [["video", "c"]]
    medium(file, 1, 2)
    assert extracted(folder).pairs == 3
    assert lines(folder)[6:] == [["video", "c"]]
    (folder / "out" / "video" / "c.npy").unlink()
    assert extracted(folder).pairs == 3
    # It was there, and is no longer.
    medium(file, error="is cut short again")
    assert "video c: is cut short again" in extracted(folder).text
    assert "c,x" not in (folder / "out" / "train.csv").read_text()


@pytest.mark.parametrize("shards", [1, 3])
def test_a_file_that_is_as_it_was_before_has_its_own_features_again(folder, shards):
    extracted(folder)
    whole = content(folder / "out")
    file = folder / "videos" / "a.mp4"
    earlier, times = file.read_bytes(), file.stat()
    medium(file, 7, 8, 9)
    extracted(folder, shards=shards)
    assert content(folder / "out") != whole
    file.write_bytes(earlier)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):
        count = len(lines(folder))
        extracted(folder)
        assert content(folder / "out") == whole
    assert len(lines(folder)) == count  # once will do


def test_what_is_no_longer_whole_is_made_again(folder):
    extracted(folder)
    whole = content(folder / "out")
    (folder / "out" / "video" / "a.npy").unlink()
    (folder / "out" / "music" / "x.npy").write_bytes(b"cut")
    (journal,) = folder.glob("out/journal/*/items.jsonl")
    kept = journal.read_bytes()
    # A line that was cut short where its process was killed, and junk.
    journal.write_bytes(kept + b'[]\n{"a": 1}\n\xff\n["video", "c", ["00", 1')
    extracted(folder)
    assert content(folder / "out") == whole
    assert lines_after(journal, kept) == [["video", "a"], ["music", "x"]]
    journal.write_bytes(b"".join(kept.splitlines(keepends=True)[:2]) + b"[")
    extracted(folder)
    assert content(folder / "out") == whole


def lines_after(journal, kept):
    *_, first, second = journal.read_bytes().removeprefix(kept).splitlines()
    return [json.loads(first)[:2], json.loads(second)[:2]]


def test_a_full_disk_ends_it_and_loses_nothing(folder, monkeypatch):
    expected = extracted(folder)
    whole = content(folder / "out")
    (folder / "out").rename(folder / "before")
    save, saved = np.save, []

    def full(file, array):
        if len(saved) == 2:
            file.write(b"a part")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(array)
        save(file, array)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(UserError, match=r"\.npy cannot be written: No space left on device"):
            extracted(folder)
    assert len(lines(folder)) == 2
    assert not list((folder / "out").rglob("*.unfinished"))
    assert extracted(folder) == expected
    assert content(folder / "out") == whole
    assert len(lines(folder)) == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="writes to /dev/full")
def test_a_disk_without_space_for_a_line_is_told(tmp_path):
    (tmp_path / "items.jsonl").symlink_to("/dev/full")
    expected = r"items\.jsonl cannot be written: No space left on device"
    with Journal(tmp_path) as journal, pytest.raises(UserError, match=expected):
        journal.append(Outcome("video", "a", Facts("0", 1, 2), "ok"))


def test_a_missing_package_is_no_fault_of_the_items(folder, monkeypatch):
    def needed(*_):
        raise package_needed("av", "media")

    with monkeypatch.context() as patch:
        patch.setattr(stand_ins, "_content", needed)
        with pytest.raises(UserError, match="av is not installed"):
            extracted(folder)
    assert not lines(folder)
    assert extracted(folder).pairs == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two\nlines", "its name has a line break, or space at an end: rename it"),
        (" a", "its name has a line break"),
        ("n" * 230, "its name is longer than 200 bytes"),
    ],
)
def test_names_that_cannot_be_stored_are_told(folder, name, expected):
    medium(folder / "videos" / f"{name}.mp4", 1)
    summary = extracted(folder, "own_sound")
    assert expected in summary.text
    assert summary.pairs == 3
    assert len(feature_files(folder / "out").schema.modalities) == 2


def test_another_recipe_in_the_same_output_is_refused(folder):
    extracted(folder)
    before = content(folder)
    for changed in ({"clips": 2.0}, {"recipes": request(folder, clips=1).recipes}):
        with pytest.raises(UserError, match="another extraction: video has clip_seconds whole"):
            extracted(folder, **changed)
    assert content(folder) == before


def test_another_version_is_remarked_and_goes_on(folder, monkeypatch):
    extracted(folder)
    before = content(folder / "out")
    made = stand_ins.Extractor("music").account | {"version": "2"}
    monkeypatch.setattr(
        stand_ins.Extractor, "account", property(lambda _: made, lambda *_: None), raising=False
    )
    extraction._loaded.cache_clear()
    first, *_ = extracted(folder).text.splitlines()
    assert first.count("stand_in 1, not 2: features may differ slightly") == 2
    assert content(folder / "out") == before
    assert len(lines(folder)) == 5


def test_outputs_in_the_wrong_place_are_refused_and_left_alone(folder):
    mine = folder / "mine"
    mine.mkdir()
    (mine / "train.csv").write_text("of my own")
    (folder / "link").symlink_to(folder / "videos")
    before = content(folder)
    for output, expected in {
        folder / "videos" / "out": "lies in --videos=",
        folder / "link" / "deep": "lies in --videos=",
        folder / "music": "lies in --music=",
        folder: "holds files of something else",
        mine: "holds files of something else",
        folder / "pairs.csv": "is a file, expected a folder",
        folder / "pairs.csv" / "out": "cannot be written: Not a directory",
        folder / ("n" * 300): "File name too long",
    }.items():
        with pytest.raises((UserError, OSError), match=expected):
            extracted(folder, output=output)
    assert content(folder) == before


def test_a_damaged_mark_is_told_and_left_as_it_is(folder):
    extracted(folder)
    (folder / "out" / "extraction.json").write_text("{}")
    before = content(folder / "out")
    with pytest.raises(UserError, match=r"extraction\.json: has schema_version None, expected 1"):
        extracted(folder)
    assert content(folder / "out") == before


def test_two_processes_do_not_work_on_the_same_items(tmp_path):
    with claimed(tmp_path, 0, 4) as one, claimed(tmp_path, 1, 4) as other:
        (other / "x.unfinished").touch()
        assert one != other
        for shard, shards in ((0, 4), (0, 1), (1, 2)):
            with pytest.raises(UserError, match="is in use"), claimed(tmp_path, shard, shards):
                pass
        assert (other / "x.unfinished").exists()
    assert not list(tmp_path.rglob("*.unfinished"))
    with claimed(tmp_path, 0, 1):
        pass
