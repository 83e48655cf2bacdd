"""Constant weights that select the K largest entries of each row."""

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.fused.signed_ranks import float_of_key


def top_k_weights(values: jax.Array, eligible: jax.Array, k: int) -> jax.Array:
    """Weights in [0, 1] of each row's K largest eligible entries: (n,N), (n,N) bool -> (n,N).

    One above the K-th largest, an equal share of what is left for each entry tied with it, zero
    elsewhere: they sum to K, or to the number of eligible entries where that is smaller. No
    gradient flows. Raises ValueError where `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k = {k}: expected at least 1")
    values = lax.stop_gradient(values)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    wide = jnp.where(eligible, wide, jnp.nan)  # which no comparison counts
    threshold = _largest(wide, k)
    above = wide > threshold
    tied = wide == threshold
    left = k - jnp.sum(above, axis=1, keepdims=True)
    share = jnp.minimum(1, left / jnp.maximum(1, jnp.sum(tied, axis=1, keepdims=True)))
    return jnp.where(tied, share, above).astype(values.dtype)


def _largest(values: jax.Array, k: int) -> jax.Array:
    """The K-th largest of each row that is a number, −inf where there is none: (n,N) -> (n,1).

    Settles one bit of its key at a time, from the sign down, by counting the values at or above a
    candidate: on CPU some twenty times faster than `lax.top_k` at N = 1000, K = 100.
    """
    integer = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = jnp.iinfo(integer).bits

    def settle(step: jax.Array, threshold: jax.Array) -> jax.Array:
        bit = jnp.left_shift(jnp.ones((), integer), (bits - 1 - step).astype(integer))
        candidate = threshold ^ bit
        is_counted = values >= float_of_key(candidate)
        count = jnp.sum(is_counted.astype(values.dtype), axis=1, keepdims=True)
        return jnp.where(count >= k, candidate, threshold)

    least = jnp.full((values.shape[0], 1), jnp.iinfo(integer).min)
    threshold = float_of_key(lax.fori_loop(0, bits, settle, least))
    return jnp.where(jnp.isnan(threshold), -jnp.inf, threshold)
