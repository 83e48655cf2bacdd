"""Layers that every encoder shares: a dense layer that is fast on CPU, and dropout by rows."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32

Array = jax.Array

_LEVELS = 1 << 16
HIGHEST_RATE = 1.0 - 1.0 / _LEVELS  # some units must be kept


def dense_product(
    x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None, **_: Any
) -> Array:
    """Product of a dense layer, called as `dot_general`: (..., P), (P, F) -> (..., F)."""
    # The signature is Flax's; a dense layer asks for this one contraction at the default precision.
    assert dimension_numbers == (((x.ndim - 1,), (0,)), ((), ()))
    assert precision is None
    if x.ndim == 2:
        return rows_product(x, kernel)
    # Clips become rows of one matrix: on CPU, XLA takes the gradients of (B, N, P) at half the
    # speed. These rows are many and narrow, which suits XLA's own order, not `rows_product`.
    rows = x.reshape(-1, x.shape[-1]) @ kernel
    return rows.reshape(*x.shape[:-1], kernel.shape[1])


Dense = functools.partial(nn.Dense, dot_general=dense_product)


@jax.custom_vjp
def rows_product(x: Array, kernel: Array) -> Array:
    """Matrix product `x @ kernel`, its gradient fast on CPU: (B, P), (P, F) -> (B, F)."""
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(residuals: tuple[Array, Array], slopes: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    # The gradient at the kernel is `x.T @ slopes`. XLA would fold the transpose into the product,
    # which costs a third of the speed on CPU; the barrier makes it write x.T out first.
    columns = lax.platform_dependent(
        x, cpu=lambda x: lax.optimization_barrier(x.T), default=jnp.transpose
    )
    return slopes @ kernel.T, columns @ slopes


rows_product.defvjp(_forward, _backward)


class RowDropout(nn.Module):
    """Inverted dropout: each row of the *global* batch draws its mask from a key of its own.

    The same step therefore has the same masks on 1, 2 or 8 devices, and in microbatches.

    Attributes:
      rate: rate of units dropped, to the nearest 1/65536; at most `HIGHEST_RATE`. Below half of
        1/65536 it is 0.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, rows: Array, *, train: bool) -> Array:
        """Drops units in training, is the identity otherwise: (b, ...), (b,) -> (b, ...).

        Args:
          x: items, each with all its clips.
          rows: indices of the items in the global batch.
          train: True drops units.
        """
        kept_levels = round((1.0 - self.rate) * _LEVELS)
        if not train or kept_levels == _LEVELS:  # 16 bits reach _LEVELS - 1 only
            return x
        # Threefry whatever generator JAX is set to: under others (rbg), vmapped draws depend on the
        # rows beside a row, hence on the number of devices.
        words = jax.random.key_data(self.make_rng("dropout"))[:2]
        key = jax.random.wrap_key_data(words, impl="threefry2x32")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
        units = math.prod(x.shape[1:])
        mask = jax.vmap(lambda key: _uniform_levels(key, units))(keys) < kept_levels
        return jnp.where(mask.reshape(x.shape), x * (_LEVELS / kept_levels), 0.0)


def _uniform_levels(key: Array, count: int) -> Array:
    """Uniform integers (count,) uint16, four from each pair of threefry words."""
    # `jax.random.bernoulli` spends a pair of words on each unit: a fifth of a step on CPU.
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(-(-count // 2), dtype=jnp.uint32))
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count]
