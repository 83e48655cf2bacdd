"""Pairs of media: ids looked up among files, each file once, what is left out told."""

import pytest

from vmr.errors import UserError
from vmr.media.pairs import Item, pairs_of


@pytest.fixture
def folders(tmp_path):
    """Three videos and three tracks, of which no more than the names matter."""
    names = {"v": ("a.mp4", "deep/er/b b.webm", "café,1.mp4"), "m": ("x.ogg", "y.wav", "z.mp3")}
    for folder, files in names.items():
        for name in files:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).touch()
    return tmp_path / "v", tmp_path / "m"


def table(folders, text):
    path = folders[0].parent / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def ids(pairs):
    return [(row.video_id, row.music_id, row.split, row.group) for row in pairs.rows]


def test_the_sound_of_each_video_is_its_track(folders):
    videos, music = folders
    pairs = pairs_of("own_sound", videos)
    named = ["a", "café,1", "deep/er/b b"]
    assert ids(pairs) == [(id, id, "train", None) for id in named]
    files = [videos / "a.mp4", videos / "café,1.mp4", videos / "deep/er/b b.webm"]
    expected = [
        Item(side, id, file)
        for side in ("video", "music")
        for id, file in zip(named, files, strict=True)
    ]
    assert list(pairs.items) == expected
    assert not pairs.note
    (videos / "notes.txt").touch()
    assert pairs_of("own_sound", videos).note == f"1 other file in {videos} left out: no video"
    with pytest.raises(UserError, match=r"--music=.*: with --pairs=own_sound the videos are the"):
        pairs_of("own_sound", videos, music)


def test_a_track_of_several_videos_is_extracted_once(folders):
    text = 'music_id,video_id,group,split\nx,deep/er/b b,5,test\nx,a,5,train\ny,"café,1",6,train\n'
    pairs = pairs_of(table(folders, text), *folders)
    expected = [
        ("deep/er/b b", "x", "test", 5),
        ("a", "x", "train", 5),
        ("café,1", "y", "train", 6),
    ]
    assert ids(pairs) == expected
    assert [item.id for item in pairs.items] == ["a", "café,1", "deep/er/b b", "x", "y"]
    assert pairs.items[-1].file == folders[1] / "y.wav"
    assert pairs.note == "1 media file is in no pair, and left out"


def test_tracks_may_be_videos(folders):
    pairs = pairs_of(table(folders, "video_id,music_id\na,deep/er/b b\n"), folders[0])
    assert [item.file.name for item in pairs.items] == ["a.mp4", "b b.webm"]
    assert pairs.note == "1 media file is in no pair, and left out"


def test_ids_are_found_in_any_form_of_unicode(folders):
    decomposed = "cafe\u0301,1"
    pairs = pairs_of(table(folders, f'video_id,music_id\n"{decomposed}",x\n'), *folders)
    assert ids(pairs) == [(decomposed, "x", "train", None)]
    text = f'video_id,music_id\n"{decomposed}",x\n"café,1",x\n'
    with pytest.raises(UserError, match=r"line 3 names video id .* another form of Unicode"):
        pairs_of(table(folders, text), *folders)


def test_pairs_without_a_file_are_counted(folders):
    text = "video_id,music_id\na,x\nb,x\ndeep/er/b b,w\nc,w\n"
    pairs = pairs_of(table(folders, text), *folders)
    assert ids(pairs) == [("a", "x", "train", None)]
    assert "3 pairs lack a file and are left out: " in pairs.note
    assert "line 3 names video id 'b', of which there is none (an id is" in pairs.note
    assert "4 media files are in no pair" in pairs.note
    with pytest.raises(UserError, match=r"no pair has both its files in .*v and .*m: 1 pair lacks"):
        pairs_of(table(folders, "video_id,music_id\na.mp4,x\n"), *folders)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "video_id,music_id,split\na,x,dev\n",
            "line 2 has split 'dev', expected one of train",
        ),
        ("video_id,music_id,split\na,x,\n", "line 2 has split ''"),
        ("video_id,music_id\na,x\na,y\n", "line 3 repeats video id 'a' of line 2"),
        (
            "video_id,music_id,group\na,x,1\ncafé,x,2\n",
            "music id .x. in group 2, .*line 2",
        ),
        ("video_id,music_id,group\na,x,one\n", "line 2 has group 'one', expected a whole number"),
        (
            "video_id,music_id\n../v/a,x\n",
            "which leads out of the folder of video files, expected a path below it",
        ),
        ("video_id,music_id\n,x\n", "line 2 has an empty video_id"),
        ("video_id,music_id\n", "has no rows, expected at least one pair"),
        ("", "lacks column video_id, music_id"),
    ],
)
def test_wrong_tables_are_told_by_line(folders, text, expected):
    with pytest.raises(UserError, match=rf"pairs\.csv.*{expected}"):
        pairs_of(table(folders, text), *folders)


def test_folders_without_media_and_tables_that_are_not_there_are_told(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no-such"):
        pairs_of("own_sound", tmp_path / "no-such")
    with pytest.raises(UserError, match="empty"):
        pairs_of("own_sound", tmp_path / "empty")
    with pytest.raises(
        UserError, match="--pairs=own_sounds: no such file, expected a CSV or own_sound"
    ):
        pairs_of("own_sounds", *folders)
