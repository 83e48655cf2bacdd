"""Retrieval results of a run or of embeddings in a file, and of a linear baseline beside them."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vmr import embeddings
from vmr.collection import Collection
from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.pipeline import eval_batches
from vmr.disk import read_json, write_json
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import cca, evaluate, evaluate_segments, table, trec
from vmr.evaluation.metrics import DIRECTIONS
from vmr.progress_bar import progress_bar
from vmr.runs import hubness as corrections
from vmr.runs import judgements, larger_gallery, trec_files
from vmr.runs.ensemble import Restored
from vmr.runs.hubness import HubnessOptions
from vmr.runs.judgements import Judgements
from vmr.runs.parts import embed_parts, require_sequences, write_fits
from vmr.runs.restore import TrainedRun, restore_run
from vmr.training.reading import evaluation_batches

BASELINES = ("none", "cca")
_BATCH = 1000
# What is measured beside the plain results, and stays in their file.
_BESIDE = ("baselines", "segments", "judged", "larger_gallery", "hubness")
Map = Callable[[np.ndarray], np.ndarray]  # (b, P) -> (b, D)


@dataclasses.dataclass(frozen=True)
class Beyond:
    """What is asked of embeddings beyond the table of their split.

    Attributes:
      catalogue: tracks without a video, to join the gallery.
      judgements: pairs that people judged.
      trec: folder for TREC run and qrels files of both directions, of the larger gallery if there
        is a catalogue.
      trec_depth: items to a list there.
      hubness: corrections of hubness, see `vmr.runs.hubness.score`.
    """

    catalogue: Collection | None = None
    judgements: Judgements | None = None
    trec: pathlib.Path | None = None
    trec_depth: int = 1000
    hubness: HubnessOptions | None = None


_NOTHING = Beyond()


def evaluate_run(
    workdir: pathlib.Path,
    split: str,
    baseline: str = "none",
    data_dir: str | None = None,
    segments: int = 1,
    beyond: Beyond = _NOTHING,
    fits: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Results of a run's best checkpoint on a split, as `results/{split}.json` holds them.

    Args:
      workdir: the run's folder.
      split: split of the run's dataset.
      baseline: `cca` adds its results under `baselines`.
      data_dir: where the dataset lies now; None where it lay in training.
      segments: S; if not 1, `segments` holds the results of S parts of each sequence, and of tracks
        that score by their parts, see `vmr.evaluation.evaluate_segments`.
      beyond: `judged`, `larger_gallery` and `hubness` hold what it adds.
      fits: CSV to write of segments: which part of its track fits each part of a video best, see
        `vmr.runs.parts.write_fits`.

    Raises:
      UserError: no finished validation in the folder, no such split, a baseline or segments that
        the run's data cannot give, or as `score_beyond`.
    """
    run = restore_run(workdir, data_dir)
    return evaluate_restored(run, str(workdir), split, baseline, segments, beyond, fits)


def evaluate_restored(
    run: Restored,
    name: str,
    split: str,
    baseline: str = "none",
    segments: int = 1,
    beyond: Beyond = _NOTHING,
    fits: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Results of a restored run or of an ensemble on a split; see `evaluate_run`.

    Args:
      run: the run or the ensemble; segments need a run.
      name: its name in messages.
      split: as in `evaluate_run`.
      baseline: as in `evaluate_run`.
      segments: as in `evaluate_run`.
      beyond: as in `evaluate_run`.
      fits: as in `evaluate_run`.
    """
    run.dataset.examples(split)  # raises where it is missing
    _require_comparable(run, name, baseline, segments)
    if beyond.catalogue is not None and run.spec.pairing == "video":
        raise UserError(f"{name} compares video with itself; a larger gallery is of tracks")
    if beyond.hubness is not None:
        corrections.require_splits(run, split)
    embedded = embeddings.collect(run.embed(split), split, run.meta())
    found = score_beyond(embedded, run.step, beyond)
    if beyond.hubness is not None:
        learnt = corrections.learnt_by_run(run, beyond.hubness)
        found["hubness"] = corrections.score(embedded, split, learnt, beyond.hubness.methods)
    if baseline == "cca":
        # One vector an item; what is truly relevant is what it is for the run.
        spec = BatchSpec(label_counts=run.spec.label_counts)
        found["baselines"] = {"CCA": score_cca(run.dataset, split, spec)}
    if segments > 1 and isinstance(run, TrainedRun):
        parts = embed_parts(run, split, segments)
        found["segments"] = _score_segments(parts.embedded, run.step)
        if fits is not None:
            write_fits(fits, parts)
    return found


def _require_comparable(run: Restored, name: str, baseline: str, segments: int) -> None:
    """Raises UserError for what the run's data cannot give."""
    if baseline == "cca" and run.spec.pairing != "video_music":
        raise UserError(
            f"--baseline=cca is between video and music; {name} compares {run.spec.pairing} "
            "with itself"
        )
    if segments > 1:
        if not isinstance(run, TrainedRun):
            raise UserError(f"--segments={segments}: {name} is an ensemble, expected a run")
        require_sequences(run, segments)


def _score_segments(parts: Embeddings, step: int) -> dict[str, dict[str, Any]]:
    """Results of segments, and of tracks by the mean and the maximum over their segments."""
    # Set, as `embed_segments` gives them in every batch; the types of `Embeddings` cannot say so.
    assert parts.video_segments is not None
    assert parts.music_segments is not None
    return evaluate_segments(
        parts.video_emb,
        parts.video_segments,
        parts.music_emb,
        parts.music_segments,
        parts.gt_music_index,
        split=parts.split,
        step=step,
        video_group=parts.video_group,
        music_group=parts.music_group,
    )


def evaluate_file(
    path: pathlib.Path,
    split: str | None,
    baseline: str = "none",
    data_dir: str | None = None,
    beyond: Beyond = _NOTHING,
) -> dict[str, Any]:
    """Results of an embeddings npz; `data_dir` names the dataset for a baseline.

    Raises:
      UserError: the file is not of the form, is of another split, the baseline has no data or
        that of another dataset, or as `score_beyond` or `vmr.runs.hubness.score`.
    """
    loaded = embeddings.load(path)
    if split and loaded.split and split != loaded.split:
        raise UserError(f"{path} holds the split {loaded.split!r}, --split asks for {split!r}")
    loaded = dataclasses.replace(loaded, split=loaded.split or split or "")
    # Opened first, so that a missing dataset is reported before all the work of ranking.
    dataset = _dataset_of_baseline(path, loaded, data_dir) if baseline == "cca" else None
    learnt = corrections.learnt_from_files(beyond.hubness) if beyond.hubness is not None else None
    if learnt is not None:
        corrections.require_sound(loaded, str(path), learnt)
    found = score_beyond(loaded, loaded.meta.get("step"), beyond)
    if beyond.hubness is not None and learnt is not None:
        found["hubness"] = corrections.score(loaded, str(path), learnt, beyond.hubness.methods)
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


def fits_file(path: pathlib.Path) -> pathlib.Path:
    """CSV of the segments beside a file of results: `test.json` -> `test.segments.csv`."""
    return path.parent / f"{path.stem}.segments.csv"


def write_results(path: pathlib.Path, found: Mapping[str, Any]) -> None:
    """Writes results as JSON, beside what the file holds of the same checkpoint.

    So a baseline, segments, judged results, corrections of hubness or results of a larger gallery
    that were measured before are not lost. Results are of the same checkpoint where their step and
    all their numbers agree; others are replaced as a whole.

    Raises:
      UserError: the file cannot be written; an earlier one is whole.
    """
    earlier: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # none, or a damaged one
        earlier = read_json(path)
    plain = json.loads(json.dumps(found))
    if any(earlier.get(key) != plain.get(key) for key in ("split", "step", "v2m", "m2v")):
        lost = [key for key in _BESIDE if key in earlier and key not in plain]
        if lost:
            print(f"{path}: held {' and '.join(lost)} of another checkpoint, now replaced")
        if "segments" in lost:
            fits_file(path).unlink(missing_ok=True)
        earlier = {}
    merged = {**earlier, **plain}
    if "baselines" in merged:
        merged["baselines"] = {**earlier.get("baselines", {}), **plain.get("baselines", {})}
    former, larger = earlier.get("larger_gallery", {}), plain.get("larger_gallery")
    if larger and former.get("v2m") == larger["v2m"]:
        merged["larger_gallery"] = {**former, **larger}
    former, fresh = earlier.get("hubness", {}), plain.get("hubness")
    if fresh and former.get("bank") == fresh["bank"]:
        merged["hubness"] = {**former, **fresh}
    write_json(path, merged)


def _require_same_dataset(path: pathlib.Path, loaded: Embeddings, dataset: Dataset) -> None:
    """Raises UserError if the embeddings name a dataset, and it is another one."""
    embedded = loaded.meta.get("dataset_fingerprint")
    if embedded is not None and embedded != dataset.fingerprint:
        raise UserError(
            f"{path} holds embeddings of other data than {dataset.data_dir}: dataset fingerprint "
            f"{str(embedded)[:12]} there, {dataset.fingerprint[:12]} in the dataset folder"
        )


def score_beyond(embedded: Embeddings, step: int | None, beyond: Beyond) -> dict[str, Any]:
    """Scores a split, and beside the plain results what lies beyond them.

    `judged` holds the results with judged pairs relevant too, and under `judgements` how many were
    used; `larger_gallery` those with the tracks of a catalogue, of the same form, and under
    `account` what joined (`larger_gallery.joined`).

    `ensemble` names the members, where there are several.

    Raises:
      UserError: the catalogue is of another model, no judged pair is of these items, or ids cannot
        stand in TREC files.
    """
    galleries, account = [embedded], None
    if beyond.catalogue is not None:
        larger, account = larger_gallery.joined(embedded, beyond.catalogue)
        galleries.append(larger)
    if beyond.judgements is not None:
        judgements.require_use(beyond.judgements, galleries[-1])
    if beyond.trec is not None:
        trec_files.write(beyond.trec, beyond.trec_depth, galleries[-1], beyond.judgements)
    found, *others = (_score_judged(each, step, beyond.judgements) for each in galleries)
    if account is not None:
        found["larger_gallery"] = others[0] | {"account": account}
    if "ensemble" in embedded.meta:  # of several members, whose names the step cannot tell
        found["ensemble"] = embedded.meta["ensemble"]
    return found


def _score_judged(
    embedded: Embeddings, step: int | None, judged: Judgements | None
) -> dict[str, Any]:
    if judged is None:
        return score(embedded, step)
    compatible, counts = judgements.rows_of(judged, embedded)
    found = score(embedded, step, compatible)
    found["judged"]["judgements"] = counts
    return found


def score(
    embedded: Embeddings, step: int | None, compatible: np.ndarray | None = None
) -> dict[str, Any]:
    """Scores both directions over the whole split, with intervals, and true relevance if known.

    Args:
      embedded: the split.
      step: of the checkpoint, for the record.
      compatible: (K, 2) rows of pairs judged compatible; `judged` holds the results with them.
    """
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
            compatible=compatible,
            progress=show,
        )


def evaluate_trec(
    run: pathlib.Path, qrels: pathlib.Path, gallery: int | None = None
) -> dict[str, Any]:
    """Results of anybody's TREC run against qrels, see `vmr.evaluation.trec.score_run`.

    Args:
      run: file of ranked lists.
      qrels: file of what is relevant.
      gallery: items in the gallery; None: as many as the files name.

    Raises:
      UserError: a file is not of its form, or the gallery is smaller than what the files name.
    """
    relevant = trec.read_qrels(qrels)  # the shorter file first
    named = {"run": str(run), "qrels": str(qrels)}
    return named | trec.score_run(trec.read_run(run), relevant, gallery=gallery)


def score_cca(dataset: Dataset, split: str, spec: BatchSpec | None = None) -> dict[str, Any]:
    """Scores regularised linear CCA, fitted on the training split with settings by validation."""
    spec = spec or BatchSpec()
    train = progress_bar(eval_batches(dataset, "train", _BATCH), desc="CCA", unit=" batches")
    # Validation items are kept as features, which every candidate of the settings embeds anew.
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
    """Yields the batches of a split as embeddings: features mapped, by default to themselves."""
    for batch in evaluation_batches(dataset, split, _BATCH, spec):
        kept = {name: rows for name, rows in batch.items() if name not in ("video", "music")}
        yield {"video_emb": video(batch["video"]), "music_emb": music(batch["music"]), **kept}


def report(found: dict[str, Any], name: str) -> str:
    """The tables of a result to read.

    Pairs, true relevance where it is known, segments, judged relevance, corrections of hubness, and
    a larger gallery; or the one table of `evaluate_trec`.
    """
    if "qrels" in found:
        return _report_trec(found)
    rows = [(name, found), *found.get("baselines", {}).items()]
    blocks = [table.render(rows)]
    if "truth" in found:
        truths = [(row, {"split": found["split"], **result["truth"]}) for row, result in rows]
        heading = "True relevance: every item of the query's group or label counts"
        blocks += [heading, table.render(truths)]
    for result in found.get("segments", {}).values():
        blocks.append(table.render([(name, result)]))
    blocks += _judged_blocks(found)
    if "hubness" in found:
        blocks += corrections.in_blocks(found)
    if "larger_gallery" in found:
        larger = found["larger_gallery"]
        # The tracks that joined ask for nothing: m2v is what it was.
        blocks += [larger_gallery.in_words(larger["account"])]
        blocks += [table.render([(name, larger)], directions=("v2m",))]
        blocks += _judged_blocks(larger, directions=("v2m",))
    return "\n\n".join(blocks)


def _judged_blocks(
    found: dict[str, Any], directions: Sequence[str] = tuple(DIRECTIONS)
) -> list[str]:
    if "judged" not in found:
        return []
    judged = {"split": found["split"], **found["judged"]}
    chance = {**judged, "v2m": judged["chance"], "m2v": judged["m2v_chance"], "ci95": {}}
    rows = [("strict", found), ("judged", judged), ("chance, judged", chance)]
    return [judgements.in_words(judged["judgements"]), table.render(rows, directions=directions)]


def _report_trec(found: dict[str, Any]) -> str:
    """The table of a TREC run, and what the run leaves out."""
    words = []
    if found["unlisted"]:
        words.append(
            f"Of {found['unlisted']:,} queries no relevant item is listed: they count as if what a "
            "list leaves out stood behind it in random order."
        )
    if found["without_list"]:
        words.append(f"{found['without_list']:,} of these have no list at all.")
    if found["not_judged"]:
        words.append(
            f"{found['not_judged']:,} queries of the run are left out: the qrels hold nothing "
            "relevant to them."
        )
    return "\n".join([table.render_run(pathlib.Path(found["run"]).name, found), *words])
