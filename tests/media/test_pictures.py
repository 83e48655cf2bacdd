"""Tests of the pictures of videos, on files that they make."""

from fractions import Fraction

import numpy as np
import pytest
from made_media import TURNS, number_of, numbered, quarters, turn, write_video

from vmr.errors import UserError
from vmr.media.pictures import Pictures


def pictures_of(file, **options):
    """Times and pictures of a file, and the reader after them."""
    with Pictures(file, size=options.pop("size", 32), **options) as pictures:
        listed = list(pictures)
    return listed, pictures


def numbers_of(file, **options):
    """Numbers of the pictures of a file."""
    return [number_of(picture) for _, picture in pictures_of(file, **options)[0]]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Video of 20 numbered pictures at 8 a second."""
    return write_video(tmp_path_factory.mktemp("steady") / "steady.mp4", numbered(20))


def test_gives_the_picture_on_the_screen_at_each_time(steady):
    listed, pictures = pictures_of(steady)
    assert [seconds for seconds, _ in listed] == [0.0, 1.0, 2.0]
    assert [number_of(picture) for _, picture in listed] == [0, 8, 16]
    assert pictures.seconds == 2.5
    assert listed[0][1].shape == (32, 32, 3)
    assert listed[0][1].dtype == np.uint8
    assert numbers_of(steady, per_second=4.0) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_reads_timestamps_where_the_rate_varies(tmp_path):
    times = [0, Fraction(1, 5), Fraction(29, 10), 3, Fraction(7, 2)]
    file = write_video(tmp_path / "varies.mp4", numbered(5), times=times)
    listed, pictures = pictures_of(file)
    assert [number_of(picture) for _, picture in listed] == [0, 1, 1, 3]
    assert listed[1][1] is listed[2][1]  # so that its features are worked out once
    assert pictures.seconds == 3.625


@pytest.mark.parametrize("name", TURNS)
def test_turns_pictures_upright(tmp_path, name):
    file = turn(write_video(tmp_path / "turned.mp4", [quarters()] * 2), TURNS[name])
    [(_, picture)], _ = pictures_of(file)
    corners = (picture[i, j] > 128 for i, j in ((4, 4), (4, -4), (-4, 4), (-4, -4)))
    colours = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    read = "".join(colours[tuple(corner.astype(int))] for corner in corners)
    # As written: red green / blue white.
    assert read == {"clockwise": "brwg", "counterclockwise": "gwrb", "half": "wbgr"}[name]


def test_text_is_refused_in_one_line(tmp_path):
    file = tmp_path / "text.mp4"
    file.write_text("this is no video\n" * 50)
    with pytest.raises(UserError, match=f"^{file}: is no video or track that can be read"):
        pictures_of(file)
