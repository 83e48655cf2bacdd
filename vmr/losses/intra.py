"""Intra-modal losses: penalties on changes that the encoder makes to the geometry of one modality.

Each is a row loss: a block of n anchors and the N items of the global batch in, one value per
anchor (n,) out; the loss is their mean over the batch. All take the same five arrays:

  inputs (n,P)          encoder inputs of the anchors
  embeddings (n,D)      unit embeddings of the anchors
  all_inputs (N,P)      encoder inputs of the global batch
  all_embeddings (N,D)  unit embeddings of the global batch
  rows (n,) int         index of each anchor among the N

The inputs are constants: no gradient flows into them. Another shape or type raises AssertionError,
also while a loss is traced.

R is the matrix of cosines of the inputs, S that of dot products of the unit embeddings.
"""

import jax
import jax.numpy as jnp
import optax

from vmr.losses.checks import check_distances, check_intra, check_scalars
from vmr.losses.fused.signed_ranks import signed_ranks
from vmr.losses.similarity import cosines, distances, is_own, products

Array = jax.Array

# Number of items at the head of a batch that the released code's structure loss reads.
ADJACENT_TOP_K = 100


def structure(
    inputs: Array, embeddings: Array, all_inputs: Array, all_embeddings: Array, rows: Array
) -> Array:
    """Soft intra-modal structure loss over all triplets.

    With t the entries of R and s those of S,
    ``L_i = 1/((N−1)(N−2)) Σ_{j,k} [sign(s_ij − s_ik) − sign(t_ij − t_ik)] (s_ij − s_ik)`` over
    distinct i, j, k: twice the gap where the order flipped, once where the inputs tie. The sum over
    pairs is ``2 Σ_j s_ij (ρ(s)_ij − ρ(t)_ij)`` with signed ranks ``ρ(s)_ij = Σ_{k≠i} sign(s_ij −
    s_ik)``. These come from sorting and are constants to the gradient: no triplet is ever formed.

    Hong, Im, Yang 2018 (arXiv 1704.06761), soft intra-modal structure constraint.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    items = all_embeddings.shape[0]
    before = cosines(inputs, all_inputs)
    after = products(embeddings, all_embeddings)
    ranks = signed_ranks(after, rows) - signed_ranks(before, rows)
    triplets = max((items - 1.0) * (items - 2.0), 1.0)  # floats: an int32 overflows at N > 46,000
    return 2.0 * jnp.sum(after * ranks.astype(after.dtype), axis=1) / triplets


def structure_adjacent(
    inputs: Array,
    embeddings: Array,
    all_inputs: Array,
    all_embeddings: Array,
    rows: Array,
    *,
    top_k: int = ADJACENT_TOP_K,
) -> Array:
    """Structure loss of the released code: adjacent pairs of the batch's first K items only.

    ``1/(K(K−1)) Σ_{i<K} Σ_{j<K−1} [sign(s_ij − s_ij+1) − sign(t_ij − t_ij+1)] (s_ij − s_ij+1)``,
    self pairs included. Its value depends on the order of the batch. A row at or past K is 0; the
    others are scaled by N/K, so that the mean over N anchors is the published mean.

    Args:
      top_k: K; a batch smaller than K uses all of it.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    items = all_embeddings.shape[0]
    first = min(top_k, items)
    if first < 2:  # no adjacent pairs: the mean of nothing would be NaN
        return jnp.zeros_like(embeddings, shape=(embeddings.shape[0],))
    before = _neighbour_gaps(cosines(inputs, all_inputs[:first]))
    after = _neighbour_gaps(products(embeddings, all_embeddings[:first]))
    disagreement = jax.lax.stop_gradient(jnp.sign(after)) - jnp.sign(before)
    value = jnp.mean(disagreement * after, axis=1)
    return jnp.where(rows < first, value * (items / first), 0.0)


def ii_mse(
    inputs: Array, embeddings: Array, all_inputs: Array, all_embeddings: Array, rows: Array
) -> Array:
    """Mean squared change of the cosines.

    ``L_i = 1/(N−1) Σ_{j≠i} (R_ij − S_ij)²``.

    The II loss of Chen et al. 2024 (arXiv 2407.19415) as re-derived from the abstract, which asks
    that the feature distribution of a modality change little from before the encoder to after it:
    cosines and their squared difference are our reading.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    items = all_embeddings.shape[0]
    change = cosines(inputs, all_inputs) - products(embeddings, all_embeddings)
    # A cosine with oneself is 1 before and after, except of a zero row: leave it out exactly.
    change = jnp.where(is_own(rows, items), 0.0, change)
    return jnp.sum(change * change, axis=1) / max(items - 1, 1)


def ii_kl(
    inputs: Array,
    embeddings: Array,
    all_inputs: Array,
    all_embeddings: Array,
    rows: Array,
    *,
    temperature: float = 0.07,
) -> Array:
    """Kullback-Leibler divergence of similarity rows.

    ``L_i = KL(p_i ‖ q_i)``, p and q the row-softmaxes of R and S at temperature τ, own entry left
    out.

    The II loss of Chen et al. 2024 (arXiv 2407.19415) as re-derived from the abstract; the
    divergence, its direction (before ‖ after) and τ are our reading.

    Args:
      temperature: τ, in units of cosine.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    check_scalars(temperature=temperature)
    own = is_own(rows, all_embeddings.shape[0])
    before = _log_softmax(cosines(inputs, all_inputs) / temperature, own)
    after = _log_softmax(products(embeddings, all_embeddings) / temperature, own)
    return jnp.sum(jnp.where(own, 0.0, jnp.exp(before) * (before - after)), axis=1)


def js(
    inputs: Array,
    embeddings: Array,
    all_inputs: Array,
    all_embeddings: Array,
    rows: Array,
    *,
    temperature: float = 0.07,
) -> Array:
    """Jensen-Shannon divergence of similarity rows.

    ``L_i = ½ KL(p_i ‖ m_i) + ½ KL(q_i ‖ m_i)``, p and q the row-softmaxes of R and S at temperature
    τ, own entry included, m their mean.

    STRUCTURE, Gröger et al. 2025 (arXiv 2506.16895), one level; the authors weigh it by 10, after a
    linear warm-up of 500 steps. Ours: cosines of the inputs as they come (their code first centres
    the unit rows), and the divergence as the paper names it (their code takes KL from the mean).
    In float32 a divergence below about 1e-6 is noise of either sign.

    Args:
      temperature: τ, in units of cosine.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    check_scalars(temperature=temperature)
    del rows
    before = jax.nn.log_softmax(cosines(inputs, all_inputs) / temperature, axis=1)
    after = jax.nn.log_softmax(products(embeddings, all_embeddings) / temperature, axis=1)
    between = jnp.logaddexp(before, after) - jnp.log(2.0)
    divergence = jnp.exp(before) * (before - between) + jnp.exp(after) * (after - between)
    return 0.5 * jnp.sum(divergence, axis=1)


def gram(
    inputs: Array, embeddings: Array, all_inputs: Array, all_embeddings: Array, rows: Array
) -> Array:
    """Mean squared change of similarity rows, each scaled to unit length.

    ``L_i = 1/N Σ_j (S_ij / ‖S_i‖ − R_ij / ‖R_i‖)²``, own entry included: the mean over anchors is
    ``‖S̃ − R̃‖²_F / N²``.

    Similarity-preserving distillation, Tung, Mori 2019 (arXiv 1907.09682); there of raw features,
    here of cosines.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    del rows  # own entries count like any other
    before, after = cosines(inputs, all_inputs), products(embeddings, all_embeddings)
    return jnp.mean(jnp.square(_unit_or_zero(after) - _unit_or_zero(before)), axis=1)


def rkd_distance(
    inputs: Array,
    embeddings: Array,
    all_inputs: Array,
    all_embeddings: Array,
    rows: Array,
    *,
    means: tuple[Array, Array] | None = None,
) -> Array:
    """Change of distances relative to their mean.

    ``L_i = 1/(N−1) Σ_{j≠i} ℓ(d^z_ij / μ_z − d^x_ij / μ_x)``, d the Euclidean distances of the
    embeddings and of the inputs as they come, μ their mean over all pairs of the global batch, ℓ
    the smooth L1 of threshold 1. The gradient flows through μ_z.

    Relational knowledge distillation, distance-wise, Park, Kim, Lu, Cho 2019 (arXiv 1904.05068),
    over pairs of distinct items as in the paper (the released code's mean has the N zeros too).

    Args:
      means: μ_x and μ_z, see `mean_distances`; None computes them, in a matrix of all N × N pairs.
    """
    check_intra(inputs, embeddings, all_inputs, all_embeddings, rows)
    items = all_embeddings.shape[0]
    inputs, all_inputs = jax.lax.stop_gradient((inputs, all_inputs))
    if means is None:
        everywhere = jnp.arange(items)
        means = (
            jnp.mean(mean_distances(all_inputs, all_inputs, everywhere)),
            jnp.mean(mean_distances(all_embeddings, all_embeddings, everywhere)),
        )
    check_scalars(mean_of_inputs=means[0], mean_of_embeddings=means[1])
    apart = distances(inputs, all_inputs), distances(embeddings, all_embeddings)
    # A mean of 0, of items that are all equal, is replaced: their distances are 0 anyway.
    before, after = (
        x / jnp.where(mean > 0, mean, 1.0) for x, mean in zip(apart, means, strict=True)
    )
    change = jnp.where(is_own(rows, items), 0.0, after - before)
    return jnp.sum(optax.losses.huber_loss(change), axis=1) / max(items - 1, 1)


def mean_distances(x: Array, all_x: Array, rows: Array) -> Array:
    """Mean distance of each anchor to the other items: (n,P), (N,P), (n,) -> (n,)."""
    check_distances(x, all_x, rows)
    items = all_x.shape[0]
    apart = jnp.where(is_own(rows, items), 0.0, distances(x, all_x))
    return jnp.sum(apart, axis=1) / max(items - 1, 1)


def _unit_or_zero(rows: Array) -> Array:
    """Rows scaled to length 1: (n,N) -> (n,N); a zero row stays zero and has no gradient."""
    squares = jnp.sum(rows * rows, axis=1, keepdims=True)
    # The inner selection keeps the infinite slope of √0 out of the gradient: 0 · inf would be NaN.
    is_there = squares > 0
    return jnp.where(is_there, rows / jnp.sqrt(jnp.where(is_there, squares, 1.0)), 0.0)


def _log_softmax(scores: Array, own: Array) -> Array:
    """Log-softmax of a row without the anchor's own entry, which stays finite: (n,N) -> (n,N)."""
    # A quarter of the least number: finite after the maximum is subtracted, so that a row without
    # other items has no NaN, where −inf would make one.
    least = jnp.finfo(scores.dtype).min / 4
    return jax.nn.log_softmax(jnp.where(own, least, scores), axis=1)


def _neighbour_gaps(similarity: Array) -> Array:
    """Differences of adjacent columns, each less the next: (n,K) -> (n,K−1)."""
    return similarity[:, :-1] - similarity[:, 1:]
