"""Runs distilled from a teacher's embeddings: the same on resuming, and mistakes in one line."""

import json
import pathlib
from typing import Any

import ml_collections
import numpy as np
import pytest
from runs import ONE, Trained, assert_identical, config_of, stopping_at

from vmr import embeddings
from vmr.errors import UserError
from vmr.runs import model_folder
from vmr.runs.model import model_of_run
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.config import require_sound
from vmr.training.reading import dataset_of
from vmr.training.teacher import teacher_of


@pytest.fixture(scope="module")
def teacher(smoke_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Embeddings of the training split, as `experiments.export` writes them."""
    path = tmp_path_factory.mktemp("teacher") / "train.npz"
    run = restore_run(smoke_run.workdir)
    embeddings.write(path, run.embed("train"), "train", run.meta())
    return path


@pytest.fixture
def config(data_dir: str, teacher: pathlib.Path) -> ml_collections.ConfigDict:
    config = config_of("ii_clvm:inter_only,planted,runlocal", data_dir)
    config.log_every = 1
    config.loss.inter = "distillation"
    config.loss.teacher = str(teacher)
    return config


def changed(path: pathlib.Path, to: pathlib.Path, **changes: Any) -> str:
    """Copies a teacher with some arrays changed; returns the path."""
    arrays = dict(np.load(path, allow_pickle=False))
    np.savez(to, **(arrays | changes))
    return str(to)


def test_every_pair_meets_its_own_rows(
    config: ml_collections.ConfigDict, teacher: pathlib.Path
) -> None:
    rows, there = teacher_of(config, dataset_of(config)), embeddings.load(teacher)
    assert rows is not None
    assert rows.account["model"] == there.meta["model"]
    batch = {
        "video_id": there.video_ids[::-1].astype(object),
        "music_id": there.music_ids[there.gt_music_index][::-1].astype(object),
    }
    found = rows.of(batch)
    np.testing.assert_array_equal(found["video_teacher"], there.video_emb[::-1])
    expected = there.music_emb[there.gt_music_index][::-1]
    np.testing.assert_array_equal(found["music_teacher"], expected)


def test_a_resumed_run_is_the_uninterrupted_one_and_tells_its_teacher(
    config: ml_collections.ConfigDict,
    teacher: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = loop.train(config, tmp_path / "whole", ONE)
    with monkeypatch.context() as patch:
        stopping_at(5, patch)
        with pytest.raises(InterruptedError):
            loop.train(config, tmp_path / "cut", ONE)
    # Another teacher is refused, the same one under another name is not.
    rows = dict(np.load(teacher))["video_emb"]
    config.loss.teacher = changed(teacher, tmp_path / "other.npz", video_emb=rows[::-1])
    with pytest.raises(UserError, match="was distilled from another teacher: content"):
        loop.train(config, tmp_path / "cut", ONE)
    config.loss.teacher = changed(teacher, tmp_path / "same.npz")
    assert_identical(loop.train(config, tmp_path / "cut", ONE).params, whole.params)

    account = json.loads((tmp_path / "whole" / "environment.json").read_text())["teacher"]
    meta = embeddings.load(teacher).meta
    assert (account["file"], account["model"]) == ("train.npz", meta["model"])
    model = model_of_run(tmp_path / "whole")
    assert f"distilled from model `{meta['model']}`" in model_folder.card(model, {})
    model_folder.write(model, tmp_path / "model")
    assert str(teacher) not in (tmp_path / "model" / "config.json").read_text()
    restore_run(tmp_path / "whole")  # embeds without the teacher


def refused(config: ml_collections.ConfigDict) -> str:
    with pytest.raises(UserError) as raised:
        teacher_of(config, dataset_of(config))
    assert str(raised.value).startswith(f"config.loss.teacher={config.loss.teacher}: ")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_wrong_file_is_told_in_one_line(
    config: ml_collections.ConfigDict, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config.loss.teacher = str(tmp_path / "nowhere.npz")
    assert "does not exist" in refused(config)
    (tmp_path / "text.npz").write_text("no npz")
    config.loss.teacher = str(tmp_path / "text.npz")
    assert "is not an npz" in refused(config)
    arrays = dict(np.load(teacher))
    other = json.dumps(json.loads(str(arrays["meta"])) | {"dataset_fingerprint": "f" * 64})
    nan = np.where(np.arange(len(arrays["video_emb"]))[:, None] == 3, np.nan, arrays["video_emb"])
    twice = arrays["video_ids"].copy()
    twice[1] = twice[0]
    unknown = np.char.add("x", arrays["music_ids"])
    for changes, told in (
        ({"split": np.array("test")}, "holds the split 'test', expected 'train'"),
        ({"meta": np.array(other)}, "is of other data: dataset fingerprint ffffffffffff there"),
        ({"video_emb": nan.astype(np.float32)}, "row 3 of video_emb has length nan"),
        ({"video_ids": twice}, "video_ids are not unique"),
        ({"music_ids": unknown}, f"no embedding of {len(unknown):,} music items"),
    ):
        config.loss.teacher = changed(teacher, tmp_path / "changed.npz", **changes)
        assert told in refused(config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss.teacher": ""}, "loss.teacher is empty, expected an npz"),
        ({"loss.teacher": " "}, "loss.teacher is empty, expected an npz"),
        ({"loss.inter": "infonce"}, "which config.loss.inter=infonce does not read"),
        (
            {"augment.mixup": 0.2},
            "mixup is 0.2, but config.loss.inter=distillation has a teacher's",
        ),
        ({"loss.distillation.share": 1.5}, r"share is 1.5, expected in \[0, 1\]"),
        ({"loss.distillation.teacher_temperature": 0.0}, "temperature is 0.0, expected more than"),
    ],
)
def test_a_wrong_field_is_named(
    config: ml_collections.ConfigDict, changes: dict[str, Any], told: str
) -> None:
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=told):
        require_sound(config)


def test_items_paired_with_themselves_have_no_teacher(data_dir: str) -> None:
    config = config_of("ii_unimodal:runlocal", data_dir)
    config.loss.inter, config.loss.teacher = "distillation", "train.npz"
    with pytest.raises(UserError, match=r"needs config\.pairing=video_music, found 'music'"):
        require_sound(config)


def test_a_run_from_memory_is_the_one_from_disk(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    config.steps = 4
    ends = []
    for cache in ("none", "host", "device"):
        config.dataset.cache = cache
        ends.append(loop.train(config, tmp_path / cache, ONE))
    assert_identical(ends[1], ends[0])
    assert_identical(ends[2], ends[0])
