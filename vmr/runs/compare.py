"""Runs and embeddings side by side on the same queries: is the difference between them real?"""

import glob
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vmr import embeddings, tables
from vmr.data.dataset import Dataset, open_dataset
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import comparison, pair_ranks, significance, table
from vmr.evaluation.comparison import METRICS, chance
from vmr.evaluation.metrics import DIRECTIONS, table_values
from vmr.progress_bar import progress_bar
from vmr.runs.evaluate import score_cca
from vmr.runs.restore import restore_run
from vmr.training.disk import write_text
from vmr.training.reading import dataset_of
from vmr.training.run_dir import saved_config

Systems = Mapping[str, Sequence[pathlib.Path]]


def named_systems(typed: Sequence[str]) -> Systems:
    """Paths of each system by name; several paths of one system are its seeds.

    A system without a name is called by its paths. What exists is a path, whatever its characters.

    Raises:
        UserError: a name twice, an empty path, or a path or glob that finds nothing.
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
    # A folder may be called runs/weight=0.2.
    if not equals or "/" in name or pathlib.Path(text).exists():
        name, rest = text, text
    if not name:
        raise UserError(f"--runs: {text!r} has an empty name, expected [NAME=]PATH[+PATH...]")
    return name, [rest] if pathlib.Path(rest).exists() else rest.split("+")


def _found(text: str, part: str) -> list[pathlib.Path]:
    if not part:
        raise UserError(f"--runs: {text!r} has an empty path, expected [NAME=]PATH[+PATH...]")
    path = pathlib.Path(part)
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
      path: path of the run.
      step: step of its checkpoint, if known.
      pairing: what is sought with what, as `config.pairing` says.
      fingerprint: fingerprint of the dataset, if known.
      videos: (N, 2) unicode, the id of each video and of its track.
      tracks: (M,) unicode, the gallery of v2m.
      asked: (K,) unicode, the tracks that have a video: the queries of m2v.
      values: direction -> metric -> (N,) or (K,).
      chance: direction -> metric -> what a model without knowledge reaches.
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


def score_run(path: pathlib.Path, split: str, data_dir: str | None = None) -> Scored:
    """Values of each query of a split, both directions.

    Args:
      path: a run's folder, of which the best checkpoint by validation counts, or an npz file.
      split: split of the dataset.
      data_dir: where a run's dataset lies now; None where it lay in training.

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
        run.dataset.examples(split)  # raises where it is missing
        return embeddings.collect(run.embed(split), split, run.meta())
    loaded = embeddings.load(path)
    if loaded.split and loaded.split != split:
        raise UserError(f"{path} holds the split {loaded.split!r}, --split asks for {split!r}")
    return loaded


def scored(path: pathlib.Path, embedded: Embeddings) -> Scored:
    """Values of each query of embeddings.

    Args:
      path: where they come from, for messages.
      embedded: embeddings of a split.

    Raises:
      UserError: queries that cannot be told apart by their ids.
    """
    v2m, m2v = pair_ranks(embedded.video_emb, embedded.music_emb, embedded.gt_music_index)
    tracks = np.asarray(embedded.music_ids).astype(str)
    videos = np.asarray(embedded.video_ids).astype(str)
    videos = np.stack([videos, tracks[embedded.gt_music_index]], axis=1)
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
    )


def _pairing(embedded: Embeddings) -> str:
    """Pairing of the config in the file; foreign embeddings without one are of video and music."""
    config = embedded.meta.get("config")
    return str(config.get("pairing", "video_music")) if isinstance(config, dict) else "video_music"


def _require_same_ids(
    what: str, one: pathlib.Path, ids: np.ndarray, other: pathlib.Path, others: np.ndarray
) -> None:
    if np.array_equal(ids, others):
        return
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
) -> dict[str, Any]:
    """Differences between systems, both directions, JSON-ready; see `vmr.evaluation.comparison`.

    Keys: those of `vmr.evaluation.comparison.compare_values`, `split`, and of each system `paths`
    and `steps` too, of each direction `gallery` and `chance`.

    Args:
      systems: by name, the folders of runs or npz files that are its seeds.
      split: split of the dataset.
      metrics: columns of the retrieval table.
      against: `all` pairs, each system against those before it; `first`, all against the first.
      correct_over: what p-values are corrected over: `systems`; or `all`, metrics and directions
        too.
      baseline: `cca` is fitted on the training split, and stands in narrow tables; or `none`.
      samples: resamples.
      seed: seed of the resamples.
      data_dir: where the dataset lies now; None where it lay in training.

    Raises:
      UserError: fewer than two systems, a path twice, an unknown metric, no such run, one without a
        validated checkpoint, or runs over different queries.
    """
    _require_sound(systems, metrics, against, correct_over)
    dataset = _dataset_of_baseline(systems, data_dir) if baseline == "cca" else None
    scored = _score_all(systems, split, data_dir)
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
    """Compares runs that have been scored; see `compare_runs`.

    Raises:
      UserError: runs over different queries.
    """
    first, *others = [run for seeds in scored.values() for run in seeds]
    for run in others:
        require_same_queries(first, run)
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
    for direction, gallery in (("v2m", first.tracks), ("m2v", first.videos)):
        found[direction] |= {"gallery": len(gallery), "chance": first.chance[direction]}
    return {"split": split, **found}


def report(found: dict[str, Any], form: str, layout: str = "full") -> str:
    """The comparison as `text`, `markdown`, `latex` or `json`, `full` or a `narrow` table."""
    if form == "json":
        return json.dumps(found, indent=2)
    if layout == "narrow":
        return table.render_narrow(found, form)
    return table.render_comparison(found, form)


def write_report(
    path: pathlib.Path, found: dict[str, Any], form: str | None, layout: str = "full"
) -> None:
    """Writes the report, the whole file or nothing; by default in the form its name ends in.

    Raises:
      UserError: the file cannot be written.
    """
    form = form or _SUFFIXES.get(path.suffix, "text")
    write_text(path, report(found, form, layout) + "\n")


def _require_sound(
    systems: Systems, metrics: Sequence[str], against: str, correct_over: str
) -> None:
    """Checks everything that can be checked before anything is read."""
    if len(systems) < 2:
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
            if path.resolve() in seen:
                raise UserError(
                    f"--runs: {path} is there twice, in {seen[path.resolve()]} and in {name}"
                )
            seen[path.resolve()] = name
            if path.is_dir():
                saved_config(path)  # raises where it is no run
            elif not path.exists():
                raise UserError(f"{path} does not exist; expected a run's folder or an npz file")


def _dataset_of_baseline(systems: Systems, data_dir: str | None) -> Dataset:
    runs = [path for paths in systems.values() for path in paths if path.is_dir()]
    if runs:  # of which it sees as many training pairs as they did
        return dataset_of(saved_config(runs[0]), data_dir)
    if data_dir:
        return open_dataset(data_dir)
    raise UserError("--baseline=cca of embeddings needs --data_dir, the dataset to fit it on")


def _require_same_data(dataset: Dataset, scored: Mapping[str, Sequence[Scored]]) -> None:
    for run in (run for runs in scored.values() for run in runs):
        if run.fingerprint not in (None, dataset.fingerprint):
            raise UserError(
                f"--baseline=cca: {dataset.data_dir} holds other data than {run.path} is of, "
                f"fingerprint {dataset.fingerprint[:12]} and {str(run.fingerprint)[:12]}"
            )


def _score_all(systems: Systems, split: str, data_dir: str | None) -> dict[str, list[Scored]]:
    scored: dict[str, list[Scored]] = {name: [] for name in systems}
    runs = [(name, path) for name, paths in systems.items() for path in paths]
    for name, path in progress_bar(runs, desc="runs"):
        scored[name].append(score_run(path, split, data_dir))
    return scored
