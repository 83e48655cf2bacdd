"""False negatives that a training batch would hold, without the model: by likeness of the inputs.

`batch_negatives` applies the rule of `false_negatives` to the negatives of a batch, and
`compatible_share` estimates how many of the unpaired items are compatible nevertheless.
"""

import numpy as np

from vmr.arrays import unit_rows
from vmr.evaluation.diagnosis.false_negatives import share_of
from vmr.evaluation.diagnosis.similarity import Rule, row_blocks, scores

# `compatible_share` needs so many known pairs, and so many above a similarity to use it.
_KNOWN = 50
_ABOVE = 10
# Lower bound of a Poisson count, in its standard deviations: 95 %, one-sided.
_CONFIDENCE = 1.645
# Similarities at which the two shares are compared.
_TRIED = 50


def batch_negatives(
    video_inputs: np.ndarray,
    music_inputs: np.ndarray,
    track: np.ndarray,
    rule: Rule,
    batch_size: int,
    *,
    group: np.ndarray | None = None,
) -> dict:
    """Share of a batch's negatives whose inputs are alike: (n,P),(n,Q),(n,)->JSON-ready dict.

    Estimated on n pairs drawn like a batch, each against all that are not its positives. Keys:
    `pairs` (n), `batch_size`, `suspected_share` in [0, 1], `suspected_per_anchor` of a batch, and
    `by_chance`, the share under normal similarities. Where enough videos share a track,
    `compatible_at_most` and `compatible_at_most_per_anchor` are an upper estimate of the truly
    compatible (`compatible_share`). With groups, `truth` has `compatible_share`,
    `compatible_per_anchor`, and `precision` and `recall` of the suspicion over all negatives, not
    only those that rank high. A share of nothing is None.

    Args:
        video_inputs: (n,P) features before the encoder.
        music_inputs: (n,Q) features before the encoder.
        track: (n,) track ids; pairs of equal track are positives of each other.
        rule: rule by which inputs are alike.
        batch_size: pairs of a batch.
        group: (n,) group ids; pairs of equal group are truly compatible.
    """
    video, music = unit_rows(video_inputs), unit_rows(music_inputs)
    negatives = suspected = compatible = confirmed = 0
    for rows in row_blocks(len(track), len(track)):
        negative = track[rows, None] != track[None, :]
        by_video = rule.video.deviations(scores(video[rows], video))
        by_music = rule.music.deviations(scores(music[rows], music))
        alike = negative & (np.maximum(by_video, by_music) > rule.deviations)
        negatives += int(negative.sum())
        suspected += int(alike.sum())
        if group is not None:
            true = negative & (group[rows, None] == group[None, :])
            compatible += int(true.sum())
            confirmed += int(np.sum(true & alike))
    others = batch_size - 1
    share = suspected / max(negatives, 1)
    result: dict = {
        "pairs": len(track),
        "batch_size": batch_size,
        "suspected_share": share,
        "suspected_per_anchor": share * others,
        "by_chance": rule.by_chance,
    }
    at_most = compatible_share(video_inputs, track)
    if at_most is not None:
        result["compatible_at_most"] = at_most
        result["compatible_at_most_per_anchor"] = at_most * others
    if group is not None:
        true_share = compatible / max(negatives, 1)
        result["truth"] = {
            "compatible_share": true_share,
            "compatible_per_anchor": true_share * others,
            "precision": share_of(confirmed, suspected),
            "recall": share_of(confirmed, compatible),
        }
    return result


def compatible_share(video_inputs: np.ndarray, track: np.ndarray) -> float | None:
    """Upper estimate of the share of compatible pairs among unlike tracks: (n,P),(n,)->[0, 1].

    Two videos of one track are known to be compatible, and show how alike compatible videos are.
    Unpaired videos are a mixture: a share π of compatible ones, and others. Let U(s) and K(s) be
    the shares of the unpaired and of the known pairs above a similarity s. Then U(s) ≥ π K(s), so
    that every quotient U(s) / K(s) bounds π from above, and the least of them is the estimate: the
    mixture proportion of Blanchard, Lee and Scott ("Semi-supervised novelty detection", JMLR 2010).
    As there, K is taken at its lower bound, k known pairs counting as k − 1.645 √k; else the least
    of many noisy quotients would be too small. Compatible videos are assumed to be as alike as
    those of one track; if they are less alike, π may be larger.

    Returns None where fewer than 50 pairs of videos share a track.

    Args:
        video_inputs: (n,P) features before the encoder.
        track: (n,) track ids; videos of equal track are known to be compatible.
    """
    video = unit_rows(video_inputs)
    known = -np.sort(-_cosines_within_tracks(video, track))
    if len(known) < _KNOWN:
        return None
    counts = np.unique(np.geomspace(_ABOVE, len(known), _TRIED).astype(int))
    # Ascending for `searchsorted`, which gives the number of these that a pair reaches.
    tried = known[counts - 1][::-1]
    reached = np.zeros(len(tried) + 1, np.int64)
    for rows in row_blocks(len(track), len(track)):
        unpaired = track[rows, None] != track[None, :]
        cosines = scores(video[rows], video)[unpaired]
        places = np.searchsorted(tried, cosines, side="right")
        reached += np.bincount(places, minlength=len(tried) + 1)
    if not reached.sum():
        return None
    above = np.cumsum(reached[::-1])[:-1]
    lower_bound = (counts - _CONFIDENCE * np.sqrt(counts)) / len(known)
    return min(1.0, float(np.min(above / reached.sum() / lower_bound)))


def _cosines_within_tracks(video: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Cosines of the pairs of two videos of one track, each pair once."""
    order = np.argsort(track, kind="stable")
    starts = np.flatnonzero(np.diff(track[order])) + 1
    cosines = [np.zeros(0, np.float32)]
    for rows in np.split(order, starts):
        if len(rows) > 1:
            cosines.append(scores(video[rows], video[rows])[np.triu_indices(len(rows), 1)])
    return np.concatenate(cosines)
