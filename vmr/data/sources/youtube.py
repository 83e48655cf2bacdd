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

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from vmr.data.modality import Modality
from vmr.data.quiet_tensorflow import tf
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.labels import Vocabulary
from vmr.data.sources.source import SPLITS, InParts, Source, require_share, split_of
from vmr.data.tfrecords import read_records
from vmr.errors import UserError

VIDEO_WIDTH = 1024
MUSIC_WIDTH = 128
# Longest sequence of each dataset, in frames at one per second.
MAX_FRAMES = {"youtube8m": 300, "audioset": 10}

_ID_KEYS = ("id", "video_id")


def youtube8m(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    vocabulary: Vocabulary | None = None,
    held_out: float = 0.0,
) -> Source:
    """Opens YouTube-8M shards as a source; the first record tells video level from frame level.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: label indices, at least one of which a video must carry; None keeps all videos.
      vocabulary: names of the labels, which become the text of the videos; None: no text.
      held_out: share of videos held out of `train`, see `splits_of`.

    Raises:
      UserError: a glob matches nothing, the first file cannot be read, its first record is not one
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
        # An Example of the video level, read as a SequenceExample, has no feature lists.
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


def audioset(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    held_out: float = 0.0,
) -> Source:
    """Opens AudioSet's feature files as a source of music without video.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: label indices, at least one of which a clip must carry; None keeps all clips.
      held_out: share of clips held out of `train`, see `splits_of`.

    Raises:
      UserError: a glob matches nothing, or the share held out is impossible.
    """
    files = files_of(patterns)
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
        splits=splits_of(files, _clip, labels, held_out),
    )


def _clip(record: bytes) -> Pair:
    example = parse(record)
    context = example.context.feature
    clip_id = video_id_of(context)
    music = frames_of(example.feature_lists.feature_list, "audio_embedding", MUSIC_WIDTH)
    return Pair(clip_id, clip_id, None, music, labels=labels_of(context))


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
) -> dict[str, InParts]:
    """Makes a function for each split that yields its pairs; each file is a part.

    Args:
      files: TFRecord files of each split.
      read: function from a record to its pair; raises ValueError that describes a fault.
      labels: label indices, at least one of which a video must carry; None keeps all videos.
      held_out: share of the videos of `train` that moves to validation, and as much to test; 0:
        none.

    Raises:
      UserError: the share is impossible. The functions raise it too, for a record that cannot be
        read, with its file and number, and for a split that keeps no video.
    """
    require_share(held_out, [f"--{split}" for split in files if split != "train"])
    # Each split held out reads all of train and keeps its own: three passes, but no memory.
    paths = dict.fromkeys(SPLITS, files["train"]) if held_out else files
    wanted = "" if labels is None else f" with any of the {len(labels)} labels of --labels"
    return {
        split: InParts(
            partial(_pairs, split, read=read, labels=labels, held_out=held_out),
            of_split,
            f"{of_split[0]} and {len(of_split) - 1} more files: hold no video{wanted} for {split}",
        )
        for split, of_split in paths.items()
    }


def _pairs(
    split: str,
    path: Path,
    read: Callable[[bytes], Pair],
    labels: frozenset[int] | None,
    held_out: float,
) -> Iterator[Pair]:
    for number, record in read_records(path):
        try:
            pair = read(record)
        except ValueError as fault:
            raise UserError(f"{path}: record {number} {fault}") from None
        labelled = labels is None or not labels.isdisjoint(pair.labels)
        if labelled and (not held_out or split_of(pair.video_id, held_out) == split):
            yield pair


def describe_kept(labels: frozenset[int] | None, held_out: float) -> str:
    """Phrase for the card that says which videos of the files the dataset keeps."""
    kept = "all videos" if labels is None else f"videos with at least one of {len(labels)} labels"
    if not held_out:
        return kept
    share = f"a share of {held_out:.3g} by a hash of the id"
    return f"{kept}, of which validation and test each hold {share}"


def parse(record: bytes) -> tf.train.SequenceExample:
    """Parses a record, an Example or a SequenceExample; raises ValueError if it is neither."""
    # `SequenceExample.context` and `Example.features` share field number 1 and type, so one message
    # class reads both.
    try:
        return tf.train.SequenceExample.FromString(record)
    except DecodeError:
        raise ValueError("is no tf.train.Example or SequenceExample") from None


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
