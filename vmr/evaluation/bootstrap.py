"""Cluster bootstrap and randomisation test over many runs at once.

*Bootstrap*: videos that share a track share its fate, and to draw them one by one would pretend to
more evidence than there is. So clusters (tracks) are drawn with replacement, with all their
queries, and the same draw serves all runs, so that differences between runs are paired (Field and
Welsh, "Bootstrapping clustered data", JRSS-B 2007). *Randomisation*: of each cluster a coin decides
whether two systems swap their results on it (Fisher's test, as in Smucker, Allan, Carterette, "A
comparison of statistical significance tests for information retrieval evaluation", CIKM 2007).

Memory is bounded: draws come in blocks. A resample of a mean is one weighted sum over clusters, and
medians are not sorted again for each draw (`Reweighted`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Draws held at a time, resamples x clusters: 2**20 float64 are 8 MB.
_BUDGET = 1 << 20
# Half of the first window, in standard deviations of the share of values below the median.
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

    To compare two runs on the same queries, give the differences of their values query by query:
    this is the paired bootstrap, free of the noise of the queries that both runs share, and an
    interval without 0 shows a difference. (For `MedR` it is then the median difference, not the
    difference of the medians.)
    """
    _, cluster = np.unique(cluster, return_inverse=True)
    means = [name for name in values if name != MEDIAN]
    # All means as the runs of one metric: a block of resamples is then one product for all of them.
    runs = {"mean": np.stack([values[name] for name in means])} if means else {}
    if MEDIAN in values:
        runs[MEDIAN] = values[MEDIAN][None]
    drawn = resampled(runs, cluster, samples=samples, seed=seed)
    found = {name: np.percentile(resamples, PERCENT, axis=0) for name, resamples in drawn.items()}
    ends = dict(zip(means, found["mean"].T, strict=True)) if means else {}
    if MEDIAN in values:
        ends[MEDIAN] = found[MEDIAN][:, 0]
    return {name: ends[name].tolist() for name in values}


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
        values: by metric, of each run and query.
        cluster: integers from 0, the cluster of each query.
        samples: B.
        seed: seed of the draws.
        progress: called with the size of each block of draws.
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

    A system's seeds go together, and its value on a query is their mean. For `MedR` it is the
    median over queries and seeds, each seed of the same weight.

    Args:
        values: by metric, of each run and query.
        cluster: integers from 0, the cluster of each query (Q,).
        systems: which of the R runs are a system's.
        pairs: P pairs of systems; the difference is first less second.
        samples: B.
        seed: seed of the coins.
        progress: called with the size of each block of draws.
    """
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != MEDIAN]
    steps = {}
    for name in means:
        rows = np.stack([values[name][runs].mean(axis=0) for runs in systems])
        sums = _by_cluster(rows, cluster, clusters) / len(cluster)
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
    drawn = generator.integers(clusters, size=(samples, clusters))
    drawn += np.arange(samples)[:, None] * clusters
    counts = np.bincount(drawn.ravel(), minlength=samples * clusters)
    return counts.reshape(samples, clusters).astype(np.float64)


def _by_cluster(rows: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """Sums of each row's values by cluster: (R,Q),(Q,)->(R,C)."""
    return np.stack([np.bincount(cluster, row, clusters) for row in rows])


def _blocks(samples: int, clusters: int, progress: Drawn | None) -> Iterator[int]:
    """Sizes of blocks of draws that add up to all of them; progress is called after each."""
    size = max(1, _BUDGET // clusters)
    for start in range(0, samples, size):
        block = min(size, samples - start)
        yield block
        if progress is not None:
            progress(block)


@dataclass(frozen=True)
class Reweighted:
    """Multiset under many reweightings: weights on T distinct values, linear in C factors.

    Value t weighs `fixed[t] + Σ_c varying[t, c] · factor[c]`, never less than 0: a bootstrap gives
    every cluster of values a whole number of copies, a randomisation moves clusters from one
    system's values to another's.

    Attributes:
        values: (T,) ascending.
        fixed: (T,).
        varying: (T,C) sparse.
    """

    values: np.ndarray
    fixed: np.ndarray
    varying: sparse.csr_array

    def medians(self, factors: np.ndarray) -> np.ndarray:
        """Exact median of each reweighting, as `np.median` of the values written out: (C,B)->(B,).

        Medians hardly move, so weights are summed up value by value only in a window around the
        middle, and as one sum below it. The window grows until it holds every median.
        """
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
    """Values (Q,), each copied as often as the factor of its cluster (Q,) says."""
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
