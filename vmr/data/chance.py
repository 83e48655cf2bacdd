"""What a model that knows nothing scores: the level every recall has to be read against."""

from collections.abc import Sequence
from math import comb

RECALL_AT = (1, 10)


def chance_levels(videos_per_track: Sequence[int]) -> dict[str, dict[str, float]]:
    """Expected Recall@K of random scores over a whole split, in percent.

    A video has one track among M. A track with r videos among N is found if any of them stands
    among the first K: 1 − C(N−r, K) / C(N, K).

    Args:
      videos_per_track: r of each distinct track of the split, M numbers that sum to N.

    Returns:
      {"v2m": {"R@1": ..., "R@10": ...}, "m2v": {...}}.
    """
    tracks, videos = len(videos_per_track), sum(videos_per_track)
    levels: dict[str, dict[str, float]] = {"v2m": {}, "m2v": {}}
    for k in RECALL_AT:
        levels["v2m"][f"R@{k}"] = 100.0 * min(k, tracks) / tracks
        # Few multiplicities, many tracks: each is worked out once.
        hit = {r: 1.0 - _all_missed(videos, r, k) for r in set(videos_per_track)}
        levels["m2v"][f"R@{k}"] = 100.0 * sum(hit[r] for r in videos_per_track) / tracks
    return levels


def _all_missed(videos: int, relevant: int, k: int) -> float:
    drawn = min(k, videos)
    return comb(videos - relevant, drawn) / comb(videos, drawn)
