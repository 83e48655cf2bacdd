"""Evaluation traps that training could fall into: the test set watched, partial batches dropped."""

import json
import pathlib
import shutil
from functools import partial

import jax
import ml_collections
import numpy as np
import pytest
from runs import Trained

from vmr import embeddings
from vmr.data.dataset import open_dataset
from vmr.data.pipeline import eval_batches
from vmr.data.standardization import statistics
from vmr.errors import UserError
from vmr.runs import evaluate, restore
from vmr.training import devices as on_devices
from vmr.training import feed, grid, loop, reading
from vmr.training.embed import embed_batches
from vmr.training.step import embed_step

DEVICES = jax.devices()[:1]


@pytest.mark.parametrize("cache", ["none", "host"])
def test_trap_6_training_and_selection_never_open_the_test_split(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
) -> None:
    opened = {"train_batches": [], "train_numbers": [], "eval_batches": [], "statistics": []}
    opened |= {"cached": []}
    for name, splits in opened.items():
        module = reading if name in ("eval_batches", "statistics") else feed
        original = getattr(module, name)

        def noted(dataset, split, *arguments, original=original, splits=splits, **options):  # type: ignore[no-untyped-def]
            splits.append(split)
            return original(dataset, split, *arguments, **options)

        monkeypatch.setattr(module, name, noted)
    config.dataset.cache = cache
    loop.train(config, workdir, DEVICES)
    read = {
        "none": {"train_batches": ["train"], "eval_batches": ["validation", "validation"]},
        "host": {"train_numbers": ["train"], "cached": ["train", "validation"]},
    }
    assert {name: splits for name, splits in opened.items() if splits} == {
        "statistics": ["train"],
        **read[cache],
    }


@pytest.mark.parametrize("device_count", [1, 8])
def test_trap_6_the_last_partial_batch_is_embedded(smoke_run: Trained, device_count: int) -> None:
    run = restore.restore_run(smoke_run.workdir)
    size = run.dataset.splits["test"]
    whole = next(iter(run.embed("test", batch_size=size)))
    devices = jax.devices()[:device_count]
    pieces = list(
        embed_batches(
            on_devices.pmapped_embed_step(partial(embed_step, model=run.model), devices),
            run.trained,
            eval_batches(run.dataset, "test", 7),
            7,
            devices,
        )
    )
    assert [len(piece["video_id"]) for piece in pieces] == [7] * (size // 7) + [size % 7]
    for name in ("video_emb", "music_emb"):
        joined = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_allclose(joined, whole[name], atol=1e-6)
    assert np.concatenate([piece["video_id"] for piece in pieces]).tolist() == list(
        whole["video_id"]
    )


def test_the_checkpoint_that_is_evaluated_is_the_first_best_by_validation(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    config.update({"steps": 30, "eval_every": 3})
    config.optimizer.learning_rate = 3e-3
    loop.train(config, workdir, DEVICES)
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    scores = {line["step"]: line["val/v2m/R@10"] for line in lines if "val/v2m/R@10" in line}
    assert len(set(scores.values())) > 1
    assert restore.restore_run(workdir).step == max(scores, key=lambda step: scores[step])


def test_inputs_are_standardised_by_the_training_split_alone(
    smoke_run: Trained, data_dir: str
) -> None:
    kept = restore.restore_run(smoke_run.workdir).trained.standardization
    measured = statistics(open_dataset(data_dir), "train")
    jax.tree.map(np.testing.assert_array_equal, kept, measured)


def test_a_dataset_that_moved_is_found_by_its_new_path(
    config: ml_collections.ConfigDict,
    smoke_run: Trained,
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    shutil.copytree(smoke_run.workdir, workdir)
    moved = tmp_path / "moved"
    moved.symlink_to(config.dataset.data_dir)
    assert restore.restore_run(workdir, str(moved)).dataset.data_dir == moved
    config.dataset.data_dir = str(moved)
    loop.train(config, workdir, DEVICES)  # the same data: nothing to object to


def test_embeddings_get_no_baseline_of_other_data(
    tmp_path: pathlib.Path, data_dir: str, rich_dir: str
) -> None:
    fingerprint = open_dataset(rich_dir).fingerprint
    dataset = open_dataset(data_dir)
    batches = [
        {**batch, "video_emb": unit, "music_emb": unit}
        for batch in eval_batches(dataset, "test", 100)
        for unit in [np.eye(len(batch["video"]), dtype=np.float32)]
    ]
    of_other, of_same, unknown = (tmp_path / f"{name}.npz" for name in ("other", "same", "unknown"))
    embeddings.write(of_other, batches, "test", {"dataset_fingerprint": fingerprint})
    embeddings.write(of_same, batches, "test", {"dataset_fingerprint": dataset.fingerprint})
    embeddings.write(unknown, batches, "test", {})
    with pytest.raises(UserError, match="embeddings of other data") as raised:
        evaluate.evaluate_file(of_other, None, "cca", data_dir)
    assert str(raised.value).startswith(str(of_other))
    assert "\n" not in str(raised.value)
    for path in (of_same, unknown):
        assert "CCA" in evaluate.evaluate_file(path, None, "cca", data_dir)["baselines"]


def test_embedding_compiles_once_for_all_validations(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = []
    original = grid.embed_step

    def counted(*arguments, **options):  # type: ignore[no-untyped-def]
        traces.append(None)
        return original(*arguments, **options)

    monkeypatch.setattr(grid, "embed_step", counted)
    config.eval_every = 1
    loop.train(config, workdir, DEVICES)
    assert len(traces) == 1
