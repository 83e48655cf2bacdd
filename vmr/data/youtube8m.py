"""YouTube-8M records, video level and frame level, of the 2017 and 2018 releases.

Video level: tf.train.Example with `mean_rgb` (1024) and `mean_audio` (128) floats. Frame level:
tf.train.SequenceExample with one `rgb` and one `audio` bytes value a second, at most 300. The id
is called `video_id` before May 2018 and `id` since. A video's own sound is its track, so the
track has the video's id. Source: https://research.google.com/youtube8m/download.html
"""

import glob
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from vmr.data.records import read_records
from vmr.data.schema import Modality, Pair, Schema
from vmr.data.source import Source
from vmr.errors import UserError

VIDEO_WIDTH = 1024
MUSIC_WIDTH = 128
MAX_FRAMES = 300
_ID_KEYS = ("id", "video_id")


def youtube8m(
    patterns: Mapping[str, Sequence[str]], labels: frozenset[int] | None = None
) -> Source:
    """YouTube-8M shards as a source; the first record tells video level from frame level.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: keep videos with at least one of these labels; None keeps all.

    Raises:
      UserError: a glob matches nothing, no file holds a record, or the first record is no
        YouTube-8M record.
    """
    files = {split: _matches(split, globs) for split, globs in patterns.items()}
    frames = _is_frame_level([path for paths in files.values() for path in paths])
    kept = "all videos" if labels is None else f"videos with at least one of {len(labels)} labels"
    return Source(
        name="youtube8m",
        description=(
            f"YouTube-8M, {'frame' if frames else 'video'}-level features, {kept}. Video: "
            "Inception features of the frames; music: VGGish features of the same video's sound. "
            "Source: https://research.google.com/youtube8m"
        ),
        licence="CC BY 4.0 (YouTube-8M)",
        schema=Schema(
            Modality(VIDEO_WIDTH, sequence=frames, quantized=frames),
            Modality(MUSIC_WIDTH, sequence=frames, quantized=frames),
            has_labels=True,
        ),
        splits={split: partial(_pairs, paths, frames, labels) for split, paths in files.items()},
    )


def _matches(split: str, globs: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in globs:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise UserError(f"--{split}={pattern}: matches no file, expected TFRecord files")
        paths += map(Path, found)
    return paths


def _is_frame_level(paths: Sequence[Path]) -> bool:
    for path in paths:
        for _, record in read_records(path):
            try:
                return bool(tf.train.SequenceExample.FromString(record).feature_lists.feature_list)
            except DecodeError:
                raise UserError(
                    f"{path}: record 0 is no tf.train.Example or SequenceExample"
                ) from None
    raise UserError(
        f"{paths[0]} and {len(paths) - 1} more files: hold no record, expected YouTube-8M records"
    )


def _pairs(paths: Sequence[Path], frames: bool, labels: frozenset[int] | None) -> Iterator[Pair]:
    kept = 0
    for path in paths:
        for number, record in read_records(path):
            try:
                pair = _pair(record, frames)
            except ValueError as fault:
                raise UserError(f"{path}: record {number} {fault}") from None
            if labels is None or not labels.isdisjoint(pair.labels):
                kept += 1
                yield pair
    if not kept:
        wanted = "" if labels is None else f" with any of the {len(labels)} labels of --labels"
        raise UserError(f"{paths[0]} and {len(paths) - 1} more files: hold no video{wanted}")


def _pair(record: bytes, frames: bool) -> Pair:
    # Context and features share field number 1, so this message reads both kinds of record.
    try:
        example = tf.train.SequenceExample.FromString(record)
    except DecodeError:
        raise ValueError("is no tf.train.Example or SequenceExample") from None
    context = example.context.feature
    video_id = _video_id(context)
    if frames:
        lists = example.feature_lists.feature_list
        video = _frames(lists, "rgb", VIDEO_WIDTH)
        music = _frames(lists, "audio", MUSIC_WIDTH)
        if len(video) != len(music):
            raise ValueError(
                f"has {len(video)} frames of rgb but {len(music)} of audio, expected one a second "
                "of both"
            )
    else:
        video = _vector(context, "mean_rgb", VIDEO_WIDTH)
        music = _vector(context, "mean_audio", MUSIC_WIDTH)
    labels = tuple(context["labels"].int64_list.value)
    return Pair(video_id, video_id, video, music, labels=labels)


def _video_id(context: Mapping[str, Any]) -> str:
    for key in _ID_KEYS:
        if key in context and context[key].bytes_list.value:
            return context[key].bytes_list.value[0].decode()
    raise ValueError("has neither id nor video_id, expected one of them")


def _vector(context: Mapping[str, Any], key: str, width: int) -> np.ndarray:
    if key not in context:
        raise ValueError(f"has no {key}, expected {width} floats (a video-level record)")
    vector = np.array(context[key].float_list.value, np.float32)
    if len(vector) != width:
        raise ValueError(f"has {len(vector)} numbers in {key}, expected {width}")
    return vector


def _frames(lists: Mapping[str, Any], key: str, width: int) -> np.ndarray:
    if key not in lists:
        raise ValueError(f"has no {key}, expected frames of {width} bytes (a frame-level record)")
    content = [b"".join(frame.bytes_list.value) for frame in lists[key].feature]
    for second, frame in enumerate(content):
        if len(frame) != width:
            raise ValueError(f"has {len(frame)} bytes in frame {second} of {key}, expected {width}")
    return np.frombuffer(b"".join(content), np.uint8).reshape(-1, width)
