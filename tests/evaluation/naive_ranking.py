"""Naive references, O(N x M) and written for the eye, and data with exact float32 scores."""

import itertools

import numpy as np

from vmr.evaluation import Ranks


def grid(generator, items, width=3, levels=2):
    """Small integers (items, width): inner products are exact in float32, and often tie."""
    return generator.integers(-levels, levels + 1, (items, width)).astype(np.float32)


def unit_rows(generator, items, width=16):
    rows = generator.standard_normal((items, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def first_class(scores, relevant):
    """(above, tied, peers) of the best-ranked relevant items of one query, (M,),(M,)->3 ints."""
    best = scores[relevant].max()
    rivals = scores[~relevant]
    return (rivals > best).sum(), (rivals == best).sum(), (scores[relevant] == best).sum()


def all_ranks(scores, relevant):
    """`Ranks` of one class a query, from all scores (Q,M) and relevance (Q,M)."""
    queries = np.flatnonzero(relevant.any(axis=1))
    found = [first_class(scores[query], relevant[query]) for query in queries]
    above, tied, peers = np.array(found).T[:, :, None]
    counts = relevant[queries].sum(axis=1)
    return Ranks(queries, counts, scores.shape[1] - counts + 1, above, tied, peers)


def assert_matches(ranks, scores, relevant):
    """Against every query's row of scores (Q,M) and relevance (Q,M)."""
    expected = all_ranks(scores, relevant)
    for name in ("query", "relevant", "gallery"):
        np.testing.assert_array_equal(getattr(ranks, name), getattr(expected, name))
    for name in ("above", "tied", "peers"):
        np.testing.assert_array_equal(getattr(ranks, name)[:, :1], getattr(expected, name))


def tie_orders(scores, relevant):
    """All orders of M items that agree with their scores: yields relevance by rank, (M,) bool."""
    for order in itertools.permutations(range(len(scores))):
        if np.all(np.diff(scores[list(order)]) <= 0):
            yield relevant[list(order)]
