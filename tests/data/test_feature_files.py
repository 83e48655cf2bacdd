"""Feature files of the contract: what is read, and every mistake told by file and line."""

import numpy as np
import pytest

from vmr.data.building.build import source_of
from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.pipeline import eval_batches
from vmr.data.sources.feature_files import feature_files
from vmr.errors import UserError

TRAIN = "video_id,music_id\nv0,m0\nv1,m0\nv2,m1\n"


@pytest.fixture
def root(tmp_path):
    """Three videos of shape (4,), two tracks of shape (T, 3)."""
    for folder in ("video", "music"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    for i in range(3):
        np.save(tmp_path / "in" / "video" / f"v{i}.npy", np.full(4, i + 0.5))
    for i in range(2):
        np.save(tmp_path / "in" / "music" / f"m{i}.npy", np.arange(6.0 + 3 * i).reshape(-1, 3))
    (tmp_path / "in" / "train.csv").write_text(TRAIN)
    return tmp_path / "in"


def build(root):
    output = root.parent / "out"
    write_dataset(feature_files(root), output, "a test")
    return open_dataset(output)


def test_many_videos_to_one_track(root):
    dataset = build(root)
    assert dict(dataset.splits) == {"train": 3}
    (batch,) = eval_batches(dataset, "train", 10)
    rows = {name: row for row, name in enumerate(batch["video_id"])}
    tracks = [int(batch["track"][rows[name]]) for name in ("v0", "v1", "v2")]
    assert tracks == [0, 0, 1]
    np.testing.assert_array_equal(batch["video"][rows["v2"]], np.full(4, 2.5, np.float32))
    np.testing.assert_array_equal(batch["music"][rows["v2"]], np.float32([3, 4, 5]))


def test_only_the_splits_with_a_csv_are_built(root):
    (root / "test.csv").write_text("\ufeffvideo_id,music_id,title\nv2,m1,last\n", encoding="utf-8")
    (root / "train.csv").write_text(TRAIN.replace("v2,m1\n", ""))
    assert dict(build(root).splits) == {"train": 2, "test": 1}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", "lacks column video_id, music_id"),
        ("video,music_id\nv0,m0\n", r"lacks column video_id; its first line is 'video,music_id'"),
        ("video_id,music_id\n", "has no rows"),
        ("video_id,music_id\nv0,m0\nv9,m0\n", r"line 3 names video id 'v9', but there is no .*v9"),
        ("video_id,music_id\nv0,m7\n", r"line 2 names music id 'm7'"),
        ("video_id,music_id\nv0,\n", "line 2 has an empty music_id"),
        (f"video_id,music_id\n{'v' * 300},m0\n", "line 2 names vvv.*: File name too long$"),
        ("video_id,music_id\nv0,m0\nv1,m0\nv0,m1\n", "line 4 repeats video id 'v0' of line 2"),
    ],
)
def test_wrong_tables_are_told_by_line(root, table, expected):
    (root / "train.csv").write_text(table)
    with pytest.raises(UserError, match=rf"train\.csv.*{expected}"):
        build(root)


def test_the_training_table_is_required(root):
    (root / "train.csv").unlink()
    with pytest.raises(UserError, match=r"train\.csv: missing"):
        build(root)
    with pytest.raises(UserError, match="--input: missing"):
        source_of("feature_files", {"input": None})


@pytest.mark.parametrize(
    ("pair", "place"),
    [("../music/m1,m0", "video id '../music/m1'"), ("v0,{absolute}", "music id '/.*/m1'")],
)
def test_an_id_that_leads_out_of_its_folder_is_refused(root, pair, place):
    np.save(root / "music" / "m1.npy", np.full(4, 1.0))  # as wide as a video
    absolute = root / "music" / "m1"
    (root / "train.csv").write_text("video_id,music_id\n" + pair.format(absolute=absolute))
    with pytest.raises(
        UserError, match=rf"line 2 names {place}, which leads out of the folder"
    ) as told:
        build(root)
    assert "\n" not in str(told.value)


def test_a_file_in_its_folder_may_be_a_link(root):
    (root / "video" / "v1.npy").rename(root / "elsewhere.npy")
    (root / "video" / "v1.npy").symlink_to(root / "elsewhere.npy")
    assert dict(build(root).splits) == {"train": 3}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(5), r"has shape \(5,\), expected \(4,\)"),
        (np.zeros((2, 4)), r"has shape \(2, 4\), expected \(4,\)"),
        (np.array(["a"] * 4), "holds <U1, expected an array of real numbers"),
        (np.array([{}, None]), "cannot be read as npy: Object arrays"),
    ],
)
def test_wrong_arrays_are_named_and_leave_nothing(root, array, expected):
    np.save(root / "video" / "v1.npy", array)
    with pytest.raises(UserError, match=rf"v1\.npy: {expected}"):
        build(root)
    assert [path.name for path in root.parent.iterdir()] == ["in"]


@pytest.mark.parametrize("track", ["m0", "m1"])
def test_a_sequence_without_clips_is_named(root, track):
    np.save(root / "music" / f"{track}.npy", np.zeros((0, 3)))
    expected = rf"{track}\.npy: has length 0, expected at least one clip$"
    with pytest.raises(UserError, match=expected):
        build(root)
    assert [path.name for path in root.parent.iterdir()] == ["in"]


def test_a_first_array_of_three_axes_is_named(root):
    np.save(root / "music" / "m0.npy", np.zeros((2, 2, 3)))
    with pytest.raises(UserError, match=r"m0\.npy: has shape \(2, 2, 3\), expected \(D,\) or"):
        build(root)


@pytest.mark.parametrize("content", [b"", b"no npy at all", b"PK\x03\x04 no archive either"])
def test_junk_is_named_as_no_npy_file(root, content):
    (root / "video" / "v1.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"v1\.npy: is no npy file, expected an array saved by"):
        build(root)


def with_header(content, old, new):
    """The npy file with `old` replaced in its header of 118 characters, from the tenth byte on."""
    return content[:10] + content[10:128].replace(old, new).ljust(118)[:118] + content[128:]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: content[:-8], r"it has 152 bytes, and 160 by its header \(float64, sh"),
        (lambda content: content + b"1", "it has 161 bytes, and 160 by its header"),
        (lambda content: content[:40], "EOF: reading array header"),
        (lambda content: content[:8] + b"\x14\x00" + content[10:], "its header is cut or corrupt"),
        (lambda content: with_header(content, b"(4,)", b"(%d,)" % 10**16), "it has 160 bytes, and"),
        (lambda content: with_header(content, b"(4,)", b"(%d,)" % 10**20), "it has 160 bytes, and"),
        (lambda content: with_header(content, b"(4,)", b"(-4,)"), "it has 160 bytes, and"),
    ],
)
def test_truncated_and_corrupt_files_are_named(root, damage, expected):
    file = root / "video" / "v1.npy"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"v1\.npy: cannot be read as npy: {expected}"):
        build(root)


def test_all_absent_files_are_told_and_other_spellings_of_unicode(root):
    np.save(root / "video" / "cafe\u0301.npy", np.zeros(4))
    (root / "train.csv").write_text(TRAIN + "café,m9\nv7,m8\nv8,m7\n", encoding="utf-8")
    expected = r"line 5 names video id 'café', but there is no .*npy; one spelt in .* NFD is: .*"
    expected += r"; 5 more are absent: music/m9\.npy, video/v7\.npy, music/m8\.npy, …$"
    with pytest.raises(UserError, match=expected):
        build(root)


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_text_under_another_spelling_of_an_id_is_not_lost(root, kind):
    (root / "video" / "v2.npy").rename(root / "video" / "café.npy")
    (root / "train.csv").write_text(TRAIN.replace("v2", "café"), encoding="utf-8")
    if kind == "csv":
        (root / "text.csv").write_text("video_id,text\nv0,a\ncafe\u0301,b\n", encoding="utf-8")
    else:
        (root / "text").mkdir()
        for name in ("v0", "cafe\u0301"):
            np.save(root / "text" / f"{name}.npy", np.zeros(2))
    with pytest.raises(UserError, match=r"Unicode"):
        build(root)


def test_shares_of_tracks_are_held_out_with_all_their_videos(root):
    rows = [f"w{i},n{i // 2}" for i in range(60)]
    for i in range(60):
        np.save(root / "video" / f"w{i}.npy", np.full(4, i + 0.5))
        np.save(root / "music" / f"n{i // 2}.npy", np.full((2, 3), i + 0.5))
    (root / "train.csv").write_text("\n".join(["video_id,music_id", *rows]))
    splits = feature_files(root, held_out=0.2).splits
    tracks = {split: {pair.music_id for pair in pairs()} for split, pairs in splits.items()}
    assert sum(map(len, tracks.values())) == 30
    assert all(tracks[split] for split in ("train", "validation", "test"))
    assert sum(len(list(pairs())) for pairs in splits.values()) == 60
    with pytest.raises(UserError, match=r"--held_out=0.01: of 30 tracks none falls to "):
        feature_files(root, held_out=0.01)
    (root / "test.csv").write_text("video_id,music_id\nv0,m0\n")
    with pytest.raises(UserError, match=r"--held_out=0.2: .*so test\.csv cannot be given too"):
        feature_files(root, held_out=0.2)
