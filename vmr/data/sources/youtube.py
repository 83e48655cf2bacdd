"""YouTube-8M and AudioSet: features of YouTube videos in TFRecord files.

Both store tf.train.Example or SequenceExample protos with video ids and label indices. The track
of a video is its own sound, so both have one id.

YouTube-8M, releases of 2017 and 2018. Video level: an Example with `mean_rgb` (1024) and
`mean_audio` (128) floats. Frame level: a SequenceExample with one `rgb` and one `audio` bytes value
a second, at most 300. The id is called `video_id` before May 2018 and `id` since.
Source: https://research.google.com/youtube8m/download.html

AudioSet, frame level, music alone. Each clip of at most ten seconds is a SequenceExample with
`video_id`, `labels` and a list `audio_embedding` of 128 bytes a second, quantised like YouTube-8M's
frames. There is one clip per video, so the id of the video serves as that of the clip.
Source: https://research.google.com/audioset/download.html
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.labels import Vocabulary
from vmr.data.sources.records import (
    files_of,
    frames_of,
    labels_of,
    parse,
    place_of,
    sound_records,
    splits_of,
    values_of,
    video_id_of,
)
from vmr.data.sources.source import LeftOut, Source
from vmr.errors import UserError

VIDEO_WIDTH = 1024
MUSIC_WIDTH = 128
# Longest sequence of each dataset, in frames at one per second.
MAX_FRAMES = {"youtube8m": 300, "audioset": 10}


def youtube8m(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    vocabulary: Vocabulary | None = None,
    held_out: float = 0.0,
    skip_bad: int = 0,
) -> Source:
    """Opens YouTube-8M shards as a source; the first record tells video level from frame level.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: label indices, at least one of which a video must carry; None keeps all videos.
      vocabulary: names of the labels, which become the text of the videos; None: no text.
      held_out: share of videos held out of `train`, see `splits_of`.
      skip_bad: number of records that may be left out because they cannot be read.

    Raises:
      UserError: a glob matches nothing, the first file cannot be read, its first record is not one
        of YouTube-8M, or the share held out is impossible.
    """
    files, left_out = files_of(patterns), LeftOut(skip_bad)
    frames = _is_frame_level(next(path for paths in files.values() for path in paths), left_out)
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
        splits=splits_of(files, read, labels, held_out, left_out),
        left_out=left_out,
    )


def _is_frame_level(path: Path, left_out: LeftOut) -> bool:
    for number, record in sound_records(path, left_out):
        try:
            # An Example of the video level, read as a SequenceExample, has no feature lists.
            return bool(parse(record).feature_lists.feature_list)
        except ValueError as fault:
            left_out.add(place_of(path, number), UserError(f"{path}: record {number} {fault}"))
    raise UserError(f"{path}: holds no record that can be read, expected some of YouTube-8M")


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


def audioset(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    held_out: float = 0.0,
    skip_bad: int = 0,
) -> Source:
    """Opens AudioSet's feature files as a source of music without video.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: label indices, at least one of which a clip must carry; None keeps all clips.
      held_out: share of clips held out of `train`, see `splits_of`.
      skip_bad: number of records that may be left out because they cannot be read.

    Raises:
      UserError: a glob matches nothing, or the share held out is impossible.
    """
    files, left_out = files_of(patterns), LeftOut(skip_bad)
    return Source(
        name="audioset",
        description=(
            f"AudioSet, frame-level features, {describe_kept(labels, held_out)}. Music alone: "
            "VGGish features of the sound of ten-second clips, one a second; there are no features "
            "of the video. Source: https://research.google.com/audioset"
        ),
        licence="CC BY 4.0 (AudioSet)",
        schema=Schema(
            video=None,
            music=Modality(MUSIC_WIDTH, sequence=True, quantized=True),
            has_labels=True,
        ),
        splits=splits_of(files, _clip, labels, held_out, left_out),
        left_out=left_out,
    )


def _clip(record: bytes) -> Pair:
    example = parse(record)
    context = example.context.feature
    clip_id = video_id_of(context)
    music = frames_of(example.feature_lists.feature_list, "audio_embedding", MUSIC_WIDTH)
    return Pair(clip_id, clip_id, None, music, labels=labels_of(context))


def describe_kept(labels: frozenset[int] | None, held_out: float) -> str:
    """Phrase for the card that says which videos of the files the dataset keeps."""
    kept = "all videos" if labels is None else f"videos with at least one of {len(labels)} labels"
    if not held_out:
        return kept
    share = f"a share of {held_out:.3g} by a hash of the id"
    return f"{kept}, of which validation and test each hold {share}"
