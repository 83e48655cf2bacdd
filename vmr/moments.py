"""Mean and scatter of rows, from one pass over their batches.

Each batch is centred at its own mean and merged by the update of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979). No digits cancel, even for
rows far from zero, where Σxxᵀ/n − mean·meanᵀ is the small difference of two large numbers.
"""

import numpy as np


class Moments:
    """Moments of the rows seen so far, in float64 and in memory for one row or one matrix (D,D).

    Args:
        cross: True for products of every two columns, (D,D), False for squares of each, (D,).

    Attributes:
        count: number of rows seen.
        mean: (D,) mean; a scalar 0 before the first batch, which sets the width.
        scatter: (D,) or (D,D) sum of squared deviations from the mean, or of their products;
            divided by the count it is the variance or the covariance.
    """

    def __init__(self, *, cross: bool = False) -> None:
        self._cross = cross
        self.count = 0
        self.mean = np.zeros(())
        self.scatter = np.zeros(())

    def add(self, rows: np.ndarray) -> None:
        """Merges a batch of rows (b,D), of which it makes a float64 copy: the caller bounds b."""
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        shift = mean - self.mean
        count = self.count + len(rows)
        if self._cross:
            within, between = rows.T @ rows, np.outer(shift, shift)
        else:
            within, between = np.square(rows).sum(axis=0), np.square(shift)
        # Chan's update: scatter within the batch, and scatter between its mean and the mean so far.
        self.scatter = self.scatter + within + between * (self.count * len(rows) / count)
        self.mean = self.mean + shift * (len(rows) / count)
        self.count = count
