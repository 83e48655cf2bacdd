"""Feature files: `{video,music}/<id>.npy` and `{train,validation,test}.csv` that pair them.

Each array is one vector (D,) or a sequence (T, D), the same for all files of a modality. Several
videos may go with one track. Text may come with the videos, see `vmr.data.feature_text`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vmr.data.csv_table import read_table
from vmr.data.feature_text import FeatureText, feature_text
from vmr.data.npy import read_floats
from vmr.data.schema import Modality, Pair, Schema
from vmr.data.source import SPLITS, Source
from vmr.errors import UserError

COLUMNS = ("video_id", "music_id")


@dataclass(frozen=True)
class _Row:
    """A line of a CSV: which video goes with which track."""

    video_id: str
    music_id: str


def feature_files(root: Path) -> Source:
    """A folder of feature files as a source; the splits are those whose CSV exists.

    Args:
      root: the folder with `video/`, `music/` and `train.csv`.

    Raises:
      UserError: a CSV is missing, empty, lacks a column, repeats a video or names an id that is
        absent or outside its folder, the first array is unusable, or text is not as
        `vmr.data.feature_text` says.
    """
    if not (root / "train.csv").is_file():
        raise UserError(f"{root / 'train.csv'}: missing, expected columns {','.join(COLUMNS)}")
    tables = {
        split: _read_rows(root, root / f"{split}.csv")
        for split in SPLITS
        if (root / f"{split}.csv").is_file()
    }
    first = tables["train"][0]
    video = _modality(root / "video" / f"{first.video_id}.npy")
    music = _modality(root / "music" / f"{first.music_id}.npy")
    text = feature_text(root, [row.video_id for rows in tables.values() for row in rows])
    return Source(
        name="feature_files",
        description=f"Feature files of the folder `{root.resolve().name}`, paired by its CSV.",
        licence="that of the feature files, which is not known here",
        schema=Schema(video, music, text=text.schema),
        splits={
            split: partial(_pairs, root, rows, video, music, text) for split, rows in tables.items()
        },
        totals={split: len(rows) for split, rows in tables.items()},
    )


def _read_rows(root: Path, file: Path) -> list[_Row]:
    rows: list[_Row] = []
    places: dict[str, str] = {}
    for place, entry in read_table(file, COLUMNS):
        row = _row(root, place, entry)
        if row.video_id in places:
            raise UserError(
                f"{place} repeats video id {row.video_id!r} of "
                f"{places[row.video_id].removeprefix(f'{file}: ')}, expected each video once"
            )
        places[row.video_id] = place
        rows.append(row)
    if not rows:
        raise UserError(f"{file}: has no rows, expected at least one pair")
    return rows


def _row(root: Path, place: str, entry: dict[str, str]) -> _Row:
    row = _Row(entry["video_id"], entry["music_id"])
    for folder, item in (("video", row.video_id), ("music", row.music_id)):
        if not item:
            raise UserError(f"{place} has an empty {folder}_id, expected an id")
        # By its name alone: a file inside may be a link to where there is more room.
        if Path(item).is_absolute() or ".." in Path(item).parts:
            raise UserError(
                f"{place} names {folder} id {item!r}, which leads out of {root / folder}"
            )
        file = root / folder / f"{item}.npy"
        if not file.is_file():
            raise UserError(f"{place} names {folder} id {item!r}, but there is no {file}")
    return row


def _pairs(
    root: Path, rows: list[_Row], video: Modality, music: Modality, text: FeatureText
) -> Iterator[Pair]:
    for row in rows:
        yield Pair(
            video_id=row.video_id,
            music_id=row.music_id,
            video=_load(root / "video" / f"{row.video_id}.npy", video),
            music=_load(root / "music" / f"{row.music_id}.npy", music),
            text=text.of(row.video_id),
        )


def _modality(file: Path) -> Modality:
    array = read_floats(file)
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise UserError(f"{file}: has shape {array.shape}, expected (D,) or (T, D)")
    return Modality(width=array.shape[-1], sequence=array.ndim == 2)


def _load(file: Path, modality: Modality) -> np.ndarray:
    array = read_floats(file)
    expected = f"(T, {modality.width})" if modality.sequence else f"({modality.width},)"
    if array.ndim != 1 + modality.sequence or array.shape[-1] != modality.width:
        raise UserError(
            f"{file}: has shape {array.shape}, expected {expected} like the first file of its kind"
        )
    if not len(array):
        raise UserError(f"{file}: has length 0, expected at least one clip")
    return array
