"""Ranking loss in both directions from one score matrix, held whole: for small batches.

6 N²D operations, where two row losses need 12 N²D. The hardest negatives are selected, and the
slopes written, for a block of anchors at a time, which stays in the cache.

Letters: b anchors of a block, N pairs, D width.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.blockwise import in_blocks
from vmr.losses.inter import hardest_negatives
from vmr.losses.pairs import Execution, Outcome, Pairs, Weights, weighted_sum
from vmr.losses.similarity import transposed_product

Array = jax.Array

_BLOCK_ROWS = 256


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
    scores = pairs.music @ pairs.video.T
    m2v, of_music = _sum_and_slopes(scores, pairs.positive_ids, **options)
    v2m, of_videos = _sum_and_slopes(scores.T, pairs.positive_ids, **options)
    slopes = (weights["m2v"] * of_music + weights["v2m"] * of_videos.T) / len(scores)
    gradient = {"video": transposed_product(slopes, pairs.music), "music": slopes @ pairs.video}
    terms = {"m2v": m2v / len(scores), "v2m": v2m / len(scores)}
    return Outcome(weighted_sum(terms, weights), terms, gradient, {}, {})


def _sum_and_slopes(
    scores: Array, ids: Array, *, margin: float = 0.1, top_k: int = 100
) -> tuple[Array, Array]:
    """Sum of `inter.ranking` over anchors, and its slopes: scores (N,N), ids (N,) -> (), (N,N)."""
    items = ids.size
    top_k = min(top_k, items)

    def of_block(block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        rows, block_ids, is_real = block
        positives = block_ids[:, None] == ids[None, :]
        hardest, positive = hardest_negatives(rows, positives, margin, top_k)
        hardest = lax.optimization_barrier(hardest)  # else selected anew by each that reads it
        # On CPU a product with ones is a faster sum of rows.
        chosen = hardest @ jnp.ones(items, hardest.dtype)
        values = (margin - positive[:, 0]) * chosen + jnp.sum(hardest * rows, axis=1)
        lowest = positives & (rows == positive)
        shares = chosen / jnp.sum(lowest, axis=1)
        return jnp.sum(jnp.where(is_real, values, 0.0)), jnp.where(
            lowest, -shares[:, None], hardest
        )

    rows_at_once = math.ceil(items / math.ceil(items / _BLOCK_ROWS))
    blocks = in_blocks((scores, ids, jnp.ones(items, bool)), rows_at_once)
    sums, slopes = lax.map(of_block, blocks)
    return jnp.sum(sums) / top_k, slopes.reshape(-1, items)[:items] / top_k
