"""Medians of one multiset under many reweightings, without sorting it again for each.

A bootstrap gives every cluster of values a whole number of copies, a randomisation moves clusters
from one system's values to another's; either way the weight on each distinct value is linear in
one factor a cluster. Medians hardly move, so weights are summed up value by value only in a window
around the middle, and as one sum below it. The window grows until it holds every median: the result
is exact, `np.median` of the values written out.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Half of the first window, in standard deviations of the share of values below the median.
_REACH = 4.5


@dataclass(frozen=True)
class Reweighted:
    """Weights on T distinct values that follow one factor for each of C clusters.

    Value t weighs `fixed[t] + Σ_c varying[t, c] · factor[c]`, never less than 0.

    Attributes:
        values: (T,) ascending.
        fixed: (T,).
        varying: (T,C) sparse.
    """

    values: np.ndarray
    fixed: np.ndarray
    varying: sparse.csr_array

    def medians(self, factors: np.ndarray) -> np.ndarray:
        """Median of each reweighting: (C,B)->(B,); the mean of the two middle values if two are."""
        half = self._sum(0, len(self.values), factors) / 2
        level = np.cumsum(self.fixed + self.varying @ factors.mean(axis=1)) / (2 * half.mean())
        reach = _REACH * 0.5 / np.sqrt(len(factors))
        while True:
            low = int(np.searchsorted(level, 0.5 - reach))
            high = min(int(np.searchsorted(level, 0.5 + reach)) + 1, len(level))
            below = self._sum(0, low, factors)
            reached = self.varying[low:high] @ factors + self.fixed[low:high, None]
            np.cumsum(reached, axis=0, out=reached)
            reached += below
            if (below < half).all() and (reached[-1] > half).all():
                break
            reach *= 2
        lower = np.argmax(reached >= half, axis=0)
        upper = np.argmax(reached > half, axis=0)
        return (self.values[low + lower] + self.values[low + upper]) / 2

    def _sum(self, start: int, stop: int, factors: np.ndarray) -> np.ndarray:
        """Weight on values start…stop−1 of each reweighting: (C,B)->(B,)."""
        varying = self.varying[start:stop].sum(axis=0)
        if not varying.any():
            return np.full(factors.shape[1], self.fixed[start:stop].sum())
        # A product of a vector and so flat a matrix gains nothing from the threads of BLAS.
        return self.fixed[start:stop].sum() + np.einsum("c,cb->b", varying, factors)


def copied(values: np.ndarray, cluster: np.ndarray, clusters: int) -> Reweighted:
    """Values (Q,) of which each comes as often as its cluster's factor says; cluster (Q,)."""
    rungs, rung = np.unique(values, return_inverse=True)
    return Reweighted(
        rungs,
        np.zeros(len(rungs)),
        sparse.csr_array((np.ones(len(values)), (rung, cluster)), shape=(len(rungs), clusters)),
    )


def exchanged(
    first: np.ndarray, second: np.ndarray, cluster: np.ndarray, clusters: int
) -> Reweighted:
    """The first system's values where a cluster's factor is 1, the second's where it is −1.

    The seeds of a system (S,Q) share its weight, so that systems may have different numbers of
    them: (S,Q),(R,Q),(Q,) -> the medians of a system's values over seeds and queries together.
    """
    # Whole numbers, so that weights add up exactly: a multiple of both numbers of seeds.
    common = np.lcm(len(first), len(second))
    rows = [np.full(first.size, common / len(first)), np.full(second.size, -common / len(second))]
    signed = np.concatenate(rows)
    rungs, rung = np.unique(np.concatenate([first.ravel(), second.ravel()]), return_inverse=True)
    where = rung, np.tile(cluster, len(first) + len(second))
    return Reweighted(
        rungs,
        np.bincount(rung, np.abs(signed), len(rungs)) / 2,
        sparse.csr_array((signed / 2, where), shape=(len(rungs), clusters)),
    )
