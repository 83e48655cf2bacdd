"""II loss `ii_mse` from Gram matrices of the features: no N × N matrix at all.

‖ZZᵀ − XXᵀ‖² = ‖ZᵀZ‖² − 2 ‖ZᵀX‖² + ‖XᵀX‖², the diagonal taken out. O(N (D + P)²) operations instead
of O(N² (D + P)), and over several devices nothing of the batch is gathered. In float32 the
difference of the three squares carries an error of about 1e-7 of their size: a change of geometry
that is smaller than that reads as noise, or 0.

Letters: n items of this device, N of the global batch, P width of the inputs, D of an embedding.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.pairs import Execution, Outcome, Pairs, Weights
from vmr.losses.similarity import constant_unit_rows, transposed_product

Array = jax.Array


def ii_mse_by_gram(
    options: Mapping[str, Any],
    weights: Weights,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    execution: Execution,
) -> Outcome | None:
    """Mean of `intra.ii_mse` and its gradient; None where the rows take fewer operations."""
    del options, learnt  # the loss has neither
    ((term, weight),) = weights.items()
    inputs, embeddings = pairs.inputs(term), pairs.embeddings(term)
    items = execution.items(pairs)
    if not gram_pays(items, inputs.shape[1], embeddings.shape[1]):
        return None
    x, z = constant_unit_rows(inputs), embeddings
    # The diagonal, 0 but for an item that is zero before or after the encoder only.
    own = jnp.sum(x * x, axis=1) - jnp.sum(z * z, axis=1)
    sums = (_gram(z, z), _gram(z, x), _gram(x, x), jnp.sum(own * own))
    zz, zx, xx, own_squares = jax.tree.map(execution.total, sums)
    pair_count = float(max(items * (items - 1), 1))  # a float: an int32 ends at N = 46,000
    squares = (jnp.sum(grams * grams) for grams in (zz, zx, xx))
    total = sum(factor * part for factor, part in zip((1.0, -2.0, 1.0), squares, strict=True))
    # Rounding can leave a difference of large squares just below 0.
    value = jnp.maximum(total - own_squares, 0.0) / pair_count
    slopes = _product(z, zz) - _product(x, zx.T) + own[:, None] * z
    whole = Outcome(value, {term: value}, {term: (4.0 / pair_count) * slopes}, {}, {})
    return whole.times(weight)


def gram_pays(items: int, input_width: int, width: int) -> bool:
    """True if Gram matrices take fewer operations than the rows of all pairs."""
    rows = items * (6 * width + 2 * input_width)
    grams = 4 * width**2 + 4 * width * input_width + 2 * input_width**2
    return grams < rows


def _gram(x: Array, y: Array) -> Array:
    """Gram matrix in full precision: (n,P), (n,D) -> (P,D)."""
    return transposed_product(x, y, precision=lax.Precision.HIGHEST)


def _product(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
