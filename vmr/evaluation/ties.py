"""Expectations over random tie-breaking, so that a tie is worth exactly what chance makes of it.

The best-ranked relevant item of a query stands below `above` rivals, among `tied` rivals and
`peers` relevant items of its own score (itself included). A random order of those tied + peers
items puts i rivals before the first peer with probability

    P(i) = S(i) · peers / (tied + peers − i),   S(i) = ∏_{l<i} (tied − l) / (tied + peers − l),

where S(i) is the probability of at least i. With one peer i is uniform on 0…tied, and the closed
forms below are those of McSherry and Najork, "Computing information retrieval performance measures
efficiently in the presence of tied scores", ECIR 2008.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import digamma


def expected_rank(above: np.ndarray, tied: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """Mean 1-based rank (Q,),(Q,),(Q,)->(Q,): with one peer, the mid-rank above + tied/2 + 1."""
    return above + tied / (peers + 1) + 1


def recall(above: np.ndarray, tied: np.ndarray, peers: np.ndarray, k: int) -> np.ndarray:
    """Probability that a relevant item is among the first k: (Q,),(Q,),(Q,)->(Q,) in [0, 1]."""
    probability = np.clip((k - above) / (tied + 1), 0.0, 1.0)
    for rows, ahead in _several_peers(tied, peers):
        # P(fewer than k − above rivals come first).
        reached = np.concatenate([[0.0], np.cumsum(ahead)])
        probability[rows] = reached[np.clip(k - above[rows], 0, len(ahead))]
    return np.minimum(probability, 1.0)


def reciprocal_rank(above: np.ndarray, tied: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """Mean of 1/rank (Q,),(Q,),(Q,)->(Q,): with one peer, (H(above+tied+1) − H(above)) / (tied+1).

    H(n) is the n-th harmonic number.
    """
    harmonic = (digamma(above + tied + 2.0) - digamma(above + 1.0)) / (tied + 1)
    # The difference of digammas rounds; without a tie the value is known exactly.
    value = np.where(tied == 0, 1.0 / (above + 1), harmonic)
    for rows, ahead in _several_peers(tied, peers):
        # Rows of one shape differ in what stands above them: each distinct number is taken once.
        firsts, which = np.unique(above[rows], return_inverse=True)
        value[rows] = np.array([_mean_reciprocal(ahead, first) for first in firsts])[which]
    return value


def _mean_reciprocal(ahead: np.ndarray, first: int) -> float:
    """Σ_i P(i) / (first + i + 1)."""
    return float(np.sum(ahead / np.arange(first + 1.0, first + len(ahead) + 1)))


def _several_peers(tied: np.ndarray, peers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that share (tied, peers > 1), and their P(i) for i = 0…tied."""
    rows = np.flatnonzero((peers > 1) & (tied > 0))
    shapes, which = np.unique(np.stack([tied[rows], peers[rows]]), axis=1, return_inverse=True)
    for shape, (rivals, equals) in enumerate(shapes.T):
        before = np.arange(rivals)
        at_least = np.cumprod((rivals - before) / (rivals + equals - before))
        at_least = np.concatenate([[1.0], at_least])
        ahead = at_least * equals / (rivals + equals - np.arange(rivals + 1))
        yield rows[which == shape], ahead
