"""95 % bootstrap intervals over queries, drawn by cluster.

Videos that share a track share its fate: to draw them one by one would pretend to more evidence
than there is. So clusters (tracks) are drawn with replacement, and all queries of a drawn cluster
come with it (Field and Welsh, "Bootstrapping clustered data", JRSS-B 2007). The interval is the
percentile one (Efron and Tibshirani 1993, chapter 13).
"""

import numpy as np

# Counts held at a time, resamples x max(clusters, queries): 2**22 int64 are 32 MB.
_BUDGET = 1 << 22
_PERCENT = (2.5, 97.5)


def intervals(
    values: dict[str, np.ndarray], cluster: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """95 % interval of each metric's summary: name -> (Q,), cluster (Q,) -> name -> [low, high].

    `MedR` is summarised by the median, all others by the mean, as in `metrics.summarise`. All
    metrics see the same resamples; the same seed gives the same intervals.

    To compare two runs on the same queries, give the differences of their values query by query:
    this is the paired bootstrap, free of the noise of the queries that both runs share, and an
    interval without 0 shows a difference. (For `MedR` it is then the median difference, not the
    difference of the medians.)
    """
    _, cluster = np.unique(cluster, return_inverse=True)
    clusters = int(cluster.max()) + 1
    means = [name for name in values if name != "MedR"]
    # Sums by cluster, and the number of queries in it: a resample is then one weighted sum.
    columns = [np.bincount(cluster, values[name], clusters) for name in means]
    sums = np.stack([*columns, np.bincount(cluster, minlength=clusters)], axis=1)
    order = np.argsort(values["MedR"]) if "MedR" in values else None
    generator = np.random.default_rng(seed)
    chunk = max(1, _BUDGET // max(clusters, len(cluster)))
    drawn_means, drawn_medians = [], []
    for start in range(0, samples, chunk):
        counts = draw(generator, min(chunk, samples - start), clusters)
        totals = counts @ sums
        drawn_means.append(totals[:, :-1] / totals[:, -1:])
        if order is not None:
            weights = counts[:, cluster[order]].astype(np.int64)
            drawn_medians.append(weighted_median(values["MedR"][order], weights))
    low, high = np.percentile(np.concatenate(drawn_means), _PERCENT, axis=0)
    result = {name: [float(a), float(b)] for name, a, b in zip(means, low, high, strict=True)}
    if order is not None:
        bounds = np.percentile(np.concatenate(drawn_medians), _PERCENT)
        result["MedR"] = [float(bound) for bound in bounds]
    return {name: result[name] for name in values}


def weighted_median(ascending: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median of each multiset: ascending (Q,), how often each value occurs (B,Q) -> (B,).

    The middle value, or the mean of the two middle ones, as np.median of the values written out.
    """
    reached = np.cumsum(weights, axis=1)
    total = reached[:, -1:]
    lower = np.argmax(reached >= (total + 1) // 2, axis=1)
    upper = np.argmax(reached >= total // 2 + 1, axis=1)
    return (ascending[lower] + ascending[upper]) / 2


def draw(generator: np.random.Generator, samples: int, clusters: int) -> np.ndarray:
    """How often each cluster is drawn in each resample: (samples, clusters) float64."""
    drawn = generator.integers(clusters, size=(samples, clusters))
    drawn += np.arange(samples)[:, None] * clusters
    counts = np.bincount(drawn.ravel(), minlength=samples * clusters)
    return counts.reshape(samples, clusters).astype(np.float64)
