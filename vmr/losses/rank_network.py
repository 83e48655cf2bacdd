"""Bitonic sorting network over the leading axis: fast on CPU, where XLA's own sort is slow.

Every column is sorted at once, so each comparison is one contiguous vector operation. The steps
are one `lax.scan`: unrolled, the same network takes minutes to compile.
"""

import jax
import jax.numpy as jnp
from jax import lax


def sort_columns(keys: jax.Array) -> jax.Array:
    """Each column ascending: (M,n) -> (M,n) integers, M a power of two.

    Batcher, "Sorting networks and their applications" (1968), in the form where every comparison
    points upwards: position i meets ``i ^ mask`` and the lower of the two keeps the smaller key.
    """
    places = jnp.arange(keys.shape[0], dtype=jnp.int32)

    def meet(keys: jax.Array, at: jax.Array, masks: jax.Array) -> jax.Array:
        if not masks.shape[0]:
            return keys.at[at].get(mode="promise_in_bounds", unique_indices=True)
        partner = at ^ masks[-1]
        mine, theirs = meet(keys, at, masks[:-1]), meet(keys, partner, masks[:-1])
        lower = (at < partner)[:, None]
        return jnp.where(lower, jnp.minimum(mine, theirs), jnp.maximum(mine, theirs))

    masks = jnp.array(_masks(keys.shape[0]), jnp.int32).reshape(-1, 2)
    return lax.scan(lambda keys, pair: (meet(keys, places, pair), None), keys, masks)[0]


def _masks(size: int) -> list[tuple[int, int]]:
    """Two comparisons a step: half the passes over memory for half as many more operations."""
    pairs = []
    for level in range(1, size.bit_length()):
        mirror = (1 << level) - 1  # the upper half in reverse makes two sorted runs bitonic
        masks = [mirror, *(1 << stride for stride in reversed(range(level - 1)))]
        masks += [0] * (len(masks) % 2)  # meeting oneself changes nothing
        pairs += list(zip(masks[::2], masks[1::2], strict=True))
    return pairs
