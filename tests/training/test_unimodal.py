"""Items against themselves, and labels as positives."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import made_datasets
import numpy as np
import pytest
from made_datasets import RICH
from runs import ONE, Trained, config_of, scalars

from vmr import embeddings
from vmr.collection import Collection
from vmr.data.schema import Schema
from vmr.data.sources.planted import planted
from vmr.errors import UserError
from vmr.evaluation import evaluate as evaluate_embeddings
from vmr.runs import evaluate
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.reading import step_inputs

RunOf = Callable[[str], Trained]


@pytest.fixture(scope="module")
def music_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As AudioSet: bytes of music and labels, no video."""
    schema = Schema(None, RICH.music, has_labels=True)
    folder = tmp_path_factory.mktemp("music") / "data"
    return made_datasets.write(folder, schema, made_datasets.music_alone)


def test_music_alone_trains_with_one_encoder(
    music_dir: str, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of("ii_unimodal:runlocal", music_dir)
    state = loop.train(config, workdir, ONE)
    assert state.params.keys() == {"video_encoder"}
    assert np.isfinite(scalars(workdir)[-1]["train/loss"])
    run = restore_run(workdir)
    embedded = embeddings.collect(run.embed("validation"), "validation", {})
    # Of twelve items one has a single clip. The two samples of the others are no copies.
    assert embedded.video_emb.shape == embedded.music_emb.shape == (11, 16)
    assert (np.abs(embedded.video_emb - embedded.music_emb).max(axis=1) > 1e-3).all()
    told = f"{music_dir}: validation: 1 of 12 music sequences have a single clip"
    assert capsys.readouterr().out.count(told) == 1
    found = evaluate.evaluate_run(workdir, "test")
    assert "truth" not in found
    assert found["queries"] == found["gallery"] == 11


@pytest.mark.parametrize(
    ("name", "side"), [("ii_clvm:runlocal", "video_music"), ("ii_unimodal:runlocal", "video")]
)
def test_a_pairing_that_the_dataset_cannot_give_names_what_it_has(
    name: str, side: str, music_dir: str, workdir: pathlib.Path
) -> None:
    config = config_of(name, music_dir)
    config.pairing = side
    expected = f"{music_dir}: has no video, only music; config.pairing=music compares"
    with pytest.raises(UserError, match=expected) as raised:
        loop.train(config, workdir, ONE)
    assert "\n" not in str(raised.value)
    assert not workdir.exists()


def test_vectors_are_not_paired_with_themselves(data_dir: str, workdir: pathlib.Path) -> None:
    expected = f"{data_dir}: its music is one vector an item, expected sequences, of which"
    with pytest.raises(UserError, match=expected) as raised:
        loop.train(config_of("ii_unimodal:runlocal", data_dir), workdir, ONE)
    assert "\n" not in str(raised.value)
    assert not workdir.exists()


def labels() -> dict[str, int]:
    """Of each video of the test split, and of each track."""
    found = {}
    for pair in planted(videos=100, tracks=90, clips=12, text=True).splits["test"]():
        found |= dict.fromkeys((pair.video_id, pair.music_id), made_datasets.label_of(pair))
    return found


@pytest.mark.parametrize("name", ["ii_supervised:runlocal", "ii_unimodal:supervised,runlocal"])
def test_true_relevance_of_a_labelled_run_is_by_label(name: str, run_of: RunOf) -> None:
    workdir = run_of(name).workdir
    run = restore_run(workdir)
    embedded = embeddings.collect(run.embed("test"), "test", {})
    of = labels()
    expected = evaluate_embeddings(
        embedded.video_emb,
        embedded.music_emb,
        embedded.gt_music_index,
        split="test",
        video_group=np.array([of[item] for item in embedded.video_ids]),
        music_group=np.array([of[item] for item in embedded.music_ids]),
    )
    found = evaluate.evaluate_run(workdir, "test")
    assert found["truth"] == expected["truth"]
    assert found["v2m"] == expected["v2m"]
    assert "True relevance" in evaluate.report(found, "model")


def test_the_linear_baseline_of_a_labelled_run_is_scored_by_label_too(run_of: RunOf) -> None:
    found = evaluate.evaluate_run(run_of("ii_supervised:runlocal").workdir, "test", "cca")
    truth, baseline = found["truth"], found["baselines"]["CCA"]["truth"]
    assert baseline["chance"] == truth["chance"]
    assert evaluate.report(found, "model").count("CCA") == 4
    json.dumps(found)


def test_a_baseline_between_modalities_is_refused_where_there_is_one(run_of: RunOf) -> None:
    workdir = run_of("ii_unimodal:runlocal").workdir
    expected = f"--baseline=cca is between video and music; {workdir} compares music with itself"
    with pytest.raises(UserError, match=expected) as raised:
        evaluate.evaluate_run(workdir, "test", "cca")
    assert "\n" not in str(raised.value)


def test_no_track_joins_the_gallery_of_a_run_on_videos(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = run_of("ii_unimodal:runlocal").workdir
    run = restore_run(workdir)
    of_videos = dataclasses.replace(run, spec=dataclasses.replace(run.spec, pairing="video"))
    monkeypatch.setattr(evaluate, "restore_run", lambda *_: of_videos)
    tracks = Collection(workdir, "music", (np.eye(3, dtype=np.float32),), np.array(["a", "b", "c"]))
    with pytest.raises(UserError, match="compares video with itself; a larger gallery is of trac"):
        evaluate.evaluate_run(workdir, "test", beyond=evaluate.Beyond(catalogue=tracks))


def test_videos_of_one_track_are_positives_whatever_their_labels() -> None:
    tracks = np.array([7, 3, 7, 4, 5, 5, 6], np.int32)
    labels = np.array([0, 0, 2, -5, -6, 1, 2], np.int32)  # negative: no common label
    found = step_inputs({"track": tracks, "label": labels})["track"]
    assert found.dtype == np.int32
    together = found[:, None] == found[None, :]
    assert together[tracks[:, None] == tracks[None, :]].all()
    assert found.tolist() == [2, 0, 2, -5, 1, 1, 2]


@pytest.mark.parametrize("name", ["ii_supervised:runlocal", "ii_unimodal:supervised,runlocal"])
def test_labels_that_there_are_not_are_asked_for_in_one_line(
    name: str, workdir: pathlib.Path, data_dir: str
) -> None:
    config = config_of(name, data_dir)
    with pytest.raises(UserError, match=r"has no labels, which config\.positives=label needs"):
        loop.train(config, workdir, ONE)
