"""Inter-modal losses: anchors of one modality against a gallery of the other.

Each is a row loss: a block of n anchors and the N items of the global batch in, one value per
anchor (n,) out; the loss is their mean over the batch. All take the same three arrays:

  anchors (n,D)         unit rows of one modality
  gallery (N,D)         unit rows of the other
  positives (n,N) bool  true where anchor and item match (same track, or same label), at least one
                        in each row; a positive is never a negative

Another shape or type raises AssertionError, also while a loss is traced. ``s_ij`` is the dot
product of anchor i and item j; P is the width of an encoder's input.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vmr.losses.checks import (
    check_inter,
    check_own,
    check_scalars,
    check_scores,
    check_teacher,
)
from vmr.losses.fused.top_k import top_k_weights
from vmr.losses.similarity import constant_unit_rows, is_own

Array = jax.Array


def ranking(
    anchors: Array, gallery: Array, positives: Array, *, margin: float = 0.1, top_k: int = 100
) -> Array:
    """Hinge loss of the K hardest negatives of each anchor.

    ``L_i = 1/K Σ_{j ∈ TopK(i)} max(0, m − s_ip + s_ij)``, p the positive of the lowest score.
    Negatives beyond the margin stay in the mean, as zeros.
    Hong, Im, Yang 2018 (arXiv 1704.06761), inter-modal ranking constraint.

    Args:
      margin: m, in units of cosine.
      top_k: K, at most N; the divisor even of an anchor with fewer negatives.
    """
    check_inter(anchors, gallery, positives)
    check_scalars(margin=margin)
    scores = anchors @ gallery.T
    top_k = min(top_k, scores.shape[1])
    hardest, positive = hardest_negatives(scores, positives, margin, top_k)
    return jnp.sum(hardest * (margin - positive + scores), axis=1) / top_k


def hardest_negatives(
    scores: Array, positives: Array, margin: Array | float, top_k: int
) -> tuple[Array, Array]:
    """Weights of the K hardest negatives of each row that are within the margin of its positive.

    No gradient flows through the weights. Where negatives tie at the K-th score they share its
    weight, so that neither value nor gradient depends on the order of the batch.

    Args:
      scores: (n,N) s.
      positives: (n,N) bool, at least one in each row.
      margin: m.
      top_k: K, at most N.

    Returns:
      Weights (n,N) in [0, 1], and the lowest score (n,1) of each row's positives.
    """
    check_scores(scores, positives)
    positive = jnp.min(jnp.where(positives, scores, jnp.inf), axis=1, keepdims=True)
    # Those beyond the margin cost nothing, so that a row with no more than K within has nothing to
    # select.
    within = margin - positive + scores > 0
    return top_k_weights(scores, ~positives & within, top_k), positive


def infonce(
    anchors: Array,
    gallery: Array,
    positives: Array,
    *,
    temperature: Array | float = 0.07,
    label_smoothing: float = 0.0,
    hardness: float = 0.0,
) -> Array:
    """Cross-entropy of picking each positive from among itself and the negatives.

    ``L_i = mean over positives p of −log( e_ip / (e_ip + Σ_{j negative} e_ij) )`` with
    ``e_ij = exp(s_ij / τ)``; a row without negatives is 0.
    van den Oord, Li, Vinyals 2018 (arXiv 1807.03748); both directions, as the objective takes it,
    are the loss of CLIP (Radford et al. 2021, arXiv 2103.00020). The mean over several positives
    is SupCon's outer sum (Khosla et al. 2020, arXiv 2004.11362), other positives left out of the
    denominator: our reading, so that they do not repel one another.

    Args:
      temperature: τ, in units of cosine.
      label_smoothing: share of the target spread evenly over a positive and all negatives
        (Szegedy et al. 2016, arXiv 1512.00567).
      hardness: β, weighs each negative in the sum by ``exp(β s_ij / τ)`` over its mean over the
        negatives (Robinson, Chuang, Sra, Jegelka 2021, arXiv 2010.04592, without their correction
        for false negatives); 0 weighs all alike.
    """
    check_inter(anchors, gallery, positives)
    check_scalars(temperature=temperature, label_smoothing=label_smoothing, hardness=hardness)
    scores = (anchors @ gallery.T) / temperature
    of_negatives = (
        _hard_log_sum_exp(scores, ~positives, hardness)
        if hardness
        else _log_sum_exp(scores, ~positives)
    )
    loss = _contrast(scores, positives, of_negatives)
    if not label_smoothing:
        return loss
    negatives = jnp.sum(~positives, axis=1)
    # −log softmax is affine in a candidate's score, so moving a share of the target from the
    # positive to the mean of the candidates adds the share times the difference of their scores.
    of_positives = _mean(scores, positives)
    of_candidates = (of_positives + jnp.sum(scores, axis=1, where=~positives)) / (1 + negatives)
    return loss + label_smoothing * (of_positives - of_candidates)


def siglip(
    anchors: Array,
    gallery: Array,
    positives: Array,
    *,
    scale: Array | float = 10.0,
    bias: Array | float = -10.0,
) -> Array:
    """Sigmoid loss: logistic regression of match or no match, pair by pair.

    ``L_i = Σ_j log(1 + exp(−y_ij (t s_ij + b)))``, y = 1 for positives and −1 elsewhere. The mean
    over anchors is the published sum over all pairs divided by the batch, in either direction.
    Zhai, Mustafa, Kolesnikov, Beyer 2023 (arXiv 2303.15343), where t and b are learnt.

    Args:
      scale: t, factor of the cosines.
      bias: b, added to the scaled cosines; negative, since most pairs do not match.
    """
    check_inter(anchors, gallery, positives)
    check_scalars(scale=scale, bias=bias)
    logits = scale * (anchors @ gallery.T) + bias
    return jnp.sum(jax.nn.softplus(jnp.where(positives, -logits, logits)), axis=1)


class Own(NamedTuple):
    """Anchors' own modality over the global batch, for losses that compare anchors too."""

    all_embeddings: Array  # (N, D) unit rows
    all_inputs: Array  # (N, P) inputs of the encoder
    rows: Array  # (n,) index of each anchor among the N


def crossclr(
    anchors: Array,
    gallery: Array,
    positives: Array,
    *,
    temperature: Array | float = 0.03,
    negative_weight: float = 0.8,
    threshold: float = 0.7,
    weight_temperature: float = 0.0035,
    own: Own | None = None,
) -> Array:
    """InfoNCE that does not repel items similar to many others, likely false negatives.

    The connectivity of pair k is the mean cosine of its input *in the anchors' modality* with the
    other inputs there, ``c_k = 1/N Σ_{j≠k} cos(x_k, x_j)``. Pairs with ``c_k > threshold · max c``
    are influential: their items are likely to be false negatives, and leave the negatives of both
    modalities. The anchors' own modality gives negatives as well, ``e^own_ik = exp(z_i·z_k / τ)``,
    times λ:
    ``L_i = w_i · mean over p of −log( e_ip / (e_ip + Σ_k e_ik + λ Σ_k e^own_ik) )``, k neither
    positive nor influential, w_i ∝ ``exp(c_i / (κ Σ|c|))`` with mean 1 over the global batch.

    Zolfaghari, Zhu, Gehler, Brox 2021 (arXiv 2109.14910), constants of the released code. Ours: an
    influential item is left out of the sums, as the paper says (the released code sets its score to
    0, which leaves ``e^0`` in), λ multiplies the exponentials (there the scores), there is no
    queue, and Σ|c| stands for Σc, the same where no cosine is negative.

    Args:
      temperature: τ, in units of cosine.
      negative_weight: λ, weight of negatives of the anchors' own modality.
      threshold: share of the largest connectivity beyond which an item is influential.
      weight_temperature: κ, temperature of the anchors' weights.
      own: anchors' modality over the global batch; without it the loss is InfoNCE.
    """
    check_inter(anchors, gallery, positives)
    check_scalars(
        temperature=temperature,
        negative_weight=negative_weight,
        threshold=threshold,
        weight_temperature=weight_temperature,
    )
    scores = (anchors @ gallery.T) / temperature
    if own is None:
        return _contrast(scores, positives, _log_sum_exp(scores, ~positives))
    check_own(own.all_embeddings, own.all_inputs, own.rows, anchors, gallery)
    connectivity = _connectivity(own.all_inputs)
    influential = connectivity > threshold * jnp.max(connectivity)
    negatives = ~positives & ~influential[None, :]
    own_scores = (anchors @ own.all_embeddings.T) / temperature
    of_own = _log_sum_exp(own_scores, negatives & ~is_own(own.rows, gallery.shape[0]))
    # λ = 0 is log λ = −inf here, which `logaddexp` leaves out.
    both = jnp.logaddexp(_log_sum_exp(scores, negatives), jnp.log(negative_weight) + of_own)
    shares = connectivity / jnp.maximum(jnp.sum(jnp.abs(connectivity)), 1e-12)
    weights = connectivity.size * jax.nn.softmax(shares / weight_temperature)
    return weights[own.rows] * _contrast(scores, positives, both)


class Teacher(NamedTuple):
    """Embeddings of the same items by another model, or an ensemble, for `distillation`."""

    anchors: Array  # (n, T) unit rows
    gallery: Array  # (N, T) unit rows


def distillation(
    anchors: Array,
    gallery: Array,
    positives: Array,
    *,
    temperature: Array | float = 0.07,
    teacher_temperature: float = 0.07,
    share: float = 0.5,
    teacher: Teacher | None = None,
) -> Array:
    """InfoNCE, and the cross-entropy to the gallery's distribution under a teacher.

    ``L_i = (1 − λ) InfoNCE_i − λ Σ_j q_ij log softmax_j(s_i / τ)``, ``q_i = softmax(s'_i / τ')``
    over all N items, s' the teacher's scores: what looks like a positive to the teacher is not
    repelled as a negative.
    Hinton, Vinyals, Dean 2015 (arXiv 1503.02531). Ours: the two temperatures differ, since an
    ensemble's scores have another spread than a single model's, and the gradient is not multiplied
    by τ²: InfoNCE has the same τ here.

    Args:
      temperature: τ, in units of cosine.
      teacher_temperature: τ', in units of the teacher's scores.
      share: λ, share of the teacher.
      teacher: embeddings of the anchors and of the gallery; without it the loss is InfoNCE.
    """
    check_inter(anchors, gallery, positives)
    check_scalars(temperature=temperature, teacher_temperature=teacher_temperature, share=share)
    scores = (anchors @ gallery.T) / temperature
    by_labels = _contrast(scores, positives, _log_sum_exp(scores, ~positives))
    if teacher is None:
        return by_labels
    check_teacher(teacher.anchors, teacher.gallery, anchors, gallery)
    of_teacher = jax.lax.stop_gradient(teacher.anchors @ teacher.gallery.T)
    targets = jax.nn.softmax(of_teacher / teacher_temperature, axis=1)
    by_teacher = -jnp.sum(targets * jax.nn.log_softmax(scores, axis=1), axis=1)
    return (1.0 - share) * by_labels + share * by_teacher


def _contrast(scores: Array, positives: Array, of_negatives: Array) -> Array:
    """Mean −log softmax of the positives: (n,N), (n,N), log-sum-exp of negatives (n,) -> (n,)."""
    # −log(e^s / (e^s + Σ)) = softplus(log Σ − s): no overflow, and 0 where Σ is that of nothing.
    return _mean(jax.nn.softplus(of_negatives[:, None] - scores), positives)


def _log_sum_exp(scores: Array, where: Array) -> Array:
    """Log-sum-exp over the entries in a mask, −inf with gradient 0 for an empty row: -> (n,)."""
    any_there = jnp.any(where, axis=1)
    # The log-sum-exp of −inf alone has a NaN gradient, so an empty row sums all its entries first.
    counted = jnp.where(any_there[:, None], where, True)
    sums = jax.nn.logsumexp(jnp.where(counted, scores, -jnp.inf), axis=1)
    return jnp.where(any_there, sums, -jnp.inf)


def _hard_log_sum_exp(scores: Array, negatives: Array, hardness: float) -> Array:
    """Log-sum-exp of the negatives under importance weights of mean 1: -> (n,)."""
    count = jnp.sum(negatives, axis=1)
    of_weights = _log_sum_exp(hardness * scores, negatives)
    weighted = _log_sum_exp((1.0 + hardness) * scores, negatives)
    # Without a negative both are −inf, whose difference is NaN.
    none = count == 0
    return jnp.where(
        none, -jnp.inf, weighted - jnp.where(none, 0.0, of_weights) + jnp.log(jnp.maximum(count, 1))
    )


def _mean(values: Array, where: Array) -> Array:
    """Mean over the entries in a mask: (n,N), (n,N) -> (n,)."""
    total = jnp.sum(jnp.where(where, values, 0.0), axis=1)
    return total / jnp.maximum(1, jnp.sum(where, axis=1))


def _connectivity(inputs: Array) -> Array:
    """Mean cosine of each row with the others: (N,P) -> (N,)."""
    # Cosines sum to a product with the sum of the rows: no N × N matrix.
    unit = constant_unit_rows(inputs)
    return (unit @ jnp.sum(unit, axis=0) - jnp.sum(unit * unit, axis=1)) / unit.shape[0]
