"""Matrix products, cosines and distances of rows, from which every pairwise loss starts.

Letters: n anchors, N items, P width.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

Array = jax.Array


def products(x: Array, y: Array) -> Array:
    """Dot products in full precision: (n,P), (N,P) -> (n,N)."""
    # At the default precision a GPU multiplies in TF32, and duplicates would no longer tie exactly.
    return jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)


def cosines(x: Array, y: Array) -> Array:
    """Cosines, without gradient, 0 against a zero row: (n,P), (N,P) -> (n,N)."""
    return products(constant_unit_rows(x), constant_unit_rows(y))


def constant_unit_rows(x: Array) -> Array:
    """Rows scaled to length 1, without gradient: (n,P) -> (n,P); a zero row stays zero."""
    x = lax.stop_gradient(x)
    return x / optax.safe_norm(x, 1e-12, axis=1, keepdims=True)


def transposed_product(x: Array, y: Array, **options: Any) -> Array:
    """Product `x.T @ y`, fast on CPU: (n,P), (n,D) -> (P,D), with the options of `jnp.matmul`."""
    # XLA would fold the transpose into the product, which is slow on CPU where the left factor is
    # stored transposed; the barrier makes it write the transpose out first.
    return jnp.matmul(lax.optimization_barrier(x.T), y, **options)


def distances(x: Array, y: Array) -> Array:
    """Euclidean distances: (n,P), (N,P) -> (n,N); 0 for rows that rounding cannot tell apart.

    Their gradient is 0 as well: that of a square root has no bound near 0.
    """
    lengths = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
    squares = lengths - 2.0 * products(x, y)
    apart = squares > 8.0 * jnp.finfo(squares.dtype).eps * lengths
    # The inner `where` keeps the root's infinite slope out of the gradient: 0 · inf would be NaN.
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


def is_own(rows: Array, items: int) -> Array:
    """Mask of the anchors' own entries, from their indices among the N items: (n,) -> (n,N)."""
    return rows[:, None] == jnp.arange(items)[None, :]
