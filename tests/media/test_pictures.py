"""Tests of the pictures of videos, on files that they make."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from made_media import (
    TURNS,
    cut,
    flip,
    number_of,
    numbered,
    quarters,
    tone,
    turn,
    with_index_first,
    write_sound,
    write_video,
)
from PIL import Image

from vmr.errors import UserError
from vmr.media.damage import Damage
from vmr.media.pictures import Pictures


def pictures_of(file, size=32, **options):
    """Times and pictures of a file, and the reader after them."""
    with Pictures(file, size=size, **options) as pictures:
        listed = list(pictures)
    return listed, pictures


def numbers_of(file, **options):
    """Numbers of the pictures of a file."""
    return [number_of(picture) for _, picture in pictures_of(file, **options)[0]]


def noise(count):
    """Pictures of noise, (48, 64, 3): their packets are long enough to be damaged."""
    return list(np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Video of 20 numbered pictures at 8 a second."""
    return write_video(tmp_path_factory.mktemp("steady") / "steady.mp4", numbered(20))


def test_gives_the_picture_on_the_screen_at_each_time(steady):
    listed, pictures = pictures_of(steady)
    assert [seconds for seconds, _ in listed] == [0.0, 1.0, 2.0]
    assert [number_of(picture) for _, picture in listed] == [0, 8, 16]
    assert (pictures.seconds, pictures.damage) == (2.5, Damage())
    assert (listed[0][1].shape, listed[0][1].dtype) == ((32, 32, 3), np.uint8)
    assert numbers_of(steady, per_second=4.0) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert numbers_of(steady, per_second=0.5) == [0, 16]
    assert numbers_of(steady, per_second=16.0)[:5] == [0, 0, 1, 1, 2]


def test_reads_timestamps_where_the_rate_varies(tmp_path):
    times = [0, Fraction(1, 5), Fraction(29, 10), 3, Fraction(7, 2)]
    file = write_video(tmp_path / "varies.mp4", numbered(5), times=times)
    listed, pictures = pictures_of(file)
    assert [number_of(picture) for _, picture in listed] == [0, 1, 1, 3]
    assert listed[1][1] is listed[2][1]  # so that its features are worked out once
    assert pictures.seconds == 3.625


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("mkv", "libx264"),
        ("mov", "mpeg4"),
        ("avi", "mpeg4"),
        ("ts", "libx264"),
        ("webm", "libvpx-vp9"),
        ("flv", "flv"),
        ("mpg", "mpeg2video"),
    ],
)
def test_reads_any_container(tmp_path, suffix, codec):
    rate = 25 if codec == "mpeg2video" else 8
    file = write_video(tmp_path / f"clip.{suffix}", numbered(20), codec=codec, rate=rate)
    listed, pictures = pictures_of(file, per_second=4.0)
    due = [int(seconds * rate) for seconds, _ in listed]
    behind = due - np.array([number_of(picture) for _, picture in listed])
    # In an MPEG program stream, not every picture has a timestamp.
    assert set(behind) <= ({0, 1} if suffix == "mpg" else {0})
    assert pictures.seconds == pytest.approx(20 / rate, abs=0.05)
    assert pictures.damage == Damage()


def test_key_frames_alone_stay_until_the_next(tmp_path):
    file = write_video(tmp_path / "keys.mp4", numbered(20), codec="libx264", key_every=12)
    listed, pictures = pictures_of(file, keyframes=True)
    assert [number_of(picture) for _, picture in listed] == [0, 0, 12]
    assert listed[0][1] is listed[1][1]
    assert pictures.seconds == 2.5


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_counts_time_from_the_first_picture(tmp_path, suffix):
    times = [5 + Fraction(i, 8) for i in range(20)]
    file = write_video(tmp_path / f"late.{suffix}", numbered(20), times=times, codec="libx264")
    listed, pictures = pictures_of(file)
    assert [(s, number_of(picture)) for s, picture in listed] == [(0, 0), (1, 8), (2, 16)]
    assert pictures.seconds == 2.5


def test_goes_on_where_timestamps_start_again(tmp_path):
    parts = [
        write_video(tmp_path / f"{i}.ts", [picture] * 16, codec="libx264").read_bytes()
        for i, picture in enumerate(numbered(3))
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    assert numbers_of(joined) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("keyframes", [False, True])
def test_pictures_that_are_decoded_seconds_out_of_order_are_no_break(tmp_path, suffix, keyframes):
    options = {"bf": "3", "x264-params": "b-adapt=0"}
    slides = numbered(20)
    file = write_video(tmp_path / f"s.{suffix}", slides, rate=1, codec="libx264", options=options)
    listed, pictures = pictures_of(file, keyframes=keyframes)
    assert (len(listed), pictures.seconds) == (20, 20.0)


def test_a_single_picture_of_a_fifth_of_a_second(tmp_path):
    file = write_video(tmp_path / "one.mp4", numbered(1), rate=5)
    listed, pictures = pictures_of(file)
    assert [seconds for seconds, _ in listed] == [0.0]
    assert pictures.seconds == 0.2


@pytest.mark.parametrize("name", TURNS)
def test_turns_pictures_upright(tmp_path, name):
    # The matrix is written by the standard's own formula, and not through FFmpeg's angle.
    file = turn(write_video(tmp_path / "turned.mp4", [quarters()] * 2), TURNS[name])
    [(_, picture)], _ = pictures_of(file)
    corners = (picture[i, j] > 128 for i, j in ((4, 4), (4, -4), (-4, 4), (-4, -4)))
    colours = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    read = "".join(colours[tuple(corner.astype(int))] for corner in corners)
    # As encoded: red green / blue white.
    assert read == {"clockwise": "brwg", "counterclockwise": "gwrb", "half": "wbgr"}[name]


@pytest.mark.parametrize("height", [96, 720])
@pytest.mark.parametrize("colours", [(1, 1), (1, 2), (5, 1), (5, 2), None])
def test_keeps_colours_of_any_matrix_and_range(tmp_path, height, colours):
    flat = np.full((height, height * 4 // 3, 3), (200, 60, 30), np.uint8)
    # Videos that do not tell: BT.601 for small ones and BT.709 for HD, both of limited range.
    written = colours or (1 if height == 720 else 5, 1)
    file = write_video(
        tmp_path / "flat.mp4",
        [flat],
        codec="libx264",
        options={"qp": "2"},
        converted=written,
        colours=colours,
    )
    [(_, picture)], _ = pictures_of(file)
    assert np.abs(picture.astype(int) - (200, 60, 30)).max() <= 2


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        ("libx264", "yuv420p10le"),
        ("libx264", "yuv444p"),
        ("ffv1", "yuv422p10le"),
        ("ffv1", "gray16le"),
        ("ffv1", "bgra"),
        ("libvpx-vp9", "yuva420p"),
        ("mjpeg", "yuvj420p"),
        ("prores", "yuv422p10le"),
    ],
)
def test_reads_any_format_of_pixels(tmp_path, codec, pixels):
    file = write_video(tmp_path / "clip.mkv", [quarters()] * 2, codec=codec, pixels=pixels)
    [(_, picture)], _ = pictures_of(file)
    expected = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], float)
    if pixels.startswith("gray"):
        expected = np.repeat(expected @ [[0.299], [0.587], [0.114]], 3, axis=1)
    corners = picture[[4, 4, -4, -4], [4, -4, 4, -4]]
    assert np.abs(corners - expected).max() < 4


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (33, 17), (99, 101), (16, 3000), (1080, 1920)])
def test_reads_pictures_of_any_size(tmp_path, shape):
    file = write_video(tmp_path / "clip.mkv", numbered(1, *shape), codec="ffv1", pixels="yuv444p")
    [(_, picture)], _ = pictures_of(file)
    assert picture.shape == (32, 32, 3)
    assert np.abs(picture.astype(int) - 40).max() <= 1


def test_pixels_that_are_not_square_are_widened(tmp_path):
    picture = np.zeros((96, 64, 3), np.uint8)
    picture[:, 16:48] = 255  # the middle half, which alone is seen of 2 : 1
    wide = write_video(tmp_path / "wide.mp4", [picture], pixel_aspect=Fraction(3, 1))
    [(_, seen)], _ = pictures_of(wide)
    assert seen.min() > 240


@pytest.mark.parametrize("shape", [(480, 852), (481, 853), (120, 160), (200, 1001), (853, 481)])
@pytest.mark.parametrize("pixels", ["bgr0", "yuv444p", "yuv420p"])
def test_scales_as_a_bicubic_filter_of_the_middle(tmp_path, shape, pixels):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    waves = (np.sin(x / 17 + y / 31), np.cos(x / 23 - y / 13), np.sin((x + y) / 40))
    whole = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    file = write_video(tmp_path / "waves.mkv", [whole], codec="ffv1", pixels=pixels)
    [(_, picture)], _ = pictures_of(file, size=224)
    side = 224 / 256 * min(shape)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    expected = Image.fromarray(whole).resize((224, 224), Image.Resampling.BICUBIC, box=box)
    difference = picture.astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 4  # levels; a shift by half a pixel makes 8
    assert np.abs(difference).mean() < 0.6
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_counts_the_missing_end_of_a_file_that_was_cut(tmp_path, suffix):
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    file = write_video(tmp_path / f"whole.{suffix}", noise(32), codec=codec)
    if suffix == "mp4":
        file = with_index_first(file)
    _, whole = pictures_of(file)
    _, part = pictures_of(cut(file, tmp_path / f"part.{suffix}", 0.5))
    assert (whole.seconds, whole.damage) == (4.0, Damage())
    assert part.seconds < 3
    assert part.damage.packets_lost > 0


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")]
)
def test_bytes_changed_anywhere_give_pictures_or_one_line(tmp_path, suffix, codec):
    whole = write_video(tmp_path / f"whole.{suffix}", noise(16), codec=codec)
    damaged, lines = 0, []
    for seed in range(24):
        file = flip(whole, tmp_path / f"flipped.{suffix}", seed, count=(3, 30, 300)[seed % 3])
        for keyframes in (False, True):
            try:
                listed, pictures = pictures_of(file, keyframes=keyframes)
            except UserError as error:
                lines.append(str(error).removeprefix(f"{file}: "))
            else:
                assert listed[0][0] == 0.0
                damaged += pictures.damage != Damage()
    assert not any("/" in line or "\n" in line for line in lines)
    assert damaged > 8


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    def refused(name, content, message):
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"^{file}: {message}") as caught:
            pictures_of(file)
        assert "\n" not in str(caught.value)

    whole = write_video(tmp_path / "whole.mp4", noise(8)).read_bytes()
    refused("none.mp4", None, "cannot be opened: No such file")
    refused("empty.mp4", b"", "is empty")
    refused("text.mp4", b"this is no video\n" * 50, "is no video or track that can be read")
    refused("page.mp4", b"<html>404</html>" * 90, "is no video or track that can be read")
    refused("list.m3u8", b"#EXTM3U\n#EXTINF:9,\nwhole.mp4\n#EXT-X-ENDLIST\n", "is no video")
    refused("list.mp4", b"ffconcat version 1.0\nfile whole.mp4\n", "is no video")
    refused("part.mp4", whole[: len(whole) // 2], r"its table of contents \(moov\) is missing")
    (tmp_path / "folder.mp4").mkdir()
    refused("folder.mp4", None, "cannot be opened: Is a directory")


def test_a_track_is_no_video_even_with_a_cover(tmp_path):
    track = write_sound(tmp_path / "track.wav", tone(440, 0.5))
    with pytest.raises(UserError, match=f"^{track}: has no picture, expected a video"):
        pictures_of(track)
    covered = write_sound(tmp_path / "covered.mp3", tone(440, 0.5), cover=quarters())
    with pytest.raises(UserError, match=f"^{covered}: has a cover picture alone"):
        pictures_of(covered)


@pytest.mark.parametrize(
    "name", ["-y.mp4", "a:b.mp4", "http:x.mp4", "%d.mp4", "é日.mp4", "a\nb.mp4"]
)
def test_no_name_is_taken_for_an_address(tmp_path, monkeypatch, steady, name):
    monkeypatch.chdir(tmp_path)
    with open(name, "wb") as copy:
        copy.write(steady.read_bytes())
    assert numbers_of(name) == [0, 8, 16]


def test_closes_its_file_whatever_happens(tmp_path, steady):
    text = tmp_path / "text.mp4"
    text.write_text("no video" * 100)
    before = len(os.listdir("/proc/self/fd"))
    for file in (steady, text):
        for _ in range(3):
            try:
                with Pictures(file, size=32) as pictures:
                    for _ in pictures:
                        raise RuntimeError  # in the middle
            except (UserError, RuntimeError):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_long_video_is_not_held(tmp_path):
    # Pictures come while the file is read: the second does not wait for the end.
    file = write_video(tmp_path / "long.mkv", noise(20) * 10, codec="ffv1", pixels="yuv444p")
    with Pictures(file, size=32) as pictures:
        iterator = iter(pictures)
        next(iterator)
        assert pictures.seconds < 2


def test_writes_nothing_to_the_terminal(tmp_path, capfd):
    whole = write_video(tmp_path / "whole.avi", noise(16))
    av.logging.set_level(av.logging.VERBOSE)
    capfd.readouterr()
    pictures_of(flip(whole, tmp_path / "flipped.avi", 1))
    assert capfd.readouterr() == ("", "")
