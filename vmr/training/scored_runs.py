"""A run, or anybody's embeddings, scored query by query; two of them found to ask the same."""

import pathlib
from dataclasses import dataclass

import numpy as np

from vmr import embeddings
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import pair_ranks
from vmr.evaluation.comparison import chance
from vmr.evaluation.metrics import table_values
from vmr.training.inference import restore_run


@dataclass(frozen=True)
class Scored:
    """One run's values, its queries in the order of their ids.

    Attributes:
      path: of the run.
      step: of its checkpoint, if known.
      pairing: what is sought with what, as `config.pairing` says.
      fingerprint: of the dataset, if known.
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
      split: of the dataset.
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
      embedded: of a split.

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
    """As the config in the file says; without one, as all embeddings of others are."""
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
