"""YouTube-8M records, video level and frame level, of the 2017 and 2018 releases.

Video level: tf.train.Example with `mean_rgb` (1024) and `mean_audio` (128) floats. Frame level:
tf.train.SequenceExample with one `rgb` and one `audio` bytes value a second, at most 300. The id
is called `video_id` before May 2018 and `id` since.
Source: https://research.google.com/youtube8m/download.html
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.records import read_records
from vmr.data.schema import Modality, Pair, Schema, Text
from vmr.data.source import Source
from vmr.data.vocabulary import Vocabulary
from vmr.data.youtube_records import (
    MUSIC_WIDTH,
    describe_kept,
    files_of,
    frames_of,
    labels_of,
    parse,
    splits_of,
    values_of,
    video_id_of,
)
from vmr.errors import UserError

VIDEO_WIDTH = 1024
MAX_FRAMES = 300


def youtube8m(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    vocabulary: Vocabulary | None = None,
    held_out: float = 0.0,
) -> Source:
    """YouTube-8M shards as a source; the first record tells video level from frame level.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: keep videos with at least one of these labels; None keeps all.
      vocabulary: names of the labels, which become the text of the videos; None: no text.
      held_out: see `vmr.data.youtube_records.splits_of`.

    Raises:
      UserError: a glob matches nothing, the first file cannot be read or its first record is none
        of YouTube-8M, or the share held out is impossible.
    """
    files = files_of(patterns)
    frames = _is_frame_level(next(path for paths in files.values() for path in paths))
    read = partial(_pair, frames=frames, vocabulary=vocabulary)
    tags = (
        " Text: the names of all labels of the video, which are annotations given as tags, not "
        "what a user typed."
    )
    return Source(
        name="youtube8m",
        description=(
            f"YouTube-8M, {'frame' if frames else 'video'}-level features, "
            f"{describe_kept(labels, held_out)}. Video: Inception features of the frames; music: "
            f"VGGish features of the same video's sound.{tags if vocabulary else ''} "
            "Source: https://research.google.com/youtube8m"
        ),
        licence="CC BY 4.0 (YouTube-8M)",
        schema=Schema(
            Modality(VIDEO_WIDTH, sequence=frames, quantized=frames),
            Modality(MUSIC_WIDTH, sequence=frames, quantized=frames),
            text=Text() if vocabulary else None,
            has_labels=True,
        ),
        splits=splits_of(files, read, labels, held_out),
    )


def _is_frame_level(path: Path) -> bool:
    _, record = next(read_records(path))
    try:
        return bool(parse(record).feature_lists.feature_list)
    except ValueError as fault:
        raise UserError(f"{path}: record 0 {fault}") from None


def _pair(record: bytes, frames: bool, vocabulary: Vocabulary | None) -> Pair:
    example = parse(record)
    context = example.context.feature
    video_id, labels = video_id_of(context), labels_of(context)
    if frames:
        video, music = _both_frames(example.feature_lists.feature_list)
    else:
        video = _vector(context, "mean_rgb", VIDEO_WIDTH)
        music = _vector(context, "mean_audio", MUSIC_WIDTH)
    text = vocabulary.text_of(labels) if vocabulary else ""
    return Pair(video_id, video_id, video, music, text=text, labels=labels)


def _both_frames(lists: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    video = frames_of(lists, "rgb", VIDEO_WIDTH)
    music = frames_of(lists, "audio", MUSIC_WIDTH)
    if len(video) != len(music):
        raise ValueError(
            f"has {len(video)} frames of rgb but {len(music)} of audio, expected one a second of "
            "both"
        )
    return video, music


def _vector(context: Mapping[str, Any], key: str, width: int) -> np.ndarray:
    if key not in context:
        raise ValueError(f"has no {key}, expected {width} floats (a video-level record)")
    vector = np.array(values_of(context, key, "float_list"), np.float32)
    if len(vector) != width:
        raise ValueError(f"has {len(vector)} numbers in {key}, expected {width}")
    return vector
