"""Feature files: `{video,music}/<id>.npy` and `{train,validation,test}.csv` that pair them.

Each array is one vector (D,) or a sequence (T, D), the same for all files of a modality. Several
videos may go with one track.
"""

import csv
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX, read_array

from vmr.data.schema import Modality, Pair, Schema
from vmr.data.source import SPLITS, Source
from vmr.errors import UserError

COLUMNS = ("video_id", "music_id")

# What numpy raises, beside ValueError, for a header that is no header or a shape beyond all memory.
_HEADER_FAULTS = (tokenize.TokenError, SyntaxError, TypeError, OverflowError, MemoryError)


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
      UserError: a CSV is missing, empty, lacks a column, repeats a video or names an absent id,
        or the first array is unusable.
    """
    if not (root / "train.csv").is_file():
        raise UserError(f"{root / 'train.csv'}: missing, expected columns {','.join(COLUMNS)}")
    tables = {
        split: _read_table(root, root / f"{split}.csv")
        for split in SPLITS
        if (root / f"{split}.csv").is_file()
    }
    first = tables["train"][0]
    video = _modality(root / "video" / f"{first.video_id}.npy")
    music = _modality(root / "music" / f"{first.music_id}.npy")
    return Source(
        name="feature_files",
        description=f"Feature files of the folder `{root.resolve().name}`, paired by its CSV.",
        licence="that of the feature files, which is not known here",
        schema=Schema(video, music),
        splits={split: partial(_pairs, root, rows, video, music) for split, rows in tables.items()},
        totals={split: len(rows) for split, rows in tables.items()},
    )


def _read_table(root: Path, file: Path) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    try:
        # A CSV saved by a spreadsheet may begin with a byte order mark.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.DictReader(opened)
            _require_columns(file, table.fieldnames)
            for entry in table:
                row = _row(root, f"{file}: line {table.line_num}", entry)
                if row.video_id in lines:
                    raise UserError(
                        f"{file}: line {table.line_num} repeats video id {row.video_id!r} of line "
                        f"{lines[row.video_id]}, expected each video once"
                    )
                lines[row.video_id] = table.line_num
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as CSV: {error}") from None
    if not rows:
        raise UserError(f"{file}: has no rows, expected at least one pair")
    return rows


def _require_columns(file: Path, columns: Sequence[str] | None) -> None:
    missing = [name for name in COLUMNS if name not in (columns or ())]
    if missing:
        raise UserError(
            f"{file}: lacks column {', '.join(missing)}; its first line is "
            f"{','.join(columns or ())!r}, expected {','.join(COLUMNS)}"
        )


def _row(root: Path, place: str, entry: dict[str, str | None]) -> _Row:
    row = _Row((entry["video_id"] or "").strip(), (entry["music_id"] or "").strip())
    for folder, item in (("video", row.video_id), ("music", row.music_id)):
        if not item:
            raise UserError(f"{place} has an empty {folder}_id, expected an id")
        file = root / folder / f"{item}.npy"
        if not file.is_file():
            raise UserError(f"{place} names {folder} id {item!r}, but there is no {file}")
    return row


def _pairs(root: Path, rows: list[_Row], video: Modality, music: Modality) -> Iterator[Pair]:
    for row in rows:
        yield Pair(
            video_id=row.video_id,
            music_id=row.music_id,
            video=_load(root / "video" / f"{row.video_id}.npy", video),
            music=_load(root / "music" / f"{row.music_id}.npy", music),
        )


def _modality(file: Path) -> Modality:
    array = _read_array(file)
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise UserError(f"{file}: has shape {array.shape}, expected (D,) or (T, D)")
    return Modality(width=array.shape[-1], sequence=array.ndim == 2)


def _load(file: Path, modality: Modality) -> np.ndarray:
    array = _read_array(file)
    expected = f"(T, {modality.width})" if modality.sequence else f"({modality.width},)"
    if array.ndim != 1 + modality.sequence or array.shape[-1] != modality.width:
        raise UserError(
            f"{file}: has shape {array.shape}, expected {expected} like the first file of its kind"
        )
    return array


def _read_array(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as opened:
            # np.load would take whatever begins otherwise for a pickle or an archive.
            if opened.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise UserError(f"{file}: is no npy file, expected an array saved by numpy.save")
            opened.seek(0)
            array = read_array(opened, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read as npy: {reason}") from None
    except _HEADER_FAULTS:
        raise UserError(f"{file}: cannot be read as npy: its header is cut or corrupt") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{file}: holds {array.dtype}, expected an array of real numbers")
    # A number beyond float32 becomes inf, which validation reports with its id.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
