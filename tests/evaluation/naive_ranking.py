"""Naive references, O(N x M) and written for the eye, and data with exact float32 scores."""

import itertools

import numpy as np


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


def tie_orders(scores, relevant):
    """All orders of M items that agree with their scores: yields relevance by rank, (M,) bool."""
    for order in itertools.permutations(range(len(scores))):
        if np.all(np.diff(scores[list(order)]) <= 0):
            yield relevant[list(order)]
