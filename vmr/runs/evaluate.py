"""The retrieval table of a run or of anybody's embeddings, with a linear baseline beside it."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vmr import embeddings
from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.pipeline import eval_batches
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import cca, evaluate, evaluate_segments, table
from vmr.progress_bar import progress_bar
from vmr.runs.restore import TrainedRun, restore_run
from vmr.training.reading import evaluation_batches
from vmr.training.run_dir import read_json, write_json

BASELINES = ("none", "cca")
_BATCH = 1000
Map = Callable[[np.ndarray], np.ndarray]  # (b, P) -> (b, D)


def evaluate_run(
    workdir: pathlib.Path,
    split: str,
    baseline: str = "none",
    data_dir: str | None = None,
    segments: int = 1,
) -> dict[str, Any]:
    """Results of a run's best checkpoint on a split, as `results/{split}.json` holds them.

    Args:
      workdir: the run's folder.
      split: split of the run's dataset.
      baseline: `cca` adds its results under `baselines`.
      data_dir: where the dataset lies now; None where it lay in training.
      segments: S; if not 1, `segments` holds the results of S parts of each sequence, and of tracks
        that score by their parts, see `vmr.evaluation.evaluate_segments`.

    Raises:
      UserError: no finished validation in the folder, no such split, or a baseline or segments that
        the run's data cannot give.
    """
    run = restore_run(workdir, data_dir)
    run.dataset.examples(split)  # raises where it is missing
    _require_comparable(run, workdir, baseline, segments)
    embedded = embeddings.collect(run.embed(split), split, run.meta())
    found = score(embedded, run.step)
    if baseline == "cca":
        # One vector an item; what is truly relevant is what it is for the run.
        spec = BatchSpec(label_counts=run.spec.label_counts)
        found["baselines"] = {"CCA": score_cca(run.dataset, split, spec)}
    if segments > 1:
        found["segments"] = _score_segments(run, split, segments)
    return found


def _require_comparable(
    run: TrainedRun, workdir: pathlib.Path, baseline: str, segments: int
) -> None:
    """Raises UserError for a baseline or segments that the run's data cannot give."""
    if baseline == "cca" and run.spec.pairing != "video_music":
        raise UserError(
            f"--baseline=cca is between video and music; {workdir} compares {run.spec.pairing} "
            "with itself"
        )
    if segments > 1 and not run.dataset.has_sequences:
        raise UserError(
            f"--segments={segments}: {run.dataset.data_dir} holds one vector an item, expected "
            "sequences"
        )


def _score_segments(run: TrainedRun, split: str, segments: int) -> dict[str, dict[str, Any]]:
    """By segment, and by track from its segments: mean and max."""
    parts = embeddings.collect(run.embed_segments(split, segments), split, run.meta())
    assert parts.video_segments is not None
    assert parts.music_segments is not None
    return evaluate_segments(
        parts.video_emb,
        parts.video_segments,
        parts.music_emb,
        parts.music_segments,
        parts.gt_music_index,
        split=split,
        step=run.step,
        video_group=parts.video_group,
        music_group=parts.music_group,
    )


def evaluate_file(
    path: pathlib.Path, split: str | None, baseline: str = "none", data_dir: str | None = None
) -> dict[str, Any]:
    """Results of an embeddings npz; `data_dir` names the dataset for a baseline.

    Raises:
      UserError: the file is not of the form, is of another split, or the baseline has no data or
        that of another dataset.
    """
    loaded = embeddings.load(path)
    if split and loaded.split and split != loaded.split:
        raise UserError(f"{path} holds the split {loaded.split!r}, --split asks for {split!r}")
    loaded = dataclasses.replace(loaded, split=loaded.split or split or "")
    dataset = _dataset_of_baseline(path, loaded, data_dir) if baseline == "cca" else None
    found = score(loaded, loaded.meta.get("step"))
    if dataset is not None:
        found["baselines"] = {"CCA": score_cca(dataset, loaded.split)}
    return found


def _dataset_of_baseline(path: pathlib.Path, loaded: Embeddings, data_dir: str | None) -> Dataset:
    if not data_dir:
        raise UserError("--baseline=cca with --embeddings needs --data_dir=DIR, to be fitted on")
    if not loaded.split:
        raise UserError(f"{path} does not name its split: give --split for the baseline")
    dataset = open_dataset(data_dir)
    _require_same_dataset(path, loaded, dataset)
    dataset.examples(loaded.split)  # raises where it is missing
    return dataset


def write_results(path: pathlib.Path, found: Mapping[str, Any]) -> None:
    """Writes results as JSON, beside what the file holds of the same checkpoint.

    So a baseline or segments that were measured before are not lost. Results are of the same
    checkpoint where their step and all their numbers agree; others are replaced as a whole.

    Raises:
      UserError: the file cannot be written; an earlier one is whole.
    """
    earlier: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # none, or a damaged one
        earlier = read_json(path)
    plain = json.loads(json.dumps(found))
    if any(earlier.get(key) != plain[key] for key in ("split", "step", "v2m", "m2v")):
        lost = [key for key in ("baselines", "segments") if key in earlier and key not in plain]
        if lost:
            print(f"{path}: held {' and '.join(lost)} of another checkpoint, now replaced")
        earlier = {}
    merged = {**earlier, **plain}
    if "baselines" in merged:
        merged["baselines"] = {**earlier.get("baselines", {}), **plain.get("baselines", {})}
    write_json(path, merged)


def _require_same_dataset(path: pathlib.Path, loaded: Embeddings, dataset: Dataset) -> None:
    """Raises UserError where the embeddings say that they are of other data."""
    embedded = loaded.meta.get("dataset_fingerprint")
    if embedded is not None and embedded != dataset.fingerprint:
        raise UserError(
            f"{path} holds embeddings of other data than {dataset.data_dir}: dataset fingerprint "
            f"{str(embedded)[:12]} there, {dataset.fingerprint[:12]} in the dataset folder"
        )


def score(embedded: Embeddings, step: int | None) -> dict[str, Any]:
    """Scores both directions over the whole split, with intervals, and true relevance if known."""
    with progress_bar(desc="ranking", unit="tile") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return evaluate(
            embedded.video_emb,
            embedded.music_emb,
            embedded.gt_music_index,
            split=embedded.split,
            step=step,
            video_group=embedded.video_group,
            music_group=embedded.music_group,
            progress=show,
        )


def score_cca(dataset: Dataset, split: str, spec: BatchSpec | None = None) -> dict[str, Any]:
    """Regularised linear CCA fitted on the training split, its settings chosen on validation."""
    spec = spec or BatchSpec()
    train = progress_bar(eval_batches(dataset, "train", _BATCH), desc="CCA", unit=" batches")
    # Validation as features, not embeddings: each setting that is tried embeds them itself.
    features = embeddings.collect(_mapped(dataset, "validation", spec), "validation", {})
    fitted = cca.select(
        ((batch["video"], batch["music"]) for batch in train),
        (features.video_emb, features.music_emb, features.gt_music_index),
    )
    mapped = _mapped(dataset, split, spec, fitted.embed_video, fitted.embed_music)
    return score(embeddings.collect(mapped, split, {}), step=None)


def _mapped(
    dataset: Dataset, split: str, spec: BatchSpec, video: Map = np.asarray, music: Map = np.asarray
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a split with their features mapped, by default to themselves."""
    for batch in evaluation_batches(dataset, split, _BATCH, spec):
        kept = {name: rows for name, rows in batch.items() if name not in ("video", "music")}
        yield {"video_emb": video(batch["video"]), "music_emb": music(batch["music"]), **kept}


def report(found: dict[str, Any], name: str) -> str:
    """The tables of a result to read: pairs, true relevance where it is known, then segments."""
    rows = [(name, found), *found.get("baselines", {}).items()]
    blocks = [table.render(rows)]
    if "truth" in found:
        truths = [(row, {"split": found["split"], **result["truth"]}) for row, result in rows]
        heading = "True relevance: every item of the query's group or label counts"
        blocks += [heading, table.render(truths)]
    for result in found.get("segments", {}).values():
        blocks.append(table.render([(name, result)]))
    return "\n\n".join(blocks)
