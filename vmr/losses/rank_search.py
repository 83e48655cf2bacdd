"""Tie-aware ranks from sorted columns, by bisection.

Gathers are cheap and scatters are not, so the keys are sorted alone, without their places, and
every key then looks for its own place among them.
"""

import jax
import jax.numpy as jnp
from jax import lax


def ranks_among(ascending: jax.Array, columns: jax.Array) -> jax.Array:
    """Keys below less keys above, per key of each column: (M,n), (N,n) -> (N,n) int32.

    Args:
      ascending: the columns sorted, then filled up with larger keys to M, a power of two.
      columns: integer keys.
    """
    first = _first_equal(ascending, columns)
    last = _gather(_last_equal(ascending, columns.shape[0]), first)
    return first + last - (columns.shape[0] - 1)


def _first_equal(ascending: jax.Array, columns: jax.Array) -> jax.Array:
    """Where each key's run of equals begins: (M,n), (N,n) -> (N,n) int32."""
    size = ascending.shape[0]

    def halve(step: jax.Array, first: jax.Array) -> jax.Array:
        middle = first + (size >> 1 >> step)
        return jnp.where(_gather(ascending, middle - 1) < columns, middle, first)

    start = jnp.zeros(columns.shape, jnp.int32)
    return lax.fori_loop(0, size.bit_length() - 1, halve, start)


def _last_equal(ascending: jax.Array, count: int) -> jax.Array:
    """Where the run of equals around each place ends, among the first `count`: (M,n) -> (M,n)."""
    size = ascending.shape[0]
    places = jnp.arange(size, dtype=jnp.int32)
    is_end = jnp.pad(ascending[1:] != ascending[:-1], ((0, 1), (0, 0)), constant_values=True)
    ends = jnp.where(is_end, jnp.minimum(places, count - 1)[:, None], count - 1)

    def look_ahead(ends: jax.Array, reach: jax.Array) -> tuple[jax.Array, None]:
        return jnp.minimum(ends, ends[jnp.minimum(places + reach, size - 1)]), None

    # Each doubling of the reach sees as far again: log M steps, where a cumulative minimum takes M.
    reaches = jnp.array([1 << level for level in range(size.bit_length() - 1)], jnp.int32)
    return lax.scan(look_ahead, ends, reaches)[0]


def _gather(columns: jax.Array, places: jax.Array) -> jax.Array:
    return jnp.take_along_axis(columns, places, axis=0, mode="promise_in_bounds")
