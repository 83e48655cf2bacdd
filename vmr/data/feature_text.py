"""Text beside feature files: `text.csv` with strings, or `text/<video_id>.npy` with embeddings.

Not every video has to have text. Embeddings are one vector (E,) or a sequence (L, E) a video.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vmr.data.csv_table import read_table
from vmr.data.npy import read_floats
from vmr.data.schema import Text
from vmr.data.spelling import composed, other_spelling
from vmr.errors import UserError

COLUMNS = ("video_id", "text")


@dataclass(frozen=True)
class FeatureText:
    """The text of a folder of feature files.

    Attributes:
      schema: how it is stored; None where there is none.
      of: the text of the video with an id, as `Pair` holds it; empty where the video has none.
      unused: lines of the table whose video is in no split.
    """

    schema: Text | None
    of: Callable[[str], str | np.ndarray]
    unused: int = 0


def feature_text(root: Path, video_ids: Collection[str]) -> FeatureText:
    """The text that lies in a folder of feature files.

    Args:
      root: the folder with `text.csv`, `text/` or neither.
      video_ids: of the videos in all splits.

    Raises:
      UserError: there are both, no video has text, the table is unusable, or an array has no width.
        `of` raises it for an array that is unusable or of another width than the first.
    """
    table, folder = root / "text.csv", root / "text"
    if table.exists() and folder.exists():
        raise UserError(f"{root}: has both text.csv and text/, expected one of them")
    if table.exists():
        return _strings(table, set(video_ids))
    if folder.exists():
        return _embeddings(folder, video_ids)
    return FeatureText(None, lambda video_id: "")


def _strings(table: Path, video_ids: set[str]) -> FeatureText:
    texts: dict[str, str] = {}
    spelt_alike = {composed(video_id) for video_id in video_ids}
    for place, entry in read_table(table, COLUMNS):
        video_id = entry["video_id"]
        if not video_id:
            raise UserError(f"{place} has an empty video_id, expected an id")
        if video_id in texts:
            raise UserError(f"{place} repeats video id {video_id!r}, expected each video once")
        if video_id not in video_ids and composed(video_id) in spelt_alike:
            raise UserError(
                f"{place} names video id {video_id!r}, which the splits spell in another form of "
                "Unicode: rename either"
            )
        texts[video_id] = entry["text"]
    if not any(texts.get(video_id) for video_id in video_ids):
        raise UserError(f"{table}: has no text for any video of the splits, expected some")
    unused = len(texts.keys() - video_ids)
    return FeatureText(Text(), lambda video_id: texts.get(video_id, ""), unused)


def _embeddings(folder: Path, video_ids: Collection[str]) -> FeatureText:
    files = (folder / f"{video_id}.npy" for video_id in video_ids)
    first = next((file for file in files if file.is_file()), None)
    if first is None:
        raise UserError(f"{folder}: has no file <video_id>.npy for any video of the splits")
    width = _sequence(first).shape[1]
    return FeatureText(Text(width), partial(_embedding, folder, width, first))


def _embedding(folder: Path, width: int, first: Path, video_id: str) -> np.ndarray:
    file = folder / f"{video_id}.npy"
    if not file.is_file():
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
