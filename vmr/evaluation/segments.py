"""Retrieval of segments, and of tracks by their segments, from the embeddings of segments.

One set of embeddings is evaluated in three ways, each a result of `vmr.evaluation.evaluate`:

- "segment": queries and gallery are segments. Relevant to a video's segment is the one segment of
  its track at the same share of the length; all others, also those of this track, are rivals.
- "track_mean": a video and a track score by the mean over all pairs of their segments.
- "track_max": a video and a track score by the best pair of their segments.
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
    `unit`, their own name, from which `render` takes its title. In "segment", `queries` and the
    like count segments, and a music segment without a video segment is no query; the bootstrap
    draws tracks, each with all its segments and those of its videos. Segments have the group of
    their item.

    All ranks are exact. Memory beside the embeddings: O(N + M) for "track_max", the means for
    "track_mean", and for "segment" a copy of the segments if items differ in their number.

    Args:
        video: (N,S,D) unit rows, the segments of each video in their order.
        video_segments: (N,) count of each video's segments, 1 to S; the rest is padding.
        music: (M,R,D) unit rows, the segments of each unique track in their order.
        music_segments: (M,) count of each track's segments, 1 to R.
        gt_music_index: (N,) the row of music that belongs to each video.
        split: name of the split, for the record.
        step: training step of the embeddings, for the record.
        bootstrap_samples: number of resamples for the intervals; 0 leaves `ci95` empty.
        seed: seed of the resamples.
        video_group: (N,) true relevance groups, with music_group.
        music_group: (M,) true relevance groups, with video_group.
        not_unit: treatment of segments that are not of unit length, see `pair_ranks`.
        progress: function called with (tiles done, tiles in all), anew for each ranking.

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
        not_unit="keep",  # segments are checked above, and their means are shorter than 1
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

    Segments of both modalities are numbered consecutively, item by item. Segment s of S of a video
    points at segment floor((s + 1/2) · R / S) of the R of its track: the one that plays at the
    middle of s if both are stretched to one length. Exact, by integer arithmetic.
    """
    video = np.repeat(np.arange(len(video_segments)), video_segments)
    first = np.cumsum(video_segments) - video_segments
    position = np.arange(len(video)) - first[video]
    track = gt_music_index[video]
    matching = (2 * position + 1) * music_segments[track] // (2 * video_segments[video])
    return (np.cumsum(music_segments) - music_segments)[track] + matching


def _by_segment(name: str, label: np.ndarray | None, items: SegmentedItems) -> np.ndarray | None:
    """Repeats each item's label for its segments: (N,)->(sum of segments,); None stays None."""
    if label is None:
        return None
    return np.repeat(checks.check_labels(name, label, len(items)), items.segments)
