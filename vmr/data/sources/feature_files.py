"""Feature files: `{video,music}/<id>.npy`, paired by `{train,validation,test}.csv`.

Each array is one vector (D,) or a sequence (T, D), alike for all files of a modality. Several
videos may share one track. The CSVs may have a column `group`: items of equal group are truly
compatible, paired or not. `extraction.json`, if it is there, tells the extractor of each modality.
Some or all videos may have text: strings in `text.csv`, or embeddings
in `text/<video_id>.npy`, one vector (E,) or a sequence (L, E) per video.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vmr.data.accounts import EXTRACTION_FILE, Account, read_accounts
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.files import composed, other_spelling, read_floats, read_table
from vmr.data.sources.pair_rows import (
    GROUP_COLUMN,
    PAIR_COLUMNS,
    Row,
    read_rows,
    require_one_group,
)
from vmr.data.sources.source import SPLITS, InParts, LeftOut, Source, require_share, split_of
from vmr.errors import UserError

TEXT_COLUMNS = ("video_id", "text")
_PART = 256  # pairs that a worker reads at a time, if there are workers
_NAMED = 3  # further absent ids that a message names after the first


@dataclass(frozen=True)
class FeatureText:
    """Text of a folder of feature files.

    Attributes:
      schema: storage of the text; None if the folder has none.
      of: function from a video id to its text, as in `Pair`; empty if the video has none.
      unused: number of lines of text.csv whose video is in no split.
    """

    schema: Text | None
    of: Callable[[str], str | np.ndarray]
    unused: int = 0


def feature_files(root: Path, held_out: float = 0.0, skip_bad: int = 0) -> Source:
    """Opens a folder of feature files as a source, with a split for each CSV that exists.

    Args:
      root: folder with `video/`, `music/` and `train.csv`.
      held_out: share of the tracks of `train.csv`, with all their videos, that moves to validation,
        and as much to test, by a hash of their ids; 0: none.
      skip_bad: number of pairs that may be left out because a file of theirs is absent or cannot be
        read.

    Raises:
      UserError: a CSV is missing, empty or unusable, repeats a video, or names an id that is absent
        or outside its folder; groups are incomplete or contradict each other; the share held out
        is impossible; the first array or `extraction.json` is unusable; or the text is, see
        `feature_text`.
    """
    if not (root / "train.csv").is_file():
        raise UserError(f"{root / 'train.csv'}: missing, expected columns {','.join(PAIR_COLUMNS)}")
    tables = {
        split: read_rows(root / f"{split}.csv")
        for split in SPLITS
        if (root / f"{split}.csv").is_file()
    }
    left_out = LeftOut(skip_bad)
    # Before anything is written: a missing file should not end a build after an hour.
    _require_files(root, [row for rows in tables.values() for row in rows], skip_bad)
    if held_out:
        require_share(held_out, [f"{split}.csv" for split in tables if split != "train"])
        # By track and not by video: a track in two splits would be leakage.
        tables = _by_track(tables["train"], held_out)
    accounts = read_accounts(root)
    video, music = _modalities(root, tables["train"], accounts, left_out)
    text = feature_text(root, [row.video_id for rows in tables.values() for row in rows])
    return Source(
        name="feature_files",
        description=_description(root, held_out, text.unused),
        licence="that of the feature files, which is not known here",
        schema=Schema(video, music, text=text.schema, has_groups=_has_groups(root, tables)),
        splits={
            split: InParts(
                partial(_pairs, root, video, music, text, left_out),
                [rows[start : start + _PART] for start in range(0, len(rows), _PART)],
                f"{root}: has no pair for {split}",
            )
            for split, rows in tables.items()
        },
        totals={split: len(rows) for split, rows in tables.items()},
        extractors=accounts,
        left_out=left_out,
    )


def _has_groups(root: Path, tables: Mapping[str, list[Row]]) -> bool:
    """True if all CSVs have groups; UserError if only some have, or a track is in two."""
    lacking = [split for split, rows in tables.items() if rows[0].group is None]
    if lacking and len(lacking) < len(tables):
        raise UserError(
            f"{root / lacking[0]}.csv: lacks column {GROUP_COLUMN}, which another CSV beside it "
            "has; expected it in all or none"
        )
    require_one_group(row for rows in tables.values() for row in rows)
    return not lacking


def _require_files(root: Path, rows: list[Row], skip_bad: int) -> None:
    """Refuses, with a UserError that names absent files, more pairs that lack one than may be."""
    absent: dict[Path, str] = {}
    lacking, misspelt = set(), False
    for row in rows:
        for folder, item in (("video", row.video_id), ("music", row.music_id)):
            file = root / folder / f"{item}.npy"
            if file not in absent and _is_file(file, row.line):
                continue
            lacking.add(row.line)
            if file in absent:
                continue
            # macOS stores é as two code points, most tools write it as one.
            there = other_spelling(file)
            hint = f"; one spelt in Unicode's form {there} is: rename either" if there else ""
            misspelt |= bool(hint)
            absent[file] = f"{row.line} names {folder} id {item!r}, but there is no {file}{hint}"
    # A name that is spelt otherwise is there to be mended, not a file that cannot be read.
    if len(lacking) > skip_bad or misspelt:
        first, *more = absent
        named = ", ".join(str(file.relative_to(root)) for file in more[:_NAMED])
        rest = f"; {len(more)} more are absent: {named}" if more else ""
        rest += ", …" if len(more) > _NAMED else ""
        limit = f"; --skip_bad={skip_bad}, but {len(lacking)} pairs lack files" if skip_bad else ""
        raise UserError(f"{absent[first]}{rest}{limit}")


def _is_file(file: Path, line: str) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # a name too long for the file system
        raise UserError(f"{line} names {file.name[:40]}…: {error.strerror}") from None


def _by_track(rows: list[Row], share: float) -> dict[str, list[Row]]:
    """Assigns rows to splits by a hash of the track, so that no track is in two splits."""
    tables: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in rows:
        tables[split_of(row.music_id, share)].append(row)
    for split, of_split in tables.items():
        if not of_split:
            tracks = len({row.music_id for row in rows})
            raise UserError(
                f"--held_out={share}: of {tracks} tracks none falls to {split}; expected another "
                "share, or more tracks"
            )
    return tables


def _description(root: Path, held_out: float, unused_texts: int) -> str:
    text = f"Feature files of the folder `{root.resolve().name}`, paired by its CSV."
    if held_out:
        text += (
            f" Validation and test each hold a share of {held_out:.3g} of the tracks of train.csv, "
            "by a hash of the id."
        )
    if unused_texts:
        text += f" {unused_texts:,} lines of text.csv are of videos in no split, and left out."
    return text


def _pairs(
    root: Path,
    video: Modality,
    music: Modality,
    text: FeatureText,
    left_out: LeftOut,
    rows: list[Row],
) -> Iterator[Pair]:
    for row in rows:
        try:
            pair = Pair(
                video_id=row.video_id,
                music_id=row.music_id,
                video=_load(root / "video" / f"{row.video_id}.npy", video),
                music=_load(root / "music" / f"{row.music_id}.npy", music),
                text=text.of(row.video_id),
                group=row.group or 0,
            )
        except UserError as fault:
            left_out.add(row.line, fault, row.video_id)
            continue
        yield pair


def _modalities(
    root: Path, rows: list[Row], accounts: Mapping[str, Account], left_out: LeftOut
) -> tuple[Modality, Modality]:
    """Storage of video and music by the first pair that can be read; `_load` holds all to it."""
    for row in rows:
        try:
            return (
                _modality(root / "video" / f"{row.video_id}.npy", accounts.get("video")),
                _modality(root / "music" / f"{row.music_id}.npy", accounts.get("music")),
            )
        except UserError as fault:
            left_out.add(row.line, fault, row.video_id)
    raise UserError(f"{root / 'train.csv'}: no pair can be read, expected some")


def _modality(file: Path, account: Account | None) -> Modality:
    array = read_floats(file)
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise UserError(f"{file}: has shape {array.shape}, expected (D,) or (T, D)")
    if account:
        clips = account["clip_seconds"] is not None
        expected = f"({'T, ' if clips else ''}{account['width']}{'' if clips else ','})"
        if array.ndim != 1 + clips or array.shape[-1] != account["width"]:
            raise UserError(
                f"{file}: has shape {array.shape}, expected {expected} by {EXTRACTION_FILE}"
            )
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


def feature_text(root: Path, video_ids: Collection[str]) -> FeatureText:
    """Opens the text of the videos in a folder of feature files.

    Args:
      root: folder with `text.csv`, `text/` or neither.
      video_ids: ids of the videos in all splits.

    Raises:
      UserError: both exist, no video has text, the table is unusable, or an array has no width. The
        function `of` raises it for an array that is unusable or differs in width from the first.
    """
    table, folder = root / "text.csv", root / "text"
    if table.exists() and folder.exists():
        raise UserError(f"{root}: has both text.csv and text/, expected one of them")
    if table.exists():
        return _strings(table, set(video_ids))
    if folder.exists():
        return _embeddings(folder, video_ids)
    return FeatureText(None, partial(_string, {}))


def _strings(table: Path, video_ids: set[str]) -> FeatureText:
    texts = strings_of(table, video_ids)
    unused = len(texts.keys() - video_ids)
    return FeatureText(Text(), partial(_string, texts), unused)


def _string(texts: Mapping[str, str], video_id: str) -> str:
    return texts.get(video_id, "")


def strings_of(table: Path, video_ids: set[str]) -> dict[str, str]:
    """Reads the text of each video from a CSV with the columns of `TEXT_COLUMNS`.

    Args:
      table: the CSV; it may lack some of the videos and have others.
      video_ids: ids of the videos that are to have text.

    Raises:
      UserError: the CSV is unusable, repeats a video, spells an id in another form of Unicode than
        `video_ids`, or has text for none of them.
    """
    texts: dict[str, str] = {}
    # An id in another Unicode form would match no video, and its text would be lost in silence.
    spelt_alike = {composed(video_id) for video_id in video_ids}
    for line, entry in read_table(table, TEXT_COLUMNS):
        video_id = entry["video_id"]
        if not video_id:
            raise UserError(f"{line} has an empty video_id, expected an id")
        if video_id in texts:
            raise UserError(f"{line} repeats video id {video_id!r}, expected each video once")
        if video_id not in video_ids and composed(video_id) in spelt_alike:
            raise UserError(
                f"{line} names video id {video_id!r}, which the videos spell in another form of "
                "Unicode: rename either"
            )
        texts[video_id] = entry["text"]
    if not any(texts.get(video_id) for video_id in video_ids):
        raise UserError(f"{table}: has no text for any video, expected some")
    return texts


def _embeddings(folder: Path, video_ids: Collection[str]) -> FeatureText:
    files = (folder / f"{video_id}.npy" for video_id in video_ids)
    fault = UserError(f"{folder}: has no file <video_id>.npy for any video of the splits")
    for first in filter(Path.is_file, files):
        try:
            width = _sequence(first).shape[1]
        except UserError as unreadable:  # raised again with its pair, which may be left out
            fault = unreadable
            continue
        return FeatureText(Text(width), partial(_embedding, folder, width, first))
    raise fault


def _embedding(folder: Path, width: int, first: Path, video_id: str) -> np.ndarray:
    file = folder / f"{video_id}.npy"
    if not file.is_file():
        # No file means that the text is absent, unless it is there in another Unicode form.
        form = other_spelling(file)
        if form:
            raise UserError(f"{file}: one spelt in Unicode's form {form} is there: rename either")
        return np.zeros((0, width), np.float32)
    sequence = _sequence(file)
    if sequence.shape[1] != width:
        raise UserError(
            f"{file}: has embeddings of width {sequence.shape[1]}, expected {width} like {first}"
        )
    return sequence


def _sequence(file: Path) -> np.ndarray:
    array = read_floats(file)
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise UserError(f"{file}: has shape {array.shape}, expected (E,) or (L, E)")
    if not len(array):
        raise UserError(
            f"{file}: has length 0, expected at least one embedding, or no file for absent text"
        )
    return array.reshape(-1, array.shape[-1])
