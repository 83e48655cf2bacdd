"""Dropout whose mask does not depend on how many devices share the batch, at a quarter the cost."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

Array = jax.Array

_LEVELS = 1 << 16
HIGHEST_RATE = 1.0 - 1.0 / _LEVELS  # some units must be kept


class RowDropout(nn.Module):
    """Inverted dropout: each row of the *global* batch draws its mask from a key of its own.

    So the same step gives the same masks on 1, 2 or 8 devices, and for a batch in pieces.

    Attributes:
      rate: rate of units dropped, to the nearest 1/65536; at most `HIGHEST_RATE`. Below half of
        1/65536 it is 0.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, places: Array, *, train: bool) -> Array:
        """(b, ...), (b,) -> (b, ...): drops units in training, is the identity otherwise.

        Args:
          x: rows of the batch; a row is an item with all its clips.
          places: where they stand in the global batch.
          train: whether to drop.
        """
        kept = round((1.0 - self.rate) * _LEVELS)
        if not train or kept == _LEVELS:  # which 16 bits cannot say
            return x
        # Whatever generator JAX is told to use, rows draw by threefry: under others a row's mask
        # would depend on the rows beside it.
        words = jax.random.key_data(self.make_rng("dropout"))[:2]
        key = jax.random.wrap_key_data(words, impl="threefry2x32")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
        units = math.prod(x.shape[1:])
        mask = jax.vmap(lambda key: _uniform_levels(key, units))(keys) < kept
        return jnp.where(mask.reshape(x.shape), x * (_LEVELS / kept), 0.0)


def _uniform_levels(key: Array, count: int) -> Array:
    """(count,) uint16, uniform: four from each pair of threefry words.

    `jax.random.bernoulli` spends a whole pair on each, which made masks a fifth of a step on CPU.
    """
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(-(-count // 2), dtype=jnp.uint32))
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count]
