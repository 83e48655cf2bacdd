"""Integers in the order of floats: exact comparisons, no NaN, one zero."""

import jax
import jax.numpy as jnp
from jax import lax


def ordered_keys(values: jax.Array) -> jax.Array:
    """Signed integers that compare as the floats do: any shape, int32 or int64.

    float64 becomes int64, every narrower float int32. −0.0 and 0.0 share a key; NaN sorts beyond
    the infinity of its sign. No gradient flows.
    """
    values = lax.stop_gradient(values)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    integer = jnp.int64 if wide.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(jnp.where(wide == 0, 0, wide), integer)
    # Floats are sign and magnitude: below zero, the magnitude's order must be turned round.
    return jnp.where(bits < 0, bits ^ jnp.iinfo(integer).max, bits)


def float_of_key(keys: jax.Array) -> jax.Array:
    """The floats whose keys these are, float32 of int32 and float64 of int64; NaN beyond infinity.

    The inverse of `ordered_keys`.
    """
    bits = jnp.where(keys < 0, keys ^ jnp.iinfo(keys.dtype).max, keys)
    return lax.bitcast_convert_type(bits, jnp.float64 if keys.dtype == jnp.int64 else jnp.float32)
