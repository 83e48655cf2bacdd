"""How many of the pairs that the data do not know are compatible all the same: an upper estimate.

Where several videos share a track, some compatible videos are known, and tell how alike compatible
videos are. Unpaired videos are a mixture of compatible ones, their share π, and others. So above
any similarity s, π can be no more than the share of the unpaired pairs there, over the share of the
known ones there; the least over s is the estimate. It is the mixture proportion of Blanchard, Lee
and Scott ("Semi-supervised novelty detection", JMLR 2010); as there the share of the known ones is
taken at its lower bound, lest the least of many noisy quotients fall short: k known pairs count as
k − 1.645 √k. That compatible videos are as alike as those of one track is assumed; if they are less
so, π may be larger.
"""

import numpy as np

from vmr.evaluation.row_scores import row_blocks, scores, unit_rows

# Known pairs: that there must be, and that must lie above a similarity for its share to count.
_KNOWN = 50
_ABOVE = 10
# Standard deviations of a Poisson count below it: 95 %, one-sided.
_CONFIDENCE = 1.645
# Similarities that are tried.
_TRIED = 50


def compatible_share(video_inputs: np.ndarray, track: np.ndarray) -> float | None:
    """At most so large a share of the pairs of unlike tracks is compatible: (n,P),(n,)->[0, 1].

    None where fewer than 50 pairs of videos share a track.

    Args:
        video_inputs: (n,P) features before the encoder.
        track: (n,) videos of equal track are known to be compatible.
    """
    video = unit_rows(video_inputs)
    known = -np.sort(-_of_one_track(video, track))
    if len(known) < _KNOWN:
        return None
    counts = np.unique(np.geomspace(_ABOVE, len(known), _TRIED).astype(int))
    # Ascending, so that a similarity's place tells how many of them it reaches.
    tried = known[counts - 1][::-1]
    reached = np.zeros(len(tried) + 1, np.int64)
    for rows in row_blocks(len(track), len(track)):
        unpaired = track[rows, None] != track[None, :]
        found = scores(video[rows], video)[unpaired]
        reached += np.bincount(
            np.searchsorted(tried, found, side="right"), minlength=len(tried) + 1
        )
    if not reached.sum():
        return None
    above = np.cumsum(reached[::-1])[:-1]
    surely = (counts - _CONFIDENCE * np.sqrt(counts)) / len(known)
    return min(1.0, float(np.min(above / reached.sum() / surely)))


def _of_one_track(video: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Similarities of the pairs of two videos of one track, each pair once."""
    order = np.argsort(track, kind="stable")
    starts = np.flatnonzero(np.diff(track[order])) + 1
    found = [np.zeros(0, np.float32)]
    for rows in np.split(order, starts):
        if len(rows) > 1:
            found.append(scores(video[rows], video[rows])[np.triu_indices(len(rows), 1)])
    return np.concatenate(found)
