"""Comparison of runs, or of embeddings in files, on the same queries, with tests."""

import glob
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vmr import embeddings, tables
from vmr.data.dataset import Dataset, open_dataset
from vmr.disk import write_text
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import comparison, pair_ranks, significance, table
from vmr.evaluation.comparison import METRICS, chance
from vmr.evaluation.hubness_corrections import Corrected
from vmr.evaluation.metrics import DIRECTIONS, table_values
from vmr.progress_bar import progress_bar
from vmr.runs.evaluate import score_cca
from vmr.runs.hubness import (
    VALIDATION,
    HubnessOptions,
    corrected,
    learnt_by_run,
    require_splits,
)
from vmr.runs.restore import restore_run
from vmr.training.reading import dataset_of
from vmr.training.run_dir import saved_config

Systems = Mapping[str, Sequence[pathlib.Path]]


def named_systems(typed: Sequence[str]) -> Systems:
    """Paths of each system by name, from [NAME=]PATH[+PATH...]; its paths are its seeds.

    A system without a name is called by its paths. A text that exists as a path is one, even if it
    contains `=`, `+` or `*`.

    Raises:
        UserError: a name twice, an empty path, or a path or glob without a match.
    """
    systems: dict[str, list[pathlib.Path]] = {}
    for text in typed:
        name, paths = _parted(text)
        if name in systems:
            raise UserError(f"--runs: two systems are called {name!r}; name them NAME=PATH")
        systems[name] = [path for part in paths for path in _found(text, part)]
    return systems


def _parted(text: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    # Not every `=` ends a name: a folder may be called runs/weight=0.2.
    if not equals or "/" in name or pathlib.Path(text).exists():
        name, rest = text, text
    if not name:
        raise UserError(f"--runs: {text!r} has an empty name, expected [NAME=]PATH[+PATH...]")
    return name, [rest] if pathlib.Path(rest).exists() else rest.split("+")


def _found(text: str, part: str) -> list[pathlib.Path]:
    if not part:
        raise UserError(f"--runs: {text!r} has an empty path, expected [NAME=]PATH[+PATH...]")
    path = pathlib.Path(part)
    # Before the glob, for which a `[` in the name of a folder would be a pattern.
    if path.exists():
        return [path]
    found = sorted(map(pathlib.Path, glob.glob(part)))
    if not found:
        raise UserError(f"--runs: {part} does not exist; expected a run's folder or an npz file")
    return found


@dataclass(frozen=True)
class Scored:
    """Per-query values of one run, sorted by the ids of its queries.

    Attributes:
      path: path of the run's folder or npz file.
      step: training step of the checkpoint, if known.
      pairing: modalities that are paired, as in `config.pairing`.
      fingerprint: fingerprint of the dataset, if known.
      videos: (N, 2) unicode, the id of each video and of its track; the queries of v2m.
      tracks: (M,) unicode, the ids of the gallery of v2m.
      asked: (K,) unicode, the ids of the tracks that have a video; the queries of m2v.
      values: direction -> metric -> value of each query, (N,) or (K,).
      chance: direction -> metric -> expectation for a model without knowledge.
      settings: direction -> setting of a correction of hubness; None where there is none.
    """

    path: pathlib.Path
    step: int | None
    pairing: str
    fingerprint: str | None
    videos: np.ndarray
    tracks: np.ndarray
    asked: np.ndarray
    values: dict[str, dict[str, np.ndarray]]
    chance: dict[str, dict[str, float]]
    settings: Mapping[str, Mapping[str, float]] | None = None


def score_run(path: pathlib.Path, split: str, data_dir: str | None = None) -> Scored:
    """Scores each query of a split, both directions.

    Args:
      path: folder of a run, whose best checkpoint by validation is used, or an npz file.
      split: split of the dataset.
      data_dir: folder of the dataset; None if it is where it was in training.

    Raises:
      UserError: no such run, no validated checkpoint, another split, or queries that cannot be told
        apart by their ids.
    """
    return scored(path, _embedded(path, split, data_dir))


def require_same_queries(one: Scored, other: Scored) -> None:
    """Raises UserError, with an example, where two runs differ in videos, tracks or their pairs."""
    if one.pairing != other.pairing:
        raise UserError(
            f"{one.path} and {other.path} are not over the same queries: config.pairing is "
            f"{one.pairing} and {other.pairing}"
        )
    _require_same_ids("videos", one.path, one.videos[:, 0], other.path, other.videos[:, 0])
    _require_same_ids("tracks", one.path, one.tracks, other.path, other.tracks)
    differ = np.flatnonzero((one.videos != other.videos).any(axis=1))
    if len(differ):
        raise UserError(
            f"{one.path} and {other.path} are not over the same queries: the tracks of "
            f"{len(differ)} videos differ, such as that of {str(one.videos[differ[0], 0])!r}"
        )


def _embedded(path: pathlib.Path, split: str, data_dir: str | None) -> Embeddings:
    if path.is_dir():
        run = restore_run(path, data_dir)
        run.dataset.examples(split)  # raises if there is no such split
        return embeddings.collect(run.embed(split), split, run.meta())
    loaded = embeddings.load(path)
    if loaded.split and loaded.split != split:
        raise UserError(f"{path} holds the split {loaded.split!r}, --split asks for {split!r}")
    return loaded


def scored(path: pathlib.Path, embedded: Embeddings, after: Corrected | None = None) -> Scored:
    """Scores each query of embeddings, both directions.

    Args:
      path: origin of the embeddings, for messages.
      embedded: embeddings of a split.
      after: their ranks after a correction of hubness, to be scored instead.

    Raises:
      UserError: queries that cannot be told apart by their ids.
    """
    if after is not None:
        v2m, m2v = after.v2m, after.m2v
    else:
        v2m, m2v = pair_ranks(embedded.video_emb, embedded.music_emb, embedded.gt_music_index)
    tracks = np.asarray(embedded.music_ids).astype(str)
    videos = np.asarray(embedded.video_ids).astype(str)
    videos = np.stack([videos, tracks[embedded.gt_music_index]], axis=1)
    # Sorted by id, so that values of two runs pair up whatever the order of their items. The last
    # key of `lexsort` is the first to sort by.
    by_video = np.lexsort((videos[:, 1], videos[:, 0]))
    asked = tracks[m2v.query]
    by_track = np.argsort(asked)
    videos = videos[by_video]
    twice = np.flatnonzero((videos[1:] == videos[:-1]).all(axis=1))
    if len(twice):
        raise UserError(
            f"{path}: video_ids has {str(videos[twice[0], 0])!r} twice with the same track; "
            "expected ids that tell its queries apart"
        )
    return Scored(
        path=path,
        step=embedded.meta.get("step"),
        pairing=_pairing(embedded),
        fingerprint=embedded.meta.get("dataset_fingerprint"),
        videos=videos,
        tracks=np.sort(tracks),
        asked=asked[by_track],
        values={
            "v2m": {metric: row[by_video] for metric, row in table_values(v2m).items()},
            "m2v": {metric: row[by_track] for metric, row in table_values(m2v).items()},
        },
        chance={"v2m": chance(v2m), "m2v": chance(m2v)},
        settings=None if after is None else {str(way): one for way, one in after.settings.items()},
    )


def _pairing(embedded: Embeddings) -> str:
    """Pairing of the config in the file; embeddings without a config are of video and music."""
    config = embedded.meta.get("config")
    return str(config.get("pairing", "video_music")) if isinstance(config, dict) else "video_music"


def _require_same_ids(
    what: str, one: pathlib.Path, ids: np.ndarray, other: pathlib.Path, others: np.ndarray
) -> None:
    if np.array_equal(ids, others):
        return
    # Ids may occur several times, so that sets of ids can agree where the arrays do not.
    missing, surplus = np.setdiff1d(ids, others), np.setdiff1d(others, ids)
    told = [
        f"{len(absent)} of the {what} are only in {path}, such as {str(absent[0])!r}"
        for path, absent in ((one, missing), (other, surplus))
        if len(absent)
    ]
    if not told:
        told = [f"{len(ids)} and {len(others)} {what} of the same ids"]
    raise UserError(f"{one} and {other} are not over the same queries: {'; '.join(told)}")


FORMATS = (*tables.FORMS, "json")
LAYOUTS = ("full", "narrow")
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".json": "json"}


def compare_runs(
    systems: Systems,
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    baseline: str = "none",
    samples: int = significance.SAMPLES,
    seed: int = 0,
    data_dir: str | None = None,
    hubness: HubnessOptions | None = None,
) -> dict[str, Any]:
    """Compares systems, both directions; JSON-ready.

    Keys: those of `vmr.evaluation.comparison.compare_values`, and `split`; each system also has
    `paths` and `steps`, and `hubness`, the settings of each seed, if it is corrected; each
    direction `gallery` and `chance`.

    Args:
      systems: name -> folders of runs or npz files, one per seed.
      split: split of the dataset.
      metrics: columns of the retrieval table.
      against: `all` pairs, each system against those before it; `first`, all against the first.
      correct_over: family of the corrected p-values: `systems`; `all`, with metrics and directions.
      baseline: `cca`, fitted on the training split, for a row of narrow tables; or `none`.
      samples: number of resamples.
      seed: seed of the resamples.
      data_dir: folder of the dataset; None if it is where it was in training.
      hubness: corrections, each of which makes a further system of every one, such as
        `NAME + csls`, by the training split of each run's own dataset.

    Raises:
      UserError: fewer than two systems, a path twice, an unknown metric, no such run, one without a
        validated checkpoint, or runs over different queries.
    """
    # Wrong flags and missing data are reported before the runs are embedded, which takes minutes.
    _require_sound(systems, metrics, against, correct_over, hubness)
    dataset = _dataset_of_baseline(systems, data_dir) if baseline == "cca" else None
    scored = _score_all(systems, split, data_dir, hubness)
    found = compare_scored(
        scored,
        split,
        metrics=metrics,
        against=against,
        correct_over=correct_over,
        samples=samples,
        seed=seed,
    )
    if dataset is not None:
        _require_same_data(dataset, scored)
        found["baseline"] = {"name": "CCA", **score_cca(dataset, split)}
    return found


def compare_scored(
    scored: Mapping[str, Sequence[Scored]],
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    against: str = "all",
    correct_over: str = "systems",
    samples: int = significance.SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares scored runs, as `compare_runs` does.

    Raises:
      UserError: runs over different queries.
    """
    first, *others = [run for seeds in scored.values() for run in seeds]
    for run in others:
        require_same_queries(first, run)
    # Bootstrap and randomisation, each for both directions.
    draws = 2 * samples * len(DIRECTIONS)
    with progress_bar(total=draws, desc="resampling") as bar:
        found = comparison.compare_values(
            {
                name: [(run.values["v2m"], run.values["m2v"]) for run in seeds]
                for name, seeds in scored.items()
            },
            {"v2m": first.videos[:, 1], "m2v": first.asked},
            metric_names=metrics,
            against=against,
            correct_over=correct_over,
            samples=samples,
            seed=seed,
            progress=bar.update,
        )
    for name, seeds in scored.items():
        found["systems"][name] = {
            "paths": [str(run.path) for run in seeds],
            "seeds": len(seeds),
            "steps": [run.step for run in seeds],
        }
        if any(run.settings for run in seeds):
            found["systems"][name]["hubness"] = [run.settings for run in seeds]
    for direction, gallery in (("v2m", first.tracks), ("m2v", first.videos)):
        found[direction] |= {"gallery": len(gallery), "chance": first.chance[direction]}
    return {"split": split, **found}


def report(found: dict[str, Any], form: str, layout: str = "full") -> str:
    """Renders a comparison as `text`, `markdown`, `latex` or `json`, `full` or `narrow`."""
    if form == "json":
        return json.dumps(found, indent=2)
    if layout == "narrow":
        blocks = [table.render_narrow(found, form)]
    else:
        blocks = [table.render_comparison(found, form)]
    is_corrected = any("hubness" in system for system in found["systems"].values())
    if is_corrected and found["split"] == VALIDATION:
        note = (
            "Settings of corrections are chosen on validation, this very split: it flatters them."
        )
        blocks.append(tables.spell(note, form))
    return "\n\n".join(blocks)


def write_report(
    path: pathlib.Path, found: dict[str, Any], form: str | None, layout: str = "full"
) -> None:
    """Writes the report, the whole file or nothing; its name's ending is the default form.

    Raises:
      UserError: the file cannot be written.
    """
    form = form or _SUFFIXES.get(path.suffix, "text")
    write_text(path, report(found, form, layout) + "\n")


def _require_sound(
    systems: Systems,
    metrics: Sequence[str],
    against: str,
    correct_over: str,
    hubness: HubnessOptions | None,
) -> None:
    """Checks all that can be checked before a run is restored or a file read."""
    if hubness is not None:
        for name, paths in systems.items():
            for path in paths:
                if not path.is_dir():
                    raise UserError(
                        f"--hubness learns from the training split of a run's dataset: {path} of "
                        f"{name} is a file, expected the folder of a run"
                    )
            for method in hubness.methods:
                if f"{name} + {method}" in systems:
                    raise UserError(f"--runs: {name} + {method} is what --hubness adds to {name}")
    if len(systems) < 2 and hubness is None:
        raise UserError(
            f"--runs: a comparison needs at least two systems, found {len(systems)}; several paths "
            "joined by + or found by one glob are the seeds of one system"
        )
    comparison.require_known(metrics, against, correct_over)
    seen: dict[pathlib.Path, str] = {}
    for name, paths in systems.items():
        if not paths:
            raise UserError(f"--runs: {name} has no path, expected at least one run")
        for path in paths:
            # The same run twice would pass for two seeds without any scatter between them.
            if path.resolve() in seen:
                raise UserError(
                    f"--runs: {path} is there twice, in {seen[path.resolve()]} and in {name}"
                )
            seen[path.resolve()] = name
            if path.is_dir():
                saved_config(path)  # raises if the folder is not a run's
            elif not path.exists():
                raise UserError(f"{path} does not exist; expected a run's folder or an npz file")


def _dataset_of_baseline(systems: Systems, data_dir: str | None) -> Dataset:
    runs = [path for paths in systems.values() for path in paths if path.is_dir()]
    if runs:  # the dataset of the first run, with the same share of its training pairs
        return dataset_of(saved_config(runs[0]), data_dir)
    if data_dir:
        return open_dataset(data_dir)
    raise UserError("--baseline=cca of embeddings needs --data_dir, the dataset to fit it on")


def _require_same_data(dataset: Dataset, scored: Mapping[str, Sequence[Scored]]) -> None:
    for run in (run for runs in scored.values() for run in runs):
        # Embeddings from elsewhere have no fingerprint, and are trusted to be of this dataset.
        if run.fingerprint not in (None, dataset.fingerprint):
            raise UserError(
                f"--baseline=cca: {dataset.data_dir} holds other data than {run.path} is of, "
                f"fingerprint {dataset.fingerprint[:12]} and {str(run.fingerprint)[:12]}"
            )


def _score_all(
    systems: Systems, split: str, data_dir: str | None, hubness: HubnessOptions | None
) -> dict[str, list[Scored]]:
    scored: dict[str, list[Scored]] = {}
    runs = [(name, path) for name, paths in systems.items() for path in paths]
    for name, path in progress_bar(runs, desc="runs"):
        if hubness is None:
            scored.setdefault(name, []).append(score_run(path, split, data_dir))
            continue
        for suffix, run in _score_corrected(path, split, data_dir, hubness).items():
            scored.setdefault(name + suffix, []).append(run)
    return scored


def _score_corrected(
    path: pathlib.Path, split: str, data_dir: str | None, options: HubnessOptions
) -> dict[str, Scored]:
    """A run's plain and corrected scores, by what is added to the name of its system."""
    run = restore_run(path, data_dir)
    require_splits(run, split)
    run.dataset.examples(split)  # raises if there is no such split
    embedded = embeddings.collect(run.embed(split), split, run.meta())
    learnt = learnt_by_run(run, options)
    by_method = corrected(embedded, f"{split} of {path}", learnt, options.methods)
    return {"": scored(path, embedded)} | {
        f" + {method}": scored(path, embedded, each) for method, each in by_method.items()
    }
