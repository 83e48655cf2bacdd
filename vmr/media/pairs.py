"""Pairs of media files: the videos and tracks to extract, each once, and which go together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vmr.data.sources.files import composed
from vmr.data.sources.pair_rows import Row, read_rows, require_one_group
from vmr.data.sources.source import SPLITS
from vmr.errors import UserError
from vmr.media.files import MediaFiles, media_files

OWN_SOUND = "own_sound"


class Item(NamedTuple):
    """Video or track to extract.

    Attributes:
      side: `video` or `music`.
      id: name of its features, below the folder of its side.
      file: media file; that of a video for a track which is the video's own sound.
    """

    side: str
    id: str
    file: Path


@dataclass(frozen=True)
class Pairs:
    """Pairs whose media files are there.

    Attributes:
      rows: the pairs, each with a split, in the order of their CSV or of their ids.
      items: their videos and tracks, each once, in the order of sides and ids.
      note: account of what is left out; empty if nothing is.
    """

    rows: tuple[Row, ...]
    items: tuple[Item, ...]
    note: str = ""


def pairs_of(pairs: str, videos: Path, music: Path | None = None) -> Pairs:
    """Lists the pairs of folders of media files.

    Args:
      pairs: `own_sound`, where the sound of each video is its track, or a CSV with the columns
        `video_id,music_id` and perhaps `split` and `group`.
      videos: folder of the videos; the id of a file is its path below the folder without suffix.
      music: folder of the tracks; None to look for them among the videos.

    Raises:
      UserError: a folder or the CSV is unusable, or no pair has both its files.
    """
    if pairs != OWN_SOUND:
        return _of_table(Path(pairs), videos, music)
    if music is not None:
        raise UserError(f"--music={music}: with --pairs=own_sound the videos are the music")
    files = media_files(videos, "video")
    rows = tuple(Row(str(file), id, id, split="train") for id, file in files.items())
    return Pairs(rows, _items(rows, files, files), _told_others(videos, "video", files))


def _of_table(table: Path, videos: Path, music: Path | None) -> Pairs:
    if not table.exists():
        raise UserError(f"--pairs={table}: no such file, expected a CSV or {OWN_SOUND}")
    rows = [_with_split(row) for row in read_rows(table, splits=True)]
    require_one_group(rows)
    _require_one_spelling(rows)
    of_videos = media_files(videos, "video")
    of_music = of_videos if music is None else media_files(music, "music")
    absent = [
        (row, side, id)
        for row in rows
        for side, id, files in (
            ("video", row.video_id, of_videos),
            ("music", row.music_id, of_music),
        )
        # Media files have ids in composed form; macOS spells é as two code points.
        if composed(id) not in files
    ]
    without = {row.video_id for row, _, _ in absent}
    there = [row for row in rows if row.video_id not in without]
    told = _told_absent(absent, len(without))
    if not there:
        raise UserError(f"{table}: no pair has both its files in {videos}{_and(music)}: {told}")
    items = _items(there, of_videos, of_music)
    unused = len({*of_videos.values(), *of_music.values()} - {item.file for item in items})
    left_out = _told_unused(unused)
    others = [_told_others(videos, "video", of_videos)]
    if music is not None and music.resolve() != videos.resolve():
        others.append(_told_others(music, "music", of_music))
    return Pairs(tuple(there), items, "; ".join(filter(None, (told, left_out, *others))))


def _told_others(folder: Path, side: str, files: MediaFiles) -> str:
    if not files.others:
        return ""
    others = f"{files.others:,} other files" if files.others > 1 else "1 other file"
    return f"{others} in {folder} left out: no {side}"


def _told_unused(count: int) -> str:
    if count > 1:
        return f"{count:,} media files are in no pair, and left out"
    return "1 media file is in no pair, and left out" if count else ""


def _with_split(row: Row) -> Row:
    if row.split is None:
        return replace(row, split="train")
    if row.split not in SPLITS:
        raise UserError(f"{row.line} has split {row.split!r}, expected one of {', '.join(SPLITS)}")
    return row


def _require_one_spelling(rows: Iterable[Row]) -> None:
    """Refuses an id that rows spell in two forms of Unicode: it would be extracted twice."""
    spellings: dict[tuple[str, str], str] = {}
    for row in rows:
        for side, id in (("video", row.video_id), ("music", row.music_id)):
            if spellings.setdefault((side, composed(id)), id) != id:
                raise UserError(
                    f"{row.line} names {side} id {id!r}, which another line spells in another "
                    "form of Unicode: expected one spelling"
                )


def _told_absent(absent: Sequence[tuple[Row, str, str]], count: int) -> str:
    if not absent:
        return ""
    row, side, id = absent[0]
    pairs = f"{count:,} pairs lack a file and are" if count > 1 else "1 pair lacks a file and is"
    return (
        f"{pairs} left out: {row.line} names {side} id {id!r}, of which there is none (an id is "
        "the path below the folder, without suffix)"
    )


def _and(music: Path | None) -> str:
    return "" if music is None else f" and {music}"


def _items(
    rows: Sequence[Row], videos: Mapping[str, Path], music: Mapping[str, Path]
) -> tuple[Item, ...]:
    """Videos and tracks of the pairs, each once; files are by ids in composed form."""
    return (
        *(Item("video", id, videos[composed(id)]) for id in sorted(row.video_id for row in rows)),
        *(Item("music", id, music[composed(id)]) for id in sorted({row.music_id for row in rows})),
    )
