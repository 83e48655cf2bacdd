"""Rows of unit length: the embeddings whose inner products are cosines."""

import numpy as np

TOLERANCE = 1e-2  # of a row's length: some store float16


def lengths_and_faults(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of rows, and where they are not 1: (n, D) -> (n,) float, (n,) bool.

    A row of zeros is no fault: encoders make it of nothing, and it ties with everything, at chance.
    """
    # In float64: the squares of a float32 beyond 1e19 are infinite.
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return lengths, ~((np.abs(lengths - 1.0) <= TOLERANCE) | (lengths == 0.0))
