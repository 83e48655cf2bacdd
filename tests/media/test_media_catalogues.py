"""Folders of media embedded through the extractor of a model; stand-ins decode and extract."""

import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import stand_ins
from front_doors import run, succeed
from media_model import Model
from stand_ins import medium

import vmr
from vmr.arrays import unit_rows
from vmr.collection import open_collection
from vmr.data.accounts import EXTRACTION_FILE
from vmr.errors import UserError
from vmr.media import workers
from vmr.retrieval.embed import source_for
from vmr.retrieval.media_source import MediaOptions

DOOR = "experiments.embed"
VALUES = {"a": (10, 20), "album/b": (30, 50), "é": (80, 90)}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """The model that `--model` names."""
    given = Model()
    monkeypatch.setattr(workers, "_serve", stand_ins.serve)
    monkeypatch.setattr(vmr, "load", lambda folder: given)
    return given


@pytest.fixture
def tracks(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three tracks, one of them in a video, two files that cannot be decoded, and a note."""
    folder = tmp_path / "tracks"
    for (name, values), suffix in zip(VALUES.items(), ("mp3", "OGG", "mp4"), strict=True):
        medium(folder / f"{name}.{suffix}", *values)
    (folder / "bad.mp3").write_text("no media")
    medium(folder / "deaf.mkv", error="has no sound")
    (folder / "notes.txt").write_text("mine")
    return folder


def flags(tracks: pathlib.Path, output: str = "out", **more: Any) -> list[str]:
    named = {"model": "runs/mine", "music": tracks, "output": tracks.parent / output, "jobs": 1}
    return [f"--{name}={value}" for name, value in (named | more).items() if value is not None]


def embedded(values: tuple[int, int]) -> np.ndarray:
    mean = np.mean(values) / 256
    return unit_rows(np.array([mean, mean**2, 1]))


@pytest.mark.parametrize("output", ["out", "out.npz"])
def test_a_bad_file_costs_a_line_and_the_rest_goes_through(
    tracks: pathlib.Path, output: str, model: Model
) -> None:
    printed = succeed(DOOR, *flags(tracks, output, part_items=2))
    told = {
        "bad": f"{tracks}/bad.mp3: is no media file",
        "deaf": f"{tracks}/deaf.mkv: has no sound",
    }
    assert printed.splitlines() == [
        *told.values(),
        f"{tracks}: 3 music items; other files left out: 1; 2 of 5 files cannot be decoded: "
        "left out",
        f"embeddings written to {tracks.parent}/{output}",
    ]
    found = open_collection(tracks.parent / output)
    assert found.ids.tolist() == [*VALUES]
    expected = np.stack([embedded(values) for values in VALUES.values()])
    np.testing.assert_allclose(found.rows(np.arange(3)), expected, atol=1e-6)
    assert found.meta["failed"] == told
    assert found.meta["extractors"] == model.extractors
    if output == "out":
        assert found.columns["path"].tolist() == [
            f"{tracks}/{name}" for name in ("a.mp3", "album/b.OGG", "é.mp4")
        ]
    # Features may go, and nothing is embedded again as long as the media are the same.
    shutil.rmtree(tracks.parent / f"{output}.features")
    assert "are there already" in succeed(DOOR, *flags(tracks, output, part_items=2))


def test_what_is_extracted_is_not_extracted_again(
    tracks: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tracks.parent / "out").write_text("in the way")
    done = run(DOOR, *flags(tracks))
    assert done.returncode == 1
    features = tracks.parent / "out.features" / "music"
    before = {file: file.stat().st_mtime_ns for file in features.rglob("*.npy")}
    assert len(before) == 3
    (tracks.parent / "out").unlink()
    medium(tracks / "bad.mp3", 1, 2)  # mended
    (tracks / "a.mp3").unlink()
    succeed(DOOR, *flags(tracks))
    assert {file: file.stat().st_mtime_ns for file in before} == before
    ids = open_collection(tracks.parent / "out").ids.tolist()
    assert ids == ["album/b", "bad", "é"]  # not what has gone from the folder


def test_a_changed_file_is_another_source(tracks: pathlib.Path) -> None:
    succeed(DOOR, *flags(tracks))
    medium(tracks / "a.mp3", 11, 21, 31)
    done = run(DOOR, *flags(tracks))
    assert "holds embeddings of another source" in done.stderr
    assert done.stderr.count("\n") == 1


def test_sequences_of_clips_for_a_model_of_sequences(
    tracks: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmr, "load", lambda folder: Model(clip_seconds=1.0))
    succeed(DOOR, *flags(tracks))
    assert np.load(tracks.parent / "out.features/music/a.npy").shape == (2, 3)
    values = np.array(VALUES["a"]) / 256
    expected = unit_rows(np.stack([values, values**2, [1, 1]], axis=1).mean(axis=0))
    np.testing.assert_allclose(open_collection(tracks.parent / "out").rows([0])[0], expected)


def test_features_of_another_extractor_are_refused(tracks: pathlib.Path, model: Model) -> None:
    succeed(DOOR, *flags(tracks))
    features = tracks.parent / "out.features"
    source = source_for(model, str(features / "music"), "music")  # type: ignore[arg-type]
    assert "nothing says the same of" in source.note
    content = {"schema_version": 1, **Model(clip_seconds=2.0).extractors}
    (features / EXTRACTION_FILE).write_text(json.dumps(content))
    done = run(DOOR, *flags(features / "music", "other"))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {features}/music has clip_seconds 2.0; expected clip_seconds whole\n"
    )
    (features / EXTRACTION_FILE).write_text(json.dumps({**content, **model.extractors}))
    assert source_for(model, str(features / "music"), "music").note == ""  # type: ignore[arg-type]


def mixed(tracks: pathlib.Path) -> None:
    np.save(tracks / "x.npy", np.ones(3))


def all_bad(tracks: pathlib.Path) -> None:
    for file in ("a.mp3", "album/b.OGG", "é.mp4"):
        (tracks / file).unlink()


def two_of_one_id(tracks: pathlib.Path) -> None:
    medium(tracks / "a.wav", 1)


def of_others(tracks: pathlib.Path) -> None:
    (tracks.parent / "out.features").mkdir()
    (tracks.parent / "out.features" / "mine.npy").write_bytes(b"")


def loop_of_links(tracks: pathlib.Path) -> None:
    os.symlink(tracks, tracks / "album" / "round")


MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    (mixed, {}, "holds media (a.mp3) and features (x.npy): expected one"),
    (all_bad, {}, "none of its 2 music files can be decoded: "),
    (two_of_one_id, {}, "are both of id a"),
    (of_others, {}, "out.features is there and holds no features of media: move it away"),
    (loop_of_links, {}, "round is a link to a folder that it is in"),
    (None, {"onnx": "net.onnx"}, "--onnx=net.onnx: the extractor is stand_in, which has no such"),
    (None, {"split": "test"}, "--split=test: "),
    (None, {"text": "x.csv"}, "reads no text beside music"),
    (None, {"output": "INSIDE"}, "tracks: give an --output outside of the media"),
    (None, {"jobs": 0}, "--jobs=0"),
    (None, {"onnx": ""}, "--onnx= is empty"),
]


@pytest.mark.parametrize(("spoil", "more", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_makes_nothing(
    spoil: Any, more: dict[str, Any], message: str, tracks: pathlib.Path
) -> None:
    if spoil:
        spoil(tracks)
    if more.get("output") == "INSIDE":
        more = {"output": tracks / "out"}
    done = run(DOOR, *flags(tracks, **more))
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tracks.parent / "out").exists()
    assert not (tracks / "out").exists()


def test_a_model_that_does_not_tell_its_extractor_embeds_no_media(
    tracks: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmr, "load", lambda folder: Model(known=False))
    done = run(DOOR, *flags(tracks))
    assert "runs/mine does not tell which extractor the music features come from" in done.stderr
    with pytest.raises(UserError, match="tracks holds media, expected features"):
        source_for(Model(), str(tracks), "music")  # type: ignore[arg-type]
    (tmp_path / "features").mkdir()
    options = MediaOptions(tmp_path / "f", onnx="net.onnx")
    with pytest.raises(UserError, match=r"--onnx=net.onnx extracts features of media, and .* none"):
        source_for(Model(), str(tmp_path / "features"), "music", media=options)  # type: ignore[arg-type]


def test_another_version_of_the_extractor_and_damage_are_told(
    tracks: pathlib.Path, model: Model
) -> None:
    model.extractors["music"]["version"] = "0.9"
    medium(tracks / "a.mp3", 1, 2, packets_lost=3)
    printed = succeed(DOOR, *flags(tracks))
    assert "the extractor stand_in is of stand_in 1, not 0.9: features may differ slightly" in (
        printed
    )
    assert "; 1 files are damaged, and embedded as far as they can be decoded; " in printed
    assert pq.read_table(tracks.parent / "out/metadata/metadata_0000.parquet").num_rows == 3
