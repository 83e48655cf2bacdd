"""One modality in the order of its labels, cut into tiles, with what is learnt of each item."""

import jax
import jax.numpy as jnp
import numpy as np

from vmr.evaluation.items import Embeddings, SegmentedItems
from vmr.evaluation.tiles import TILE


class Side:
    """N items, R relevant score classes each; the lists hold one (T,R) array a tile.

    Args:
        embeddings: (N,D) or segmented, as the caller gave them; a tile at a time is copied and made
            float32.
        label: (N,) int32, from 0.
        relevant: (N,) how many items of the other side share the label.
        classes: score classes asked for; R is no larger than the most that an item can have.
        padding: negative label of the rows that fill up the last tile.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        label: np.ndarray,
        relevant: np.ndarray,
        *,
        classes: int,
        padding: int,
    ) -> None:
        self.embeddings = embeddings
        self.order = np.argsort(label, kind="stable")
        self.label = label[self.order]
        self.relevant = relevant
        self.padding = padding
        self.tiles = -(-len(label) // TILE)
        shape = (TILE, max(1, min(classes, int(relevant.max()))))
        self.best = [jnp.full(shape, -jnp.inf, jnp.float32)] * self.tiles
        self.peers = [jnp.zeros(shape, jnp.int32)] * self.tiles
        self.above = [jnp.zeros(shape, jnp.int32)] * self.tiles
        self.tied = [jnp.zeros(shape, jnp.int32)] * self.tiles

    def load(self, tile: int) -> tuple[jax.Array, jax.Array]:
        """Embeddings (T,D) or (S,T,D) float32, labels (T,) of one tile, padded to its full size."""
        rows = self.order[tile * TILE : (tile + 1) * TILE]
        label = np.full(TILE, self.padding, np.int32)
        label[: len(rows)] = self.label[tile * TILE : (tile + 1) * TILE]
        return jnp.asarray(self._values(rows)), jnp.asarray(label)

    def _values(self, rows: np.ndarray) -> np.ndarray:
        items, width = self.embeddings, self.embeddings.shape[-1]
        if isinstance(items, SegmentedItems):
            values = np.zeros((items.longest, TILE, width), np.float32)
            for place in range(items.longest):
                values[place, : len(rows)] = items.place(rows, place)
        else:
            values = np.zeros((TILE, width), np.float32)
            values[: len(rows)] = items[rows]
        return values

    @property
    def segments(self) -> int:
        """Rows of embeddings that a tile holds for each of its items."""
        return self.embeddings.longest if isinstance(self.embeddings, SegmentedItems) else 1

    def full(self, tile: int) -> bool:
        """Whether a tile has no padding."""
        return (tile + 1) * TILE <= len(self.label)

    def meets(self, tile: int, other: "Side", other_tile: int) -> bool:
        """Whether two tiles may share a label: the ranges of their labels overlap."""
        low, high = self._span(tile)
        other_low, other_high = other._span(other_tile)
        return low <= other_high and other_low <= high

    def _span(self, tile: int) -> tuple[int, int]:
        return int(self.label[tile * TILE]), int(self.label[: (tile + 1) * TILE][-1])

    def in_given_order(self, parts: list[jax.Array]) -> np.ndarray:
        """One (T,R) array a tile -> (N,R) int64 in the order of the caller's rows."""
        values = np.concatenate([np.asarray(part) for part in parts])[: len(self.order)]
        given = np.empty(values.shape, np.int64)
        given[self.order] = values
        return given
