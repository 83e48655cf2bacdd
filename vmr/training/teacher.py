"""Teacher of a distilled run: embeddings of the training split, of one model or of an ensemble."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from vmr import embeddings
from vmr.data.dataset import Dataset
from vmr.data.items import pair_ids
from vmr.errors import UserError

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TeacherRows:
    """Teacher embeddings of every video and track that a run trains on, by their ids.

    Attributes:
      account: `file`, the name of the npz; `model`, the fingerprint of the model that wrote it, or
        None; `content`, SHA-256 of the ids and the embeddings.
      video: (N, T) float32 unit rows.
      music: (M, T) float32 unit rows.
      video_row: row of each video id.
      music_row: row of each track id.
    """

    account: Mapping[str, Any]
    video: np.ndarray
    music: np.ndarray
    video_row: Mapping[str, int]
    music_row: Mapping[str, int]

    def of(self, batch: Batch) -> dict[str, np.ndarray]:
        """`video_teacher` (n, T) and `music_teacher` (n, T) of the items of a batch, by its ids."""
        videos = [self.video_row[item] for item in batch["video_id"]]
        tracks = [self.music_row[item] for item in batch["music_id"]]
        return {"video_teacher": self.video[videos], "music_teacher": self.music[tracks]}


def teacher_of(config: ml_collections.ConfigDict, dataset: Dataset) -> TeacherRows | None:
    """Teacher of `config.loss.teacher`; None if the config distils nothing.

    Args:
      config: config of a run.
      dataset: dataset of the run, its training split cut to what it trains on.

    Raises:
      UserError: the file is missing, damaged, of another split or of other data, or lacks an item
        of the training split.
    """
    if config.loss.inter != "distillation":
        return None
    path = pathlib.Path(config.loss.teacher).expanduser()
    try:
        teacher = embeddings.load(path)
        split, meta = teacher.split, teacher.meta
        if split not in ("", "train"):
            raise UserError(f"holds the split {split!r}, expected 'train': export --split=train")
        there = meta.get("dataset_fingerprint")
        if there not in (None, dataset.fingerprint):
            raise UserError(
                f"is of other data: dataset fingerprint {str(there)[:12]} there, "
                f"{dataset.fingerprint[:12]} in {dataset.data_dir}"
            )
        return _rows(path, teacher, dataset)
    except UserError as mistake:
        raise UserError(f"config.loss.teacher={config.loss.teacher}: {mistake}") from None


def _rows(path: pathlib.Path, teacher: embeddings.Embeddings, dataset: Dataset) -> TeacherRows:
    rows = TeacherRows(
        account={
            "file": path.name,
            "model": teacher.meta.get("model"),
            "content": _content(teacher),
        },
        video=teacher.video_emb,
        music=teacher.music_emb,
        video_row={str(item): row for row, item in enumerate(teacher.video_ids)},
        music_row={str(item): row for row, item in enumerate(teacher.music_ids)},
    )
    if len(rows.video_row) != len(teacher.video_ids):
        raise UserError("its video_ids are not unique")
    _require_all(rows, dataset)
    return rows


def _require_all(rows: TeacherRows, dataset: Dataset) -> None:
    """Raises UserError that counts the training items without a row and names the first."""
    absent: dict[str, list[str]] = {"video": [], "music": []}
    tracks = set()
    for video, music in pair_ids(dataset, "train"):
        if video not in rows.video_row:
            absent["video"].append(video)
        if music not in rows.music_row and music not in tracks:
            absent["music"].append(music)
        tracks.add(music)
    for side, items in absent.items():
        if items:
            raise UserError(
                f"has no embedding of {len(items):,} {side} items of the training split of "
                f"{dataset.data_dir}, first {items[0]!r}"
            )


def _content(teacher: embeddings.Embeddings) -> str:
    digest = hashlib.sha256()
    for name in ("video_ids", "music_ids", "video_emb", "music_emb"):
        array = np.ascontiguousarray(getattr(teacher, name))
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
