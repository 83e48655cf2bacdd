"""Many runs resampled together: what other queries would have shown, and what labels are worth.

*Bootstrap*: clusters of queries (tracks) are drawn with replacement, the same draw for all runs, so
that differences between runs are paired (Field and Welsh, JRSS-B 2007). *Randomisation*: of each
cluster a coin decides whether two systems swap their results on it (Fisher's test, as in Smucker,
Allan, Carterette, "A comparison of statistical significance tests for information retrieval
evaluation", CIKM 2007). Memory is bounded: draws come in blocks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from vmr.evaluation import medians
from vmr.evaluation.bootstrap import draw

# Draws held at a time, resamples x clusters: 2**20 float64 are 8 MB.
_BUDGET = 1 << 20
MEDIAN = "MedR"

Pair = tuple[int, int]  # positions of two systems
Drawn = Callable[[int], None]  # told how many draws were added


def resampled(
    values: Mapping[str, np.ndarray],
    cluster: np.ndarray,
    *,
    samples: int,
    seed: int,
    progress: Drawn | None = None,
) -> dict[str, np.ndarray]:
    """Each run's summary in each bootstrap resample: name -> (R,Q), cluster (Q,) -> name -> (B,R).

    R runs, Q queries, B resamples. `MedR` is summarised by the median, all others by the mean.

    Args:
        values: by metric, of each run and query.
        cluster: integers from 0, the cluster of each query.
        samples: B.
        seed: of the draws.
        progress: called with the size of each block of draws.
    """
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != MEDIAN]
    sizes = np.bincount(cluster, minlength=clusters).astype(np.float64)
    sums = {name: by_cluster(values[name], cluster, clusters) for name in means}
    ranked = [medians.copied(row, cluster, clusters) for row in values.get(MEDIAN, ())]
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
    """Differences between two systems whose labels mean nothing: name -> (R,Q) -> name -> (B,P).

    A system's seeds go together, and its value on a query is their mean. For `MedR` it is the
    median over queries and seeds, each seed of the same weight.

    Args:
        values: by metric, of each run and query.
        cluster: integers from 0, the cluster of each query (Q,).
        systems: which of the R runs are a system's.
        pairs: P pairs of systems; the difference is first less second.
        samples: B.
        seed: of the coins.
        progress: called with the size of each block of draws.
    """
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != MEDIAN]
    steps = {}
    for name in means:
        rows = np.stack([values[name][runs].mean(axis=0) for runs in systems])
        sums = by_cluster(rows, cluster, clusters) / len(cluster)
        steps[name] = np.stack([sums[first] - sums[second] for first, second in pairs])
    ranked = [
        medians.exchanged(
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


def by_cluster(rows: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """Sums of each row's values by cluster: (R,Q),(Q,)->(R,C)."""
    return np.stack([np.bincount(cluster, row, clusters) for row in rows])


def _blocks(samples: int, clusters: int, progress: Drawn | None) -> Iterator[int]:
    """Sizes of blocks of draws that add up to all of them, each told when it is done."""
    size = max(1, _BUDGET // clusters)
    for start in range(0, samples, size):
        block = min(size, samples - start)
        yield block
        if progress is not None:
            progress(block)
