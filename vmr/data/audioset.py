"""AudioSet's features, frame level: music alone, one VGGish embedding a second.

Each clip of at most ten seconds is a tf.train.SequenceExample with `video_id`, `labels` and a list
`audio_embedding` of 128 bytes a second, quantised like the frames of YouTube-8M. A video gives one
clip, so the video's id names it. Source: https://research.google.com/audioset/download.html
"""

from collections.abc import Mapping, Sequence

from vmr.data.schema import Modality, Pair, Schema
from vmr.data.source import Source
from vmr.data.youtube_records import (
    MUSIC_WIDTH,
    describe_kept,
    files_of,
    frames_of,
    labels_of,
    parse,
    splits_of,
    video_id_of,
)

MAX_FRAMES = 10


def audioset(
    patterns: Mapping[str, Sequence[str]],
    labels: frozenset[int] | None = None,
    held_out: float = 0.0,
) -> Source:
    """AudioSet's feature files as a source of music without video.

    Args:
      patterns: globs of the TFRecord files of each split.
      labels: keep clips with at least one of these labels; None keeps all.
      held_out: see `vmr.data.youtube_records.splits_of`.

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
