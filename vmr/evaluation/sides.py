"""One modality of a ranking: sorted by label, cut into tiles, with the counts of its items."""

import jax
import jax.numpy as jnp
import numpy as np

from vmr.evaluation import tiles
from vmr.evaluation.checks import Embedded, SegmentedItems

Spans = tuple[np.ndarray, np.ndarray]  # lowest and highest label of every tile, (J,) each

# Tiles in memory, of videos while the relevant scores are found and of tracks while rivals are
# counted on CPU; fewer where items have segments.
BLOCK = 8


class Side:
    """Embeddings of one modality, sorted by relevance label and cut into tiles; accumulates counts.

    N items with C relevant score classes each, in J tiles; `best` is +inf in unused classes.

    Args:
        embeddings: (N,D) or segmented, in the caller's order and type; only the tile in use is
            copied and cast to float32.
        label: (N,) int32, from 0.
        other: (M,) int32, labels of the other modality.
        classes: score classes requested; C is smaller if no item has so many relevant ones.
        padding: negative label of the rows that fill up the last tile.
    """

    def __init__(
        self,
        embeddings: Embedded,
        label: np.ndarray,
        other: np.ndarray,
        *,
        classes: int,
        padding: int,
    ) -> None:
        self.embeddings = embeddings
        # Number of relevant items of each, in the caller's order, not sorted.
        self.relevant = np.bincount(other, minlength=int(label.max()) + 1)[label]
        self.padding = padding
        self.size = tiles.size()
        self.order = np.argsort(label, kind="stable")
        self.tiles = -(-len(label) // self.size)
        self.classes = max(1, min(classes, int(self.relevant.max())))
        self.label = np.full((self.tiles, self.size), padding, np.int32)
        self.label.ravel()[: len(label)] = label[self.order]
        shape = (self.tiles, self.size, self.classes)
        self.best = np.full(shape, np.inf, np.float32)
        self.peers, self.above, self.tied = (np.zeros(shape, np.int32) for _ in range(3))

    def load(self, tile: int) -> tuple[jax.Array, jax.Array]:
        """Loads a tile, padded to full size: embeddings (T,D) or (S,T,D) float32, labels (T,)."""
        # Every tile is of the full size: one shape is one compiled product, and ties are exact.
        rows = self.order[tile * self.size : (tile + 1) * self.size]
        return jnp.asarray(self._values(rows)), jnp.asarray(self.label[tile])

    def load_gallery(self, span: slice, size: int) -> tiles.Gallery:
        """Loads tiles to stay on the device, in a gallery of `size` tiles, more than are filled."""
        embeddings = jnp.zeros((size, *self._shape()), jnp.float32)
        label = np.full((size, self.size), self.padding, np.int32)
        best = np.full((size, self.size, self.classes), np.inf, np.float32)
        count = span.stop - span.start
        label[:count], best[:count] = self.label[span], self.best[span]
        for position in range(count):
            # One by one: of a gallery that fills the device no second copy is held here.
            embeddings = tiles.put(embeddings, self.load(span.start + position)[0], position)
        return tiles.Gallery(embeddings, jnp.asarray(label), jnp.asarray(best))

    def _shape(self) -> tuple[int, ...]:
        segments = (self.segments,) if isinstance(self.embeddings, SegmentedItems) else ()
        return *segments, self.size, self.embeddings.shape[-1]

    def _values(self, rows: np.ndarray) -> np.ndarray:
        items, values = self.embeddings, np.zeros(self._shape(), np.float32)
        if isinstance(items, SegmentedItems):
            for position in range(items.longest):
                values[position, : len(rows)] = items.segment(rows, position)
        else:
            values[: len(rows)] = items[rows]
        return values

    @property
    def segments(self) -> int:
        """Number of rows that a tile has for each of its items."""
        return self.embeddings.longest if isinstance(self.embeddings, SegmentedItems) else 1

    @property
    def full(self) -> int:
        """Number of tiles without padding."""
        return len(self.order) // self.size

    @property
    def spans(self) -> Spans:
        """Lowest and highest label of every tile, (J,) each."""
        last = np.minimum(np.arange(1, self.tiles + 1) * self.size, len(self.order)) - 1
        return self.label[:, 0], self.label.ravel()[last]

    def in_given_order(self, values: np.ndarray) -> np.ndarray:
        """Undoes the sorting: (J,T,C) -> (N,C) int64, in the caller's order."""
        values = values.reshape(-1, self.classes)[: len(self.order)]
        given = np.empty(values.shape, np.int64)
        given[self.order] = values
        return given


def band(spans: Spans, others: Spans) -> np.ndarray:
    """Tiles of the other modality that may share a label with each tile: (J,2), from and to.

    Two tiles may if the ranges of their labels overlap. Both modalities are sorted, so that these
    tiles stand side by side.
    """
    (low, high), (other_low, other_high) = spans, others
    first = np.searchsorted(other_high, low, side="left")
    return np.stack([first, np.searchsorted(other_low, high, side="right")], axis=1)


def numbered(label: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One numbering of the labels of both modalities: (N,),(M,) of any type -> int32 from 0."""
    numbers = np.unique(np.concatenate([label, other]), return_inverse=True)[1].astype(np.int32)
    return numbers[: len(label)], numbers[len(label) :]


def score(video: jax.Array, music: jax.Array) -> jax.Array:
    """Scores of two tiles, `tiles.score`; awaited where items have segments."""
    return bounded(tiles.score(video, music), video)


def bounded(scores: jax.Array, video: jax.Array) -> jax.Array:
    """Scores as they are, awaited if the videos are segments (S,T,D)."""
    # JAX returns before the work is done: tiles of many segments would queue up in memory.
    return scores.block_until_ready() if video.ndim == 3 else scores
