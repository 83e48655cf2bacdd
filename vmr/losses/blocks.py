"""A row loss over all its anchors, a block of rows at a time, in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

# (b,D) anchors, what all anchors share, facts about the anchors (b,...) -> (b,)
RowLoss = Callable[[Array, Any, Any], Array]


def sum_and_gradients(
    row_loss: RowLoss, anchors: Array, shared: Any, facts: Any, block_rows: int | None
) -> tuple[Array, Array, Any]:
    """The sum of a row loss, and its gradients: (n,D), tree, (n,...) -> (), (n,D), tree.

    Each block's gradient is taken in the forward pass, right after its value: nothing is kept for
    a backward pass and nothing is computed twice, at O(block · N + N · D) memory in all.

    Args:
      row_loss: differentiated with respect to anchors and to what they share.
      anchors: embeddings of the anchors.
      shared: a tree of arrays that every anchor sees: the gallery (N,D), learnt parameters; a
        constant copy where the anchors are among them.
      facts: whatever else the loss must know of each anchor, arrays (n,...) in any tree.
      block_rows: b, anchors at a time; None takes them all at once.
    """
    value_and_gradients = jax.value_and_grad(_sum(row_loss), argnums=(0, 1))
    count = anchors.shape[0]
    if block_rows is None or block_rows >= count:
        value, gradients = value_and_gradients(anchors, shared, facts, None)
        return value, *gradients

    def add_block(
        carry: tuple[Array, Any], block: tuple[Array, Any, Array]
    ) -> tuple[tuple[Array, Any], Array]:
        value, to_shared = carry
        anchors, facts, is_real = block
        block_value, (to_anchors, more) = value_and_gradients(anchors, shared, facts, is_real)
        return (value + block_value, jax.tree.map(jnp.add, to_shared, more)), to_anchors

    start = (jnp.zeros((), anchors.dtype), jax.tree.map(jnp.zeros_like, shared))
    blocks = in_blocks((anchors, facts, jnp.ones(count, bool)), block_rows)
    (value, to_shared), to_anchors = jax.lax.scan(add_block, start, blocks)
    return value, to_anchors.reshape(-1, anchors.shape[1])[:count], to_shared


def in_blocks(tree: Any, block_rows: int) -> Any:
    """Each (n, ...) -> (n / b, b, ...), the last block filled up with zeros."""

    def split(array: Array) -> Array:
        missing = -array.shape[0] % block_rows
        filled = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        return filled.reshape(-1, block_rows, *array.shape[1:])

    return jax.tree.map(split, tree)


def _sum(row_loss: RowLoss) -> Callable[[Array, Any, Any, Array | None], Array]:
    """The sum over the anchors that are real: the last block is filled up with zeros."""

    def summed(anchors: Array, shared: Any, facts: Any, is_real: Array | None) -> Array:
        values = row_loss(anchors, shared, facts)
        return jnp.sum(values if is_real is None else jnp.where(is_real, values, 0.0))

    return summed
