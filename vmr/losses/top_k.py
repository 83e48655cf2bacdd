"""Constant weights that select the K largest entries of each row."""

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.rank_keys import ordered_keys


def top_k_weights(values: jax.Array, eligible: jax.Array, k: int) -> jax.Array:
    """Weights in [0, 1] of each row's K largest eligible entries: (n,N), (n,N) bool -> (n,N).

    One above the K-th largest, an equal share of what is left for each entry tied with it, zero
    elsewhere: they sum to K, or to the number of eligible entries where that is smaller. No
    gradient flows. Raises ValueError where `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k = {k}: expected at least 1")
    keys = ordered_keys(values)
    keys = jnp.where(eligible, keys, jnp.iinfo(keys.dtype).min)
    threshold = _largest(keys, k)
    above = keys > threshold
    tied = eligible & (keys == threshold)
    left = k - jnp.sum(above, axis=1, keepdims=True)
    share = jnp.minimum(1, left / jnp.maximum(1, jnp.sum(tied, axis=1, keepdims=True)))
    return jnp.where(tied, share, above).astype(values.dtype)


def _largest(keys: jax.Array, k: int) -> jax.Array:
    """The K-th largest key of each row, the least integer where there is none: (n,N) -> (n,1).

    Settles one bit at a time, from the sign down, by counting the keys at or above a candidate:
    on CPU some twenty times faster than `lax.top_k` at N = 1000, K = 100.
    """
    bits = jnp.iinfo(keys.dtype).bits

    def settle(step: jax.Array, threshold: jax.Array) -> jax.Array:
        bit = jnp.left_shift(jnp.ones((), keys.dtype), (bits - 1 - step).astype(keys.dtype))
        candidate = threshold ^ bit
        count = jnp.sum(keys >= candidate, axis=1, keepdims=True, dtype=jnp.int32)
        return jnp.where(count >= k, candidate, threshold)

    least = jnp.full((keys.shape[0], 1), jnp.iinfo(keys.dtype).min)
    return lax.fori_loop(0, bits, settle, least)
