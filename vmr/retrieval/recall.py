"""Recall@10 of an approximate index against exact search, and the time that a query takes."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vmr.arrays import unit_rows
from vmr.collection import Collection
from vmr.retrieval.search import inner_products, search

RECALL_AT = 10

# What a query reads, by kind: lists, or candidates of the graph. The first that finds enough.
EFFORTS = {
    "ivf": ("nprobe", (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)),
    "hnsw": ("efSearch", (128, 160, 192, 256, 320, 384, 512)),
}
_RECALL = 0.992  # for 0.99, as the queries that are measured by may be a little harder
_QUERIES, _TIMED, _TIMED_EXACTLY = 1000, 200, 5
_NOISE = 0.5  # length of the noise on a unit row


def trial_queries(collection: Collection, queries: Collection | None) -> tuple[np.ndarray, str]:
    """Unit rows (q, D) to search by, 1,000 at most, and what they are.

    Args:
      collection: what is indexed.
      queries: rows of the other modality; None for rows of the collection with noise.
    """
    source = collection if queries is None else queries
    # Evenly over the whole, since neighbours in a file are often alike.
    chosen = np.unique(np.linspace(0, len(source) - 1, _QUERIES).astype(np.int64))
    rows = np.ascontiguousarray(source.rows(chosen), np.float32)
    if queries is not None:
        return rows, f"{queries.side} rows of {queries.path}"
    noise = unit_rows(np.random.default_rng(0).standard_normal(rows.shape, np.float32))
    return unit_rows(rows + _NOISE * noise), (
        f"of its own rows with noise of length {_NOISE}, which flatters: give queries of the other "
        "modality"
    )


def halves(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every other query and the rest, to settle by and to measure by; one alone does both."""
    return (queries[1::2], queries[::2]) if len(queries) > 1 else (queries, queries)


def settle(kind: str, index: Any, collection: Collection, queries: np.ndarray) -> list[str]:
    """Lets a query read as much of an ivf or hnsw index of faiss as the recall asks for.

    Returns:
      what is to be said of it, a line or none.
    """
    name, efforts = EFFORTS[kind]
    owner = index.hnsw if kind == "hnsw" else index
    exact, recalls = _exact(collection, queries), []
    for effort in efforts:
        setattr(owner, name, effort if kind == "hnsw" else min(effort, index.nlist))
        recalls.append(_recall(index, collection, queries, exact))
        if recalls[-1] >= _RECALL or getattr(owner, name) < effort:
            break
    if len(recalls) == 1:
        return []
    first = f"recall@{RECALL_AT} was {recalls[0]:.4f} with {efforts[0]}"
    return [f"{name} is {getattr(owner, name)}: {first}"]


def measured(index: Any, collection: Collection, queries: np.ndarray) -> dict[str, Any]:
    """Recall@10 of a faiss index against exact search, and milliseconds a query, one at a time."""
    top = min(RECALL_AT, len(collection))
    exact = _exact(collection, queries)
    return {
        "queries": len(queries),
        f"recall@{RECALL_AT}": _recall(index, collection, queries, exact),
        "ms_per_query": _milliseconds(lambda row: index.search(row, top), queries[:_TIMED]),
        "exact_ms_per_query": _milliseconds(
            lambda row: search(row, collection.parts, top), queries[:_TIMED_EXACTLY]
        ),
    }


def _exact(collection: Collection, queries: np.ndarray) -> np.ndarray:
    """Scores (q, 10) of the nearest rows, fewer in a smaller collection."""
    return search(queries, collection.parts, RECALL_AT).scores


def _recall(index: Any, collection: Collection, queries: np.ndarray, exact: np.ndarray) -> float:
    """Share of the nearest rows that the index finds, by their exact scores (q, k)."""
    rows = index.search(queries, exact.shape[1])[1]
    query, _ = np.nonzero(rows >= 0)
    # By what the rows found score, not by their numbers: a duplicate of a neighbour is as good.
    scores = inner_products(queries[query], collection.rows(rows[rows >= 0]))
    return float(np.sum(scores >= exact[query, -1]) / exact.size)


def _milliseconds(find: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    find(rows[:1])  # threads are started
    times = []
    for row in range(len(rows)):
        start = time.perf_counter()
        find(rows[row : row + 1])
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))
