"""What the records of YouTube-8M and of AudioSet have in common: ids, labels, frames as bytes.

Both are tf.train.Example or SequenceExample in TFRecord files, made from videos of YouTube. A
video's own sound is its track, so the track has the video's id.
"""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from vmr.data.held_out import require_share, split_of
from vmr.data.records import read_records
from vmr.data.schema import Pair
from vmr.data.source import SPLITS
from vmr.errors import UserError

MUSIC_WIDTH = 128
_ID_KEYS = ("id", "video_id")

Splits = dict[str, Callable[[], Iterator[Pair]]]


def files_of(patterns: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """The files of each split in order, a path that exists or the matches of a glob.

    Raises:
      UserError: a glob matches nothing.
    """
    return {
        split: [path for pattern in globs for path in _matches(split, pattern)]
        for split, globs in patterns.items()
    }


def _matches(split: str, pattern: str) -> list[Path]:
    found = sorted(glob.glob(_with_literal_start(pattern), recursive=True))
    if not found:
        raise UserError(f"--{split}={pattern}: matches no file, expected TFRecord files")
    return [Path(path) for path in found]


def _with_literal_start(pattern: str) -> str:
    """The pattern, of which as much as there is on disk is a path, whatever its characters."""
    path = Path(pattern)
    for start in (path, *path.parents):
        if start.exists():
            rest = path.relative_to(start)
            return str(Path(glob.escape(str(start))) / rest)
    return pattern


def splits_of(
    files: Mapping[str, Sequence[Path]],
    read: Callable[[bytes], Pair],
    labels: frozenset[int] | None,
    held_out: float,
) -> Splits:
    """By name, a function that yields the pairs of the split.

    Args:
      files: of each split.
      read: a record to its pair; raises ValueError that says what is wrong with the record.
      labels: keep videos with at least one of these labels; None keeps all.
      held_out: share of the videos of `train` that validation takes, and test again; 0: none.

    Raises:
      UserError: the share is impossible. The functions raise it, with file and number, for a record
        that cannot be read, and for a split that keeps no video.
    """
    require_share(held_out, [f"--{split}" for split in files if split != "train"])
    paths = dict.fromkeys(SPLITS, files["train"]) if held_out else files
    return {
        split: partial(_pairs, split, of_split, read, labels, held_out)
        for split, of_split in paths.items()
    }


def _pairs(
    split: str,
    paths: Sequence[Path],
    read: Callable[[bytes], Pair],
    labels: frozenset[int] | None,
    held_out: float,
) -> Iterator[Pair]:
    kept = 0
    for path in paths:
        for number, record in read_records(path):
            try:
                pair = read(record)
            except ValueError as fault:
                raise UserError(f"{path}: record {number} {fault}") from None
            labelled = labels is None or not labels.isdisjoint(pair.labels)
            if labelled and (not held_out or split_of(pair.video_id, held_out) == split):
                kept += 1
                yield pair
    if not kept:
        wanted = "" if labels is None else f" with any of the {len(labels)} labels of --labels"
        raise UserError(
            f"{paths[0]} and {len(paths) - 1} more files: hold no video{wanted} for {split}"
        )


def describe_kept(labels: frozenset[int] | None, held_out: float) -> str:
    """Which videos of the files a dataset holds, in words."""
    kept = "all videos" if labels is None else f"videos with at least one of {len(labels)} labels"
    if not held_out:
        return kept
    share = f"a share of {held_out:.3g} by a hash of the id"
    return f"{kept}, of which validation and test each hold {share}"


def parse(record: bytes) -> tf.train.SequenceExample:
    """A record of either kind; raises ValueError if it is neither."""
    # Context and features share field number 1, so this message reads both.
    try:
        return tf.train.SequenceExample.FromString(record)
    except DecodeError:
        raise ValueError("is no tf.train.Example or SequenceExample") from None


def video_id_of(context: Mapping[str, Any]) -> str:
    """The id, under either of its names; raises ValueError where there is none."""
    for key in _ID_KEYS:
        if key in context:
            ids = values_of(context, key, "bytes_list")
            if len(ids) != 1 or not ids[0]:
                raise ValueError(f"has {len(ids)} values of {key}, expected one that is not empty")
            return ids[0].decode()
    raise ValueError("has neither id nor video_id, expected one of them")


def labels_of(context: Mapping[str, Any]) -> tuple[int, ...]:
    """The label indices, as many as there are; raises ValueError where they are no integers."""
    return tuple(values_of(context, "labels", "int64_list")) if "labels" in context else ()


def values_of(context: Mapping[str, Any], key: str, kind: str) -> Sequence[Any]:
    """The values of a feature, which may be none.

    Args:
      context: of the record, in which the feature is.
      key: the feature's name.
      kind: `bytes_list`, `float_list` or `int64_list`.

    Raises:
      ValueError: they are stored as another kind; protobuf would give no value at all.
    """
    stored = context[key].WhichOneof("kind")
    if stored not in (None, kind):
        raise ValueError(f"has {key} stored as {stored}, expected {kind}")
    return getattr(context[key], kind).value


def frames_of(lists: Mapping[str, Any], key: str, width: int) -> np.ndarray:
    """Frames, one bytes value each: (T, `width`) uint8; raises ValueError if they are not so."""
    if key not in lists:
        raise ValueError(f"has no {key}, expected frames of {width} bytes (a frame-level record)")
    content = [b"".join(values_of({key: frame}, key, "bytes_list")) for frame in lists[key].feature]
    for second, frame in enumerate(content):
        if len(frame) != width:
            raise ValueError(f"has {len(frame)} bytes in frame {second} of {key}, expected {width}")
    return np.frombuffer(b"".join(content), np.uint8).reshape(-1, width)
