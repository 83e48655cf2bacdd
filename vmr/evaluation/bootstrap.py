"""Cluster bootstrap and randomisation test over many runs at once.

*Bootstrap*: results of videos that share a track are correlated, and drawing them one by one would
give intervals that are too narrow. So clusters (tracks) are drawn with replacement, each with all
its queries (Field and Welsh, "Bootstrapping clustered data", JRSS-B 2007). The same draws serve all
runs, so that differences between runs are paired. *Randomisation*: a coin for each cluster decides
whether two systems swap their results on it (Fisher's test, as in Smucker, Allan, Carterette, "A
comparison of statistical significance tests for information retrieval evaluation", CIKM 2007).

Draws come in blocks, which bounds memory. The resample of a mean is one weighted sum over clusters,
and the median of a resample needs no sorting of its own (`Reweighted`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Size of a block of draws, resamples x clusters: 2**20 float64 are 8 MB.
_BUDGET = 1 << 20
# Half width of the first window of `Reweighted.medians`, in standard deviations of the share of
# values below the median; nearly no resample falls outside.
_REACH = 4.5
PERCENT = (2.5, 97.5)
MEDIAN = "MedR"

Pair = tuple[int, int]  # positions of two systems
Drawn = Callable[[int], None]  # called with how many draws were added


def intervals(
    values: dict[str, np.ndarray], cluster: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """95 % interval of each metric's summary: name -> (Q,), cluster (Q,) -> name -> [low, high].

    The percentile interval (Efron and Tibshirani 1993, chapter 13). `MedR` is summarised by the
    median, all others by the mean, as in `metrics.summarise`. All metrics see the same resamples;
    the same seed gives the same intervals.

    To compare two runs on the same queries, give the differences of their values query by query.
    This is the paired bootstrap, in which the noise of the shared queries cancels; an interval
    without 0 shows a difference. (For `MedR` it is then the median difference, not the difference
    of the medians.)
    """
    _, cluster = np.unique(cluster, return_inverse=True)
    means = [name for name in values if name != MEDIAN]
    # The means pose as the runs of one metric, so that a block of resamples is one matrix product.
    runs = {"mean": np.stack([values[name] for name in means])} if means else {}
    if MEDIAN in values:
        runs[MEDIAN] = values[MEDIAN][None]
    drawn = resampled(runs, cluster, samples=samples, seed=seed)
    # Columns in the order of `runs`: the means, then the median.
    ends = np.percentile(np.concatenate(list(drawn.values()), axis=1), PERCENT, axis=0)
    columns = dict(zip([*means, MEDIAN], ends.T, strict=False))
    return {name: columns[name].tolist() for name in values}


def resampled(
    values: Mapping[str, np.ndarray],
    cluster: np.ndarray,
    *,
    samples: int,
    seed: int,
    progress: Drawn | None = None,
) -> dict[str, np.ndarray]:
    """Summary of each run in each bootstrap resample: name -> (R,Q), cluster (Q,) -> name -> (B,R).

    R runs, Q queries, B resamples. `MedR` is summarised by the median, all others by the mean.

    Args:
        values: metric -> value of each run and query.
        cluster: integers from 0, the cluster of each query.
        samples: number of resamples, B.
        seed: seed of the draws.
        progress: function called with the size of each block of draws.
    """
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != MEDIAN]
    sizes = np.bincount(cluster, minlength=clusters).astype(np.float64)
    sums = {name: _by_cluster(values[name], cluster, clusters) for name in means}
    ranked = [copied(row, cluster, clusters) for row in values.get(MEDIAN, ())]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in values}
    generator = np.random.default_rng(seed)
    for block in _blocks(samples, clusters, progress):
        counts = draw(generator, block, clusters)
        queries = (counts @ sizes)[:, None]
        for name in means:
            drawn[name].append(counts @ sums[name].T / queries)
        if ranked:
            # (C,B), contiguous: the medians multiply it by sparse rows, once for each run.
            copies = np.ascontiguousarray(counts.T)
            drawn[MEDIAN].append(np.stack([row.medians(copies) for row in ranked], axis=1))
    return {name: np.concatenate(blocks) for name, blocks in drawn.items()}


def randomised(
    values: Mapping[str, np.ndarray],
    cluster: np.ndarray,
    systems: Sequence[slice],
    pairs: Sequence[Pair],
    *,
    samples: int,
    seed: int,
    progress: Drawn | None = None,
) -> dict[str, np.ndarray]:
    """Differences of two systems under random labels: name -> (R,Q) -> name -> (B,P).

    The seeds of a system are swapped together, and its value on a query is their mean. For `MedR`
    the summary is the median over queries and seeds, each seed with the same weight.

    Args:
        values: metric -> value of each run and query.
        cluster: integers from 0, the cluster of each query (Q,).
        systems: slice of the R runs for each system, its seeds.
        pairs: P pairs of systems; the difference is first less second.
        samples: number of draws, B.
        seed: seed of the coins.
        progress: function called with the size of each block of draws.
    """
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != MEDIAN]
    steps = {}
    for name in means:
        rows = np.stack([values[name][runs].mean(axis=0) for runs in systems])
        sums = _by_cluster(rows, cluster, clusters) / len(cluster)
        # A swap turns the sign of a cluster's part of the difference, so ±1 coins give all of it.
        steps[name] = np.stack([sums[first] - sums[second] for first, second in pairs])
    ranked = [
        exchanged(
            values[MEDIAN][systems[first]], values[MEDIAN][systems[second]], cluster, clusters
        )
        for first, second in (pairs if MEDIAN in values else ())
    ]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in values}
    generator = np.random.default_rng(seed)
    for block in _blocks(samples, clusters, progress):
        coins = 2.0 * generator.integers(2, size=(block, clusters)) - 1.0
        for name in means:
            drawn[name].append(coins @ steps[name].T)
        if ranked:
            heads = np.ascontiguousarray(coins.T)
            tails = -heads
            moved = [both.medians(heads) - both.medians(tails) for both in ranked]
            drawn[MEDIAN].append(np.stack(moved, axis=1))
    return {name: np.concatenate(blocks) for name, blocks in drawn.items()}


def draw(generator: np.random.Generator, samples: int, clusters: int) -> np.ndarray:
    """Counts of each cluster in each resample, drawn with replacement: (samples, C) float64."""
    # Each resample counts in a range of its own, so that one `bincount` serves all of them.
    drawn = generator.integers(clusters, size=(samples, clusters))
    drawn += np.arange(samples)[:, None] * clusters
    counts = np.bincount(drawn.ravel(), minlength=samples * clusters)
    return counts.reshape(samples, clusters).astype(np.float64)


def _by_cluster(rows: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """Sums of each row's values by cluster: (R,Q),(Q,)->(R,C)."""
    return np.stack([np.bincount(cluster, row, clusters) for row in rows])


def _blocks(samples: int, clusters: int, progress: Drawn | None) -> Iterator[int]:
    """Yields sizes of blocks that add up to `samples`; calls `progress` after each block."""
    size = max(1, _BUDGET // clusters)
    for start in range(0, samples, size):
        block = min(size, samples - start)
        yield block
        if progress is not None:
            progress(block)


@dataclass(frozen=True)
class Reweighted:
    """Multiset of T distinct values under many reweightings, each linear in C factors.

    Value t has the weight `fixed[t] + Σ_c varying[t, c] · factor[c]`, never below 0. A bootstrap
    gives each cluster of values a whole number of copies; a randomisation moves the weight of a
    cluster from one system's values to the other's.

    Attributes:
        values: (T,) distinct values, ascending.
        fixed: (T,) part of the weights that all reweightings share.
        varying: (T,C) coefficients of the factors, sparse.
    """

    values: np.ndarray
    fixed: np.ndarray
    varying: sparse.csr_array

    def medians(self, factors: np.ndarray) -> np.ndarray:
        """Exact median of each reweighting, as `np.median` of the values written out: (C,B)->(B,).

        Medians of resamples lie close together. So weights are accumulated value by value only in a
        window around the middle, and as one sum below it; the window grows until every median is
        inside. Cost: O(window · B) instead of the O(T · B) of all values.
        """
        half = self._sum(0, len(self.values), factors) / 2
        level = np.cumsum(self.fixed + self.varying @ factors.mean(axis=1)) / (2 * half.mean())
        reach = _REACH * 0.5 / np.sqrt(len(factors))
        while True:
            low = int(np.searchsorted(level, 0.5 - reach))
            high = min(int(np.searchsorted(level, 0.5 + reach)) + 1, len(level))
            below = self._sum(0, low, factors)
            weight = self.varying[low:high] @ factors + self.fixed[low:high, None]
            np.cumsum(weight, axis=0, out=weight)
            weight += below
            if (below < half).all() and (weight[-1] > half).all():
                break
            reach *= 2
        # The first values to reach and to exceed half of the weight: they differ where the number
        # of values is even, and the median lies between them. Weights are whole or half numbers
        # (see `exchanged`), so that the comparison with `half` is exact.
        lower = np.argmax(weight >= half, axis=0)
        upper = np.argmax(weight > half, axis=0)
        return (self.values[low + lower] + self.values[low + upper]) / 2

    def _sum(self, start: int, stop: int, factors: np.ndarray) -> np.ndarray:
        """Total weight of the values start…stop−1 in each reweighting: (C,B)->(B,)."""
        varying = self.varying[start:stop].sum(axis=0)
        if not varying.any():
            return np.full(factors.shape[1], self.fixed[start:stop].sum())
        # `einsum`: starting the threads of BLAS costs more than a product with one vector.
        return self.fixed[start:stop].sum() + np.einsum("c,cb->b", varying, factors)


def copied(values: np.ndarray, cluster: np.ndarray, clusters: int) -> Reweighted:
    """Values (Q,), each with as many copies as the factor of its cluster (Q,)."""
    rungs, rung = np.unique(values, return_inverse=True)
    return Reweighted(
        rungs,
        np.zeros(len(rungs)),
        sparse.csr_array((np.ones(len(values)), (rung, cluster)), shape=(len(rungs), clusters)),
    )


def exchanged(
    first: np.ndarray, second: np.ndarray, cluster: np.ndarray, clusters: int
) -> Reweighted:
    """Values of the first system where a cluster's factor is 1, of the second where it is −1.

    The S and R seeds of the two systems, (S,Q),(R,Q), share one weight, in any numbers; the
    medians are over seeds and queries together.
    """
    # A common multiple of both numbers of seeds, so that weights are integers and add up exactly.
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
