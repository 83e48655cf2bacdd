"""Weights that select the K largest entries of each row, without sorting it."""

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.fused.signed_ranks import float_of_key


def top_k_weights(values: jax.Array, eligible: jax.Array, k: int) -> jax.Array:
    """Weights in [0, 1] of each row's K largest eligible entries: (n,N), (n,N) bool -> (n,N).

    Entries above the K-th largest weigh one; those tied with it share the rest equally; others
    weigh zero. The weights sum to K, or to the number of eligible entries if that is smaller. No
    gradient flows. Raises ValueError if `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k = {k}: expected at least 1")
    values = lax.stop_gradient(values)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    wide = jnp.where(eligible, wide, jnp.nan)  # every comparison with NaN is false
    threshold = _largest(wide, k)
    above = wide > threshold
    tied = wide == threshold
    left = k - jnp.sum(above, axis=1, keepdims=True)
    share = jnp.minimum(1, left / jnp.maximum(1, jnp.sum(tied, axis=1, keepdims=True)))
    return jnp.where(tied, share, above).astype(values.dtype)


def _largest(values: jax.Array, k: int) -> jax.Array:
    """K-th largest number of each row, NaN left out, −inf if there are fewer: (n,N) -> (n,1).

    Bisection over the bits of its key, from the sign down: a bit stays set if at least K values lie
    at or above. On CPU some twenty times faster than `lax.top_k` at N = 1000, K = 100.
    """
    integer = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = jnp.iinfo(integer).bits

    def settle(step: jax.Array, threshold: jax.Array) -> jax.Array:
        bit = jnp.left_shift(jnp.ones((), integer), (bits - 1 - step).astype(integer))
        candidate = threshold ^ bit
        is_counted = values >= float_of_key(candidate)
        # Counted in floats, which float32 does exactly up to 2²⁴ items.
        count = jnp.sum(is_counted.astype(values.dtype), axis=1, keepdims=True)
        return jnp.where(count >= k, candidate, threshold)

    least = jnp.full((values.shape[0], 1), jnp.iinfo(integer).min)
    threshold = float_of_key(lax.fori_loop(0, bits, settle, least))
    # With fewer than K numbers no bit is ever set: the least key, which decodes to a NaN.
    return jnp.where(jnp.isnan(threshold), -jnp.inf, threshold)
