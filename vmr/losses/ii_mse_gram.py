"""`ii_mse` from Gram matrices of the features: no N × N matrix at all.

‖ZZᵀ − XXᵀ‖² = ‖ZᵀZ‖² − 2 ‖ZᵀX‖² + ‖XᵀX‖², the diagonal taken out. O(N (D + P)²) operations instead
of O(N² (D + P)), and over several devices nothing of the batch is gathered. In float32 the
difference of the three squares carries an error of about 1e-7 of their size: a change of geometry
that is smaller than that reads as noise, or 0.
"""

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.similarity import constant_unit_rows

Array = jax.Array


def ii_mse_gram(
    inputs: Array, embeddings: Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """The mean of `intra.ii_mse` and its gradient: (n,P), (n,D) -> (), (n,D).

    Args:
      inputs: of this device's items, before the encoder.
      embeddings: of this device's items, unit rows.
      axis_name: the pmapped axis over which the global batch is sharded.
    """
    x, z = constant_unit_rows(inputs), embeddings
    # Where a row is zero on one side only, its own entry is no 0.
    own = jnp.sum(x * x, axis=1) - jnp.sum(z * z, axis=1)
    items, sums = len(x), (_gram(z, z), _gram(z, x), _gram(x, x), jnp.sum(own * own))
    if axis_name is not None:
        items, sums = items * lax.axis_size(axis_name), lax.psum(sums, axis_name)
    zz, zx, xx, own_squares = sums
    pairs = float(max(items * (items - 1), 1))
    squares = (jnp.sum(grams * grams) for grams in (zz, zx, xx))
    value = sum(factor * part for factor, part in zip((1.0, -2.0, 1.0), squares, strict=True))
    to_z = _product(z, zz) - _product(x, zx.T) + own[:, None] * z
    return jnp.maximum(value - own_squares, 0.0) / pairs, (4.0 / pairs) * to_z


def gram_pays(items: int, input_width: int, width: int) -> bool:
    """Whether Gram matrices take fewer operations than rows of all pairs."""
    rows = items * (6 * width + 2 * input_width)
    grams = 4 * width**2 + 4 * width * input_width + 2 * input_width**2
    return grams < rows


def _gram(x: Array, y: Array) -> Array:
    """(n,P), (n,D) -> (P,D)."""
    # XLA's product on CPU is slow where the left factor is stored transposed.
    return _product(lax.optimization_barrier(x.T), y)


def _product(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
