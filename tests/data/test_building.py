"""Options of another source are refused, not ignored; what is not valid replaces nothing valid."""

import numpy as np
import pytest

from vmr.data.building.build import build, source_of
from vmr.data.dataset import open_dataset
from vmr.data.sources.source import Source
from vmr.data.validation.report import validate
from vmr.errors import UserError

OPTIONS = {"videos": 90, "tracks": 80, "seed": 0, "input": None}
OPTIONS |= dict.fromkeys(("train", "validation", "test", "labels"))


@pytest.mark.parametrize(
    ("name", "given", "owner"),
    [
        ("planted", "labels", "youtube8m and --source=audioset"),
        ("planted", "held_out", "youtube8m and --source=audioset and --source=feature_files"),
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


def source(schema, train):
    return Source("tiny", "made by a test", "none", schema, {"train": lambda: iter(train)})


def broken(pairs):
    pairs[0].video[0] = np.nan
    return pairs


def test_what_is_not_valid_does_not_replace_what_is(tmp_path, vectors, vector_schema):
    output = tmp_path / "a"
    assert build(source(vector_schema, vectors(5)), output, "a test").ok
    before = open_dataset(output).fingerprint
    bad = source(vector_schema, broken(vectors(5, start=5)))
    expected = "stays as it was, a valid dataset; the new one is not valid .* NaN or infinity"
    with pytest.raises(UserError, match=expected) as told:
        build(bad, output, "a test", overwrite=True)
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert open_dataset(output).fingerprint == before
    assert validate(output).ok
    good = source(vector_schema, vectors(5, start=5))
    assert build(good, output, "a test", overwrite=True).ok
    assert open_dataset(output).fingerprint != before


def test_what_is_not_valid_is_replaced_by_anything(tmp_path, vectors, vector_schema):
    output = tmp_path / "a"
    for start in (0, 5):
        bad = source(vector_schema, broken(vectors(5, start)))
        report = build(bad, output, "a test", overwrite=True)
        assert not report.ok
        assert report.fingerprint == open_dataset(output).fingerprint
