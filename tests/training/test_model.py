"""A model by itself: what it embeds, the folder that it is sent in, and what it refuses."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import made_datasets
import numpy as np
import pytest
from made_datasets import RICH
from runs import ONE, Trained, config_of
from test_formats_of_runs import KEPT

import vmr
from vmr import embeddings
from vmr.data.schema import Pair, Schema
from vmr.data.sources.planted import planted
from vmr.errors import UserError
from vmr.quantization import dequantize
from vmr.runs import model_folder
from vmr.runs.model import Model, model_of_run
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.run_dir import environment

RunOf = Callable[[str], Trained]


def pairs_of(split: str) -> dict[str, Pair]:
    """The pairs of `made_datasets.RICH` as a user has them: floats, by the video's id."""
    source = planted(videos=100, tracks=90, clips=12, text=True)
    pairs = map(made_datasets.rich, source.splits[split]())
    return {pair.video_id: pair for pair in pairs}


@pytest.fixture(scope="module")
def moved(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run whose dataset is gone."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(run_of("vmnet:runlocal").workdir, folder)
    config = json.loads((folder / "config.json").read_text())
    config["dataset"]["data_dir"] = str(folder / "gone")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def model(moved: pathlib.Path) -> Model:
    return vmr.load(moved)


# One of the mean of a sequence, one that samples clips and reads text.
@pytest.mark.parametrize("name", ["vmnet:runlocal", "ii_clvtm:runlocal"])
def test_items_alone_are_embedded_as_in_their_dataset(name: str, run_of: RunOf) -> None:
    run = restore_run(run_of(name).workdir)
    expected = embeddings.collect(run.embed("test"), "test", run.meta())
    alone = vmr.load(run_of(name).workdir)
    assert alone.fingerprint == expected.meta["model"]
    pairs = pairs_of("test")
    videos = [pairs[item] for item in expected.video_ids]
    text = [str(pair.text) for pair in videos] if name.startswith("ii_clvtm") else None
    found = alone.embed_video([dequantize(pair.video) for pair in videos], text, batch_size=5)
    np.testing.assert_allclose(found, expected.video_emb, atol=2e-6)
    by_track = {pair.music_id: pair for pair in pairs.values()}
    tracks = [dequantize(by_track[item].music) for item in expected.music_ids]
    np.testing.assert_allclose(alone.embed_music(tracks), expected.music_emb, atol=2e-6)
    if text:
        without = alone.embed_video([dequantize(pair.video) for pair in videos])
        assert np.abs(without - found).max() > 1e-3


def test_a_model_of_one_modality_embeds_that_alone(
    tmp_path: pathlib.Path, workdir: pathlib.Path
) -> None:
    schema = Schema(None, RICH.music, has_labels=True)
    data_dir = made_datasets.write(tmp_path / "data", schema, made_datasets.music_alone)
    loop.train(config_of("ii_unimodal:runlocal", data_dir), workdir, ONE)
    alone = vmr.load(workdir)
    assert alone.widths == {"music": 96}
    rows = alone.embed_music(np.ones((3, 2, 96), np.float32))
    np.testing.assert_allclose(np.sum(rows**2, axis=1), 1.0, atol=1e-5)
    with pytest.raises(UserError, match=r"expected a list of sequences \(T, 96\)"):
        alone.embed_music(np.ones((3, 96), np.float32))
    with pytest.raises(UserError, match="is a model of music alone: it embeds no video"):
        alone.embed_video(np.ones((3, 192), np.float32))


def test_a_model_folder_is_the_run_without_its_data(model: Model, tmp_path: pathlib.Path) -> None:
    results = {"split": "test", "step": model.step}
    (model.folder / "results").mkdir(exist_ok=True)
    (model.folder / "results" / "validation.json").write_text(json.dumps(results))
    model_folder.write(model, tmp_path / "sent")
    sent = vmr.load(tmp_path / "sent")
    assert sent.fingerprint == model.fingerprint
    assert sent.meta() | {"created": 0, "config": 0} == model.meta() | {"created": 0, "config": 0}
    vectors = np.random.default_rng(0).normal(size=(7, 192))
    np.testing.assert_array_equal(sent.embed_video(vectors), model.embed_video(vectors))
    card = (tmp_path / "sent" / "README.md").read_text()
    for expected in ("| video | 192 | sequences, quantised", "licence: none", model.fingerprint):
        assert expected in card
    assert str(model.folder.parent) not in (tmp_path / "sent" / "config.json").read_text()
    model_folder.write(model, tmp_path / "sent")  # again, in place of the first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sent"]


def test_a_run_of_before_is_a_model_of_the_same_fingerprint() -> None:
    alone = model_of_run(KEPT)
    assert alone.widths == {"video": 4, "music": 3}
    # Indexes and collections of embeddings on disk name their model by it.
    assert alone.fingerprint == ("dacd2017df6949eb58c673eca955e6b70cf67887af6e8a665e99c77b9e36f847")
    assert "| video | 4 | not known |" in model_folder.card(alone, {})


VIDEO = {
    **{"extractor": "onnx:a|b.onnx", "version": "1", "licence": "", "sha256": "0" * 64},
    **{"width": 192, "clip_seconds": None, "keyframes": False, "per_second": 1.0},
}
MUSIC = {
    **{"extractor": "librosa1140", "version": "0.11.0", "licence": "ISC", "sha256": None},
    **{"width": 96, "clip_seconds": 2.5},
}


def test_extractors_go_with_the_model_and_what_it_embeds(
    model: Model, run_of: RunOf, tmp_path: pathlib.Path
) -> None:
    assert model.extractors == {}
    assert "extractors" not in model.meta()
    assert "extractor" not in model_folder.card(model, {})
    accounts = {"video": VIDEO, "music": MUSIC}
    known = dataclasses.replace(model, data={**model.data, "extractors": accounts})
    model_folder.write(known, tmp_path / "sent")
    sent = vmr.load(tmp_path / "sent")
    assert sent.extractors == sent.meta()["extractors"] == accounts
    assert sent.fingerprint == model.fingerprint
    card = (tmp_path / "sent" / "README.md").read_text()
    assert "| video | onnx:a\\|b.onnx | 1 | not known | the whole item |" in card
    assert "| music | librosa1140 | 0.11.0 | ISC | 2.5 s |" in card
    run = restore_run(run_of("vmnet:runlocal").workdir)
    run = dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, extractors=accounts))
    assert run.meta()["extractors"] == accounts
    # Of what a run keeps of its data, a model is made.
    assert environment(run.dataset.description)["dataset"]["extractors"] == accounts


@pytest.mark.parametrize("accounts", [[], {"text": VIDEO}, {"music": {**MUSIC, "width": "96"}}])
def test_damaged_extractors_are_told_in_one_line(model: Model, accounts: Any) -> None:
    damaged = dataclasses.replace(model, data={**model.data, "extractors": accounts})
    for read in (lambda: damaged.extractors, damaged.meta):
        with pytest.raises(UserError, match=r"run: its extractors: (expected acc|music: width is)"):
            read()


def test_whole_numbers_are_numbers(model: Model) -> None:
    counts = np.arange(2 * 192).reshape(2, 192)
    expected = model.embed_video(counts.astype(np.float32))
    for kind in (np.int64, np.uint16):
        np.testing.assert_array_equal(model.embed_video(counts.astype(kind)), expected)
    unquantised = {"video": {"sequence": True, "quantized": False}}
    plain = dataclasses.replace(model, data={**model.data, "features": unquantised})
    rows = counts.astype(np.uint8)
    np.testing.assert_array_equal(
        plain.embed_video(rows), plain.embed_video(rows.astype(np.float32))
    )


def test_tensorflow_is_not_needed(moved: pathlib.Path) -> None:
    program = (
        "import sys; sys.modules |= {'tensorflow': None, 'tensorflow_datasets': None}\n"
        "import numpy as np, vmr\n"
        f"print(vmr.load({str(moved)!r}).embed_music([np.ones((4, 96))]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(1, 16)\n", "")


def test_nothing_in_nothing_out(model: Model) -> None:
    assert model.embed_video(np.empty((0, 192), np.float32)).shape == (0, 16)
    assert model.embed_music([]).shape == (0, 16)


WITH_NAN = np.ones((3, 192))
WITH_NAN[1, 5] = np.nan


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (np.ones((3, 96)), "item 0: features of shape (3, 96), expected rows of width 192"),
        (np.ones(192), "item 0, frame 0: features of shape (), expected rows of width 192"),
        (np.ones((3, 192), bool), "item 0: features of type bool, expected numbers"),
        (np.ones((3, 192), np.uint8), "vmr.quantization.dequantize makes them of YouTube-8M"),
        (WITH_NAN, "item 1: holds NaN or infinity"),
        (np.full((2, 192), 1e300), "item 0: holds NaN or infinity"),
        ([np.ones((2, 192)), WITH_NAN], "item 1, frame 1: holds NaN or infinity"),
        ([np.ones((2, 192)), np.ones((0, 192))], "item 1: has no frames, expected at least one"),
        ([np.ones((2, 192)), np.ones((2, 191))], "item 1, frame 0: features of shape (2, 191)"),
    ],
)
def test_features_of_another_kind_are_named(model: Model, features: Any, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        model.embed_video(features)
    assert expected in str(raised.value)


def test_a_later_batch_names_its_item_by_its_place_among_all(model: Model) -> None:
    features = np.ones((10, 192))
    features[7, 0] = np.inf
    with pytest.raises(UserError, match="item 7: holds NaN or infinity"):
        model.embed_video(features, batch_size=4)


def test_text_that_cannot_be_read_is_refused(model: Model, run_of: RunOf) -> None:
    with pytest.raises(UserError, match="reads no text beside its video features"):
        model.embed_video(np.ones((1, 192)), ["words"])
    reader = vmr.load(run_of("ii_clvtm:runlocal").workdir)
    with pytest.raises(UserError, match="text of 2 items with features of 1"):
        reader.embed_video([np.ones((1, 192))], ["words", "more"])
    with pytest.raises(UserError, match="text 0: is a int, expected a string"):
        reader.embed_video([np.ones((1, 192))], [3])  # type: ignore[list-item]


def test_what_is_no_model_is_named(model: Model, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no such folder, expected a run's or a model's"):
        vmr.load(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no run: config.json is missing"):
        vmr.load(tmp_path / "other")
    with pytest.raises(UserError, match="is there and holds no model: it is left as it is"):
        model_folder.write(model, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["photo.png"]
    (tmp_path / "other" / "model.safetensors").write_bytes(b"of somebody else")
    with pytest.raises(UserError, match=r"holds photo.png beside its model"):
        model_folder.write(model, tmp_path / "other")
    assert (tmp_path / "other" / "photo.png").exists()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        model_folder.write(model, tmp_path / "other" / "photo.png")


def test_what_lies_beside_an_earlier_model_is_not_lost(
    model: Model, tmp_path: pathlib.Path
) -> None:
    model_folder.write(model, tmp_path / "sent")
    (tmp_path / "sent" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt beside its model: it is left as it is"):
        model_folder.write(model, tmp_path / "sent")
    assert (tmp_path / "sent" / "notes.txt").read_text() == "mine"


def test_a_model_is_not_evaluated_as_a_run(model: Model, tmp_path: pathlib.Path) -> None:
    model_folder.write(model, tmp_path / "sent")
    with pytest.raises(UserError, match="is a model by itself, expected the folder of a run"):
        restore_run(tmp_path / "sent")


def test_a_damaged_model_is_not_used(model: Model, tmp_path: pathlib.Path) -> None:
    model_folder.write(model, tmp_path / "sent")
    arrays = tmp_path / "sent" / model_folder.ARRAYS
    whole = bytearray(arrays.read_bytes())
    for damaged in (whole[:-5], b"", whole[:-5] + b"\x00\x7f\x00\x11\x02"):
        arrays.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            vmr.load(tmp_path / "sent")
    arrays.write_bytes(whole)
    config = tmp_path / "sent" / "config.json"
    config.write_text(config.read_text().replace('"clips": 32', '"clips": 31'))
    with pytest.raises(UserError, match=r"its arrays or its config.json are not those"):
        vmr.load(tmp_path / "sent")
