"""Search and CSLS as one would write them from their definitions, whole matrices in float64."""

import numpy as np

from vmr.arrays import unit_rows


def made_rows(seed: int, rows: int, width: int = 24) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((rows, width)))


def scores(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)


def best(keys: np.ndarray, top: int) -> np.ndarray:
    """Rows of the highest keys (Q, M) -> (Q, top), ties by row order."""
    return np.argsort(-keys, axis=1, kind="stable")[:, :top]


def csls(queries: np.ndarray, rows: np.ndarray, bank: np.ndarray, k: int = 10) -> np.ndarray:
    """2·s(q, g) − r(q) − r(g): (Q, M) float64."""

    def nearest(items: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.sort(scores(items, others), axis=1)[:, -k:].mean(axis=1, dtype=np.float64)

    return (
        2.0 * scores(queries, rows) - nearest(queries, rows)[:, None] - nearest(rows, bank)[None, :]
    )
