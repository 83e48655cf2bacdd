"""Ranking loss in both directions from one score matrix, held whole: for small batches.

6 N²D operations, where two row losses need 12 N²D.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vmr.losses.inter import ranking_of_scores
from vmr.losses.pairs import Execution, Outcome, Pairs, Weights, weighted_sum
from vmr.losses.similarity import transposed_product

Array = jax.Array


def ranking_both(
    options: Mapping[str, Any],
    weights: Weights,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    execution: Execution,
) -> Outcome | None:
    """Means of `inter.ranking` in both directions, and the gradient of their weighted sum.

    None where the batch is in blocks or on several devices: no device then has the whole matrix.
    """
    del learnt  # margin and K are not learnable
    if execution.block_rows is not None or execution.axis_name is not None:
        return None
    positives = pairs.positive_ids[:, None] == pairs.positive_ids[None, :]

    def loss(scores: Array) -> tuple[Array, dict[str, Array]]:
        terms = {
            "v2m": jnp.mean(ranking_of_scores(scores.T, positives, **options)),
            "m2v": jnp.mean(ranking_of_scores(scores, positives, **options)),
        }
        return weighted_sum(terms, weights), terms

    (value, terms), slopes = jax.value_and_grad(loss, has_aux=True)(pairs.music @ pairs.video.T)
    gradient = {"video": transposed_product(slopes, pairs.music), "music": slopes @ pairs.video}
    return Outcome(value, terms, gradient, {}, {})
