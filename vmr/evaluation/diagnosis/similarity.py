"""Similarity of rows in bounded memory, and the rule by which the inputs of two items are alike.

The similarity of two items of one modality is the cosine of their inputs, the features before the
encoder. Its null distribution is measured on random pairs. Nearly all of these are unrelated, and
the few related ones hardly move the median and the median absolute deviation. Items are alike where
their similarity lies more than a given number of deviations above the median; a deviation is 1.4826
times the median absolute deviation, the standard deviation if similarities are normal. The rule is
ours; an empirical null is Efron's ("Large-scale simultaneous hypothesis testing: the choice of a
null hypothesis", JASA 2004).

The threshold is not a quantile, which would fix the share of alike pairs in advance.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from vmr.arrays import unit_rows
from vmr.errors import UserError

# Scores of one block of rows: 32 MB of float32, up to galleries of half a million. Fewer rows than
# these would be products of a matrix and a vector, which read the whole gallery for each.
_SCORES = 1 << 23
_LEAST_ROWS = 16
# Queries that a diagnosis looks at; of more, so many are drawn.
SAMPLED = 20_000
# Cosines closer than this count as equal. Here the last bits of a product depend on the shape of
# the block and on a row's place in it.
ROUNDING = 1e-6

# Threshold with the best F1 of precision and recall on planted data.
DEVIATIONS = 2.5
# Pairs drawn for the null distribution, and pairs whose rows are in memory at a time.
_PAIRS = 200_000
_HELD = 1 << 14
# Standard deviation of a normal distribution over its median absolute deviation.
_NORMAL = 1.4826


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of consecutive rows, 16 or as many as `width` values for each take 32 MB."""
    step = max(_LEAST_ROWS, _SCORES // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def sampled(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most `SAMPLED` of the rows, drawn by the seed, in their order: (Q,)->(q,)."""
    if len(rows) <= SAMPLED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, SAMPLED, replace=False))


def sample_size(asked: int, queries: int) -> dict[str, int]:
    """Fields of a result on `asked` of the queries; none where it is on all."""
    return {} if asked == queries else {"queries": asked, "sampled_from": queries}


def scores(rows: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Inner products of a block of rows with a whole gallery: (b,D),(G,D)->(b,G) float32."""
    return rows.astype(np.float32, copy=False) @ gallery.astype(np.float32, copy=False).T


class NullDistribution(NamedTuple):
    """Null distribution of the cosines of two items of one modality.

    Attributes:
        median: median cosine.
        deviation: robust standard deviation of the cosine; 0 where all pairs are equally similar.
    """

    median: float
    deviation: float

    def deviations(self, similarity: np.ndarray) -> np.ndarray:
        """Deviations of cosines above the median: any shape -> the same."""
        # All pairs are equally similar: nothing stands out, and the quotient would be noise.
        if self.deviation <= ROUNDING:
            return np.zeros_like(similarity)
        return (similarity - np.float32(self.median)) / np.float32(self.deviation)

    def cosine(self, deviations: float) -> float:
        """Cosine at a number of deviations above the median."""
        return self.median + deviations * self.deviation


class Rule(NamedTuple):
    """Rule by which two pairs are alike: their videos or their tracks are, beyond `deviations`."""

    video: NullDistribution
    music: NullDistribution
    deviations: float = DEVIATIONS

    @property
    def by_chance(self) -> float:
        """Share of unrelated pairs that would be alike if similarities were normal, independent."""
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
        track: (N,) track ids; two pairs of one track are related, and left out.
        deviations: threshold of the rule, in deviations above the median.
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
    blocks = (slice(start, start + _HELD) for start in range(0, len(first), _HELD))
    similarity = np.concatenate(
        [np.sum(rows[first[block]] * rows[second[block]], axis=1) for block in blocks]
    )
    median = float(np.median(similarity))
    return NullDistribution(median, _NORMAL * float(np.median(np.abs(similarity - median))))
