"""Inter-modal losses: an anchor of one modality against a gallery of the other.

Every one is a row loss: n anchors of this device or block, N items of the global batch, one value
per anchor; the loss is their mean. Letters: n anchors, N gallery items, D width of an embedding.
"""

import jax
import jax.numpy as jnp

from vmr.losses.top_k import top_k_weights

Array = jax.Array


def ranking(
    anchors: Array, gallery: Array, positives: Array, *, margin: float = 0.1, top_k: int = 100
) -> Array:
    """Hinge of the K hardest negatives of each anchor: (n,D), (N,D), (n,N) -> (n,).

    ``L_i = 1/K Σ_{j ∈ TopK(i)} max(0, m − s_ip + s_ij)``, s the dot product, p the farthest of the
    anchor's positives. Positives are never negatives; a satisfied term stays in the mean.
    Hong, Im, Yang 2018 (arXiv 1704.06761), inter-modal ranking constraint.

    Args:
      anchors: unit rows of one modality.
      gallery: unit rows of the other.
      positives: bool, true where anchor and item are known to match; at least one in each row.
      margin: m, in units of cosine.
      top_k: K; a gallery of fewer than K items uses all of them.
    """
    similarity = anchors @ gallery.T
    positive = jnp.min(jnp.where(positives, similarity, jnp.inf), axis=1, keepdims=True)
    violation = jax.nn.relu(margin - positive + similarity)
    top_k = min(top_k, gallery.shape[0])
    hardest = top_k_weights(similarity, ~positives, top_k)
    return jnp.sum(hardest * violation, axis=1) / top_k
