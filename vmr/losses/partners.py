"""Items of one track, in turn: the positives of a batch without an N × N matrix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Partners(NamedTuple):
    """Where the items of each item's track stand once the batch is sorted by track."""

    order: Array  # (N,) the items, track by track
    starts: Array  # (N,) where the item's track starts in `order`
    sizes: Array  # (N,) items of its track
    offsets: Array  # (N,) where the item stands within its track

    def at(self, turn: Array) -> Array:
        """(N,) each item's partner in a turn: itself in turn 0, all of its track in `size` turns.

        In a turn below an item's size, no other item has the same partner.
        """
        return self.order[self.starts + (self.offsets + turn) % self.sizes]


def partners_of(track: Array) -> Partners:
    """(N,) int -> the partners of each item: those of the same track."""
    order = jnp.argsort(track)
    ascending = track[order]
    starts = jnp.searchsorted(ascending, track, side="left")
    ends = jnp.searchsorted(ascending, track, side="right")
    places = jnp.zeros_like(order).at[order].set(jnp.arange(track.size, dtype=order.dtype))
    return Partners(order, starts, ends - starts, places - starts)
