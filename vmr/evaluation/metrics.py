"""Metrics of the table, one value per query, and their summaries.

Every value is an expectation over random tie-breaking, so a model that maps everything onto one
point scores exactly the chance level.

The best-ranked relevant item of a query has `above` rivals above it; `tied` rivals and `peers`
relevant items (itself included) have its score. A random order of these tied + peers items puts i
rivals before the first peer with probability

    P(i) = S(i) · peers / (tied + peers − i),   S(i) = ∏_{l<i} (tied − l) / (tied + peers − l),

where S(i) is the probability of at least i. With one peer, i is uniform on 0…tied, which gives the
closed forms of McSherry and Najork, "Computing information retrieval performance measures
efficiently in the presence of tied scores", ECIR 2008.

mAP@K and nDCG@K count all relevant items. Within a class of n tied items, r of them relevant, a
random order makes each position relevant with probability r/n and, if it is, each earlier position
of the class with probability (r − 1)/(n − 1) (McSherry and Najork again).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import digamma

from vmr.evaluation.ranks import Ranks

CUTOFFS = (1, 5, 10, 25, 50, 100)
RECALLS = tuple(f"R@{k}" for k in CUTOFFS)
RANKS = ("MedR", "MeanR", "MRR")
LOWER_IS_BETTER = ("MedR", "MeanR")
DIRECTIONS = {"v2m": "video → music", "m2v": "music → video"}
# Cutoff of mAP and nDCG; also the number of score classes that they need of a query.
DEPTH = 10


def table_values(ranks: Ranks) -> dict[str, np.ndarray]:
    """Computes the columns of the table for each of Q queries: name -> (Q,).

    `R@K` is in percent and `MRR` in [0, 1]; `MedR` and `MeanR` are both the expected 1-based rank,
    to be summarised by median and mean. Only the best-ranked relevant item of a query counts.
    """
    above, tied, peers = ranks.above[:, 0], ranks.tied[:, 0], ranks.peers[:, 0]
    values = {f"R@{k}": 100.0 * recall(above, tied, peers, k) for k in CUTOFFS}
    rank = expected_rank(above, tied, peers)
    return values | {"MedR": rank, "MeanR": rank, "MRR": reciprocal_rank(above, tied, peers)}


def all_values(ranks: Ranks) -> dict[str, np.ndarray]:
    """Computes `table_values`, and mAP@10 and nDCG@10 in [0, 1], which count all relevant items."""
    return table_values(ranks) | {
        f"mAP@{DEPTH}": average_precision(ranks, DEPTH),
        f"nDCG@{DEPTH}": discounted_gain(ranks, DEPTH),
    }


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Summarises each metric: the median over queries of MedR, the mean of all others."""
    return {
        name: float(np.median(value) if name == "MedR" else np.mean(value))
        for name, value in values.items()
    }


def at_chance(ranks: Ranks) -> Ranks:
    """Ranks of the same queries with all items tied, C = 1, as a model without knowledge has them.

    Their metrics are the chance levels for these gallery sizes and numbers of relevant items. With
    one relevant item among G, R@K is min(K, G)/G and the expected rank (G + 1)/2.
    """
    return replace(
        ranks,
        above=np.zeros_like(ranks.above[:, :1]),
        tied=(ranks.gallery - 1)[:, None],
        peers=ranks.relevant[:, None],
    )


def expected_rank(above: np.ndarray, tied: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """Mean 1-based rank (Q,),(Q,),(Q,)->(Q,): with one peer, the mid-rank above + tied/2 + 1."""
    return above + tied / (peers + 1) + 1


def recall(above: np.ndarray, tied: np.ndarray, peers: np.ndarray, k: int) -> np.ndarray:
    """Probability that a relevant item is among the first k: (Q,),(Q,),(Q,)->(Q,) in [0, 1]."""
    probability = np.clip((k - above) / (tied + 1), 0.0, 1.0)
    for rows, ahead in _several_peers(tied, peers):
        # P(fewer than k − above rivals come before the first peer).
        reached = np.concatenate([[0.0], np.cumsum(ahead)])
        probability[rows] = reached[np.clip(k - above[rows], 0, len(ahead))]
    # The cumulative sum of probabilities may end a rounding above 1.
    return np.minimum(probability, 1.0)


def reciprocal_rank(above: np.ndarray, tied: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """Mean of 1/rank (Q,),(Q,),(Q,)->(Q,): with one peer, (H(above+tied+1) − H(above)) / (tied+1).

    H(n) is the n-th harmonic number.
    """
    harmonic = (digamma(above + tied + 2.0) - digamma(above + 1.0)) / (tied + 1)
    # The difference of digammas rounds; without a tie the value is known exactly.
    value = np.where(tied == 0, 1.0 / (above + 1), harmonic)
    for rows, ahead in _several_peers(tied, peers):
        # Many queries share a number of items above: each distinct number is computed once.
        firsts, which = np.unique(above[rows], return_inverse=True)
        value[rows] = np.array([_mean_reciprocal(ahead, first) for first in firsts])[which]
    return value


def _mean_reciprocal(ahead: np.ndarray, first: int) -> float:
    """Σ_i P(i) / (first + i + 1)."""
    return float(np.sum(ahead / np.arange(first + 1.0, first + len(ahead) + 1)))


def _several_peers(tied: np.ndarray, peers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows of each pair (tied, peers) with several peers, and their P(i), i = 0…tied."""
    rows = np.flatnonzero((peers > 1) & (tied > 0))
    shapes, which = np.unique(np.stack([tied[rows], peers[rows]]), axis=1, return_inverse=True)
    for shape, (rivals, equals) in enumerate(shapes.T):
        before = np.arange(rivals)
        # S(i) as a running product, S(0) = 1: factorials would overflow.
        at_least = np.cumprod((rivals - before) / (rivals + equals - before))
        at_least = np.concatenate([[1.0], at_least])
        ahead = at_least * equals / (rivals + equals - np.arange(rivals + 1))
        yield rows[which == shape], ahead


def average_precision(ranks: Ranks, k: int) -> np.ndarray:
    """Expected AP@k of each query, (Q,) in [0, 1].

    AP@k = Σ_{i≤k} relevant(i) · precision(i) / min(k, relevant items), so that a perfect ranking
    scores 1 for any number of relevant items.
    """
    start, size, earlier = _classes(ranks, k)
    peers = ranks.peers
    share = peers / np.maximum(size, 1)
    total = np.zeros(len(peers))
    for position in range(1, k + 1):
        inside = (start < position) & (position <= start + size)
        # Expected relevant items of the same class at earlier positions, if this one is relevant.
        fellows = (position - start - 1) * (peers - 1) / np.maximum(size - 1, 1)
        total += np.sum(inside * share * (earlier + 1 + fellows), axis=1) / position
    return total / np.minimum(k, ranks.relevant)


def discounted_gain(ranks: Ranks, k: int) -> np.ndarray:
    """Expected nDCG@k of each query, (Q,) in [0, 1], binary relevance.

    DCG@k = Σ_{i≤k} relevant(i) / log2(i + 1), divided by its value for a ranking with all relevant
    items at the top (Järvelin and Kekäläinen, TOIS 2002).
    """
    start, size, _ = _classes(ranks, k)
    share = ranks.peers / np.maximum(size, 1)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    total = np.zeros(len(share))
    for position in range(1, k + 1):
        inside = (start < position) & (position <= start + size)
        total += discount[position - 1] * np.sum(inside * share, axis=1)
    return total / np.cumsum(discount)[np.minimum(k, ranks.relevant) - 1]


def _classes(ranks: Ranks, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of items before each class, in it, and of relevant ones before it: three (Q,C)."""
    if np.any(ranks.peers.sum(axis=1) < np.minimum(k, ranks.relevant)):
        raise ValueError(f"ranks hold too few score classes for k = {k}: rank with classes={k}")
    earlier = np.cumsum(ranks.peers, axis=1) - ranks.peers
    return ranks.above + earlier, ranks.tied + ranks.peers, earlier
