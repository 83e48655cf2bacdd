"""Similarity of rows in bounded memory, and the rule by which the inputs of two items are alike.

The similarity of two items of one modality is the cosine of their inputs, which are features
before the encoder. Its null distribution is measured on pairs drawn at random: nearly all of them
have nothing to do with each other, and the median and the median absolute deviation do not move for
the few that do. Items are alike where their similarity is more than so many deviations above the
median, a deviation being 1.4826 times the median absolute deviation, which for normal similarities
is their standard deviation. The rule is ours; an empirical null is Efron's ("Large-scale
simultaneous hypothesis testing: the choice of a null hypothesis", JASA 2004).

The threshold is no quantile, so that the share of the pairs that are alike is found, not given.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from vmr.arrays import unit_rows
from vmr.errors import UserError

# Scores of a block of rows: 32 MB of float32, however large the gallery.
_SCORES = 1 << 23
# Cosines nearer than this are one and the same: the last bits depend on where a row stands.
ROUNDING = 1e-6

# Of the thresholds tried on planted data, the one of the best F1 of precision and recall.
DEVIATIONS = 2.5
# Pairs drawn for the null distribution, and how many of them are held at a time.
_PAIRS = 200_000
_HELD = 1 << 14
# Of the median absolute deviation to the standard deviation of a normal distribution.
_NORMAL = 1.4826


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Cuts `rows` rows into slices, each so short that its `width` values a row stay small."""
    step = max(1, _SCORES // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def scores(rows: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Inner products in float32, of a block of rows with a whole gallery: (b,D),(G,D)->(b,G)."""
    return rows.astype(np.float32, copy=False) @ gallery.astype(np.float32, copy=False).T


class NullDistribution(NamedTuple):
    """Null distribution of the cosines of two items of one modality.

    Attributes:
        median: cosine.
        deviation: robust standard deviation of the cosine; 0 where all pairs are equally similar.
    """

    median: float
    deviation: float

    def deviations(self, similarity: np.ndarray) -> np.ndarray:
        """Deviations of a cosine above the median: any shape -> the same; 0 where none is known."""
        if self.deviation <= ROUNDING:
            return np.zeros_like(similarity)
        return (similarity - np.float32(self.median)) / np.float32(self.deviation)

    def cosine(self, deviations: float) -> float:
        """Cosine that stands so many deviations above the median."""
        return self.median + deviations * self.deviation


class Rule(NamedTuple):
    """Rule for pairs: alike if their videos or their tracks are, by more than `deviations`."""

    video: NullDistribution
    music: NullDistribution
    deviations: float = DEVIATIONS

    @property
    def by_chance(self) -> float:
        """Share of unrelated pairs that are alike, were similarities normal and independent."""
        return float(1.0 - stats.norm.cdf(self.deviations) ** 2)


def measured_rule(
    video_inputs: np.ndarray,
    music_inputs: np.ndarray,
    track: np.ndarray,
    *,
    deviations: float = DEVIATIONS,
    seed: int = 0,
) -> Rule:
    """Measures the rule on a set of pairs: (N,P),(N,Q),(N,)->Rule.

    Args:
        video_inputs: (N,P) one row a pair, of any length.
        music_inputs: (N,Q) one row a pair.
        track: (N,) pairs of equal track are no random pair.
        deviations: above the median, beyond which items are alike.
        seed: seed of the random pairs.

    Raises:
        UserError: deviations not above 0, or all pairs are of one track.
    """
    if not deviations > 0:
        raise UserError(f"deviations: expected a number above 0, found {deviations:g}")
    first, second = np.random.default_rng(seed).integers(len(track), size=(2, _PAIRS))
    apart = track[first] != track[second]
    if not apart.any():
        raise UserError("expected pairs of at least two tracks; found one track")
    first, second = first[apart], second[apart]
    return Rule(
        video=_null(unit_rows(video_inputs), first, second),
        music=_null(unit_rows(music_inputs), first, second),
        deviations=deviations,
    )


def _null(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> NullDistribution:
    """Null distribution over drawn pairs of unit rows: (N,P),(p,),(p,)->NullDistribution."""
    starts = range(0, len(first), _HELD)
    held = [(first[start : start + _HELD], second[start : start + _HELD]) for start in starts]
    similarity = np.concatenate([np.sum(rows[one] * rows[other], axis=1) for one, other in held])
    median = float(np.median(similarity))
    return NullDistribution(median, _NORMAL * float(np.median(np.abs(similarity - median))))
