"""TFRecord files of features of YouTube videos: their ids, labels and frames, kept by a split.

A record is a tf.train.Example or SequenceExample. What is not kept is told by its id and labels,
and its features are not decoded; what cannot be read is an error, or left out.
"""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from vmr.data.framing import BrokenFrameError, framed_records
from vmr.data.quiet_tensorflow import tf
from vmr.data.schema import Pair
from vmr.data.sequences import message_bounds
from vmr.data.sources.source import SPLITS, InParts, LeftOut, require_share, split_of
from vmr.data.tfrecords import CORRUPT, broken_record, read_records
from vmr.errors import UserError

_ID_KEYS = ("id", "video_id")


def files_of(patterns: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Lists the files of each split: a path that exists, or the sorted matches of a glob.

    Raises:
      UserError: a glob matches nothing.
    """
    return {
        split: [path for pattern in globs for path in _matches(split, pattern)]
        for split, globs in patterns.items()
    }


def _matches(split: str, pattern: str) -> list[Path]:
    paths = sorted(glob.glob(_with_literal_start(pattern), recursive=True))
    if not paths:
        raise UserError(f"--{split}={pattern}: matches no file, expected TFRecord files")
    return [Path(path) for path in paths]


def _with_literal_start(pattern: str) -> str:
    """Escapes the part of a glob that exists on disk: a folder may be called `[a]`."""
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
    left_out: LeftOut,
) -> dict[str, InParts]:
    """Makes a function for each split that yields its pairs; each file is a part.

    Args:
      files: TFRecord files of each split.
      read: function from a record to its pair; raises ValueError that describes a fault.
      labels: label indices, at least one of which a video must carry; None keeps all videos.
      held_out: share of the videos of `train` that moves to validation, and as much to test; 0:
        none.
      left_out: takes the records that cannot be read.

    Raises:
      UserError: the share is impossible. The functions raise it too, for a record that cannot be
        read, with its file and number, and for a split that keeps no video.
    """
    require_share(held_out, [f"--{split}" for split in files if split != "train"])
    # Each split held out reads all of train and decodes its own: three passes, but no memory.
    paths = dict.fromkeys(SPLITS, files["train"]) if held_out else files
    wanted = "" if labels is None else f" with any of the {len(labels)} labels of --labels"
    return {
        split: InParts(
            partial(_pairs, split, read=read, kept=_Kept(labels, held_out), left_out=left_out),
            of_split,
            f"{of_split[0]} and {len(of_split) - 1} more files: hold no video{wanted} for {split}",
        )
        for split, of_split in paths.items()
    }


@dataclass(frozen=True)
class _Kept:
    """Rule by which a record belongs to a split, told by its id and its labels alone."""

    labels: frozenset[int] | None
    held_out: float

    def __call__(self, record: bytes, split: str) -> bool:
        if self.labels is None and not self.held_out:
            return True
        # Features are decoded of what is kept alone: most of a record is its frames.
        context = context_of(record)
        if self.labels is not None and self.labels.isdisjoint(labels_of(context)):
            return False
        return not self.held_out or split_of(video_id_of(context), self.held_out) == split


def _pairs(
    split: str, path: Path, read: Callable[[bytes], Pair], kept: _Kept, left_out: LeftOut
) -> Iterator[Pair]:
    for number, record in sound_records(path, left_out):
        try:
            pair = read(record) if kept(record, split) else None
        except ValueError as fault:
            mistake = UserError(f"{path}: record {number} {fault}")
            left_out.add(place_of(path, number), mistake, _id_of(record))
            continue
        if pair is not None:
            yield pair


def _id_of(record: bytes) -> str:
    """Id of a record; empty if that cannot be read either."""
    try:
        return video_id_of(context_of(record))
    except ValueError:
        return ""


def place_of(path: Path, number: int) -> str:
    """Name of a record by its file and its number there."""
    return f"record {number} of {path}"


def sound_records(path: Path, left_out: LeftOut) -> Iterator[tuple[int, bytes]]:
    """Reads the records of a file with their numbers; leaves out those that fail their checksums.

    Raises:
      UserError: the file cannot be read, or only in part, so that nobody knows how many records are
        lost; or one record too many is corrupt.
    """
    if not left_out.most:
        yield from read_records(path)
        return
    number = 0
    try:
        with path.open("rb") as file:
            for framed in framed_records(file):
                if framed.sound:
                    yield number, framed.record
                else:
                    left_out.add(place_of(path, number), broken_record(path, number, CORRUPT))
                number += 1
    except BrokenFrameError:
        raise broken_record(path, number, "truncated, or corrupt at its head") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not number:
        raise UserError(f"{path}: is empty, expected TFRecords")


def parse(record: bytes) -> tf.train.SequenceExample:
    """Parses a record, an Example or a SequenceExample; raises ValueError if it is neither."""
    # `SequenceExample.context` and `Example.features` share field number 1 and type, so one message
    # class reads both.
    try:
        return tf.train.SequenceExample.FromString(record)
    except DecodeError:
        raise ValueError("is no tf.train.Example or SequenceExample") from None


def context_of(record: bytes) -> Mapping[str, Any]:
    """Context of a record, which has the id and the labels; nothing else of it is parsed.

    Wire format: it is field 1 of the record, and may lie there in several parts (protobuf.dev).

    Raises:
      ValueError: the record is neither an Example nor a SequenceExample.
    """
    parts, view, at = [], memoryview(record), 0
    try:
        while at < len(view):
            start, stop = message_bounds(view, at)
            if view[at] >> 3 == 1:
                parts.append(view[start:stop])
            at = stop
        if at == len(view):
            return tf.train.Features.FromString(b"".join(parts)).feature
    except (DecodeError, IndexError, ValueError):
        pass  # a field that is not expected here
    return parse(record).context.feature


def video_id_of(context: Mapping[str, Any]) -> str:
    """Id of the video, under either of its keys; raises ValueError if there is none."""
    for key in _ID_KEYS:
        if key in context:
            ids = values_of(context, key, "bytes_list")
            if len(ids) != 1 or not ids[0]:
                raise ValueError(f"has {len(ids)} values of {key}, expected one that is not empty")
            return ids[0].decode()
    raise ValueError("has neither id nor video_id, expected one of them")


def labels_of(context: Mapping[str, Any]) -> tuple[int, ...]:
    """Label indices, perhaps none; raises ValueError if they are not stored as integers."""
    return tuple(values_of(context, "labels", "int64_list")) if "labels" in context else ()


def values_of(context: Mapping[str, Any], key: str, kind: str) -> Sequence[Any]:
    """Values of a feature of a record, perhaps none.

    Args:
      context: features of the record.
      key: name of the feature.
      kind: expected type, `bytes_list`, `float_list` or `int64_list`.

    Raises:
      ValueError: the values are of another type, for which protobuf would return no value.
    """
    stored = context[key].WhichOneof("kind")
    if stored not in (None, kind):
        raise ValueError(f"has {key} stored as {stored}, expected {kind}")
    return getattr(context[key], kind).value


def frames_of(lists: Mapping[str, Any], key: str, width: int) -> np.ndarray:
    """Joins frames stored as bytes values: (T, width) uint8; raises ValueError if malformed."""
    if key not in lists:
        raise ValueError(f"has no {key}, expected frames of {width} bytes (a frame-level record)")
    content = [b"".join(values_of({key: frame}, key, "bytes_list")) for frame in lists[key].feature]
    for second, frame in enumerate(content):
        if len(frame) != width:
            raise ValueError(f"has {len(frame)} bytes in frame {second} of {key}, expected {width}")
    # One array over one buffer, instead of up to 300 small arrays.
    return np.frombuffer(b"".join(content), np.uint8).reshape(-1, width)
