"""Items cut into segments: a video or a track as several rows, of which the best pair scores."""

from dataclasses import dataclass

import numpy as np

# Items averaged at a time, so that their float64 copies need little memory.
_ITEMS = 1024


@dataclass(frozen=True)
class SegmentedItems:
    """N items of up to S segments each; two items score by the maximum over pairs of segments.

    What stands behind an item's last segment is padding: never read, whatever it holds.

    Attributes:
        embeddings: (N,S,D), any float type.
        segments: (N,) integers, how many of the S segments each item has; at least 1.
    """

    embeddings: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,S,D)."""
        return self.embeddings.shape

    @property
    def longest(self) -> int:
        """Segments of the longest item, at most S."""
        return int(self.segments.max())

    @property
    def present(self) -> np.ndarray:
        """(N,S) bool: which places hold a segment and not padding."""
        return np.arange(self.embeddings.shape[1]) < np.asarray(self.segments)[:, None]

    def place(self, items: np.ndarray, place: int) -> np.ndarray:
        """The segment at one place of each of n items: (n,)->(n,D).

        A shorter item repeats its last segment, which leaves its maximum over segments as it is.
        """
        return self.embeddings[items, np.minimum(place, self.segments[items] - 1)]

    def rows(self) -> np.ndarray:
        """All segments, item by item: (sum of segments, D); a copy only if there is padding."""
        present = self.present
        if present.all():
            return self.embeddings.reshape(-1, self.embeddings.shape[2])
        return self.embeddings[present]

    def means(self) -> np.ndarray:
        """Mean of each item's segments, not of unit length: (N,D) float32.

        Summed in float64, where equal segments have a mean equal to each of them to the last bit,
        however many they are. So items that hold the same vector tie.
        """
        present = self.present
        means = np.empty((len(self), self.embeddings.shape[2]), np.float32)
        for start in range(0, len(self), _ITEMS):
            batch = slice(start, start + _ITEMS)
            values = self.embeddings[batch].astype(np.float64)
            means[batch] = np.mean(values, axis=1, where=present[batch, :, None])
        return means


# What the ranks take: one row an item (N,D), or several segments an item.
Embeddings = np.ndarray | SegmentedItems
