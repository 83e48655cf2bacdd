"""Rows of a CSV that pairs videos with tracks: ids, and optionally groups and splits."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmr.data.sources.files import read_table
from vmr.errors import UserError

PAIR_COLUMNS = ("video_id", "music_id")
GROUP_COLUMN = "group"
SPLIT_COLUMN = "split"


@dataclass(frozen=True, slots=True)
class Row:
    """Pair of ids in a CSV.

    Attributes:
      line: file and line that hold it, for messages.
      video_id, music_id: the ids.
      group: number of the group of compatible items; None if the CSV has no groups.
      split: name of the split; None if the CSV has no splits, or they were not asked for.
    """

    line: str
    video_id: str
    music_id: str
    group: int | None = None
    split: str | None = None


def read_rows(file: Path, splits: bool = False) -> list[Row]:
    """Reads the rows of a CSV, at least one.

    Args:
      file: the CSV.
      splits: True to read the column `split`, if it is there.

    Raises:
      UserError: the CSV is unusable or empty, a video comes twice, an id is empty or leads out of
        its folder, or a group is no number.
    """
    rows: list[Row] = []
    lines: dict[str, str] = {}
    optional = [GROUP_COLUMN, SPLIT_COLUMN] if splits else [GROUP_COLUMN]
    for line, entry in read_table(file, PAIR_COLUMNS, optional):
        row = _row(line, entry)
        if row.video_id in lines:
            raise UserError(
                f"{line} repeats video id {row.video_id!r} of "
                f"{lines[row.video_id].removeprefix(f'{file}: ')}, expected each video once"
            )
        lines[row.video_id] = line
        rows.append(row)
    if not rows:
        raise UserError(f"{file}: has no rows, expected at least one pair")
    return rows


def _row(line: str, entry: Mapping[str, str]) -> Row:
    group = _group(line, entry[GROUP_COLUMN]) if GROUP_COLUMN in entry else None
    row = Row(line, entry["video_id"], entry["music_id"], group, entry.get(SPLIT_COLUMN))
    for folder, item in (("video", row.video_id), ("music", row.music_id)):
        if not item:
            raise UserError(f"{line} has an empty {folder}_id, expected an id")
        # Judged by its name, not resolved: a file may be a symbolic link to a larger disk.
        if Path(item).is_absolute() or ".." in Path(item).parts:
            raise UserError(
                f"{line} names {folder} id {item!r}, which leads out of the folder of {folder} "
                "files, expected a path below it"
            )
    return row


def _group(line: str, value: str) -> int:
    # Stored in 64 bits.
    if not re.fullmatch(r"-?[0-9]{1,19}", value) or not -(2**63) <= int(value) < 2**63:
        raise UserError(f"{line} has {GROUP_COLUMN} {value!r}, expected a whole number")
    return int(value)


def require_one_group(rows: Iterable[Row]) -> None:
    """Refuses a track whose rows are in two groups, with a UserError that names both lines."""
    first_rows: dict[str, Row] = {}
    for row in rows:
        first = first_rows.setdefault(row.music_id, row)
        if row.group != first.group:
            raise UserError(
                f"{row.line} has music id {row.music_id!r} in group {row.group}, "
                f"{first.line} in group {first.group}: expected one group for a track"
            )
