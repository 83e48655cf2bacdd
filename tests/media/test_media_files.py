"""Tests of the media files of a folder."""

import os
import unicodedata

import pytest

from vmr.errors import UserError
from vmr.media.containers import open_container
from vmr.media.files import media_files
from vmr.media.sound import read_sound


def touch(folder, *names):
    """Makes empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_names_files_by_their_path_without_suffix(tmp_path):
    touch(tmp_path, "b.MP4", "a/c.d.webm", "cover.jpg", "a/._c.d.webm", "x.mp3")
    files = media_files(tmp_path, "video")
    assert files == {"a/c.d": tmp_path / "a/c.d.webm", "b": tmp_path / "b.MP4"}
    assert files.others == 3
    assert list(media_files(tmp_path, "music")) == ["a/c.d", "b", "x"]


def test_ids_are_composed(tmp_path):
    touch(tmp_path, unicodedata.normalize("NFD", "é.mp3"))
    assert list(media_files(tmp_path, "music")) == ["é"]
    touch(tmp_path, unicodedata.normalize("NFC", "é.mp3"))
    with pytest.raises(UserError, match="are both of id é"):
        media_files(tmp_path, "music")


def test_two_files_of_one_id_are_refused(tmp_path):
    touch(tmp_path, "a.mp3", "a.wav")
    with pytest.raises(UserError, match=r"a\.mp3 and a\.wav are both of id a"):
        media_files(tmp_path, "music")


def test_follows_links_but_no_loop(tmp_path):
    touch(tmp_path, "far/a.mp3")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    assert list(media_files(tmp_path / "near", "music")) == ["link/a"]
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "far")
    with pytest.raises(UserError, match="is a link to a folder that it is in"):
        media_files(tmp_path / "near", "music")


def test_a_pipe_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.webm")
    with pytest.raises(UserError, match=r"a\.webm: is a pipe or a device, expected a video"):
        read_sound(tmp_path / "a.webm", 16_000)
    with (
        pytest.raises(UserError, match=r"a\.webm: is a pipe or a device, expected a video"),
        open_container(tmp_path / "a.webm"),
    ):
        pass


def test_folders_without_media_are_refused(tmp_path):
    touch(tmp_path, "b.mp4")
    with pytest.raises(UserError, match=r"b\.mp4: is a file, expected a folder of video files"):
        media_files(tmp_path / "b.mp4", "video")
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(UserError, match="no such folder"):
        media_files(tmp_path / "none", "video")
    touch(tmp_path, "notes.txt")
    with pytest.raises(UserError, match=r"holds no video file \(other files: 1\)"):
        media_files(tmp_path, "video")
