"""Tests of the media set that is made by code."""

import csv

import numpy as np
import pytest
from front_doors import run, succeed

from vmr.errors import UserError
from vmr.media import planted_media
from vmr.media.files import media_files
from vmr.media.pictures import Pictures
from vmr.media.planted_media import Hidden
from vmr.media.sound import read_sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Media set of two pairs, made by the command."""
    folder = tmp_path_factory.mktemp("planted") / "media"
    assert "2 of 2 pairs made" in succeed("tools.planted_media", f"--output={folder}", "--pairs=2")
    return folder


def decoded(file):
    """Pictures of a video at one a second."""
    with Pictures(file, size=64) as pictures:
        listed = [picture for _, picture in pictures]
    return np.stack(listed), pictures


def test_writes_videos_music_pairs_and_a_card(folder):
    assert sorted(media_files(folder / "video", "video")) == ["00000", "00001"]
    assert sorted(media_files(folder / "music", "music")) == ["00000", "00001"]
    with (folder / "pairs.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["video_id"], row["music_id"]) for row in rows] == [
        ("00000", "00000"),
        ("00001", "00001"),
    ]
    assert all(int(row["group"]) >= 0 for row in rows)
    card = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "--pairs=2 --seed=0 --sound=beside" in card
    assert not list(folder.rglob("*.unfinished"))


def test_files_hold_what_was_made(folder):
    film, pictures = decoded(folder / "video" / "00000.webm")
    assert (len(film), pictures.seconds) == (10, 10.0)
    values = planted_media.hidden(0, 0)
    made = planted_media.pictures(values, 0, 0)[::8]
    assert film.mean(axis=(1, 2)) == pytest.approx(made.mean(axis=(1, 2)), abs=4)
    sound = read_sound(folder / "music" / "00000.ogg", planted_media.RATE)
    assert sound.seconds == 10.0
    music = planted_media.music(values, 0, 0)
    assert np.corrcoef(sound.samples, music)[0, 1] > 0.98


def test_more_valence_is_heard_in_higher_notes():
    def share_above(valence):
        values = Hidden(tempo=0.5, energy=0.0, brightness=0.0, valence=valence)
        power = np.abs(np.fft.rfft(planted_media.music(values, 0, 0))) ** 2
        hertz = np.arange(len(power)) / planted_media.SECONDS
        return power[hertz > 1000].sum() / power.sum()

    assert share_above(1.0) > 2 * share_above(0.0)


def test_goes_on_and_makes_the_same(folder, tmp_path):
    half = tmp_path / "half"
    assert planted_media.make(half, 1, 0) == 1
    (half / "video" / "00000.webm").unlink()
    assert planted_media.make(half, 2, 0, jobs=2) == 2  # that one, and the second
    assert planted_media.make(half, 2, 0) == 0
    for name in ("video/00000.webm", "video/00001.webm", "pairs.csv", "README.md"):
        assert (half / name).read_bytes() == (folder / name).read_bytes()
    # libsndfile draws a number for each Ogg file: the sound is the same, and not the bytes.
    again = read_sound(half / "music" / "00001.ogg", 24000).samples
    np.testing.assert_array_equal(again, read_sound(folder / "music/00001.ogg", 24000).samples)


def test_a_video_can_carry_its_music(tmp_path):
    planted_media.make(tmp_path / "own", 1, 0, sound="in_video")
    assert not (tmp_path / "own" / "music").exists()
    file = tmp_path / "own" / "video" / "00000.webm"
    assert decoded(file)[1].seconds == pytest.approx(10, abs=0.03)
    sound = read_sound(file, planted_media.RATE)
    assert sound.seconds == pytest.approx(10, abs=0.05)
    music = planted_media.music(planted_media.hidden(0, 0), 0, 0)
    assert sound.samples.std() == pytest.approx(music.std(), rel=0.1)


def test_another_set_in_the_folder_is_refused(folder, tmp_path):
    refused = run("tools.planted_media", f"--output={folder}", "--pairs=2", "--seed=1")
    assert refused.returncode == 1
    assert "holds media of seed 0, sound beside, expected" in refused.stderr
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="is no folder of planted media"):
        planted_media.make(tmp_path, 1, 0)


def test_groups_are_cells_of_a_few_members():
    values = [planted_media.hidden(0, number) for number in range(240)]
    numbers = planted_media.groups(values, 3)
    assert planted_media.groups([Hidden(0, 0, 0, 0.3), Hidden(0, 0, 0, 0.2)], 3) == [0, 0]
    assert planted_media.groups([Hidden(1, 1, 1, 1)], 3) == [80]
    assert 2 < len(numbers) / len(set(numbers)) < 5


def spectrum_of(values):
    """Power at each frequency, of music with these hidden values."""
    return np.abs(np.fft.rfft(planted_media.music(values, 0, 7))) ** 2


def test_each_value_is_seen_and_heard():
    def seen(**changed):
        film = planted_media.pictures(Hidden(**(middle | changed)), 0, 7)[::8].astype(float)
        return film

    middle = {"tempo": 0.3, "energy": 0.3, "brightness": 0.5, "valence": 0.5}
    assert seen(brightness=0.9).mean() > 1.5 * seen(brightness=0.2).mean()
    red_over_blue = [
        film[..., 0].mean() / film[..., 2].mean()
        for film in (seen(valence=valence) for valence in (0.1, 0.9))
    ]
    assert red_over_blue[1] > 2 * red_over_blue[0]
    detail = [np.abs(np.diff(seen(tempo=tempo), axis=2)).mean() for tempo in (0.1, 0.9)]
    assert detail[1] > 1.5 * detail[0]

    def high(values):
        power = spectrum_of(values)
        return power[20000:].sum() / power.sum()  # above 2 kHz

    assert high(Hidden(0.3, 0, 0.9, 0.5)) > 3 * high(Hidden(0.3, 0, 0.1, 0.5))
    low = [spectrum_of(Hidden(0.3, energy, 0.5, 0.5))[400:700].sum() for energy in (0.1, 0.9)]
    assert low[1] > 5 * low[0]  # drums, 40 to 70 Hz
