"""Options of the command: those of another source are refused, not ignored."""

import pytest

from vmr.data.building import source_of
from vmr.errors import UserError

OPTIONS = {"videos": 90, "tracks": 80, "seed": 0, "input": None}
OPTIONS |= dict.fromkeys(("train", "validation", "test", "labels"))


@pytest.mark.parametrize(
    ("name", "given", "owner"),
    [
        ("planted", "labels", "youtube8m and --source=audioset"),
        ("planted", "held_out", "youtube8m and --source=audioset"),
        ("youtube8m", "videos", "planted"),
        ("youtube8m", "input", "feature_files"),
        ("audioset", "vocabulary", "youtube8m"),
        ("audioset", "text", "planted"),
        ("feature_files", "vocabulary", "youtube8m"),
        ("feature_files", "test", "youtube8m and --source=audioset"),
    ],
)
def test_options_of_another_source_are_refused_if_given(name, given, owner):
    expected = f"--{given}: belongs to --source={owner}, not to --source={name}"
    with pytest.raises(UserError, match=expected):
        source_of(name, OPTIONS, given=["source", "output", given])


def test_defaults_of_another_source_are_not_refused():
    assert source_of("planted", OPTIONS, given=["source", "seed"]).name == "planted"
