"""Mean and scatter of rows, from one pass over their batches.

Each batch is centred at its own mean and merged by the update of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979). So nothing cancels,
however far from zero the rows lie; Σxxᵀ/n − mean·meanᵀ would lose them.
"""

import numpy as np


class Moments:
    """Moments of the rows seen so far, in float64 and in memory that does not grow with them.

    Args:
        cross: sum products of every two columns, (D,D), instead of the squares of each, (D,).

    Attributes:
        count: rows seen.
        mean: (D,); a scalar 0 until the first rows tell the width.
        scatter: (D,) or (D,D), sum of the squared deviations from the mean or of their products;
            divided by the count it is the variance or the covariance.
    """

    def __init__(self, *, cross: bool = False) -> None:
        self._cross = cross
        self.count = 0
        self.mean = np.zeros(())
        self.scatter = np.zeros(())

    def add(self, rows: np.ndarray) -> None:
        """Merges a batch of rows (b,D); the caller bounds b, a float64 copy is made of it."""
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        shift = mean - self.mean
        count = self.count + len(rows)
        if self._cross:
            within, between = rows.T @ rows, np.outer(shift, shift)
        else:
            within, between = np.square(rows).sum(axis=0), np.square(shift)
        self.scatter = self.scatter + within + between * (self.count * len(rows) / count)
        self.mean = self.mean + shift * (len(rows) / count)
        self.count = count
