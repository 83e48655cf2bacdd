"""How many of a batch's negatives are suspected to be false, whatever the model makes of them."""

import numpy as np

from vmr.evaluation.alike import Rule
from vmr.evaluation.compatible_share import compatible_share
from vmr.evaluation.row_scores import row_blocks, scores, unit_rows


def batch_negatives(
    video_inputs: np.ndarray,
    music_inputs: np.ndarray,
    track: np.ndarray,
    rule: Rule,
    batch_size: int,
    *,
    group: np.ndarray | None = None,
) -> dict:
    """The share of negatives whose inputs are alike: (n,P),(n,Q),(n,)->JSON-ready dict.

    Estimated on n pairs drawn like a batch, each against all that are no positives of it. Keys:
    `pairs` (n), `batch_size`, `suspected_share`, in [0, 1], `suspected_per_anchor`, in a batch,
    `by_chance`, the share that normal similarities would give, and, where enough videos share a
    track, `compatible_at_most` and `compatible_at_most_per_anchor`, an upper estimate of the truly
    compatible (`vmr.evaluation.compatible_share`). With groups, `truth`: `compatible_share`,
    `compatible_per_anchor`, and `precision` and `recall` of the suspicion over all negatives, not
    only those that rank high. A share of nothing is None.

    Args:
        video_inputs: (n,P) features before the encoder.
        music_inputs: (n,Q) features before the encoder.
        track: (n,) pairs of equal track are positives of each other.
        rule: when inputs are alike.
        batch_size: pairs of a batch.
        group: (n,) pairs of equal group are truly compatible.
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
    found: dict = {
        "pairs": len(track),
        "batch_size": batch_size,
        "suspected_share": share,
        "suspected_per_anchor": share * others,
        "by_chance": rule.by_chance,
    }
    at_most = compatible_share(video_inputs, track)
    if at_most is not None:
        found["compatible_at_most"] = at_most
        found["compatible_at_most_per_anchor"] = at_most * others
    if group is not None:
        true_share = compatible / max(negatives, 1)
        found["truth"] = {
            "compatible_share": true_share,
            "compatible_per_anchor": true_share * others,
            "precision": confirmed / suspected if suspected else None,
            "recall": confirmed / compatible if compatible else None,
        }
    return found
