"""A row loss over all its anchors, a block of rows at a time, in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

# (b,D) anchors, (N,D) gallery, facts about the anchors (b,...) -> (b,)
RowLoss = Callable[[Array, Array, Any], Array]


def sum_and_gradients(
    row_loss: RowLoss, anchors: Array, gallery: Array, facts: Any, block_rows: int | None
) -> tuple[Array, Array, Array]:
    """The sum of a row loss, and its gradients: (n,D), (N,D), (n,...) -> (), (n,D), (N,D).

    Each block's gradient is taken in the forward pass, right after its value: nothing is kept for
    a backward pass and nothing is computed twice, at O(block · N + N · D) memory in all.

    Args:
      row_loss: differentiated with respect to anchors and gallery.
      anchors: embeddings of the anchors.
      gallery: embeddings that they are compared with; a constant copy where both are the same.
      facts: whatever else the loss must know of each anchor, arrays (n,...) in any tree.
      block_rows: b, anchors at a time; None takes them all at once.
    """
    value_and_gradients = jax.value_and_grad(_sum(row_loss), argnums=(0, 1))
    count = anchors.shape[0]
    if block_rows is None or block_rows >= count:
        value, gradients = value_and_gradients(anchors, gallery, facts, None)
        return value, *gradients

    def add_block(
        carry: tuple[Array, Array], block: tuple[Array, Any, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        value, to_gallery = carry
        anchors, facts, is_real = block
        block_value, (to_anchors, more) = value_and_gradients(anchors, gallery, facts, is_real)
        return (value + block_value, to_gallery + more), to_anchors

    start = (jnp.zeros((), anchors.dtype), jnp.zeros_like(gallery))
    whole = (anchors, facts, jnp.ones(count, bool))
    blocks = jax.tree.map(lambda array: _in_blocks(array, block_rows), whole)
    (value, to_gallery), to_anchors = jax.lax.scan(add_block, start, blocks)
    return value, to_anchors.reshape(-1, anchors.shape[1])[:count], to_gallery


def _sum(row_loss: RowLoss) -> Callable[[Array, Array, Any, Array | None], Array]:
    """The sum over the anchors that are real: the last block is filled up with zeros."""

    def summed(anchors: Array, gallery: Array, facts: Any, is_real: Array | None) -> Array:
        values = row_loss(anchors, gallery, facts)
        return jnp.sum(values if is_real is None else jnp.where(is_real, values, 0.0))

    return summed


def _in_blocks(array: Array, block_rows: int) -> Array:
    """(n, ...) -> (n / b, b, ...), filled up with zeros."""
    missing = -array.shape[0] % block_rows
    filled = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
    return filled.reshape(-1, block_rows, *array.shape[1:])
