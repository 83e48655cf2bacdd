"""Similarities and distances between rows, from which every pairwise loss starts.

Letters: n anchors, N items, P width.
"""

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def products(x: Array, y: Array) -> Array:
    """(n,P), (N,P) -> (n,N) dot products in full precision: duplicates must tie exactly."""
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def cosines(x: Array, y: Array) -> Array:
    """(n,P), (N,P) -> (n,N) cosines, without gradient; 0 against a zero row."""
    return products(constant_unit_rows(x), constant_unit_rows(y))


def constant_unit_rows(x: Array) -> Array:
    """(n,P) -> (n,P) rows of length 1, without gradient; a zero row stays zero."""
    x = jax.lax.stop_gradient(x)
    return x / optax.safe_norm(x, 1e-12, axis=1, keepdims=True)


def distances(x: Array, y: Array) -> Array:
    """(n,P), (N,P) -> (n,N) Euclidean distances; rows that rounding cannot tell apart are at 0.

    There the gradient is 0 as well, where that of a square root has no bound.
    """
    lengths = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
    squares = lengths - 2.0 * products(x, y)
    apart = squares > 8.0 * jnp.finfo(squares.dtype).eps * lengths
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


def is_own(rows: Array, items: int) -> Array:
    """(n,) -> (n,N) bool: true where the item is the anchor itself."""
    return rows[:, None] == jnp.arange(items)[None, :]
