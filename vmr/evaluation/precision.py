"""mAP@K and nDCG@K: all relevant items count, ties by their exact expectation.

Within a class of n tied items, r of them relevant, a random order makes each place relevant with
probability r/n, and, given that, each earlier place of the class with (r − 1)/(n − 1). Formulas:
McSherry and Najork, ECIR 2008.
"""

import numpy as np

from vmr.evaluation.ranks import Ranks


def average_precision(ranks: Ranks, k: int) -> np.ndarray:
    """Expected AP@k of each query, (Q,) in [0, 1].

    AP@k = Σ_{i≤k} relevant(i) · precision(i) / min(k, relevant items), so a perfect ranking
    scores 1 however many relevant items there are.
    """
    start, size, earlier = _places(ranks, k)
    peers = ranks.peers
    share = peers / np.maximum(size, 1)
    total = np.zeros(len(peers))
    for place in range(1, k + 1):
        inside = (start < place) & (place <= start + size)
        fellows = (place - start - 1) * (peers - 1) / np.maximum(size - 1, 1)
        total += np.sum(inside * share * (earlier + 1 + fellows), axis=1) / place
    return total / np.minimum(k, ranks.relevant)


def discounted_gain(ranks: Ranks, k: int) -> np.ndarray:
    """Expected nDCG@k of each query, (Q,) in [0, 1], binary relevance.

    DCG@k = Σ_{i≤k} relevant(i) / log2(i + 1), divided by that of min(k, relevant items) relevant
    items at the top (Järvelin and Kekäläinen, TOIS 2002).
    """
    start, size, _ = _places(ranks, k)
    share = ranks.peers / np.maximum(size, 1)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    total = np.zeros(len(share))
    for place in range(1, k + 1):
        inside = (start < place) & (place <= start + size)
        total += discount[place - 1] * np.sum(inside * share, axis=1)
    return total / np.cumsum(discount)[np.minimum(k, ranks.relevant) - 1]


def _places(ranks: Ranks, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class (Q,C): items before it, items in it, relevant items before it."""
    if np.any(ranks.peers.sum(axis=1) < np.minimum(k, ranks.relevant)):
        raise ValueError(f"ranks hold too few score classes for k = {k}: rank with classes={k}")
    earlier = np.cumsum(ranks.peers, axis=1) - ranks.peers
    return ranks.above + earlier, ranks.tied + ranks.peers, earlier
