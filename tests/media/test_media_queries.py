"""Search by a clip or a track, through the extractor of the model; stand-ins decode and extract."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import stand_ins
from front_doors import run
from media_model import Model

from vmr.arrays import unit_rows
from vmr.collection import open_collection, write_npz
from vmr.errors import UserError
from vmr.media import extractor as extractors
from vmr.retrieval.answers import answer
from vmr.retrieval.query import Query, read_query

MODEL = Model.fingerprint


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch.setitem)


@pytest.fixture
def clip(tmp_path: pathlib.Path) -> pathlib.Path:
    return stand_ins.medium(tmp_path / "Clip é.MP4", 10, 20, 20, 40)


@pytest.fixture
def catalogue(tmp_path: pathlib.Path) -> pathlib.Path:
    rows = unit_rows(np.random.default_rng(0).normal(size=(5, 3)))
    write_npz(tmp_path / "music.npz", "music", [rows], list("abcde"), {"model": MODEL})
    return tmp_path / "music.npz"


def asked(item: Any, side: str, catalogue: pathlib.Path, model: Any, **more: Any) -> Query:
    return read_query(str(item), side, open_collection(catalogue), None, model, **more)


@pytest.mark.parametrize("clip_seconds", [None, 2.0])
def test_a_clip_is_embedded_as_its_features_would_be(
    clip: pathlib.Path, catalogue: pathlib.Path, clip_seconds: float | None
) -> None:
    values = np.array([10, 20, 20, 40]) / 256
    features = np.stack([values, values**2, np.ones(4)], axis=1)
    if clip_seconds:
        features = features.reshape(2, 2, 3)
    query = asked(clip, "video", catalogue, Model(clip_seconds))
    expected = unit_rows(features.mean(axis=-2).reshape(-1, 3).mean(axis=0, keepdims=True))
    np.testing.assert_allclose(query.embedding, expected, atol=1e-6)
    assert (query.item, query.side, query.model, query.notes) == (str(clip), "video", MODEL, ())


def test_the_sound_of_a_video_is_a_track(clip: pathlib.Path, catalogue: pathlib.Path) -> None:
    track = stand_ins.medium(clip.with_suffix(".mp3"), 10, 20, 20, 40)
    queries = [asked(file, "music", catalogue, Model()) for file in (clip, track)]
    np.testing.assert_array_equal(queries[0].embedding, queries[1].embedding)


def test_damage_and_another_version_are_told_beside_the_hits(
    clip: pathlib.Path, catalogue: pathlib.Path
) -> None:
    stand_ins.medium(clip, 1, 2, packets_lost=3, frames_damaged=1)
    model = Model()
    model.extractors["video"]["version"] = "0.9"
    query = asked(clip, "video", catalogue, model)
    found = answer(query, open_collection(catalogue), 2)
    assert found.notes == [
        "the extractor stand_in is of stand_in 1, not 0.9: features may differ slightly",
        f"{clip} is damaged: 3 packets lost, 1 frames damaged",
    ]


def test_features_below_an_extraction_are_held_against_the_model(
    catalogue: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    model = Model()
    file = tmp_path / "made" / "video" / "album" / "v.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.ones(3, np.float32))
    unknown = asked(file, "video", catalogue, model).notes
    assert unknown == (f"runs/mine is of stand_in features, and nothing says the same of {file}",)
    write = (tmp_path / "made" / "extraction.json").write_text
    write(json.dumps({"schema_version": 1, **model.extractors}))
    assert asked(file, "video", catalogue, model).notes == ()
    known = asked(file, "video", catalogue, Model(known=False)).notes
    assert known == (f"{file} is of stand_in features, and nothing says the same of runs/mine",)
    with pytest.raises(UserError) as raised:
        asked(file, "video", catalogue, Model(clip_seconds=2.0))
    assert str(raised.value) == f"{file} has clip_seconds whole; expected clip_seconds 2.0"
    write("{")
    with pytest.raises(UserError, match=r"extraction.json cannot be read as JSON"):
        asked(file, "video", catalogue, model)


def test_neither_known_is_not_told(catalogue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "v.npy", np.ones(3, np.float32))
    assert asked(tmp_path / "v.npy", "video", catalogue, Model(known=False)).notes == ()


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("clip.mp4", {"known": False}, "runs/mine does not tell which extractor the video feat"),
    ("clip.mp4", {"onnx": "net.onnx"}, "--onnx=net.onnx: the extractor is stand_in, which has"),
    ("clip.mp4", {"model": None}, "clip.mp4 is to be embedded: give --model=DIR"),
    ("text.mp4", {}, "text.mp4: is no media file"),
    ("empty.webm", {}, "empty.webm: is no media file"),
    ("deaf.mp4", {}, "deaf.mp4: has no picture"),
    ("odd.mp4", {}, "odd.mp4: stand_in gives features that are not finite"),
    ("absent.mp4", {}, "'absent.mp4' is no npy or media file that is there"),
    ("x", {"onnx": "net.onnx"}, "--onnx=net.onnx extracts features of media, and 'x' is no"),
    ("x", {"text": "words"}, "--text comes with a file, and 'x' is no npy or media file"),
]


@pytest.mark.parametrize(("name", "given", "message"), MISTAKES)
def test_a_mistake_is_one_line(
    name: str,
    given: dict[str, Any],
    message: str,
    catalogue: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_ins.medium(tmp_path / "clip.mp4", 1, 2)
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.webm").write_bytes(b"")
    stand_ins.medium(tmp_path / "deaf.mp4", error="has no picture")
    stand_ins.medium(tmp_path / "odd.mp4", 99)
    more = {"model": Model(known=given.get("known", True)), **given}
    more.pop("known", None)
    with pytest.raises(UserError) as raised:
        asked(name, "video", catalogue, **more)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_another_content_of_the_extractor_is_refused(
    clip: pathlib.Path, catalogue: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    model.extractors["video"] |= {"extractor": "onnx:net.onnx", "sha256": "0" * 64}
    monkeypatch.setitem(extractors._MODULES["video"], "onnx", "stand_ins")
    file = clip.with_name("net.onnx")
    with pytest.raises(UserError, match=r"of video is onnx:net.onnx: give its file by --onnx=FILE"):
        asked(clip, "video", catalogue, model)
    file.write_bytes(b"network")
    with pytest.raises(
        UserError, match=r"^the extractor onnx:.*net.onnx has sha256 None, .*; expec"
    ):
        asked(clip, "video", catalogue, model, onnx=str(file))


def test_the_command_searches_by_a_clip(
    clip: pathlib.Path, catalogue: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.medium(clip, 1, 2, packets_lost=3)
    monkeypatch.setattr("vmr.runs.model.load", lambda folder: Model())
    flags = ("--model=runs/mine", f"--embeddings={catalogue}", f"--video={clip}", "--top=5")
    done = run("experiments.search", *flags, "--format=json")
    assert (done.returncode, done.stderr) == (
        0,
        f"{clip} is damaged: 3 packets lost, 0 frames damaged\n",
    )
    query = asked(clip, "video", catalogue, Model())
    nearest = np.argsort(-(open_collection(catalogue).parts[0] @ query.embedding[0]))
    assert [hit["id"] for hit in json.loads(done.stdout)["hits"]] == [
        *np.array([*"abcde"])[nearest]
    ]
    done = run("experiments.search", *flags, "--onnx=net.onnx")
    assert done.stderr == (
        "error: --onnx=net.onnx: the extractor is stand_in, which has no such file\n"
    )
