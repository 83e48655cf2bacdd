"""Intra-modal losses: what the encoder does to the geometry that one modality had before it.

Every one is a row loss: n anchors of this device or block, N items of the global batch, one value
per anchor; the loss is their mean. Letters: n anchors, N items, P width of the inputs, D width of
an embedding. ``rows`` (n,) says where each anchor stands among the N. The inputs are constants: no
gradient flows into them.
"""

import jax
import jax.numpy as jnp
import optax

from vmr.losses.ranks import signed_ranks

Array = jax.Array


def structure(
    inputs: Array, embeddings: Array, all_inputs: Array, all_embeddings: Array, rows: Array
) -> Array:
    """Soft intra-modal structure over all triplets: (n,P), (n,D), (N,P), (N,D), (n,) -> (n,).

    With t the cosines of the inputs and s the dot products of the embeddings,
    ``L_i = 1/((N−1)(N−2)) Σ_{j,k} [sign(s_ij − s_ik) − sign(t_ij − t_ik)] (s_ij − s_ik)`` over
    distinct i, j, k: twice the gap where the order flipped, once where the inputs tie. The sum over
    pairs is ``2 Σ_j s_ij (ρ(s)_ij − ρ(t)_ij)`` with tie-aware signed ranks ρ, and those ranks are
    also its gradient, so no triplet is ever formed.

    Hong, Im, Yang 2018 (arXiv 1704.06761), soft intra-modal structure constraint.
    """
    items = all_embeddings.shape[0]
    before = _cosine(inputs, all_inputs)
    after = _product(embeddings, all_embeddings)
    ranks = signed_ranks(after, rows) - signed_ranks(before, rows)
    triplets = max((items - 1.0) * (items - 2.0), 1.0)  # an int32 ends at N = 46,000
    return 2.0 * jnp.sum(after * ranks.astype(after.dtype), axis=1) / triplets


def structure_adjacent(
    inputs: Array,
    embeddings: Array,
    all_inputs: Array,
    all_embeddings: Array,
    rows: Array,
    *,
    top_k: int = 100,
) -> Array:
    """The released code's structure loss, adjacent pairs of the batch's first K items only.

    (n,P), (n,D), (N,P), (N,D), (n,) -> (n,).
    ``1/(K(K−1)) Σ_{i<K} Σ_{j<K−1} [sign(s_ij − s_ij+1) − sign(t_ij − t_ij+1)] (s_ij − s_ij+1)``,
    self pairs included. Its value depends on the order of the batch. A row at or past K is 0; the
    others are scaled by N/K, so that the mean over N anchors is the published mean.

    Args:
      inputs: of the anchors, before the encoder.
      embeddings: of the anchors, unit rows.
      all_inputs: of the global batch.
      all_embeddings: of the global batch, unit rows.
      rows: where each anchor stands among the N.
      top_k: K; a batch smaller than K uses all of it.
    """
    items = all_embeddings.shape[0]
    first = min(top_k, items)
    if first < 2:
        return jnp.zeros_like(embeddings, shape=(embeddings.shape[0],))
    before = _neighbour_gaps(_cosine(inputs, all_inputs[:first]))
    after = _neighbour_gaps(_product(embeddings, all_embeddings[:first]))
    disagreement = jax.lax.stop_gradient(jnp.sign(after)) - jnp.sign(before)
    value = jnp.mean(disagreement * after, axis=1)
    return jnp.where(rows < first, value * (items / first), 0.0)


def _neighbour_gaps(similarity: Array) -> Array:
    """(n, K) -> (n, K−1): each column less the next."""
    return similarity[:, :-1] - similarity[:, 1:]


def _cosine(x: Array, y: Array) -> Array:
    """(n,P), (N,P) -> (n,N) cosines, without gradient; 0 against a zero row."""
    unit_x, unit_y = (
        rows / optax.safe_norm(rows, 1e-12, axis=1, keepdims=True)
        for rows in jax.lax.stop_gradient((x, y))
    )
    return _product(unit_x, unit_y)


def _product(x: Array, y: Array) -> Array:
    """(n,D), (N,D) -> (n,N) dot products in full precision: duplicates must tie exactly."""
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
