"""Segments and tracks scored side by side, from the embeddings of each item's segments.

Three readings of one set of embeddings, each a result of `vmr.evaluation.evaluate`:

- "segment": segments query segments. Relevant to a video's segment is the one segment of its own
  track at the same share of the length; all other segments, of this track too, are rivals.
- "track_mean": a video and a track score by the mean over all pairs of their segments.
- "track_max": they score by the best pair of their segments.
"""

import functools

import numpy as np

from vmr.evaluation import checks
from vmr.evaluation.checks import NotUnit, SegmentedItems
from vmr.evaluation.evaluate import evaluate
from vmr.evaluation.ranks import Progress


def evaluate_segments(
    video: np.ndarray,
    video_segments: np.ndarray,
    music: np.ndarray,
    music_segments: np.ndarray,
    gt_music_index: np.ndarray,
    *,
    split: str,
    step: int | None = None,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    video_group: np.ndarray | None = None,
    music_group: np.ndarray | None = None,
    not_unit: NotUnit = "refuse",
    progress: Progress | None = None,
) -> dict[str, dict]:
    """Scores segments and tracks: (N,S,D),(N,),(M,R,D),(M,),(N,)->three JSON-ready dicts by name.

    "segment", "track_mean" and "track_max" (see above) each have the keys of `evaluate`, and
    `unit`, their own name, which tells `render` what it shows. At the level of segments `queries`
    and the like count segments, a music segment that no video segment points at is no query, and
    the bootstrap draws tracks, each with all its segments and those of its videos. With groups, a
    segment is of its item's group.

    Ranks are exact in all three. Beside the embeddings it needs O(N + M) memory for "track_max",
    a copy of the segments where items are ragged for "segment", the means for "track_mean".

    Args:
        video: (N,S,D) unit rows, the segments of each video in their order.
        video_segments: (N,) how many of the S segments a video has, at least 1; the rest is padding
            and not read.
        music: (M,R,D) unit rows, the segments of each unique track in their order.
        music_segments: (M,) how many of the R segments a track has, at least 1.
        gt_music_index: (N,) the row of music that belongs to each video.
        split: as in `evaluate`, like all arguments that follow.
        step: for the record.
        bootstrap_samples: resamples behind the intervals; 0 leaves `ci95` empty.
        seed: seed of the resamples.
        video_group: (N,) true relevance groups, with music_group.
        music_group: (M,) true relevance groups, with video_group.
        not_unit: what is done about segments that are not of unit length: see `pair_ranks`.
        progress: called with (tiles done, tiles in all), once through for each ranking.

    Raises:
        UserError: another number of dimensions or of entries, NaN or infinity in a segment, one
            that is not of unit length, a count outside 1 to S, widths that differ, and as
            `evaluate`.
    """
    videos = checks.check_segments("video", video, video_segments, not_unit=not_unit)
    tracks = checks.check_segments("music", music, music_segments, not_unit=not_unit)
    checks.check_widths("video", videos, "music", tracks)
    index = checks.check_pairs(gt_music_index, len(videos), len(tracks))
    score = functools.partial(
        evaluate,
        split=split,
        step=step,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        not_unit="keep",  # they are as asked for, and their means are shorter
        progress=progress,
    )
    by_item = functools.partial(score, video_group=video_group, music_group=music_group)
    results = {
        "segment": score(
            videos.rows(),
            tracks.rows(),
            matching_segments(videos.segments, tracks.segments, index),
            video_group=_by_segment("video_group", video_group, videos),
            music_group=_by_segment("music_group", music_group, tracks),
            music_cluster=np.repeat(np.arange(len(tracks)), tracks.segments),
        ),
        "track_mean": by_item(videos.means(), tracks.means(), index),
        "track_max": by_item(videos, tracks, index),
    }
    return {unit: result | {"unit": unit} for unit, result in results.items()}


def matching_segments(
    video_segments: np.ndarray, music_segments: np.ndarray, gt_music_index: np.ndarray
) -> np.ndarray:
    """Pairs each video segment with a music segment: (N,),(M,),(N,)->(sum over videos,).

    Segments are numbered through, item by item, on both sides. Segment s of the S of a video
    points at segment floor((s + 1/2) · R / S) of the R of its track: the one that plays when the
    middle of s is reached, if both are stretched to one length. In integers, so it is exact.
    """
    video = np.repeat(np.arange(len(video_segments)), video_segments)
    first = np.cumsum(video_segments) - video_segments
    position = np.arange(len(video)) - first[video]
    track = gt_music_index[video]
    matching = (2 * position + 1) * music_segments[track] // (2 * video_segments[video])
    return (np.cumsum(music_segments) - music_segments)[track] + matching


def _by_segment(name: str, label: np.ndarray | None, items: SegmentedItems) -> np.ndarray | None:
    """Repeats each item's label once a segment: (N,)->(sum of segments,); None stays None."""
    if label is None:
        return None
    return np.repeat(checks.check_labels(name, label, len(items)), items.segments)
